//! How far a collection is, for whoever shows it, and the wish that it ends.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::sync::watch;

use crate::Error;

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

/// How far it is in its phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CollectProgress {
    /// What it does.
    pub phase: CollectPhase,
    /// Done of it.
    pub done: u64,
    /// To do.
    pub total: u64,
}

/// Between a collection and whoever began it.
#[derive(Debug, Default)]
pub struct CollectControl {
    progress: watch::Sender<CollectProgress>,
    is_stopped: AtomicBool,
}

impl CollectControl {
    /// For a collection that was not begun yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How far it is, now and later.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<CollectProgress> {
        self.progress.subscribe()
    }

    /// Wishes that it ends. It does so within moments, with [`Error::Stopping`].
    pub fn stop(&self) {
        self.is_stopped.store(true, Relaxed);
    }

    pub(super) fn expect_going_on(&self) -> Result<(), Error> {
        if self.is_stopped.load(Relaxed) { Err(Error::Stopping) } else { Ok(()) }
    }

    pub(super) fn begin(&self, phase: CollectPhase, total: u64) {
        self.progress.send_replace(CollectProgress { phase, done: 0, total });
    }

    pub(super) fn advance(&self, by: u64) {
        self.progress.send_modify(|progress| progress.done += by);
    }
}
