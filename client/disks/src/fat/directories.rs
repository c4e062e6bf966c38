//! Walks directories and the chains of their files.

use super::{
    boot::{Boot, FatType},
    entry::{Entry, Record},
    table::{self, FIRST_CLUSTER, Table},
};
use crate::{
    blocks::BlockSet,
    map::{BoundaryFinder, MapOptions},
    read::Volume,
    reason::{Obstacle, require},
};

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
                table::Entry::Next(next) => cluster = next,
                table::Entry::End => break,
                table::Entry::Free | table::Entry::Bad | table::Entry::Invalid => {
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
            let at = self.boot.cluster_start(cluster);
            let raw = self.volume.read_vec(at, self.boot.cluster_bytes as usize, "directory")?;
            if self.entries(&raw)? == More::No {
                return Ok(());
            }
            match self.table.entry(cluster) {
                table::Entry::Next(next) => cluster = next,
                _ => return Ok(()),
            }
        }
    }

    fn entries(&mut self, raw: &[u8]) -> Result<More, Obstacle> {
        for raw in raw.as_chunks().0 {
            match Entry::parse(raw, self.boot.kind) {
                Entry::End => return Ok(More::No),
                Entry::File(record) => self.file(&record)?,
                Entry::LongName(_) | Entry::Nothing => {}
            }
        }
        Ok(More::Yes)
    }

    fn file(&mut self, record: &Record) -> Result<(), Obstacle> {
        self.files += 1;
        if record.first == 0 {
            return require(record.length == 0 && !record.is_directory, "a file", "has no first cluster");
        }
        let clusters = self.claim_chain(record.first)?;
        require(record.length <= clusters * self.boot.cluster_bytes, "a file", "is longer than its clusters")?;
        if record.is_directory {
            self.pending.push(record.first);
        }
        Ok(())
    }
}
