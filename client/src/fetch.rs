//! Fetches trees and chunks, and believes neither: a tree must give the version's root, a chunk its id.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    num::NonZero,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use futures::{StreamExt, TryStreamExt, stream::FuturesUnordered};
use imprint_content::{ChunkId, Codec, Payload, profile::MAX_CHUNK_BYTES, tree::Node};
use imprint_proto::{
    limits::{MAX_FETCH_OFFSETS, MAX_UNANSWERED_FETCHES},
    v1::{self, tree_piece::Piece},
};
use tokio::sync::{
    OwnedSemaphorePermit, Semaphore,
    mpsc::{self, Receiver, Sender},
};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    Error, Phase, Progress, Repository, Version,
    extents::{ExtentMap, ExtentWriter},
};

impl Repository {
    /// The extents of a version: from the cache, or fetched without what `have` shares with it.
    pub(crate) async fn tree(
        &self,
        version: &Version,
        have: Option<(&Version, &ExtentMap)>,
        progress: &Progress,
    ) -> Result<ExtentMap, Error> {
        if let Some(extents) = self.trees().load(version.content.root) {
            return Ok(extents);
        }
        progress.enter(Phase::ReadingTree);
        let extents = self.retrying(progress, || fetch_tree(self, version, have)).await?;
        self.trees().store(&extents);
        Ok(extents)
    }

    /// The extents of a version as the repository has them now: proof that its tree is intact.
    pub(crate) async fn tree_from_repository(
        &self,
        version: &Version,
        progress: &Progress,
    ) -> Result<ExtentMap, Error> {
        progress.enter(Phase::ReadingTree);
        fetch_tree(self, version, None).await
    }
}

async fn fetch_tree(
    repository: &Repository,
    version: &Version,
    have: Option<(&Version, &ExtentMap)>,
) -> Result<ExtentMap, Error> {
    let request = v1::FetchTreeRequest {
        version: Some(version.key()),
        have: have.map(|(version, _)| version.key()),
        with_stored_lengths: false,
    };
    let mut messages = repository.client().fetch_tree(request).await?.into_inner();
    let mut writer = ExtentWriter::create(repository.trees().spool_directory())?;
    let (mut nodes, mut at) = (Vec::new(), 0u64);
    while let Some(message) = messages.message().await? {
        for piece in message.pieces {
            at = match piece.piece {
                Some(Piece::Leaf(encoded)) => add_leaf(&encoded, at, &mut writer)?,
                Some(Piece::Shared(length)) => add_shared(have.map(|(_, map)| map), at, length, &mut writer)?,
                None => return Err(Error::Protocol("a piece of a tree is empty".into())),
            };
            nodes.clear();
        }
    }
    let (extents, root) = writer.finish(&mut nodes)?;
    if root.id != version.content.root {
        return Err(Error::WrongTree { expected: version.content.root, actual: root.id });
    }
    Ok(extents)
}

fn add_leaf(encoded: &[u8], at: u64, writer: &mut ExtentWriter) -> Result<u64, Error> {
    let Node::Leaf(extents) = Node::decode(encoded)? else {
        return Err(Error::Protocol("a leaf of a tree is no leaf".into()));
    };
    let mut end = at;
    for extent in extents {
        end = end.checked_add(extent.length).ok_or_else(too_long)?;
        writer.push(extent, &mut Vec::new())?;
    }
    Ok(end)
}

fn add_shared(have: Option<&ExtentMap>, at: u64, length: u64, writer: &mut ExtentWriter) -> Result<u64, Error> {
    let end = at.checked_add(length).ok_or_else(too_long)?;
    let mut cursor = match have {
        Some(map) if end <= map.length() => map.cursor_at(at)?,
        _ => return Err(Error::Protocol("the tree shares what we did not say we have".into())),
    };
    // A merged run may reach over the border of the shared part; the rest of it comes with the neighbours.
    let mut position = at;
    while position < end {
        let Some(placed) = cursor.read()? else { break };
        let mut extent = placed.extent;
        extent.length = placed.end().min(end) - position;
        position += extent.length;
        writer.push(extent, &mut Vec::new())?;
    }
    Ok(end)
}

