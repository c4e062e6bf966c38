//! Extent trees.

use super::{
    checksums::check,
    inode::{BlockSink, Inode, Written},
    superblock::Superblock,
};
use crate::{
    checksum::crc32c,
    fields::Fields,
    read::Volume,
    reason::{Obstacle, require},
};

const MAGIC: u16 = 0xf30a;
/// Bytes of a header, and of each entry.
const ENTRY: usize = 12;
/// No tree is higher: five levels of the smallest blocks hold more than a file can have.
const MAX_DEPTH: u16 = 5;
/// Longer ones are reserved and not written; their length is what is above.
const MAX_WRITTEN: u16 = 1 << 15;

/// Tells `sink` of the blocks of an inode, and of those of its tree.
pub(super) fn walk(
    volume: &Volume<'_>,
    superblock: &Superblock,
    inode: &Inode,
    sink: &mut dyn BlockSink,
) -> Result<(), Obstacle> {
    let mut walk = Walk { volume, superblock, inode, sink, next: 0 };
    walk.node(&inode.root, None)
}

struct Walk<'a> {
    volume: &'a Volume<'a>,
    superblock: &'a Superblock,
    inode: &'a Inode,
    sink: &'a mut dyn BlockSink,
    /// Extents of the file begin here or later.
    next: u64,
}

impl Walk<'_> {
    /// A node, which must have `depth` levels below it where that is known. Recursion ends at a depth of 0.
    fn node(&mut self, raw: &[u8], depth: Option<u16>) -> Result<(), Obstacle> {
        let (entries, depth) = header(raw, depth)?;
        for entry in entries.chunks_exact(ENTRY).map(Fields) {
            if depth == 0 {
                self.extent(entry)?;
            } else {
                let block = child(entry);
                // Told before it is read: a tree that contains itself ends here.
                self.sink.tree(block)?;
                let raw = read_node(self.volume, self.superblock, self.inode, block)?;
                self.node(&raw, Some(depth - 1))?;
            }
        }
        Ok(())
    }

    fn extent(&mut self, entry: Fields<'_>) -> Result<(), Obstacle> {
        let first = u64::from(entry.u32(0));
        let (length, written) = match entry.u16(4) {
            length if length > MAX_WRITTEN => (length - MAX_WRITTEN, Written::No),
            length => (length, Written::Yes),
        };
        let start = start(entry);
        require(length > 0 && first >= self.next, "extents of a file", "are not in order")?;
        self.next = first + u64::from(length);
        self.sink.data(first, start..start.saturating_add(length.into()), written)
    }
}

/// The first block of the first extent.
pub(super) fn first(volume: &Volume<'_>, superblock: &Superblock, inode: &Inode) -> Result<u64, Obstacle> {
    let mut raw = inode.root.to_vec();
    let mut expected = None;
    loop {
        let (entries, depth) = header(&raw, expected)?;
        require(!entries.is_empty(), "extents of a file", "are none")?;
        let entry = Fields(entries);
        if depth == 0 {
            return Ok(start(entry));
        }
        raw = read_node(volume, superblock, inode, child(entry))?;
        expected = Some(depth - 1);
    }
}

/// The entries of a node, and the levels below it.
fn header(raw: &[u8], expected_depth: Option<u16>) -> Result<(&[u8], u16), Obstacle> {
    let fields = Fields(raw);
    let (count, max, depth) = (usize::from(fields.u16(2)), usize::from(fields.u16(4)), fields.u16(6));
    let fits = count <= max && max < raw.len() / ENTRY;
    require(fields.u16(0) == MAGIC && fits, "extents of a file", "have no header")?;
    let right = expected_depth.map_or(depth <= MAX_DEPTH, |expected| depth == expected);
    require(right, "extents of a file", "have another depth than they must")?;
    Ok((&raw[ENTRY..ENTRY + count * ENTRY], depth))
}

fn start(entry: Fields<'_>) -> u64 {
    u64::from(entry.u16(6)) << 32 | u64::from(entry.u32(8))
}

fn child(entry: Fields<'_>) -> u64 {
    u64::from(entry.u16(8)) << 32 | u64::from(entry.u32(4))
}

fn read_node(volume: &Volume<'_>, superblock: &Superblock, inode: &Inode, block: u64) -> Result<Vec<u8>, Obstacle> {
    let at = block.saturating_mul(superblock.block_bytes);
    let raw = volume.read_vec(at, superblock.block_bytes as usize, "extents of a file")?;
    if let Some(seed) = inode.seed {
        // Behind the room for entries.
        let tail = ENTRY + usize::from(Fields(&raw).u16(4)) * ENTRY;
        let right = raw.get(..tail).is_some_and(|head| crc32c(seed, head) == Fields(&raw).u32(tail));
        check(right, "extents of inode", inode.number.into())?;
    }
    Ok(raw)
}
