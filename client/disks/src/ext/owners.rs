//! Who owns which block: the filesystem's own structures, and the inodes. No block has two owners.
//!
//! Structures are few, and kept. The blocks of inodes are only counted and summed up: in the end they must be exactly what
//! is used and no structure's. More than are used are never accepted, so that no walk goes on for ever.

use std::ops::Range;

use super::{
    descriptors::{Group, first_block},
    inode::{BlockSink, Written},
    sum::{Sum, Values},
    superblock::{Superblock, feature},
};
use crate::{
    blocks::BlockSet,
    map::{BoundaryFinder, MapOptions},
    reason::{Obstacle, agree, require},
};

/// What is owned so far. Counted in clusters, like the bitmaps; boundaries are in blocks.
pub(super) struct Owners<'a> {
    superblock: &'a Superblock,
    options: &'a MapOptions,
    used: BlockSet,
    /// Structures of the filesystem, and blocks of inodes that keep such.
    structures: BlockSet,
    /// Blocks of extended attributes, which inodes may share.
    attributes: BlockSet,
    boundaries: BoundaryFinder,
    inodes: Claims,
    /// The cluster that the present inode claimed last.
    last_cluster: Option<u64>,
}

/// Blocks that inodes claimed.
#[derive(Default)]
struct Claims {
    values: Values,
    sum: Sum,
    count: u64,
    /// The last ones, which are not in the sum yet: what follows often continues them.
    pending: Range<u64>,
}

impl Claims {
    fn add(&mut self, blocks: Range<u64>) {
        self.count = self.count.saturating_add(blocks.end - blocks.start);
        if blocks.start == self.pending.end {
            self.pending.end = blocks.end;
        } else {
            self.flush();
            self.pending = blocks;
        }
    }

    fn flush(&mut self) {
        self.sum.add(&self.pending, &self.values);
        self.pending = 0..0;
    }
}

impl<'a> Owners<'a> {
    pub(super) fn new(superblock: &'a Superblock, options: &'a MapOptions) -> Self {
        Self {
            superblock,
            options,
            used: BlockSet::default(),
            structures: BlockSet::new(superblock.clusters()),
            attributes: BlockSet::new(superblock.clusters()),
            boundaries: BoundaryFinder::new(superblock.blocks, superblock.block_bytes, options),
            inodes: Claims::default(),
            last_cluster: None,
        }
    }

    /// Claims superblocks, descriptors, bitmaps and inode tables, wherever they are.
    pub(super) fn claim_structures(&mut self, groups: &[Group]) -> Result<(), Obstacle> {
        // What lies before the first group belongs to none, and is kept.
        self.claim_structure(0..self.superblock.first_data_block)?;
        for group in groups {
            for range in copies(self.superblock, group.number) {
                self.claim_structure(range)?;
            }
            self.claim_structure(group.block_bitmap..group.block_bitmap + 1)?;
            self.claim_structure(group.inode_bitmap..group.inode_bitmap + 1)?;
            self.claim_structure(group.inode_table..group.inode_table + self.superblock.inode_table_blocks())?;
        }
        if self.superblock.incompatible & feature::MMP != 0 && self.superblock.mmp_block != 0 {
            let block = self.superblock.mmp_block;
            require(block < self.superblock.blocks, "block of multiple mount protection", "is beyond the end")?;
            self.claim_structure(block..block + 1)?;
        }
        self.limit_memory()
    }

    fn claim_structure(&mut self, blocks: Range<u64>) -> Result<(), Obstacle> {
        require(blocks.end <= self.superblock.blocks, "a structure", "is beyond the end")?;
        let clusters = self.clusters(&blocks);
        let length = clusters.end - clusters.start;
        let new = self.structures.insert_range(clusters);
        // Structures of several groups may share a cluster.
        require(new == length || self.superblock.cluster_blocks > 1, "structures", "overlap")
    }

    /// Blocks of the filesystem's own structures.
    pub(super) const fn structures(&self) -> &BlockSet {
        &self.structures
    }

    /// From here on, what is claimed must be in `used`; what was claimed before must be there already.
    pub(super) fn check_against(&mut self, used: BlockSet) -> Result<(), Obstacle> {
        let all_used = self.structures.runs(0..self.structures.bound(), true).all(|run| used.contains_range(run));
        require(all_used, "a structure of the filesystem", "lies in free blocks")?;
        self.used = used;
        self.limit_memory()
    }

    fn own(&mut self, clusters: Range<u64>) -> Result<(), Obstacle> {
        if clusters.is_empty() {
            return Ok(());
        }
        let is_structure = self.structures.touches(clusters.clone());
        self.inodes.add(clusters);
        require(!is_structure && self.inodes.count <= self.used.count(), "a block", "has two owners")
    }

    /// For an inode that keeps the filesystem's own structures: its blocks may be claimed already.
    pub(super) const fn again(&mut self) -> Again<'_, 'a> {
        Again(self)
    }