fn too_long() -> Error {
    Error::Protocol("a tree is longer than 2^64 bytes".into())
}

/// A chunk that is wanted, and where in the image.
#[derive(Debug, Clone)]
pub(crate) struct Need {
    pub(crate) offset: u64,
    pub(crate) id: ChunkId,
    pub(crate) length: u64,
    /// Further places with the same chunk.
    pub(crate) also: Vec<u64>,
}

/// What a fetch moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Fetched {
    pub(crate) chunks: u64,
    pub(crate) stored_bytes: u64,
}

/// Takes bytes that were checked, and their offset in the image: one chunk, or neighbours together. Runs on a blocking
/// thread.
pub(crate) type Accept = Arc<dyn Fn(u64, &[u8]) -> Result<(), Error> + Send + Sync>;

/// Neighbouring chunks are handed on together up to about this many bytes: fewer writes cost less, as long as what is
/// written is still in the core's cache.
const RUN_BYTES: usize = 256 << 10;

/// Bytes of chunks, decoded, that may be under way or waiting to be written.
const BUDGET_BYTES: usize = 64 << 20;
/// A list of offsets has at least so many bytes of chunks, if there are as many.
const LIST_BYTES: u32 = 8 << 20;

/// Fetches all that comes through `needs`, each list in one or more requests, and gives each chunk to `accept`. When
/// the connection breaks, what was asked for and has not arrived is asked for again on the next one.
pub(crate) async fn fetch_chunks(
    repository: &Repository,
    version: &Version,
    needs: Receiver<Vec<Need>>,
    accept: Accept,
    progress: &Arc<Progress>,
) -> Result<Fetched, Error> {
    let (lists, mut queue) = mpsc::channel(1);
    let pending = Pending::default();
    let listing = tokio::spawn(list_offsets(needs, lists, pending.clone()));
    let mut taker = Taker::new(accept, Arc::clone(progress));
    let mut patience = repository.patience();
    let mut arrived = 0;
    loop {
        match fetch_over_one_stream(repository, version, &mut queue, &pending, &mut taker).await {
            Ok(()) => break,
            Err(error) => {
                if taker.fetched.chunks > arrived {
                    patience.renew();
                }
                arrived = taker.fetched.chunks;
                if let Err(error) = patience.wait_after(error, progress).await {
                    listing.abort();
                    return Err(error);
                }
            }
        }
    }
    listing.await.map_err(|_| Error::WorkerStopped)?;
    taker.finish().await
}

async fn fetch_over_one_stream(
    repository: &Repository,
    version: &Version,
    lists: &mut Receiver<Vec<u64>>,
    pending: &Pending,
    taker: &mut Taker,
) -> Result<(), Error> {
    let (requests, queue) = mpsc::channel(MAX_UNANSWERED_FETCHES);
    let asker = Asker { version: Some(version.key()), requests, stream: pending.next_stream() };
    let asking = asker.run(lists, pending);
    let receiving = async {
        let mut messages = repository.client().fetch_chunks(ReceiverStream::new(queue)).await?.into_inner();
        while let Some(message) = messages.message().await? {
            taker.take(message, pending).await?;
        }
        Ok::<_, Error>(())
    };
    let (mut asking, mut receiving) = (pin!(asking), pin!(receiving));
    let all_asked = tokio::select! {
        received = &mut receiving => received.map(|()| false)?,
        asked = &mut asking => {
            receiving.await?;
            asked
        }
    };
    // A connection that broke is an error above. Here the server says that it is done.
    match pending.len() {
        0 if all_asked => Ok(()),
        0 => Err(Error::Protocol("a stream of chunks ended before all were asked for".into())),
        left => Err(Error::Protocol(format!("{left} chunks were not sent"))),
    }
}

/// What is wanted and has not arrived, by offset.
#[derive(Clone, Default)]
struct Pending(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    needs: BTreeMap<u64, PendingNeed>,
    streams: u64,
}

