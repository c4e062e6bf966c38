//! Group descriptors: where a group's bitmaps and inodes are, and what it counts.

use super::{checksums::BitmapChecksum, superblock::Superblock};
use crate::{
    fields::Fields,
    read::Volume,
    reason::{Obstacle, agree, require},
};

/// One group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) number: u32,
    pub(super) block_bitmap: u64,
    pub(super) inode_bitmap: u64,
    pub(super) inode_table: u64,
    /// In clusters.
    pub(super) free_clusters: u32,
    pub(super) free_inodes: u32,
    /// Inodes at the end of the table that were never used.
    pub(super) unused_inodes: u32,
    /// The block bitmap was never written: only the filesystem's own structures are used.
    pub(super) blocks_uninitialised: bool,
    /// The inode bitmap was never written: no inode is used.
    pub(super) inodes_uninitialised: bool,
    pub(super) block_bitmap_checksum: BitmapChecksum,
    pub(super) inode_bitmap_checksum: BitmapChecksum,
}

/// Reads all descriptors, and checks them as far as it goes without reading more.
pub(super) fn read(volume: &Volume<'_>, superblock: &Superblock) -> Result<Vec<Group>, Obstacle> {
    let mut groups = Vec::with_capacity(superblock.groups as usize);
    let mut free_clusters = 0;
    let mut free_inodes = 0;
    for index in 0..superblock.descriptor_blocks() {
        let at = descriptor_block(superblock, index) * superblock.block_bytes;
        let block = volume.read_vec(at, superblock.block_bytes as usize, "group descriptors")?;
        let missing = superblock.groups as usize - groups.len();
        for raw in block.chunks_exact(superblock.descriptor_bytes).take(missing) {
            let number = groups.len() as u32;
            superblock.checksums.check_descriptor(number, raw)?;
            let group = Group::parse(number, raw, superblock);
            group.check(superblock)?;
            free_clusters += u64::from(group.free_clusters);
            free_inodes += u64::from(group.free_inodes);
            groups.push(group);
        }
    }
    agree(
        "free blocks of the superblock and of all groups",
        superblock.free_blocks,
        free_clusters * superblock.cluster_blocks,
    )?;
    agree("free inodes of the superblock and of all groups", superblock.free_inodes.into(), free_inodes)?;
    Ok(groups)
}

/// Where the first copy of a block of descriptors is.
fn descriptor_block(superblock: &Superblock, index: u64) -> u64 {
    if superblock.has_meta_groups() && index >= superblock.first_meta_group {
        let group = (index * superblock.descriptors_per_block()) as u32;
        return first_block(superblock, group) + u64::from(superblock.has_superblock(group));
    }
    first_block(superblock, 0) + 1 + index
}

/// Where a group's superblock would be: with blocks of 1 KiB the first is always in block 1.
pub(super) fn first_block(superblock: &Superblock, group: u32) -> u64 {
    match superblock.group_start(group) {
        0 if superblock.block_bytes == 1024 => 1,
        start => start,
    }
}

impl Group {
    fn parse(number: u32, raw: &[u8], superblock: &Superblock) -> Self {
        let raw = Fields(raw);
        let long = superblock.descriptor_bytes >= 64;
        let block = |low, high| if long { raw.u64_halves(low, high) } else { raw.u32(low).into() };
        let half = |low, high| u32::from(raw.u16(low)) | if long { u32::from(raw.u16(high)) << 16 } else { 0 };
        let checksum = |low, high| {
            if long { BitmapChecksum::Whole(half(low, high)) } else { BitmapChecksum::Half(raw.u16(low)) }
        };
        let flags = if superblock.has_lazy_groups() { raw.u16(0x12) } else { 0 };
        Self {
            number,
            block_bitmap: block(0, 0x20),
            inode_bitmap: block(4, 0x24),
            inode_table: block(8, 0x28),
            free_clusters: half(0xc, 0x2c),
            free_inodes: half(0xe, 0x2e),
            unused_inodes: if superblock.has_lazy_groups() { half(0x1c, 0x32) } else { 0 },
            inodes_uninitialised: flags & 1 != 0,
            blocks_uninitialised: flags & 2 != 0,
            block_bitmap_checksum: checksum(0x18, 0x38),
            inode_bitmap_checksum: checksum(0x1a, 0x3a),
        }
    }

    fn check(&self, superblock: &Superblock) -> Result<(), Obstacle> {
        let inside = |start: u64, length: u64| {
            start > 0 && start.checked_add(length).is_some_and(|end| end <= superblock.blocks)
        };
        require(inside(self.block_bitmap, 1), "block bitmap", "is beyond the end")?;
        require(inside(self.inode_bitmap, 1), "inode bitmap", "is beyond the end")?;
        require(inside(self.inode_table, superblock.inode_table_blocks()), "inode table", "is beyond the end")?;
        require(self.free_inodes <= superblock.inodes_per_group, "free inodes", "are more than there are")?;
        require(self.unused_inodes <= superblock.inodes_per_group, "unused inodes", "are more than there are")
    }
}
