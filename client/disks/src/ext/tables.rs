//! Inodes by their number, in any order.

use super::{descriptors::Group, superblock::Superblock};
use crate::{
    read::Volume,
    reason::{Obstacle, require},
};

/// Bytes of an inode table that are read at once, and how many of such windows are kept: 1 MiB.
const WINDOW_BYTES: u64 = 16 << 10;
const WINDOWS: u64 = 64;

/// The tables of all groups.
pub(super) struct Tables<'a> {
    volume: &'a Volume<'a>,
    superblock: &'a Superblock,
    groups: &'a [Group],
    /// Each byte of the volume can be in one of them only.
    windows: Vec<Window>,
}

#[derive(Clone, Default)]
struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Tables<'a> {
    pub(super) fn new(volume: &'a Volume<'a>, superblock: &'a Superblock, groups: &'a [Group]) -> Self {
        Self { volume, superblock, groups, windows: vec![Window::default(); WINDOWS as usize] }
    }

    /// Where an inode is, and its bytes.
    pub(super) fn inode(&mut self, number: u32) -> Result<(u64, &[u8]), Obstacle> {
        let per_group = self.superblock.inodes_per_group;
        let index = number.checked_sub(1).ok_or_else(|| Obstacle::invalid("an inode", "is beyond the end"))?;
        let group = self.groups.get((index / per_group) as usize);
        let group = group.ok_or_else(|| Obstacle::invalid("an inode", "is beyond the end"))?;
        let index = index % per_group;
        let used = !group.inodes_uninitialised && index < per_group - group.unused_inodes;
        require(used, "a name", "is of an inode that was never used")?;
        let size = self.superblock.inode_bytes as u64;
        let table = group.inode_table * self.superblock.block_bytes;
        // A window begins in the table; its length and that of an inode are powers of two.
        let window_bytes = WINDOW_BYTES.max(size);
        let at = u64::from(index) * size;
        let start = at / window_bytes * window_bytes;
        let length = window_bytes.min(u64::from(per_group) * size - start);
        let window = self.window(table + start, length as usize)?;
        let inside = (at - start) as usize;
        Ok((table + at, &window[inside..inside + size as usize]))
    }

    fn window(&mut self, start: u64, length: usize) -> Result<&[u8], Obstacle> {
        let window = &mut self.windows[(start / WINDOW_BYTES % WINDOWS) as usize];
        if window.start != start || window.bytes.len() != length {
            window.bytes = self.volume.read_vec(start, length, "inode table")?;
            window.start = start;
        }
        Ok(&window.bytes)
    }
}