struct PendingNeed {
    need: Need,
    permit: OwnedSemaphorePermit,
    /// The stream on which it was asked for.
    stream: u64,
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn len(&self) -> usize {
        self.lock().needs.len()
    }

    fn add(&self, need: Need, permit: OwnedSemaphorePermit) {
        self.lock().needs.insert(need.offset, PendingNeed { need, permit, stream: 0 });
    }

    fn remove(&self, offset: u64) -> Option<(Need, OwnedSemaphorePermit)> {
        self.lock().needs.remove(&offset).map(|pending| (pending.need, pending.permit))
    }

    /// A number for a new stream, from 1.
    fn next_stream(&self) -> u64 {
        let mut waiting = self.lock();
        waiting.streams += 1;
        waiting.streams
    }

    /// Those of these that were not asked for on this stream; they count as asked for from now on.
    fn to_ask(&self, offsets: &[u64], stream: u64) -> Vec<u64> {
        let mut waiting = self.lock();
        let is_new = |offset: &&u64| {
            let pending = waiting.needs.get_mut(*offset);
            pending.is_some_and(|pending| std::mem::replace(&mut pending.stream, stream) != stream)
        };
        offsets.iter().filter(is_new).copied().collect()
    }

    fn offsets(&self) -> Vec<u64> {
        self.lock().needs.keys().copied().collect()
    }
}

/// Makes lists of offsets as long as the byte budget lasts. A list waits until there is room for all of it: asking for
/// each chunk as soon as another one has arrived would make many small reads and messages.
async fn list_offsets(mut needs: Receiver<Vec<Need>>, lists: Sender<Vec<u64>>, pending: Pending) {
    let budget = Arc::new(Semaphore::new(BUDGET_BYTES));
    while let Some(list) = needs.recv().await {
        let mut rest = list.into_iter().peekable();
        while rest.peek().is_some() {
            let (mut part, mut bytes) = (Vec::new(), 0);
            while let Some(need) = rest.next_if(|_| bytes < LIST_BYTES && part.len() < MAX_FETCH_OFFSETS) {
                bytes += need.length as u32;
                part.push(need);
            }
            let Ok(mut room) = budget.clone().acquire_many_owned(bytes).await else { return };
            let offsets = part.iter().map(|need| need.offset).collect();
            for need in part {
                let Some(permit) = room.split(need.length as usize) else { return };
                pending.add(need, permit);
            }
            if lists.send(offsets).await.is_err() {
                return;
            }
        }
    }
}

/// Asks on one stream, first for what is waiting from an earlier one.
struct Asker {
    /// Until it was said.
    version: Option<v1::VersionKey>,
    requests: Sender<v1::FetchChunksRequest>,
    stream: u64,
}

impl Asker {
    /// Whether all was asked for; not so when nobody takes requests any more.
    async fn run(mut self, lists: &mut Receiver<Vec<u64>>, pending: &Pending) -> bool {
        for part in pending.offsets().chunks(MAX_FETCH_OFFSETS) {
            if !self.ask(part, pending).await {
                return false;
            }
        }
        loop {
            let list = tokio::select! {
                list = lists.recv() => list,
                () = self.requests.closed() => return false,
            };
            match list {
                Some(list) if self.ask(&list, pending).await => {}
                Some(_) => return false,
                None => return true,
            }
        }
    }

    async fn ask(&mut self, offsets: &[u64], pending: &Pending) -> bool {
        let offsets = pending.to_ask(offsets, self.stream);
        if offsets.is_empty() {
            return true;
        }
        let request = v1::FetchChunksRequest { version: self.version.take(), offsets };
        self.requests.send(request).await.is_ok()
    }
}

/// Checks and hands on what arrives, on a few blocking threads.
struct Taker {
    accept: Accept,
    progress: Arc<Progress>,
    jobs: FuturesUnordered<tokio::task::JoinHandle<Result<(), Error>>>,
    max_jobs: usize,
    fetched: Fetched,
}

type Arrived = (Need, OwnedSemaphorePermit, Payload);

