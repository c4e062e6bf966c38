//! Reads a source and cuts it, on all cores, and hands over its pieces in image order.
//!
//! Each worker cuts every n-th section and runs ahead of the others only as far as its queue is long, so memory is
//! bounded by the queues. What the base version has at the same place is recognised by the worker and its bytes are
//! dropped at once: an unchanged disk fills no queue.

use std::{collections::HashSet, num::NonZero, ops::Range, sync::Arc, thread};

use bytes::Bytes;
use imprint_content::{ChunkId, Extent, ObjectId};
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::{
    Error, Progress,
    cutting::{Cut, ExpectedChunk, SectionCutter, TakeCuts},
    disk::Cutting,
    extents::{ExtentCursor, ExtentMap, PlacedExtent},
    source::{Source, SourceKind},
};

/// Bytes read at once.
const READ_BYTES: usize = 256 << 10;
/// A batch is handed over when it holds this many bytes of new data,
const BATCH_BYTES: usize = 1 << 20;
/// or this many pieces.
const BATCH_PIECES: usize = 1024;
/// Batches of all workers together that may wait, so some 64 MiB of new data.
const QUEUED_BATCHES: usize = 64;
/// More workers than this cut no faster than one disk reads.
const MAX_WORKERS: usize = 16;

/// A piece of the image.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Zeros, or a chunk whose bytes nobody asked for: the base has it at the same place, or this is a survey.
    Known(Extent),
    /// A chunk that may be new.
    Candidate(ChunkId, Bytes),
}

impl Piece {
    /// What the piece is in the tree.
    pub(crate) const fn extent(&self) -> Extent {
        match self {
            Self::Known(extent) => *extent,
            Self::Candidate(id, raw) => Extent::data(*id, raw.len() as u64),
        }
    }
}

/// What is known of the base version.
#[derive(Clone)]
pub(crate) struct Base {
    pub(crate) extents: ExtentMap,
    /// Objects that the repository has lost: not known, whatever the base says.
    pub(crate) damaged: Arc<HashSet<ObjectId>>,
}

/// Which bytes are handed over with their pieces.
#[derive(Clone)]
enum Keep {
    /// All but those that the base has at the same place.
    AllBut(Option<Base>),
    /// None.
    Nothing,
}

enum Message {
    Pieces(Vec<Piece>),
    EndOfSection,
    /// The stream is over; without this, a worker that died would look like the end of the image.
    EndOfStream,
}

fn default_workers() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get).min(MAX_WORKERS)
}

/// The pieces of a source, in order.
pub(crate) struct Pieces {
    queues: Vec<Receiver<Result<Message, Error>>>,
    section: usize,
    sections: Option<usize>,
}

impl Pieces {
    /// Starts the workers. They stop when this is dropped.
    pub(crate) fn read(source: &Source, cutting: &Cutting, base: Option<&Base>, progress: &Arc<Progress>) -> Self {
        Self::start(source, cutting, &Keep::AllBut(base.cloned()), progress, default_workers())
    }

    /// Like [`read`](Self::read), for who only wants to know what is there: bytes are dropped once they are hashed.
    pub(crate) fn survey(source: &Source, cutting: &Cutting, progress: &Arc<Progress>) -> Self {
        Self::start(source, cutting, &Keep::Nothing, progress, default_workers())
    }

    fn start(source: &Source, cutting: &Cutting, keep: &Keep, progress: &Arc<Progress>, most_workers: usize) -> Self {
        let sections = source.length().map(|length| length.div_ceil(cutting.profile.section) as usize);
        let workers = match source.kind() {
            SourceKind::Stream => 1,
            SourceKind::File | SourceKind::BlockDevice => most_workers.min(sections.unwrap_or(1)).max(1),
        };
        let queues = (0..workers).map(|first| {
            let (out, queue) = mpsc::channel(QUEUED_BATCHES / workers);
            let worker = Worker {
                source: source.clone(),
                cutting: cutting.clone(),
                keep: keep.clone(),
                progress: Arc::clone(progress),
                out,
                batch: Vec::new(),
                batch_bytes: 0,
            };
            thread::spawn(move || worker.run(first, workers));
            queue
        });
        Self { queues: queues.collect(), section: 0, sections }
    }

    /// The next pieces, `None` behind the end of the image.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Piece>>, Error> {
        while self.sections.is_none_or(|sections| self.section < sections) {
            let worker = self.section % self.queues.len();
            match self.queues[worker].recv().await {
                Some(Ok(Message::Pieces(pieces))) => return Ok(Some(pieces)),
                Some(Ok(Message::EndOfSection)) => self.section += 1,
                Some(Ok(Message::EndOfStream)) => self.sections = Some(self.section),
                Some(Err(error)) => return Err(error),
                None => return Err(Error::WorkerStopped),
            }
        }
        Ok(None)
    }
}

