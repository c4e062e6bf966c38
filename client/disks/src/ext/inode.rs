//! One inode: what it is, and which blocks it owns.

use super::{extents, indirect, owners::Owners, superblock::Superblock};
use crate::{
    fields::Fields,
    read::Volume,
    reason::{Obstacle, require},
};

/// The inode that lists bad blocks.
const BAD_BLOCKS: u32 = 1;
/// The inode that keeps the blocks into which the group descriptors can grow.
const RESIZE: u32 = 7;

const EXTENTS: u32 = 0x8_0000;
const INLINE_DATA: u32 = 0x1000_0000;

/// Bytes in an inode for block numbers, extents, or a short symbolic link.
pub(super) const ROOT_BYTES: usize = 60;

/// What is needed of an inode.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) number: u32,
    pub(super) mode: u16,
    pub(super) links: u16,
    flags: u32,
    length: u64,
    attributes: u64,
    pub(super) root: [u8; ROOT_BYTES],
    /// From which the checksums of its blocks are computed, where there are any.
    pub(super) seed: Option<u32>,
}

/// Where an inode says which blocks it owns.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    Extents,
    Indirect,
    Nowhere,
}

impl Inode {
    /// `raw` has 128 bytes or more.
    pub(super) fn parse(number: u32, raw: &[u8], seed: Option<u32>) -> Self {
        let raw = Fields(raw);
        Self {
            number,
            mode: raw.u16(0),
            links: raw.u16(0x1a),
            flags: raw.u32(0x20),
            length: raw.u64_halves(4, 0x6c),
            attributes: u64::from(raw.u16(0x76)) << 32 | u64::from(raw.u32(0x68)),
            root: raw.array(0x28),
            seed,
        }
    }

    fn content(&self) -> Content {
        const DIRECTORY: u16 = 0x4000;
        const FILE: u16 = 0x8000;
        const LINK: u16 = 0xa000;
        if self.number == BAD_BLOCKS {
            return Content::Indirect;
        }
        let kind = self.mode & 0xf000;
        if !matches!(kind, DIRECTORY | FILE | LINK) || self.flags & INLINE_DATA != 0 {
            return Content::Nowhere;
        }
        match self.flags & EXTENTS != 0 {
            true => Content::Extents,
            false if kind == LINK && self.length < ROOT_BYTES as u64 => Content::Nowhere,
            false => Content::Indirect,
        }
    }
}

/// Claims everything that an inode owns.
pub(super) fn claim(
    volume: &Volume<'_>,
    superblock: &Superblock,
    inode: &Inode,
    owners: &mut Owners<'_>,
) -> Result<(), Obstacle> {
    if inode.attributes != 0 {
        owners.claim_attributes(inode.attributes)?;
    }
    match inode.content() {
        Content::Nowhere => Ok(()),
        Content::Extents => extents::walk(volume, superblock, inode, owners),
        Content::Indirect if matches!(inode.number, BAD_BLOCKS | RESIZE) => {
            indirect::walk_shared(volume, superblock, inode, owners)
        }
        Content::Indirect => indirect::walk(volume, superblock, inode, owners),
    }
}

/// The first block of a file that was claimed.
pub(super) fn first_block(volume: &Volume<'_>, superblock: &Superblock, inode: &Inode) -> Result<u64, Obstacle> {
    let first = match inode.content() {
        Content::Nowhere => 0,
        Content::Extents => extents::first(volume, superblock, inode)?,
        Content::Indirect => u64::from(Fields(&inode.root).u32(0)),
    };
    require(first != 0, "a file", "has no first block")?;
    Ok(first)
}