impl Taker {
    fn new(accept: Accept, progress: Arc<Progress>) -> Self {
        let max_jobs = thread::available_parallelism().map_or(1, NonZero::get) + 2;
        Self { accept, progress, jobs: FuturesUnordered::new(), max_jobs, fetched: Fetched::default() }
    }

    async fn take(&mut self, message: v1::FetchChunksResponse, pending: &Pending) -> Result<(), Error> {
        let mut arrived: Vec<Arrived> = Vec::with_capacity(message.chunks.len());
        for chunk in message.chunks {
            let Some((need, permit)) = pending.remove(chunk.offset) else {
                return Err(Error::Protocol(format!("a chunk for byte {} came unasked", chunk.offset)));
            };
            self.fetched.chunks += 1;
            self.fetched.stored_bytes += chunk.stored.len() as u64;
            self.progress.add_transferred(chunk.stored.len() as u64);
            let codec = Codec::from_number(chunk.codec)?;
            arrived.push((need, permit, Payload { codec, raw_length: chunk.raw_length, stored: chunk.stored }));
        }
        while self.jobs.len() >= self.max_jobs {
            self.next_done().await?;
        }
        let accept = Arc::clone(&self.accept);
        self.jobs.push(tokio::task::spawn_blocking(move || accept_all(arrived, &accept)));
        Ok(())
    }

    async fn finish(mut self) -> Result<Fetched, Error> {
        while !self.jobs.is_empty() {
            self.next_done().await?;
        }
        Ok(self.fetched)
    }

    async fn next_done(&mut self) -> Result<(), Error> {
        match self.jobs.next().await {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(Error::WorkerStopped),
            None => Ok(()),
        }
    }
}

thread_local! {
    static RUN: RefCell<Run> = RefCell::default();
}

/// Chunks that lie side by side in the image, decoded side by side.
#[derive(Default)]
struct Run {
    offset: u64,
    length: usize,
    /// Keeps its length, so that its memory is cleared once.
    buffer: Vec<u8>,
}

impl Run {
    const fn end(&self) -> u64 {
        self.offset + self.length as u64
    }

    /// Decodes and hashes a chunk behind what is there.
    fn add(&mut self, need: &Need, payload: &Payload) -> Result<(), Error> {
        let corrupt = |why: String| Error::ChunkCorrupt { offset: need.offset, why };
        if u64::from(payload.raw_length) != need.length || need.length > MAX_CHUNK_BYTES as u64 {
            return Err(corrupt(format!("it is not chunk {}", need.id)));
        }
        let end = self.length + need.length as usize;
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        let raw = &mut self.buffer[self.length..end];
        payload.decode_to(raw).map_err(|error| corrupt(error.to_string()))?;
        if ChunkId::of(raw) != need.id {
            return Err(corrupt(format!("it is not chunk {}", need.id)));
        }
        self.length = end;
        Ok(())
    }

    fn hand_over(&mut self, accept: &Accept) -> Result<(), Error> {
        match std::mem::take(&mut self.length) {
            0 => Ok(()),
            length => accept(self.offset, &self.buffer[..length]),
        }
    }
}

fn accept_all(arrived: Vec<Arrived>, accept: &Accept) -> Result<(), Error> {
    RUN.with_borrow_mut(|run| {
        // What an error left behind is nobody's.
        run.length = 0;
        // A chunk counts as under way until it was handed over.
        let mut permits = Vec::with_capacity(arrived.len());
        for (need, permit, payload) in arrived {
            if need.offset != run.end() || run.length >= RUN_BYTES {
                run.hand_over(accept)?;
                permits.clear();
                run.offset = need.offset;
            }
            let start = run.length;
            run.add(&need, &payload)?;
            permits.push(permit);
            for offset in &need.also {
                accept(*offset, &run.buffer[start..run.length])?;
            }
        }
        run.hand_over(accept)
    })
}

/// Reads the rest of a stream's messages for the status that ended it.
pub(crate) async fn final_error<T>(messages: &mut tonic::Streaming<T>) -> Option<Error> {
    messages.try_for_each(|_| async { Ok(()) }).await.err().map(Error::from)
}
