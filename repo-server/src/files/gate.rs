//! The switch that ends writing for good.
//!
//! After a failed fsync nobody knows what is on the disk, and a second fsync may succeed without having written
//! anything. So the first such failure is final for everything that writes to this repository; reads go on.

use std::{
    fmt::Display,
    sync::{Arc, OnceLock},
};

use tokio::sync::Notify;

use crate::Error;

/// Whether the repository still accepts writes. Clones share one state, which changes once.
#[derive(Debug, Clone, Default)]
pub struct WriteGate {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    why: OnceLock<String>,
    stops: Notify,
}

impl WriteGate {
    /// Fails with the first reason, once writing was stopped.
    pub fn check(&self) -> Result<(), Error> {
        match self.stopped() {
            Some(why) => Err(Error::WritesStopped { why: why.into() }),
            None => Ok(()),
        }
    }

    /// Why writing was stopped; nothing while it goes on.
    #[must_use]
    pub fn stopped(&self) -> Option<&str> {
        self.state.why.get().map(String::as_str)
    }

    /// Waits until writing is stopped.
    pub async fn until_stopped(&self) {
        // Asked to be woken before looking: a stop in between is not missed.
        let stops = self.state.stops.notified();
        if self.stopped().is_none() {
            stops.await;
        }
    }

    /// Stops writing for good. Only the first reason is kept.
    pub fn stop(&self, why: impl Display) {
        let why = why.to_string();
        if self.state.why.set(why.clone()).is_ok() {
            tracing::error!(why, "the repository stops accepting writes");
            self.state.stops.notify_waiters();
        }
    }

    /// Passes on the outcome of a write. A full disk concerns what was being written; any other failure is final.
    pub fn written<T>(&self, outcome: Result<T, Error>) -> Result<T, Error> {
        match outcome {
            Err(Error::Full { .. }) => outcome,
            _ => self.synced(outcome),
        }
    }

    /// Passes on the outcome of a sync, or of what must not fail half-way. Any failure is final.
    pub fn synced<T>(&self, outcome: Result<T, Error>) -> Result<T, Error> {
        outcome.inspect_err(|error| self.stop(chain(error)))
    }
}

fn chain(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn failed(kind: io::ErrorKind) -> Result<(), Error> {
        Err(Error::io("sync", "file", kind.into()))
    }

    #[test]
    fn the_first_failure_is_final_and_every_clone_says_why() {
        let gate = WriteGate::default();
        assert!(gate.check().is_ok());
        assert!(gate.clone().synced(failed(io::ErrorKind::InvalidData)).is_err());
        gate.stop("something later");
        let stopped = gate.check().unwrap_err().to_string();
        assert!(stopped.contains("cannot sync file: invalid data"), "{stopped}");
    }

    #[tokio::test]
    async fn those_who_wait_hear_of_it_whenever_it_happens() {
        let gate = WriteGate::default();
        let mut waiting = std::pin::pin!(gate.until_stopped());
        assert!(futures::poll!(&mut waiting).is_pending());
        gate.clone().stop("the disk died");
        waiting.await;
        gate.until_stopped().await;
        assert_eq!(gate.stopped(), Some("the disk died"));
    }

    #[test]
    fn a_full_disk_is_final_for_a_sync_only() {
        let gate = WriteGate::default();
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            assert!(matches!(gate.written(failed(kind)), Err(Error::Full { .. })));
            assert!(gate.check().is_ok());
        }
        assert!(gate.synced(failed(io::ErrorKind::StorageFull)).is_err());
        assert!(gate.check().is_err());
    }
}