struct Worker {
    source: Source,
    cutting: Cutting,
    keep: Keep,
    progress: Arc<Progress>,
    out: Sender<Result<Message, Error>>,
    batch: Vec<Piece>,
    batch_bytes: usize,
}

/// Why a worker ends early.
enum Stop {
    /// Nobody wants the pieces any more.
    Unwanted,
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Worker {
    fn run(mut self, first: usize, step: usize) {
        let result = match self.source.length() {
            Some(length) => self.cut_sections(length, first, step),
            None => self.cut_stream(),
        };
        if let Err(Stop::Failed(error)) = result {
            let _ = self.out.blocking_send(Err(error));
        }
    }

    fn cut_sections(&mut self, length: u64, first: usize, step: usize) -> Result<(), Stop> {
        let section = self.cutting.profile.section;
        let mut buffer = vec![0; READ_BYTES];
        for start in (first as u64 * section..length).step_by(step * section as usize) {
            self.cut_section(&(start..(start + section).min(length)), &mut buffer)?;
        }
        Ok(())
    }

    fn cut_section(&mut self, section: &Range<u64>, buffer: &mut [u8]) -> Result<(), Stop> {
        let unused = self.cutting.captured_unused(section);
        let mut boundaries = self.cutting.boundaries(section);
        for range in &unused {
            boundaries.extend(self.remnants(range, buffer)?);
        }
        boundaries.sort_unstable();
        let mut cuts = self.start_section(section.start, boundaries)?;
        cuts.place.unused = unused.into_iter().rev().collect();
        let mut at = section.start;
        for (start, extent) in self.cutting.omitted(section) {
            self.cut_range(&mut cuts, at..start, buffer)?;
            let SectionCuts { cutter, place } = &mut cuts;
            cutter.leave_out(extent.length, &mut Taker { worker: self, place })?;
            self.add_piece(Piece::Known(extent), place)?;
            at = start + extent.length;
        }
        self.cut_range(&mut cuts, at..section.end, buffer)?;
        self.end_section(cuts)
    }

    /// Boundaries in a range that no filesystem uses. It is read twice, the second time from the kernel's memory.
    fn remnants(&self, range: &Range<u64>, buffer: &mut [u8]) -> Result<Vec<u64>, Stop> {
        let mut finder = self.cutting.remnant_finder(range.start);
        let mut at = range.start;
        for data in self.data_granules(range)? {
            finder.add_zeros(data.start - at);
            at = data.start;
            while at < data.end {
                let read = &mut buffer[..(data.end - at).min(READ_BYTES as u64) as usize];
                self.source.read_at(read, at)?;
                at += read.len() as u64;
                finder.add(read);
            }
        }
        finder.add_zeros(range.end - at);
        Ok(finder.finish())
    }

    fn cut_range(&mut self, cuts: &mut SectionCuts, range: Range<u64>, buffer: &mut [u8]) -> Result<(), Stop> {
        let mut at = range.start;
        for data in self.data_granules(&range)? {
            cuts.cutter.add_zeros(data.start - at);
            at = data.start;
            while at < data.end {
                let read = &mut buffer[..(data.end - at).min(READ_BYTES as u64) as usize];
                self.source.read_at(read, at)?;
                at += read.len() as u64;
                self.add(cuts, read)?;
            }
        }
        cuts.cutter.add_zeros(range.end - at);
        Ok(())
    }

    fn cut_stream(&mut self) -> Result<(), Stop> {
        let mut buffer = vec![0; READ_BYTES];
        let mut at = 0;
        loop {
            let end = at + self.cutting.profile.section;
            let mut cuts = self.start_section(at, Vec::new())?;
            let mut is_over = false;
            while at < end && !is_over {
                let wanted = (end - at).min(READ_BYTES as u64) as usize;
                let read = self.source.read_next(&mut buffer[..wanted])?;
                is_over = read < wanted;
                at += read as u64;
                self.add(&mut cuts, &buffer[..read])?;
            }
            self.end_section(cuts)?;
            if is_over {
                return self.out.blocking_send(Ok(Message::EndOfStream)).map_err(|_| Stop::Unwanted);
            }
        }
    }

    fn start_section(&self, start: u64, boundaries: Vec<u64>) -> Result<SectionCuts, Stop> {
        let base = match &self.keep {
            Keep::AllBut(Some(base)) => Some(base.extents.cursor_at(start)?),
            Keep::AllBut(None) | Keep::Nothing => None,
        };
        Ok(SectionCuts {
            cutter: SectionCutter::divided(self.cutting.profile, start, boundaries),
            place: Place { offset: start, base, unused: Vec::new() },
        })
    }

    fn add(&mut self, cuts: &mut SectionCuts, bytes: &[u8]) -> Result<(), Stop> {
        let SectionCuts { cutter, place } = cuts;
        cutter.add(bytes, &mut Taker { worker: self, place })
    }

    fn end_section(&mut self, cuts: SectionCuts) -> Result<(), Stop> {
        let SectionCuts { cutter, mut place } = cuts;
        cutter.finish(&mut Taker { worker: self, place: &mut place })?;
        self.hand_over()?;
        self.out.blocking_send(Ok(Message::EndOfSection)).map_err(|_| Stop::Unwanted)
    }

    /// Where data may be, in whole granules: what lies between them is zero.
    fn data_granules(&self, range: &Range<u64>) -> Result<Vec<Range<u64>>, Stop> {
        let granule = self.cutting.profile.zero_granule as u64;
        let mut merged: Vec<Range<u64>> = Vec::new();
        for data in self.source.data_ranges(range.clone())? {
            let start = (data.start / granule * granule).max(range.start);
            let end = data.end.next_multiple_of(granule).min(range.end);
            match merged.last_mut() {
                Some(last) if start <= last.end => last.end = last.end.max(end),
                _ => merged.push(start..end),
            }
        }
        Ok(merged)
    }

    fn take(&mut self, cut: &Cut<'_>, place: &mut Place) -> Result<(), Stop> {
        let piece = match cut {
            Cut::Zero(length) => Piece::Known(Extent::zero(*length)),
            Cut::Chunk(bytes) => self.recognise(ChunkId::of(bytes), bytes, place)?,
            Cut::Expected(id, bytes) => self.recognise(*id, bytes, place)?,
        };
        self.progress.add_unused(place.unused_bytes(&piece.extent()));
        self.add_piece(piece, place)
    }

    fn add_piece(&mut self, piece: Piece, place: &mut Place) -> Result<(), Stop> {
        let length = piece.extent().length;
        place.offset += length;
        self.progress.add_done(length);
        self.batch.push(piece);
        if self.batch_bytes >= BATCH_BYTES || self.batch.len() >= BATCH_PIECES {
            self.hand_over()?;
        }
        Ok(())
    }

    fn recognise(&mut self, id: ChunkId, bytes: &[u8], place: &mut Place) -> Result<Piece, Stop> {
        let extent = Extent::data(id, bytes.len() as u64);
        let is_known = match &self.keep {
            Keep::Nothing => true,
            Keep::AllBut(Some(base)) => place.has(&extent)? && !base.damaged.contains(&id.into()),
            Keep::AllBut(None) => false,
        };
        if is_known {
            self.progress.add_reused(extent.length);
            return Ok(Piece::Known(extent));
        }
        self.batch_bytes += bytes.len();
        Ok(Piece::Candidate(id, Bytes::copy_from_slice(bytes)))
    }

    fn hand_over(&mut self) -> Result<(), Stop> {
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        self.out.blocking_send(Ok(Message::Pieces(batch))).map_err(|_| Stop::Unwanted)
    }
}

struct SectionCuts {
    cutter: SectionCutter,
    place: Place,
}

/// Gives a worker the cuts of one section.
struct Taker<'a> {
    worker: &'a mut Worker,
    place: &'a mut Place,
}

