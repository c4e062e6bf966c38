//! What a collection is doing, for whoever shows it.

use crate::store::control::{Control, Progress};

/// What a collection is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CollectPhase {
    /// Looking for what is to be purged.
    #[default]
    Preparing,
    /// Walking trees; counted in versions.
    Marking,
    /// Deleting dead packs; counted in packs.
    Deleting,
    /// Rewriting packs; counted in bytes.
    Rewriting,
}

/// How far a collection is.
pub type CollectProgress = Progress<CollectPhase>;

/// Between a collection and whoever began it.
pub type CollectControl = Control<CollectPhase>;
