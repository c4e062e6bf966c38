//! One inode: what it is, and which blocks it owns.

use std::ops::Range;

use super::{extents, indirect, inline, owners::Owners, superblock::Superblock};
use crate::{
    fields::Fields,
    files::FileKind,
    read::Volume,
    reason::{Obstacle, require},
};

/// The inode that lists bad blocks.
const BAD_BLOCKS: u32 = 1;
/// The inode that keeps the blocks into which the group descriptors can grow.
const RESIZE: u32 = 7;

const ENCRYPTED: u32 = 0x800;
const INDEX: u32 = 0x1000;
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
    pub(super) length: u64,
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
        if self.number == BAD_BLOCKS {
            return Content::Indirect;
        }
        if self.kind() == FileKind::Other || self.is_inline() {
            return Content::Nowhere;
        }
        match self.flags & EXTENTS != 0 {
            true => Content::Extents,
            false if self.is_short_link() => Content::Nowhere,
            false => Content::Indirect,
        }
    }

    /// What it is.
    pub(super) const fn kind(&self) -> FileKind {
        match self.mode & 0xf000 {
            0x4000 => FileKind::Directory,
            0x8000 => FileKind::File,
            0xa000 => FileKind::Link,
            _ => FileKind::Other,
        }
    }

    pub(super) fn is_directory(&self) -> bool {
        self.kind() == FileKind::Directory
    }

    /// Whether there is a hash tree over the entries of a directory.
    pub(super) const fn has_index(&self) -> bool {
        self.flags & INDEX != 0
    }

    /// Whether the names in a directory are encrypted.
    pub(super) const fn is_encrypted(&self) -> bool {
        self.flags & ENCRYPTED != 0
    }

    /// Whether it keeps its content itself.
    pub(super) const fn is_inline(&self) -> bool {
        self.flags & INLINE_DATA != 0
    }

    fn is_short_link(&self) -> bool {
        let has_blocks = self.flags & (EXTENTS | INLINE_DATA) != 0;
        self.kind() == FileKind::Link && self.length < ROOT_BYTES as u64 && !has_blocks
    }

    /// Where in `raw`, which is all of it, it keeps its content, if it does.
    pub(super) fn pieces(&self, raw: &[u8]) -> Result<Vec<Range<usize>>, Obstacle> {
        let root = |length: u64| inline::ROOT.start..inline::ROOT.start + length.min(ROOT_BYTES as u64) as usize;
        if self.is_short_link() {
            return Ok(vec![root(self.length)]);
        }
        if !self.is_inline() {
            return Ok(Vec::new());
        }
        let rest = inline::rest(raw)?;
        Ok([root(self.length), rest].into_iter().filter(|piece| !piece.is_empty()).collect())
    }
}

/// When the content was changed: 34 bits of seconds, where there is room for more than 32.
pub(super) fn modified_seconds(raw: &[u8]) -> i64 {
    const EXTRA: usize = 0x88;
    let fields = Fields(raw);
    let has_extra = raw.len() > 128 && 128 + usize::from(fields.u16(0x80)) >= EXTRA + 4;
    let epoch = if has_extra { i64::from(fields.u32(EXTRA) & 3) } else { 0 };
    i64::from(fields.u32(0x10).cast_signed()) + (epoch << 32)
}

/// Whether the blocks of an extent have their content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    Yes,
    /// Reserved; read as zero.
    No,
}

/// Who hears of an inode's blocks while its tree is walked.
pub(super) trait BlockSink {
    /// A block of the tree itself, before it is read. Whoever accepts one again and again has no end.
    fn tree(&mut self, block: u64) -> Result<(), Obstacle>;

    /// Blocks of data, in the order of the file; `logical` is the place of the first of them there.
    fn data(&mut self, logical: u64, blocks: Range<u64>, written: Written) -> Result<(), Obstacle>;
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
    if matches!(inode.number, BAD_BLOCKS | RESIZE) && inode.content() == Content::Indirect {
        indirect::require_short(inode)?;
        return walk(volume, superblock, inode, &mut owners.again());
    }
    walk(volume, superblock, inode, owners)
}

/// Tells `sink` of the blocks of an inode's data.
pub(super) fn walk(
    volume: &Volume<'_>,
    superblock: &Superblock,
    inode: &Inode,
    sink: &mut dyn BlockSink,
) -> Result<(), Obstacle> {
    match inode.content() {
        Content::Nowhere => Ok(()),
        Content::Extents => extents::walk(volume, superblock, inode, sink),
        Content::Indirect => indirect::walk(volume, superblock, inode, sink),
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
