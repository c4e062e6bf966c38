//! How far long work is, for whoever shows it, and the wish that it ends.

use std::time::Duration;

use tokio::sync::watch;

use crate::Error;

/// How far work is in its phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress<P> {
    /// What it does.
    pub phase: P,
    /// Done of it.
    pub done: u64,
    /// To do.
    pub total: u64,
}

/// Between work that takes long, in phases `P`, and whoever began it.
#[derive(Debug, Default)]
pub struct Control<P> {
    progress: watch::Sender<Progress<P>>,
    stopped: watch::Sender<bool>,
}

impl<P: Copy + Default> Control<P> {
    /// For work that was not begun yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How far it is, now and later.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress<P>> {
        self.progress.subscribe()
    }

    /// Wishes that it ends. It does so within moments, with [`Error::Stopping`], also while it waits for its rate.
    pub fn stop(&self) {
        self.stopped.send_replace(true);
    }

    pub(in crate::store) fn expect_going_on(&self) -> Result<(), Error> {
        if *self.stopped.borrow() { Err(Error::Stopping) } else { Ok(()) }
    }

    /// Waits, but not when it is to end.
    pub(in crate::store) async fn pause(&self, time: Duration) -> Result<(), Error> {
        self.expect_going_on()?;
        if time.is_zero() {
            return Ok(());
        }
        let mut stopped = self.stopped.subscribe();
        match tokio::time::timeout(time, stopped.wait_for(|stopped| *stopped)).await {
            // The sender lives as long as `self`: it is to end.
            Ok(_) => Err(Error::Stopping),
            Err(_) => Ok(()),
        }
    }

    pub(in crate::store) fn begin(&self, phase: P, total: u64) {
        self.progress.send_replace(Progress { phase, done: 0, total });
    }

    pub(in crate::store) fn advance(&self, by: u64) {
        self.progress.send_modify(|progress| progress.done += by);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[tokio::test]
    async fn a_wish_to_end_cuts_a_pause_short() {
        let control = Control::<()>::new();
        let mut pause = pin!(control.pause(Duration::from_secs(1 << 30)));
        assert!(futures::poll!(&mut pause).is_pending());
        control.stop();
        assert!(matches!(pause.await, Err(Error::Stopping)));
        assert!(matches!(control.pause(Duration::ZERO).await, Err(Error::Stopping)));
    }
}
