//! Walks directories and the chains of their files.

use super::{
    boot::{Boot, FatType},
    table::{Entry, FIRST_CLUSTER, Table},
};
use crate::{
    blocks::BlockSet,
    fields::Fields,
    map::{BoundaryFinder, MapOptions},
    read::Volume,
    reason::{Obstacle, require},
};

const ENTRY: usize = 32;
const LABEL: u8 = 0x08;
const DIRECTORY: u8 = 0x10;
const LONG_NAME: u8 = 0x0f;
const DELETED: u8 = 0xe5;

/// What files and directories own, in clusters from 0.
pub(super) struct Owned {
    pub(super) clusters: BlockSet,
    pub(super) boundaries: BlockSet,
    pub(super) files: u64,
}

/// Walks everything from the root.
pub(super) fn walk(volume: &Volume<'_>, boot: &Boot, table: &Table, options: &MapOptions) -> Result<Owned, Obstacle> {
    let mut walk = Walk {
        volume,
        boot,
        table,
        owned: BlockSet::new(boot.clusters),
        boundaries: BoundaryFinder::new(boot.clusters, boot.cluster_bytes, options),
        pending: Vec::new(),
        files: 0,
    };
    if boot.kind == FatType::Fat32 {
        walk.claim_chain(boot.root_cluster)?;
        walk.pending.push(boot.root_cluster);
    } else {
        let root = volume.read_vec(boot.root_start(), boot.root_bytes as usize, "root directory")?;
        walk.entries(&root)?;
    }
    // Each of them owns a cluster, so they come to an end.
    while let Some(first) = walk.pending.pop() {
        walk.directory(first)?;
    }
    Ok(Owned { clusters: walk.owned, boundaries: walk.boundaries.finish(), files: walk.files })
}

#[derive(PartialEq, Eq)]
enum More {
    Yes,
    No,
}

struct Walk<'a> {
    volume: &'a Volume<'a>,
    boot: &'a Boot,
    table: &'a Table,
    owned: BlockSet,
    boundaries: BoundaryFinder,
    /// First clusters of directories that were claimed and not read.
    pending: Vec<u32>,
    files: u64,
}

impl Walk<'_> {
    /// Claims a chain, and returns its length in clusters.
    fn claim_chain(&mut self, first: u32) -> Result<u64, Obstacle> {
        let mut cluster = first;
        let mut length = 0;
        loop {
            require(self.table.has(cluster), "a file", "begins beyond the end")?;
            let index = u64::from(cluster - FIRST_CLUSTER);
            // Also ends a chain that returns to itself.
            require(self.owned.insert(index), "a cluster", "has two owners")?;
            self.boundaries.add(index..index + 1);
            length += 1;
            match self.table.entry(cluster) {
                Entry::Next(next) => cluster = next,
                Entry::End => break,
                Entry::Free | Entry::Bad | Entry::Invalid => {
                    return Err(Obstacle::invalid("a file", "has a cluster that is free"));
                }
            }
        }
        self.boundaries.end_file();
        Ok(length)
    }

    /// Reads a directory whose chain was claimed, and so ends.
    fn directory(&mut self, first: u32) -> Result<(), Obstacle> {
        let mut cluster = first;
        loop {
            let at = self.boot.data_start() + u64::from(cluster - FIRST_CLUSTER) * self.boot.cluster_bytes;
            let raw = self.volume.read_vec(at, self.boot.cluster_bytes as usize, "directory")?;
            if self.entries(&raw)? == More::No {
                return Ok(());
            }
            match self.table.entry(cluster) {
                Entry::Next(next) => cluster = next,
                _ => return Ok(()),
            }
        }
    }

    fn entries(&mut self, raw: &[u8]) -> Result<More, Obstacle> {
        for entry in raw.chunks_exact(ENTRY) {
            match entry[0] {
                0 => return Ok(More::No),
                DELETED => {}
                _ => self.entry(entry)?,
            }
        }
        Ok(More::Yes)
    }

    fn entry(&mut self, raw: &[u8]) -> Result<(), Obstacle> {
        let attributes = raw[11] & 0x3f;
        if attributes & LONG_NAME == LONG_NAME || attributes & LABEL != 0 || matches!(raw[..2], [b'.', b' ' | b'.']) {
            return Ok(());
        }
        let raw = Fields(raw);
        let high = if self.boot.kind == FatType::Fat32 { u32::from(raw.u16(20)) << 16 } else { 0 };
        let first = high | u32::from(raw.u16(26));
        let length = u64::from(raw.u32(28));
        let is_directory = attributes & DIRECTORY != 0;
        self.files += 1;
        if first == 0 {
            return require(length == 0 && !is_directory, "a file", "has no first cluster");
        }
        let clusters = self.claim_chain(first)?;
        require(length <= clusters * self.boot.cluster_bytes, "a file", "is longer than its clusters")?;
        if is_directory {
            self.pending.push(first);
        }
        Ok(())
    }
}
