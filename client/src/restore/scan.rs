//! Finds out, window by window, what a target lacks.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
};

use imprint_content::{ChunkId, ExtentKind};
use tokio::sync::mpsc::Sender;

use crate::{
    Error, Progress,
    extents::{ExtentCursor, ExtentMap, PlacedExtent},
    fetch::Need,
    target::{Target, TargetKind},
};

use super::{Counts, lock};

/// Extents that a scanner takes at once.
const WINDOW_EXTENTS: usize = 256;

/// Compares windows of the image with the target; several run at once.
pub(super) struct Scanner {
    pub(super) target: Target,
    pub(super) trusted: Option<ExtentMap>,
    pub(super) counts: Arc<Counts>,
    pub(super) progress: Arc<Progress>,
    pub(super) found: Sender<Vec<Need>>,
}

impl Scanner {
    /// Takes windows until none is left, or nobody wants to know any more.
    pub(super) fn run(&self, cursor: &Mutex<ExtentCursor>) -> Result<(), Error> {
        let mut buffer = Vec::new();
        loop {
            let window = next_window(&mut lock(cursor))?;
            if window.is_empty() {
                return Ok(());
            }
            let needs = self.scan(&window, &mut buffer)?;
            if !needs.is_empty() && self.found.blocking_send(needs).is_err() {
                return Ok(()); // fetching failed; its error is the one to report
            }
        }
    }

    fn scan(&self, window: &[PlacedExtent], buffer: &mut Vec<u8>) -> Result<Vec<Need>, Error> {
        let mut trusted = match (&self.trusted, window.first()) {
            (Some(map), Some(first)) => Some(map.cursor_at(first.offset)?),
            _ => None,
        };
        let mut needs: Vec<Need> = Vec::new();
        let mut places: HashMap<ChunkId, usize> = HashMap::new();
        for placed in window {
            let is_trusted = match &mut trusted {
                Some(cursor) => covers(cursor, placed)?,
                None => false,
            };
            match placed.extent.kind {
                ExtentKind::Data(id) if is_trusted || self.holds(placed, id, buffer)? => self.keep(placed),
                ExtentKind::Data(id) => match places.get(&id) {
                    Some(first) => needs[*first].also.push(placed.offset),
                    None => {
                        places.insert(id, needs.len());
                        needs.push(Need { offset: placed.offset, id, length: placed.extent.length, also: Vec::new() });
                    }
                },
                ExtentKind::Zero | ExtentKind::Free => self.zero(placed, is_trusted)?,
            }
        }
        Ok(needs)
    }

    fn holds(&self, placed: &PlacedExtent, id: ChunkId, buffer: &mut Vec<u8>) -> Result<bool, Error> {
        if self.target.kind() == TargetKind::NewFile {
            return Ok(false);
        }
        buffer.resize(placed.extent.length as usize, 0);
        self.target.read_at(buffer, placed.offset)?;
        Ok(ChunkId::of(buffer) == id)
    }

    fn keep(&self, placed: &PlacedExtent) {
        self.counts.kept.fetch_add(placed.extent.length, Relaxed);
        self.progress.add_reused(placed.extent.length);
        self.progress.add_done(placed.extent.length);
    }

    /// Free space is made zero too: what was on the target before does not stay there unasked.
    fn zero(&self, placed: &PlacedExtent, is_trusted: bool) -> Result<(), Error> {
        if !is_trusted {
            let zeroed = self.target.zero(placed.offset..placed.end())?;
            self.counts.zeroed.fetch_add(zeroed, Relaxed);
        }
        self.progress.add_done(placed.extent.length);
        Ok(())
    }
}

/// Whether the trusted version has the same bytes there: the same chunk, or zeros at least as far.
fn covers(trusted: &mut ExtentCursor, placed: &PlacedExtent) -> Result<bool, Error> {
    let Some(found) = trusted.skip_to(placed.offset)? else { return Ok(false) };
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
