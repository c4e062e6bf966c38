//! Walks the inodes that are in use.

use super::{
    bitmaps,
    descriptors::Group,
    inode::{self, Inode},
    owners::Owners,
    superblock::{Superblock, feature},
};
use crate::{
    read::Volume,
    reason::{Obstacle, Reason, agree, require},
};

/// Bytes of an inode table that are read at once.
const READ_BYTES: u64 = 256 << 10;

/// Lets every inode claim what it owns, and returns how many are in use and not reserved.
pub(super) fn walk(
    volume: &Volume<'_>,
    superblock: &Superblock,
    groups: &[Group],
    owners: &mut Owners<'_>,
) -> Result<u64, Obstacle> {
    let mut walk = Walk { volume, superblock, owners, buffer: Vec::new(), files: 0 };
    for group in groups {
        walk.group(group)?;
        walk.owners.limit_memory()?;
    }
    Ok(walk.files)
}

struct Walk<'a, 'b> {
    volume: &'a Volume<'a>,
    superblock: &'a Superblock,
    owners: &'a mut Owners<'b>,
    buffer: Vec<u8>,
    files: u64,
}

impl Walk<'_, '_> {
    fn group(&mut self, group: &Group) -> Result<(), Obstacle> {
        let superblock = self.superblock;
        let per_group = superblock.inodes_per_group;
        if group.inodes_uninitialised {
            return agree("free inodes of a group and of its bitmap", group.free_inodes.into(), per_group.into());
        }
        let at = group.inode_bitmap * superblock.block_bytes;
        let bitmap = self.volume.read_vec(at, superblock.block_bytes as usize, "inode bitmap")?;
        let bytes = per_group as usize / 8;
        superblock.checksums.check_bitmap(
            &bitmap[..bytes],
            group.inode_bitmap_checksum,
            "inode bitmap",
            group.number,
        )?;
        let runs: Vec<_> = bitmaps::runs(&bitmap, per_group as usize).collect();
        let used: usize = runs.iter().map(ExactSizeIterator::len).sum();
        agree(
            "free inodes of a group and of its bitmap",
            group.free_inodes.into(),
            u64::from(per_group) - used as u64,
        )?;
        let end = runs.last().map_or(0, |run| run.end);
        require(end <= (per_group - group.unused_inodes) as usize, "an inode in use", "was never used")?;
        for run in runs {
            self.run(group, run)?;
        }
        Ok(())
    }

    /// Inodes in use, by their place in the group's table.
    fn run(&mut self, group: &Group, run: std::ops::Range<usize>) -> Result<(), Obstacle> {
        let size = self.superblock.inode_bytes;
        let at_once = (READ_BYTES as usize / size).max(1);
        let table = group.inode_table * self.superblock.block_bytes;
        let first_number = group.number * self.superblock.inodes_per_group + 1;
        let mut index = run.start;
        while index < run.end {
            let count = at_once.min(run.end - index);
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.resize(count * size, 0);
            self.volume.read(table + (index * size) as u64, &mut buffer, "inode table")?;
            for (n, raw) in buffer.chunks_exact(size).enumerate() {
                self.inode(first_number + (index + n) as u32, raw)?;
            }
            self.buffer = buffer;
            index += count;
        }
        Ok(())
    }

    fn inode(&mut self, number: u32, raw: &[u8]) -> Result<(), Obstacle> {
        let reserved = number < self.superblock.first_inode;
        // Reserved inodes are in use from the start; most were never written.
        if reserved && raw.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        let seed = self.superblock.checksums.check_inode(number, raw)?;
        let inode = Inode::parse(number, raw, seed);
        if !reserved {
            require(inode.mode != 0, "an inode in use", "is empty")?;
            if inode.links == 0 {
                return Err(Reason::Unclean("a deleted file is still there").into());
            }
            self.files += 1;
        }
        inode::claim(self.volume, self.superblock, &inode, self.owners)?;
        let has_journal = self.superblock.compatible & feature::HAS_JOURNAL != 0;
        if has_journal && number == self.superblock.journal_inode {
            check_journal(self.volume, self.superblock, &inode)?;
        }
        self.owners.end_inode();
        Ok(())
    }
}

/// A journal that has to be replayed changes blocks when it is.
fn check_journal(volume: &Volume<'_>, superblock: &Superblock, inode: &Inode) -> Result<(), Obstacle> {
    const MAGIC: u32 = 0xc03b_3998;
    let first = inode::first_block(volume, superblock, inode)?;
    let mut raw = [0; 1024];
    volume.read(first.saturating_mul(superblock.block_bytes), &mut raw, "journal")?;
    let raw = crate::fields::Fields(&raw);
    require(raw.be32(0) == MAGIC && matches!(raw.be32(4), 3 | 4), "journal", "has no superblock")?;
    match raw.be32(0x1c) {
        0 => Ok(()),
        _ => Err(Reason::Unclean("the journal is not empty").into()),
    }
}
