//! How far an operation is, for whoever shows it: counters that workers add to and a display reads.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// What an operation is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Talking to the repository, opening files.
    Preparing,
    /// Fetching a tree.
    ReadingTree,
    /// Finding out what a target or seed holds.
    ReadingTarget,
    /// Moving the image's bytes.
    Transferring,
    /// Making it durable.
    Finishing,
    /// The repository cannot be reached: waiting before the next attempt.
    Waiting,
    /// Writing standard input to a file, before anything else.
    Spooling,
}

/// Counters of one operation, in bytes of the image unless they say otherwise.
#[derive(Debug, Default)]
pub struct Progress {
    phase: AtomicU8,
    total: AtomicU64,
    done: AtomicU64,
    new: AtomicU64,
    reused: AtomicU64,
    transferred: AtomicU64,
    unused: AtomicU64,
}

impl Progress {
    /// All zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What is being done now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Preparing,
            1 => Phase::ReadingTree,
            2 => Phase::ReadingTarget,
            3 => Phase::Transferring,
            4 => Phase::Finishing,
            5 => Phase::Waiting,
            _ => Phase::Spooling,
        }
    }

    /// Bytes to do; 0 when not known (yet), as for a stream.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }

    /// Bytes dealt with, zeros included.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done.load(Relaxed)
    }

    /// Bytes that had to be sent or fetched, before compression.
    #[must_use]
    pub fn new_bytes(&self) -> u64 {
        self.new.load(Relaxed)
    }

    /// Bytes of data that were there already.
    #[must_use]
    pub fn reused_bytes(&self) -> u64 {
        self.reused.load(Relaxed)
    }

    /// Bytes that went over the wire, compressed.
    #[must_use]
    pub fn transferred_bytes(&self) -> u64 {
        self.transferred.load(Relaxed)
    }

    /// Bytes of data that were captured although no filesystem uses them.
    #[must_use]
    pub fn unused_bytes(&self) -> u64 {
        self.unused.load(Relaxed)
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
    }

    pub(crate) fn set_total(&self, bytes: u64) {
        self.total.store(bytes, Relaxed);
    }

    /// Starts a part of the operation that goes through `total` bytes of its own.
    pub(crate) fn begin(&self, phase: Phase, total: u64) {
        self.done.store(0, Relaxed);
        self.reused.store(0, Relaxed);
        self.set_total(total);
        self.enter(phase);
    }

    pub(crate) fn add_done(&self, bytes: u64) {
        self.done.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn add_new(&self, bytes: u64) {
        self.new.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn add_reused(&self, bytes: u64) {
        self.reused.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn add_unused(&self, bytes: u64) {
        if bytes > 0 {
            self.unused.fetch_add(bytes, Relaxed);
        }
    }

    pub(crate) fn add_transferred(&self, bytes: u64) {
        self.transferred.fetch_add(bytes, Relaxed);
    }
}
