//! The table of clusters, which gives the filesystem its name.

use super::{
    boot::{Boot, FatType},
    unclean,
};
use crate::{
    blocks::BlockSet,
    fields::Fields,
    read::Volume,
    reason::{Obstacle, require},
};

/// Bytes of the other table that are compared at once.
const COMPARED_BYTES: usize = 64 << 10;
/// The first cluster has this number.
pub(super) const FIRST_CLUSTER: u32 = 2;

/// What the table says of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Free,
    /// The next cluster of the chain.
    Next(u32),
    /// The last cluster of a chain.
    End,
    /// Must not be used.
    Bad,
    /// No writer writes this.
    Invalid,
}

/// One table in memory; the other is the same.
pub(super) struct Table {
    kind: FatType,
    clusters: u32,
    raw: Vec<u8>,
}

impl Table {
    pub(super) fn read(volume: &Volume<'_>, boot: &Boot) -> Result<Self, Obstacle> {
        let raw = volume.read_vec(boot.tables_start, boot.entry_bytes() as usize, "table")?;
        for copy in 1..boot.tables {
            compare(volume, &raw, boot.tables_start + copy * boot.table_bytes)?;
        }
        let table = Self { kind: boot.kind, clusters: boot.clusters as u32, raw };
        table.check_head(boot.media)?;
        Ok(table)
    }

    /// The two entries that stand for no cluster: the medium, and marks of what is not clean.
    fn check_head(&self, media: u8) -> Result<(), Obstacle> {
        let (first, ones, clean, healthy) = match self.kind {
            FatType::Fat12 => (self.number(0), 0xf00, 0, 0),
            FatType::Fat16 => (self.number(0), 0xff00, 1 << 15, 1 << 14),
            FatType::Fat32 => (self.number(0), 0x0fff_ff00, 1 << 27, 1 << 26),
        };
        require(first == ones | u32::from(media), "table", "does not begin with its medium")?;
        let second = self.number(1);
        unclean(second & clean != clean, second & healthy != healthy)
    }

    /// The number that stands for a cluster, which is below the table's end.
    fn number(&self, cluster: u32) -> u32 {
        let raw = Fields(&self.raw);
        let index = cluster as usize;
        match self.kind {
            FatType::Fat12 => {
                let pair = u32::from(raw.u8(index + index / 2)) | u32::from(raw.u8(index + index / 2 + 1)) << 8;
                if index.is_multiple_of(2) { pair & 0xfff } else { pair >> 4 }
            }
            FatType::Fat16 => raw.u16(index * 2).into(),
            FatType::Fat32 => raw.u32(index * 4) & 0x0fff_ffff,
        }
    }

    pub(super) fn entry(&self, cluster: u32) -> Entry {
        let ones = match self.kind {
            FatType::Fat12 => 0xfff,
            FatType::Fat16 => 0xffff,
            FatType::Fat32 => 0x0fff_ffff,
        };
        match self.number(cluster) {
            0 => Entry::Free,
            number if self.has(number) => Entry::Next(number),
            number if number >= ones - 7 => Entry::End,
            number if number == ones - 8 => Entry::Bad,
            _ => Entry::Invalid,
        }
    }

    /// Whether there is a cluster of this number.
    pub(super) fn has(&self, cluster: u32) -> bool {
        cluster.checked_sub(FIRST_CLUSTER).is_some_and(|index| index < self.clusters)
    }

    fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        (FIRST_CLUSTER..FIRST_CLUSTER + self.clusters).map(|cluster| self.entry(cluster))
    }

    /// Clusters in use, from 0.
    pub(super) fn used(&self) -> Result<BlockSet, Obstacle> {
        let mut used = BlockSet::new(self.clusters.into());
        for (index, entry) in self.entries().enumerate() {
            require(entry != Entry::Invalid, "table", "has an impossible entry")?;
            if entry != Entry::Free {
                used.insert(index as u64);
            }
        }
        Ok(used)
    }

    /// Clusters that must not be used.
    pub(super) fn bad(&self) -> u64 {
        self.entries().filter(|entry| *entry == Entry::Bad).count() as u64
    }
}

fn compare(volume: &Volume<'_>, raw: &[u8], at: u64) -> Result<(), Obstacle> {
    let mut buffer = vec![0; COMPARED_BYTES.min(raw.len())];
    for (n, part) in raw.chunks(COMPARED_BYTES).enumerate() {
        let other = &mut buffer[..part.len()];
        volume.read(at + (n * COMPARED_BYTES) as u64, other, "table")?;
        require(other == part, "copies of the table", "are different")?;
    }
    Ok(())
}
