//! Copies chunks to their places inside a target, before anything else is written.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use imprint_content::ChunkId;

use crate::{Error, Progress};

use super::{
    job::Counts,
    local::Local,
    moves::{self, Move, Step},
    surface::Surface,
};

/// Bytes of the target that are read ahead to break rings of moves.
const READ_AHEAD_BYTES: u64 = 64 << 20;

/// Copies chunks to their places inside the target.
pub(super) struct Mover {
    pub(super) surface: Surface,
    pub(super) local: Arc<Local>,
    pub(super) counts: Arc<Counts>,
    pub(super) progress: Arc<Progress>,
}

impl Mover {
    /// Returns the offsets that now hold what is wanted there.
    pub(super) fn run(&self) -> Result<HashSet<u64>, Error> {
        let moves: Vec<Move> = self.local.moves.iter().map(|(planned, _)| *planned).collect();
        let mut moved = HashSet::with_capacity(moves.len());
        let mut read_ahead: HashMap<usize, Vec<u8>> = HashMap::new();
        for step in moves::order(&moves, READ_AHEAD_BYTES) {
            let (number, bytes) = match step {
                Step::Copy(number) => (number, self.read(number)?),
                Step::Write(number) => (number, read_ahead.remove(&number)),
                Step::ReadAhead(number) => {
                    read_ahead.extend(self.read(number)?.map(|bytes| (number, bytes)));
                    continue;
                }
                Step::GiveUp(_) => continue,
            };
            if let Some(bytes) = bytes {
                self.write(&moves[number], &bytes)?;
                moved.insert(moves[number].to);
            }
        }
        Ok(moved)
    }

    /// The chunk, if it still is where it was found.
    fn read(&self, number: usize) -> Result<Option<Vec<u8>>, Error> {
        let (planned, id) = &self.local.moves[number];
        let mut bytes = vec![0; planned.length as usize];
        let is_there = self.surface.read_raw(&mut bytes, planned.from)?;
        Ok((is_there && ChunkId::of(&bytes) == *id).then_some(bytes))
    }

    fn write(&self, planned: &Move, bytes: &[u8]) -> Result<(), Error> {
        self.surface.write_at(bytes, planned.to)?;
        self.counts.copied.fetch_add(planned.length, Relaxed);
        self.progress.add_reused(planned.length);
        self.progress.add_done(planned.length);
        Ok(())
    }
}