impl TakeCuts<Stop> for Taker<'_> {
    fn expected(&mut self) -> Result<Option<ExpectedChunk>, Stop> {
        Ok(self.place.expected()?)
    }

    fn take(&mut self, cut: Cut<'_>) -> Result<(), Stop> {
        self.worker.take(&cut, self.place)
    }
}

/// Where in the image the next cut starts, and the base's extents from there on.
struct Place {
    offset: u64,
    base: Option<ExtentCursor>,
    /// What no filesystem uses and is captured nevertheless, descending.
    unused: Vec<Range<u64>>,
}

impl Place {
    /// Whether the base has this very extent here.
    fn has(&mut self, extent: &Extent) -> Result<bool, Error> {
        Ok(self.here()?.is_some_and(|placed| placed.extent == *extent))
    }

    /// The chunk that starts here in the base.
    fn expected(&mut self) -> Result<Option<ExpectedChunk>, Error> {
        let extent = self.here()?.map(|placed| placed.extent);
        Ok(extent.and_then(|extent| Some(ExpectedChunk { id: extent.chunk()?, length: extent.length as usize })))
    }

    /// How many bytes of the next extent are data that no filesystem uses.
    fn unused_bytes(&mut self, next: &Extent) -> u64 {
        let end = self.offset + next.length;
        while self.unused.pop_if(|range| range.end <= self.offset).is_some() {}
        if next.chunk().is_none() {
            return 0;
        }
        let within = self.unused.iter().rev().take_while(|range| range.start < end);
        within.map(|range| range.end.min(end) - range.start.max(self.offset)).sum()
    }

    /// The base's extent that starts here.
    fn here(&mut self) -> Result<Option<PlacedExtent>, Error> {
        let Some(base) = &mut self.base else { return Ok(None) };
        Ok(base.skip_to(self.offset)?.filter(|placed| placed.offset == self.offset))
    }
}

#[cfg(test)]
mod tests;
