//! Extents: runs of image bytes of one kind.

use crate::ChunkId;

/// What the bytes of an extent are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExtentKind {
    /// One chunk.
    Data(ChunkId),
    /// All bytes are zero.
    Zero,
    /// Unallocated in its filesystem: content unspecified, reads as zero, never compared.
    Free,
}

/// A run of image bytes of one kind. Data extents are exactly one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extent {
    /// What the bytes are.
    pub kind: ExtentKind,
    /// Length in bytes, never 0.
    pub length: u64,
}

impl Extent {
    /// An extent of one chunk.
    #[must_use]
    pub const fn data(id: ChunkId, length: u64) -> Self {
        Self { kind: ExtentKind::Data(id), length }
    }

    /// A run of zeros.
    #[must_use]
    pub const fn zero(length: u64) -> Self {
        Self { kind: ExtentKind::Zero, length }
    }

    /// A run that its filesystem does not use.
    #[must_use]
    pub const fn free(length: u64) -> Self {
        Self { kind: ExtentKind::Free, length }
    }

    /// The chunk, if this is data.
    #[must_use]
    pub const fn chunk(&self) -> Option<ChunkId> {
        match self.kind {
            ExtentKind::Data(id) => Some(id),
            ExtentKind::Zero | ExtentKind::Free => None,
        }
    }

    /// Bytes of data: the length of a data extent, else 0.
    #[must_use]
    pub const fn data_bytes(&self) -> u64 {
        match self.kind {
            ExtentKind::Data(_) => self.length,
            ExtentKind::Zero | ExtentKind::Free => 0,
        }
    }

    /// Both are runs of the same kind without content, so that they can be one extent.
    #[must_use]
    pub fn merges_with(&self, next: &Self) -> bool {
        self.chunk().is_none() && self.kind == next.kind
    }
}
