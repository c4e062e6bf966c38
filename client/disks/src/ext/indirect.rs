//! Blocks of block numbers, as ext2 and ext3 use them.

use super::{
    inode::{BlockSink, Inode, Written},
    superblock::Superblock,
};
use crate::{
    fields::Fields,
    read::Volume,
    reason::{Obstacle, require},
};

/// Numbers of data blocks in an inode; then come one for each level of blocks of numbers.
const DIRECT: usize = 12;

/// Tells `sink` of the blocks of an inode, and of those of its numbers.
pub(super) fn walk(
    volume: &Volume<'_>,
    superblock: &Superblock,
    inode: &Inode,
    sink: &mut dyn BlockSink,
) -> Result<(), Obstacle> {
    let mut walk = Walk { volume, superblock, sink, logical: 0 };
    for (index, number) in numbers(&inode.root).enumerate() {
        walk.block(number, index.saturating_sub(DIRECT - 1))?;
    }
    Ok(())
}

/// Fails for files with three levels of numbers. Where blocks may be claimed again, nothing stops a loop among them but
/// the levels: 2 of them are 4 GiB of blocks.
pub(super) fn require_short(inode: &Inode) -> Result<(), Obstacle> {
    require(Fields(&inode.root).u32(4 * (DIRECT + 2)) == 0, "a reserved file", "is too long")
}

struct Walk<'a> {
    volume: &'a Volume<'a>,
    superblock: &'a Superblock,
    sink: &'a mut dyn BlockSink,
    /// Block of the file that the next number is of.
    logical: u64,
}

impl Walk<'_> {
    /// A block with `levels` levels of numbers to go; 0 is data. Recursion ends there.
    fn block(&mut self, number: u64, levels: usize) -> Result<(), Obstacle> {
        if number == 0 {
            self.logical += (self.superblock.block_bytes / 4).pow(levels as u32);
            return Ok(());
        }
        if levels == 0 {
            self.logical += 1;
            return self.sink.data(self.logical - 1, number..number + 1, Written::Yes);
        }
        self.sink.tree(number)?;
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
