//! What a filesystem uses, and where its files begin and end.

use std::ops::Range;

use crate::{
    blocks::BlockSet,
    reason::{Obstacle, limit},
};

/// Most memory for the maps of one disk; those of all disks below 4 TiB of the usual blocks never need as much.
const MAX_MEMORY_BYTES: u64 = 256 << 20;

/// What is asked of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapOptions {
    /// Boundaries are those of contiguous runs of a file of at least so many bytes.
    pub min_run_bytes: u64,
    /// Most memory for all maps of a disk, in bytes, with what is needed while one is made. A filesystem whose map finds
    /// no room beside those before it is plain bytes. It is part of how an image is divided: captures use the default.
    pub max_memory_bytes: u64,
}

impl MapOptions {
    /// With the default limit of memory.
    #[must_use]
    pub const fn new(min_run_bytes: u64) -> Self {
        Self { min_run_bytes, max_memory_bytes: MAX_MEMORY_BYTES }
    }

    /// What is left when a map is kept.
    pub(crate) const fn beside(self, map: &Map) -> Self {
        Self { max_memory_bytes: self.max_memory_bytes.saturating_sub(map.memory_bytes()), ..self }
    }

    /// Fails when there is no room for so many bytes.
    pub(crate) fn limit_memory(&self, bytes: u64) -> Result<(), Obstacle> {
        limit("bytes of memory for its map, beside those of partitions before it", bytes, self.max_memory_bytes)
    }
}

/// What becomes of ranges that a filesystem does not use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// Their content is unspecified.
    Free,
    /// Their content is worthless, and must not be found again: swap.
    Discarded,
}

/// Numbers of blocks, and where they lie.
#[derive(Debug, Clone)]
pub(crate) struct Blocks {
    /// Byte of the volume where block 0 begins.
    pub(crate) first_byte: u64,
    /// Bytes of a block.
    pub(crate) bytes: u64,
    pub(crate) set: BlockSet,
}

impl Blocks {
    fn byte(&self, block: u64) -> u64 {
        self.first_byte.saturating_add(block.saturating_mul(self.bytes))
    }

    /// Blocks that touch a range of bytes.
    fn around(&self, range: &Range<u64>) -> Range<u64> {
        let start = range.start.saturating_sub(self.first_byte) / self.bytes;
        start..range.end.saturating_sub(self.first_byte).div_ceil(self.bytes)
    }
}

/// What one filesystem uses. Offsets are bytes from the start of its volume; what it says nothing of is used.
#[derive(Debug, Clone)]
pub struct Map {
    pub(crate) used: Blocks,
    /// Blocks with which something begins that is cut apart.
    pub(crate) boundaries: Blocks,
    pub(crate) usage: Usage,
    pub(crate) files: u64,
}

impl Map {
    const fn memory_bytes(&self) -> u64 {
        (self.used.set.memory_bytes() + self.boundaries.set.memory_bytes()) as u64
    }

    /// What becomes of the ranges that are not used.
    #[must_use]
    pub const fn usage(&self) -> Usage {
        self.usage
    }

    /// Files, directories and whatever else has an entry of its own in the filesystem.
    #[must_use]
    pub const fn files(&self) -> u64 {
        self.files
    }

    /// Bytes that are not used.
    #[must_use]
    pub const fn unused_bytes(&self) -> u64 {
        (self.used.set.bound() - self.used.set.count()).saturating_mul(self.used.bytes)
    }

    /// Number of boundaries.
    #[must_use]
    pub const fn boundary_count(&self) -> u64 {
        self.boundaries.set.count()
    }

    /// The parts of `within` that are not used, ascending and not adjacent.
    pub fn unused(&self, within: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let runs = self.used.set.runs(self.used.around(&within), false);
        let clipped =
            move |run: Range<u64>| self.used.byte(run.start).max(within.start)..self.used.byte(run.end).min(within.end);
        runs.map(clipped).filter(|range| !range.is_empty())
    }

    /// Where files begin and end within `within`, ascending.
    pub fn boundaries(&self, within: Range<u64>) -> impl Iterator<Item = u64> + '_ {
        let runs = self.boundaries.set.runs(self.boundaries.around(&within), true);
        runs.flatten().map(|block| self.boundaries.byte(block)).filter(move |byte| within.contains(byte))
    }
}

/// Notes boundaries while a filesystem walks its files: a run's blocks come in the order of the file.
pub(crate) struct BoundaryFinder {
    boundaries: BlockSet,
    min_run_blocks: u64,
    run: Range<u64>,
}

impl BoundaryFinder {
    /// For a filesystem of so many blocks of so many bytes.
    pub(crate) fn new(blocks: u64, block_bytes: u64, options: &MapOptions) -> Self {
        let min_run_blocks = options.min_run_bytes.div_ceil(block_bytes).max(1);
        Self { boundaries: BlockSet::new(blocks), min_run_blocks, run: 0..0 }
    }

    /// The next blocks of the present file.
    pub(crate) fn add(&mut self, blocks: Range<u64>) {
        if blocks.start == self.run.end {
            self.run.end = blocks.end;
        } else {
            self.end_run();
            self.run = blocks;
        }
    }

    /// The present file has no more blocks.
    pub(crate) fn end_file(&mut self) {
        self.end_run();
        self.run = 0..0;
    }

    fn end_run(&mut self) {
        if self.run.end - self.run.start >= self.min_run_blocks {
            self.boundaries.insert(self.run.start);
            self.boundaries.insert(self.run.end);
        }
    }

    /// The boundaries that are known.
    pub(crate) const fn so_far(&self) -> &BlockSet {
        &self.boundaries
    }

    pub(crate) fn finish(self) -> BlockSet {
        self.boundaries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(first_byte: u64, bytes: u64, bound: u64, ranges: &[Range<u64>]) -> Blocks {
        let mut set = BlockSet::new(bound);
        for range in ranges {
            set.insert_range(range.clone());
        }
        Blocks { first_byte, bytes, set }
    }

    #[test]
    fn ranges_are_clipped_to_what_was_asked_for() {
        let map = Map {
            used: blocks(100, 10, 10, &[0..2, 5..6]),
            boundaries: blocks(100, 10, 10, &[2..3, 5..6]),
            usage: Usage::Free,
            files: 0,
        };
        let unused = |range| map.unused(range).collect::<Vec<_>>();
        assert_eq!(unused(0..1000), [120..150, 160..200]);
        assert_eq!(unused(125..165), [125..150, 160..165]);
        assert_eq!(unused(100..120), []);
        assert_eq!(map.unused_bytes(), 70);
        assert_eq!(map.boundaries(0..1000).collect::<Vec<_>>(), [120, 150]);
        assert_eq!(map.boundaries(121..150).collect::<Vec<_>>(), []);
    }

    #[test]
    fn runs_that_continue_are_one_and_short_ones_are_none() {
        let mut finder = BoundaryFinder::new(100, 4096, &MapOptions::new(16384));
        finder.add(10..12);
        finder.add(12..14);
        finder.add(20..23);
        finder.end_file();
        finder.add(23..27);
        finder.end_file();
        assert_eq!(finder.finish().runs(0..100, true).flatten().collect::<Vec<_>>(), [10, 14, 23, 27]);
    }
}
