//! What can be asked of a restore, and what it says it did.

use std::path::PathBuf;

use imprint_content::Ref;

use crate::target::Memory;

use super::{GrownPartition, TableFit};

/// What becomes of a target's space that no filesystem of the version uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FreeSpace {
    /// It is discarded where the device promises that it then reads as zero, else made zero.
    #[default]
    Discard,
    /// It is left alone: what was there before stays on the target.
    Keep,
}

/// Whether the partition that ends last is to end with a target that is longer than the image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Growing {
    /// Partitions stay as they are.
    #[default]
    No,
    /// The partition grows if it can: it did so on this target before.
    AsBefore,
    /// The partition grows, and its filesystem by its own tools; a target on which it cannot is refused.
    Requested,
}

/// Optional behaviour of a restore.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// The ref that the target follows from now on; `None`: the version itself.
    pub following: Option<Ref>,
    /// Files and devices that may hold the same data; they are only read.
    pub seeds: Vec<PathBuf>,
    /// What becomes of free space.
    pub free_space: FreeSpace,
    /// The length in bytes that a file gets; `None`: the image's. A device has the length that it has.
    pub size: Option<u64>,
    /// Whether the last partition takes what the target has more than the image.
    pub growing: Growing,
    /// Where it is noted what targets hold.
    pub memory: Memory,
}

/// What a restore did, in bytes of the image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreOutcome {
    /// Length of the image.
    pub image_bytes: u64,
    /// Data that was in its place already.
    pub kept_bytes: u64,
    /// Data that was copied from elsewhere on the target, or from a seed.
    pub copied_bytes: u64,
    /// Bytes that had to be made zero.
    pub zeroed_bytes: u64,
    /// Free space that was discarded, or made zero.
    pub discarded_bytes: u64,
    /// Free space that was left alone: earlier data may be there.
    pub free_kept_bytes: u64,
    /// Data that was fetched and written.
    pub written_bytes: u64,
    /// Chunks that were fetched.
    pub fetched_chunks: u64,
    /// Their bytes as sent, compressed.
    pub fetched_bytes: u64,
    /// The target's length, where that is not the image's.
    pub target_bytes: Option<u64>,
    /// What became of the partition table on a target of another length.
    pub table: TableFit,
    /// The partition that was grown, where that was asked for.
    pub grown: Option<GrownPartition>,
}
