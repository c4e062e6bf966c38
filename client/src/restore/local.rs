//! Finds wanted chunks on this machine: elsewhere on the target, and on seeds.
//!
//! Memory grows with what differs, and is bounded: what finds no room in the index is fetched. Nothing found here is
//! believed; whoever reads it hashes it.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use imprint_content::{CaptureMode, ChunkId, Profile};

use crate::{
    Error, Progress, Repository,
    disk::Cutting,
    extents::{ExtentMap, ExtentWriter},
    ingest::Pieces,
    source::Source,
    target::Memory,
};

use super::{blocking, moves::Move, scan::holds_chunk, trust::noted};

/// Chunks that are looked for; 128 GiB of data that differs, about 100 MiB of memory.
const MAX_WANTED: usize = 2 << 20;

/// A disk that may hold wanted chunks, besides the target.
#[derive(Clone)]
pub(super) struct Seed {
    pub(super) source: Source,
    extents: ExtentMap,
}

impl Seed {
    /// Opens a seed and learns what it holds: from memory where a witness vouches for it, else by reading it once.
    pub(super) async fn open(
        repository: &Repository,
        path: &Path,
        cut: (Profile, CaptureMode),
        memory: &Memory,
        progress: &Arc<Progress>,
    ) -> Result<Self, Error> {
        let held = noted(repository, path, memory, progress).await?;
        let opened = path.to_owned();
        let source = blocking(move || Source::open(&opened)).await??;
        let extents = match held {
            Some(held) => held.found.extents,
            None => survey(repository, &source, &source, cut, progress).await?,
        };
        Ok(Self { source, extents })
    }
}

/// Cuts `source`, with which `disk` begins, into extents, as a push would, without keeping its bytes.
pub(super) async fn survey(
    repository: &Repository,
    disk: &Source,
    source: &Source,
    (profile, mode): (Profile, CaptureMode),
    progress: &Arc<Progress>,
) -> Result<ExtentMap, Error> {
    let cutting = Cutting::of_survey(disk, profile, mode).await?;
    let mut pieces = Pieces::survey(source, &cutting, progress);
    let mut extents = ExtentWriter::create(repository.trees().spool_directory())?;
    let mut finished = Vec::new();
    while let Some(batch) = pieces.next().await? {
        for piece in batch {
            extents.push(piece.extent(), &mut finished)?;
            finished.clear();
        }
    }
    Ok(extents.finish(&mut finished)?.0)
}

/// Where wanted chunks are.
#[derive(Default)]
pub(super) struct Local {
    /// Copies inside the target.
    pub(super) moves: Vec<(Move, ChunkId)>,
    /// Chunks that a seed holds: its number, and where.
    on_seeds: HashMap<ChunkId, (usize, u64)>,
    pub(super) seeds: Vec<Seed>,
}

impl Local {
    /// Looks for what `wanted` has and `found`, which the target holds, has not at the same place.
    pub(super) fn find(wanted: &ExtentMap, found: Option<&ExtentMap>, seeds: Vec<Seed>) -> Result<Self, Error> {
        if found.is_none() && seeds.is_empty() {
            return Ok(Self::default());
        }
        let mut missing = missing_chunks(wanted, found)?;
        let on_target = match found {
            Some(found) => places(found, &mut missing)?,
            None => HashMap::new(),
        };
        let mut on_seeds = HashMap::new();
        for (number, seed) in seeds.iter().enumerate() {
            let places = places(&seed.extents, &mut missing)?;
            on_seeds.extend(places.into_iter().map(|(id, offset)| (id, (number, offset))));
        }
        Ok(Self { moves: moves(wanted, found, &on_target)?, on_seeds, seeds })
    }

    /// The seed that holds this chunk, and where.
    pub(super) fn on_seed(&self, id: &ChunkId) -> Option<(&Source, u64)> {
        let (number, offset) = self.on_seeds.get(id)?;
        Some((&self.seeds[*number].source, *offset))
    }
}

fn missing_chunks(wanted: &ExtentMap, found: Option<&ExtentMap>) -> Result<HashSet<ChunkId>, Error> {
    let mut missing = HashSet::new();
    each_missing(wanted, found, |_, id, _| {
        missing.insert(id);
        missing.len() < MAX_WANTED
    })?;
    Ok(missing)
}

/// Calls `take` with offset, chunk and length of each data extent that is not at its place, until it says stop.
fn each_missing(
    wanted: &ExtentMap,
    found: Option<&ExtentMap>,
    mut take: impl FnMut(u64, ChunkId, u64) -> bool,
) -> Result<(), Error> {
    let mut cursor = wanted.cursor_at(0)?;
    let mut there = match found {
        Some(found) => Some(found.cursor_at(0)?),
        None => None,
    };
    while let Some(placed) = cursor.read()? {
        let Some(id) = placed.extent.chunk() else { continue };
        let is_there = match &mut there {
            Some(there) => holds_chunk(there, &placed)?,
            None => false,
        };
        if !is_there && !take(placed.offset, id, placed.extent.length) {
            break;
        }
    }
    Ok(())
}

/// Takes the chunks that `extents` has out of `missing` and says where they are.
fn places(extents: &ExtentMap, missing: &mut HashSet<ChunkId>) -> Result<HashMap<ChunkId, u64>, Error> {
    let mut places = HashMap::new();
    let mut cursor = extents.cursor_at(0)?;
    while let Some(placed) = cursor.read()? {
        if let Some(id) = placed.extent.chunk()
            && missing.remove(&id)
        {
            places.insert(id, placed.offset);
        }
    }
    Ok(places)
}

fn moves(
    wanted: &ExtentMap,
    found: Option<&ExtentMap>,
    on_target: &HashMap<ChunkId, u64>,
) -> Result<Vec<(Move, ChunkId)>, Error> {
    let mut moves = Vec::new();
    if !on_target.is_empty() {
        each_missing(wanted, found, |to, id, length| {
            moves.extend(on_target.get(&id).map(|from| (Move { from: *from, to, length }, id)));
            moves.len() < MAX_WANTED
        })?;
    }
    Ok(moves)
}
