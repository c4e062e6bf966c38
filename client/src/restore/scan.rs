//! Finds out, window by window, what a target lacks.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
};

use imprint_content::{ChunkId, ExtentKind};
use tokio::sync::mpsc::Sender;

use crate::{
    Error, Progress,
    extents::{ExtentCursor, ExtentMap, PlacedExtent},
    fetch::Need,
    target::Target,
};

use super::{Counts, local::Local, lock};

/// Extents that a scanner takes at once.
const WINDOW_EXTENTS: usize = 256;

/// Compares windows of the image with the target; several run at once.
pub(super) struct Scanner {
    pub(super) target: Target,
    /// What the target holds.
    pub(super) found: Option<ExtentMap>,
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
            (Some(found), Some(first)) => Some(found.cursor_at(first.offset)?),
            _ => None,
        };
        let mut needs = Needs::default();
        for placed in window {
            let is_there = match &mut found {
                Some(cursor) => covers(cursor, placed)?,
                None => false,
            };
            match placed.extent.kind {
                ExtentKind::Data(id) if is_there || self.holds(placed, id, buffer)? => self.keep(placed),
                ExtentKind::Data(id) => {
                    if !self.moved.contains(&placed.offset) && !self.copy_from_seed(placed, id, buffer)? {
                        needs.add(placed, id);
                    }
                }
                ExtentKind::Zero | ExtentKind::Free => self.zero(placed, is_there)?,
            }
        }
        Ok(needs.list)
    }

    /// The same bytes may be in place and have been cut differently, because something changed before them.
    fn holds(&self, placed: &PlacedExtent, id: ChunkId, buffer: &mut Vec<u8>) -> Result<bool, Error> {
        if self.found.is_none() || self.moved.contains(&placed.offset) {
            return Ok(false);
        }
        buffer.resize(placed.extent.length as usize, 0);
        self.target.read_at(buffer, placed.offset)?;
        Ok(ChunkId::of(buffer) == id)
    }

    /// A seed that changed or cannot be read any more is no error: the chunk is fetched.
    fn copy_from_seed(&self, placed: &PlacedExtent, id: ChunkId, buffer: &mut Vec<u8>) -> Result<bool, Error> {
        let Some((seed, offset)) = self.local.on_seed(&id) else { return Ok(false) };
        buffer.resize(placed.extent.length as usize, 0);
        if seed.read_at(buffer, offset).is_err() || ChunkId::of(buffer) != id {
            return Ok(false);
        }
        self.target.write_at(buffer, placed.offset)?;
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

    /// Free space is made zero too: what was on the target before does not stay there unasked.
    fn zero(&self, placed: &PlacedExtent, is_there: bool) -> Result<(), Error> {
        if !is_there {
            let zeroed = self.target.zero(placed.offset..placed.end())?;
            self.counts.zeroed.fetch_add(zeroed, Relaxed);
        }
        self.progress.add_done(placed.extent.length);
        Ok(())
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

/// Whether the other list has the same bytes there: the same chunk, or zeros at least as far.
pub(super) fn covers(other: &mut ExtentCursor, placed: &PlacedExtent) -> Result<bool, Error> {
    let Some(found) = other.skip_to(placed.offset)? else { return Ok(false) };
    Ok(match placed.extent.kind {
        ExtentKind::Data(_) => found == *placed,
        ExtentKind::Zero | ExtentKind::Free => {
            found.extent.kind == ExtentKind::Zero && found.offset <= placed.offset && found.end() >= placed.end()
        }
    })
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
