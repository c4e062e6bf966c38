//! ext2, ext3 and ext4: which blocks are used, and where files begin.
//!
//! The block bitmaps say which blocks are used; they are believed only after all inodes were walked and what they own
//! is exactly what the bitmaps say. So a map is wrong only where bitmaps, inodes and counts lie in agreement.
//! From the kernel's `Documentation/filesystems/ext4/`.

mod bitmaps;
mod checksums;
mod descriptors;
mod directory;
mod extents;
mod files;
mod indirect;
mod inline;
mod inode;
mod inodes;
mod owners;
mod sum;
mod superblock;
mod tables;

use superblock::Superblock;

use crate::{
    blocks::BlockSet,
    files::Stoppable,
    filesystem::{Filesystem, Identity, PartitionType},
    map::{Blocks, Map, MapOptions, Usage},
    read::{ReadError, Volume},
    reason::Obstacle,
};

/// ext2, ext3 and ext4.
pub(crate) struct Ext;

impl Filesystem for Ext {
    fn identify(&self, volume: &Volume<'_>) -> Result<Option<Identity>, ReadError> {
        superblock::identify(volume)
    }

    fn map(&self, volume: &Volume<'_>, _: PartitionType, options: &MapOptions) -> Result<Map, Obstacle> {
        let superblock = Superblock::read(volume)?;
        let groups = descriptors::read(volume, &superblock)?;
        // Before so much is taken: four sets, of which nothing is known yet but how long they are.
        options.limit_memory(4 * BlockSet::empty_bytes(superblock.blocks))?;
        let mut owners = owners::Owners::new(&superblock, options);
        owners.claim_structures(&groups)?;
        let used = bitmaps::read(volume, &superblock, &groups, owners.structures(), options)?;
        owners.check_against(used)?;
        let files = inodes::walk(volume, &superblock, &groups, &mut owners)?;
        let (used, boundaries) = owners.finish()?;
        Ok(Map {
            used: Blocks { first_byte: 0, bytes: superblock.cluster_bytes(), set: used },
            boundaries: Blocks { first_byte: 0, bytes: superblock.block_bytes, set: boundaries },
            usage: Usage::Free,
            files,
        })
    }

    fn files(&self, volume: &Volume<'_>, visitor: &mut Stoppable<'_>) -> Result<(), Obstacle> {
        let superblock = Superblock::read(volume)?;
        let groups = descriptors::read(volume, &superblock)?;
        files::walk(volume, &superblock, &groups, visitor)
    }
}