    /// A block of extended attributes.
    pub(super) fn claim_attributes(&mut self, block: u64) -> Result<(), Obstacle> {
        let clusters = self.claimable(&(block..block.saturating_add(1)))?;
        if self.attributes.insert(clusters.start) {
            self.own(clusters)?;
        }
        Ok(())
    }

    /// Ends the present inode.
    pub(super) fn end_inode(&mut self) {
        self.boundaries.end_file();
        self.last_cluster = None;
    }

    /// Fails when the sets are too large.
    pub(super) fn limit_memory(&self) -> Result<(), Obstacle> {
        let sets = [&self.used, &self.structures, &self.attributes, self.boundaries.so_far()];
        let bytes: usize = sets.into_iter().map(BlockSet::memory_bytes).sum();
        self.options.limit_memory(bytes as u64)
    }

    fn claimable(&self, blocks: &Range<u64>) -> Result<Range<u64>, Obstacle> {
        let inside = blocks.start >= self.superblock.first_data_block.max(1)
            && blocks.start < blocks.end
            && blocks.end <= self.superblock.blocks;
        require(inside, "a block of a file", "is beyond the end")?;
        let clusters = self.clusters(blocks);
        require(self.used.contains_range(clusters.clone()), "a block of a file", "is free")?;
        Ok(clusters)
    }

    const fn clusters(&self, blocks: &Range<u64>) -> Range<u64> {
        let size = self.superblock.cluster_blocks;
        blocks.start / size..blocks.end.div_ceil(size)
    }

    /// What is used, which must be exactly what has an owner, and the boundaries.
    pub(super) fn finish(mut self) -> Result<(BlockSet, BlockSet), Obstacle> {
        let all = 0..self.used.bound();
        let owned = self.structures.count().saturating_add(self.inodes.count);
        agree("blocks in use and blocks of files", self.used.count(), owned)?;
        self.inodes.flush();
        self.structures.runs(all.clone(), true).for_each(|run| self.inodes.sum.add(&run, &self.inodes.values));
        let mut used = Sum::default();
        self.used.runs(all, true).for_each(|run| used.add(&run, &self.inodes.values));
        require(used == self.inodes.sum, "a block", "has two owners, and another none")?;
        Ok((self.used, self.boundaries.finish()))
    }
}

/// The blocks of the present inode; it is their only owner.
impl BlockSink for Owners<'_> {
    fn tree(&mut self, block: u64) -> Result<(), Obstacle> {
        let clusters = self.claimable(&(block..block.saturating_add(1)))?;
        self.own(clusters)
    }

    fn data(&mut self, _: u64, blocks: Range<u64>, _: Written) -> Result<(), Obstacle> {
        let mut clusters = self.claimable(&blocks)?;
        let last = clusters.end - 1;
        // A cluster may have the end of one extent and the beginning of the next.
        if self.superblock.cluster_blocks > 1 && self.last_cluster == Some(clusters.start) {
            clusters.start += 1;
        }
        self.last_cluster = Some(last);
        self.own(clusters)?;
        self.boundaries.add(blocks);
        Ok(())
    }
}

/// Claims blocks, whoever has them.
pub(super) struct Again<'a, 'b>(&'a mut Owners<'b>);

impl BlockSink for Again<'_, '_> {
    fn tree(&mut self, block: u64) -> Result<(), Obstacle> {
        let clusters = self.0.claimable(&(block..block.saturating_add(1)))?;
        self.0.structures.insert_range(clusters);
        Ok(())
    }

    fn data(&mut self, _: u64, blocks: Range<u64>, _: Written) -> Result<(), Obstacle> {
        let clusters = self.0.claimable(&blocks)?;
        self.0.structures.insert_range(clusters);
        Ok(())
    }
}

/// Copies of the superblock and of descriptors with which a group begins.
fn copies(superblock: &Superblock, group: u32) -> Vec<Range<u64>> {
    let start = first_block(superblock, group);
    let has_superblock = superblock.has_superblock(group);
    let mut ranges = Vec::new();
    if has_superblock {
        ranges.push(start..start + 1);
    }
    let per_block = superblock.descriptors_per_block();
    let meta_group = u64::from(group) / per_block;
    if !superblock.has_meta_groups() {
        let blocks = superblock.descriptor_blocks() + superblock.reserved_descriptor_blocks;
        if has_superblock {
            ranges.push(start + 1..start + 1 + blocks);
        }
    } else if meta_group < superblock.first_meta_group {
        if has_superblock {
            ranges.push(start + 1..start + 1 + superblock.first_meta_group);
        }
    } else if [0, 1, per_block - 1].contains(&(u64::from(group) % per_block)) {
        let block = start + u64::from(has_superblock);
        ranges.push(block..block + 1);
    }
    ranges
}
