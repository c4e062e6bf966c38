//! The one bridge from async code to blocking work.
//!
//! Everything that touches a disk or computes for long runs here, a bounded number at a time, so that no client
//! can stall the threads that serve the others.

use std::{num::NonZero, sync::Arc};

use tokio::sync::Semaphore;

/// Runs closures on threads of their own.
#[derive(Debug, Clone)]
pub struct Blocking {
    permits: Arc<Semaphore>,
}

impl Blocking {
    /// At most `limit` closures run at once; further ones wait without a thread.
    #[must_use]
    pub fn new(limit: NonZero<usize>) -> Self {
        Self { permits: Arc::new(Semaphore::new(limit.get())) }
    }

    /// Enough for the cores and for a few threads that wait for a disk.
    #[must_use]
    pub fn for_this_machine() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self::new(NonZero::new(cores + 4).unwrap_or(NonZero::<usize>::MIN))
    }

    /// Runs `work` and waits for it without blocking the caller's thread.
    ///
    /// # Panics
    /// When `work` panics, with its panic.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let permit = Arc::clone(&self.permits).acquire_owned().await.expect("never closed");
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        match done.await {
            Ok(value) => value,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime shuts down: the caller is dropped before it is polled again.
            Err(_) => std::future::pending().await,
        }
    }
}
