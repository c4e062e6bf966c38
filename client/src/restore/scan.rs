//! Finds out, window by window, what a target lacks.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
};

use imprint_content::{ChunkId, ExtentKind};
use tokio::sync::mpsc::Sender;

use crate::{
    Error, Progress,
    extents::{ExtentCursor, PlacedExtent},
    fetch::Need,
    target::Override,
};

use super::{
    FreeSpace,
    job::{Counts, Found},
    local::Local,
    lock,
    surface::Surface,
};

/// Extents that a scanner takes at once.
const WINDOW_EXTENTS: usize = 256;

/// Compares windows of the image with the target; several run at once.
pub(super) struct Scanner {
    pub(super) surface: Surface,
    /// What the target holds.
    pub(super) found: Option<Found>,
    pub(super) free_space: FreeSpace,
    /// Where moves have put chunks already.
    pub(super) moved: Arc<HashSet<u64>>,
    pub(super) local: Arc<Local>,
    pub(super) counts: Arc<Counts>,
    pub(super) progress: Arc<Progress>,
    pub(super) needs: Sender<Vec<Need>>,
}

impl Scanner {
    /// Takes windows until none is left, or nobody wants to know any more.
    pub(super) fn run(&self, cursor: &Mutex<ExtentCursor>) -> Result<(), Error> {
        let mut buffer = Vec::new();
        loop {
            let window = next_window(&mut lock(cursor))?;
            // When fetching has failed nobody takes needs any more, and nothing further is written.
            if window.is_empty() || self.needs.is_closed() {
                return Ok(());
            }
            let needs = self.scan(&window, &mut buffer)?;
            if !needs.is_empty() && self.needs.blocking_send(needs).is_err() {
                return Ok(());
            }
        }
    }

    fn scan(&self, window: &[PlacedExtent], buffer: &mut Vec<u8>) -> Result<Vec<Need>, Error> {
        let mut found = match (&self.found, window.first()) {
            (Some(found), Some(first)) => Some(found.extents.cursor_at(first.offset)?),
            _ => None,
        };
        let mut needs = Needs::default();
        for placed in window {
            if self.surface.lacks(&(placed.offset..placed.end())) {
                self.progress.add_done(placed.extent.length);
                continue;
            }
            match placed.extent.kind {
                ExtentKind::Data(id) => self.scan_data(placed, id, found.as_mut(), &mut needs, buffer)?,
                ExtentKind::Zero => self.zero(placed, found.as_mut())?,
                ExtentKind::Free => self.free(placed, found.as_mut())?,
            }
        }
        Ok(needs.list)
    }

    fn scan_data(
        &self,
        placed: &PlacedExtent,
        id: ChunkId,
        found: Option<&mut ExtentCursor>,
        needs: &mut Needs,
        buffer: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let is_there = match found {
            Some(found) => holds_chunk(found, placed)? && self.overridden(placed).next().is_none(),
            None => false,
        };
        if is_there || self.holds(placed, id, buffer)? {
            self.keep(placed);
        } else if !self.moved.contains(&placed.offset) && !self.copy_from_seed(placed, id, buffer)? {
            needs.add(placed, id);
        }
        Ok(())
    }

    /// The same bytes may be in place and have been cut differently, because something changed before them.
    fn holds(&self, placed: &PlacedExtent, id: ChunkId, buffer: &mut Vec<u8>) -> Result<bool, Error> {
        if self.found.is_none() || self.moved.contains(&placed.offset) {
            return Ok(false);
        }
        buffer.resize(placed.extent.length as usize, 0);
        self.surface.read_at(buffer, placed.offset)?;
        Ok(ChunkId::of(buffer) == id)
    }

    /// A seed that changed or cannot be read any more is no error: the chunk is fetched.
    fn copy_from_seed(&self, placed: &PlacedExtent, id: ChunkId, buffer: &mut Vec<u8>) -> Result<bool, Error> {
        let Some((seed, offset)) = self.local.on_seed(&id) else { return Ok(false) };
        buffer.resize(placed.extent.length as usize, 0);
        if seed.read_at(buffer, offset).is_err() || ChunkId::of(buffer) != id {
            return Ok(false);
        }
        self.surface.write_at(buffer, placed.offset)?;
        self.counts.copied.fetch_add(placed.extent.length, Relaxed);
        self.progress.add_reused(placed.extent.length);
        self.progress.add_done(placed.extent.length);
        Ok(true)
    }

