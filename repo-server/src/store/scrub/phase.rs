//! What a scrub is doing, for whoever shows it.

use crate::store::control::{Control, Progress};

/// What a scrub is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ScrubPhase {
    /// Finding out what is to be looked at.
    #[default]
    Preparing,
    /// Reading packs; counted in bytes.
    Packs,
    /// Walking trees; counted in versions.
    Trees,
}

/// How far a scrub is.
pub type ScrubProgress = Progress<ScrubPhase>;

/// Between a scrub and whoever began it.
pub type ScrubControl = Control<ScrubPhase>;
