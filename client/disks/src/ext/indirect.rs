//! Blocks of block numbers, as ext2 and ext3 use them.

use super::{inode::Inode, owners::Owners, superblock::Superblock};
use crate::{
    fields::Fields,
    read::Volume,
    reason::{Obstacle, require},
};

/// Numbers of data blocks in an inode; then come one for each level of blocks of numbers.
const DIRECT: usize = 12;

/// Claims the blocks of an inode, and those of its numbers.
pub(super) fn walk(
    volume: &Volume<'_>,
    superblock: &Superblock,
    inode: &Inode,
    owners: &mut Owners<'_>,
) -> Result<(), Obstacle> {
    let mut walk = Walk { volume, superblock, owners, sharing: Sharing::Nothing };
    walk.inode(inode)
}

/// The same for an inode whose blocks belong to the filesystem's structures as well.
pub(super) fn walk_shared(
    volume: &Volume<'_>,
    superblock: &Superblock,
    inode: &Inode,
    owners: &mut Owners<'_>,
) -> Result<(), Obstacle> {
    // Nothing stops a loop among blocks that may be claimed again, but the levels: 2 of them are 4 GiB of blocks.
    require(Fields(&inode.root).u32(4 * (DIRECT + 2)) == 0, "a reserved file", "is too long")?;
    let mut walk = Walk { volume, superblock, owners, sharing: Sharing::Structures };
    walk.inode(inode)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Nothing,
    Structures,
}

struct Walk<'a, 'b> {
    volume: &'a Volume<'a>,
    superblock: &'a Superblock,
    owners: &'a mut Owners<'b>,
    sharing: Sharing,
}

impl Walk<'_, '_> {
    fn inode(&mut self, inode: &Inode) -> Result<(), Obstacle> {
        for (index, number) in numbers(&inode.root).enumerate() {
            self.block(number, index.saturating_sub(DIRECT - 1))?;
        }
        Ok(())
    }

    /// A block with `levels` levels of numbers to go; 0 is data. Recursion ends there.
    fn block(&mut self, number: u64, levels: usize) -> Result<(), Obstacle> {
        if number == 0 {
            return Ok(());
        }
        let blocks = number..number + 1;
        match (self.sharing, levels) {
            (Sharing::Structures, _) => self.owners.claim_again(&blocks)?,
            (Sharing::Nothing, 0) => self.owners.claim_data(blocks)?,
            (Sharing::Nothing, _) => self.owners.claim(number)?,
        }
        if levels == 0 {
            return Ok(());
        }
        let at = number * self.superblock.block_bytes;
        let raw = self.volume.read_vec(at, self.superblock.block_bytes as usize, "block numbers of a file")?;
        for number in numbers(&raw) {
            self.block(number, levels - 1)?;
        }
        Ok(())
    }
}

fn numbers(raw: &[u8]) -> impl Iterator<Item = u64> + '_ {
    raw.as_chunks::<4>().0.iter().map(|number| u64::from(u32::from_le_bytes(*number)))
}