    fn keep(&self, placed: &PlacedExtent) {
        self.counts.kept.fetch_add(placed.extent.length, Relaxed);
        self.progress.add_reused(placed.extent.length);
        self.progress.add_done(placed.extent.length);
    }

    /// A free extent of what the target holds is never taken for zero: it is made zero, whatever is there. So is what
    /// a former table was fitted with, where its version has zeros.
    fn zero(&self, placed: &PlacedExtent, found: Option<&mut ExtentCursor>) -> Result<(), Error> {
        each_range_without(
            found,
            placed,
            |kind| kind == ExtentKind::Zero,
            |range| {
                self.counts.zeroed.fetch_add(self.surface.zero(range)?, Relaxed);
                Ok(())
            },
        )?;
        self.zero_overridden(placed)?;
        self.progress.add_done(placed.extent.length);
        Ok(())
    }

    /// What was on the target before does not stay there unasked.
    fn free(&self, placed: &PlacedExtent, found: Option<&mut ExtentCursor>) -> Result<(), Error> {
        match self.free_space {
            FreeSpace::Keep => {
                self.counts.free_kept.fetch_add(placed.extent.length, Relaxed);
            }
            FreeSpace::Discard => {
                let is_zero = |kind| kind == ExtentKind::Zero || (kind == ExtentKind::Free && self.free_is_zero());
                each_range_without(found, placed, is_zero, |range| {
                    self.counts.discarded.fetch_add(self.surface.discard(range)?, Relaxed);
                    Ok(())
                })?;
                self.zero_overridden(placed)?;
            }
        }
        self.progress.add_done(placed.extent.length);
        Ok(())
    }

    /// What the target is known to hold in place of the version that it holds.
    fn overridden(&self, placed: &PlacedExtent) -> impl Iterator<Item = &Override> {
        let range = placed.offset..placed.end();
        let overrides = self.found.as_ref().map_or(&[][..], |found| &found.overrides[..]);
        overrides.iter().filter(move |known| known.overlaps(&range))
    }

    fn zero_overridden(&self, placed: &PlacedExtent) -> Result<(), Error> {
        for known in self.overridden(placed) {
            let range = known.range();
            let zeroed = self.surface.zero(range.start.max(placed.offset)..range.end.min(placed.end()))?;
            self.counts.zeroed.fetch_add(zeroed, Relaxed);
        }
        Ok(())
    }

    /// Whether the free extents of what the target holds were made zero when it was written.
    fn free_is_zero(&self) -> bool {
        self.found.as_ref().is_some_and(|found| found.free_space == FreeSpace::Discard)
    }
}

/// What a window needs, each chunk once.
#[derive(Default)]
struct Needs {
    list: Vec<Need>,
    places: HashMap<ChunkId, usize>,
}

impl Needs {
    fn add(&mut self, placed: &PlacedExtent, id: ChunkId) {
        if let Some(first) = self.places.get(&id) {
            self.list[*first].also.push(placed.offset);
            return;
        }
        self.places.insert(id, self.list.len());
        self.list.push(Need { offset: placed.offset, id, length: placed.extent.length, also: Vec::new() });
    }
}

/// Whether the other list has the same chunk at the same place.
pub(super) fn holds_chunk(other: &mut ExtentCursor, placed: &PlacedExtent) -> Result<bool, Error> {
    Ok(other.skip_to(placed.offset)? == Some(*placed))
}

/// Calls `take` with those parts of a run, neighbours merged, where the other list has no extent of a kind that
/// `suffices`.
fn each_range_without(
    found: Option<&mut ExtentCursor>,
    placed: &PlacedExtent,
    suffices: impl Fn(ExtentKind) -> bool,
    mut take: impl FnMut(Range<u64>) -> Result<(), Error>,
) -> Result<(), Error> {
    let Some(found) = found else { return take(placed.offset..placed.end()) };
    let (mut start, mut at) = (placed.offset, placed.offset);
    while at < placed.end() {
        let Some(there) = found.skip_to(at)? else { break };
        let end = there.end().min(placed.end());
        if suffices(there.extent.kind) {
            if start < at {
                take(start..at)?;
            }
            start = end;
        }
        at = end;
    }
    if start < placed.end() { take(start..placed.end()) } else { Ok(()) }
}

fn next_window(cursor: &mut ExtentCursor) -> Result<Vec<PlacedExtent>, Error> {
    let mut window = Vec::with_capacity(WINDOW_EXTENTS);
    while window.len() < WINDOW_EXTENTS {
        match cursor.read()? {
            Some(placed) => window.push(placed),
            None => break,
        }
    }
    Ok(window)
}
