//! Goes on after the connection broke or the server was restarted.

use std::time::{Duration, Instant};

use crate::{Error, Phase, Progress, Repository};

/// The first wait; each further one is twice as long,
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// up to this one.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// How long to try again while nothing gets through.
#[derive(Debug)]
pub(crate) struct Patience {
    limit: Duration,
    failing_since: Option<Instant>,
    next_wait: Duration,
}

impl Patience {
    pub(crate) const fn new(limit: Duration) -> Self {
        Self { limit, failing_since: None, next_wait: FIRST_WAIT }
    }

    /// Something got through: from here on the whole time is there again.
    pub(crate) const fn renew(&mut self) {
        self.failing_since = None;
        self.next_wait = FIRST_WAIT;
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    /// The error itself, when trying again would not help or it was tried for long enough.
    pub(crate) async fn wait_after(&mut self, error: Error, progress: &Progress) -> Result<(), Error> {
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        if !error.is_transient() || since.elapsed() + self.next_wait > self.limit {
            return Err(error);
        }
        let phase = progress.phase();
        progress.enter(Phase::Waiting);
        // Many clients of one server must not come back in the same moment.
        tokio::time::sleep(self.next_wait.mul_f64(jitter())).await;
        progress.enter(phase);
        self.next_wait = (self.next_wait * 2).min(LONGEST_WAIT);
        Ok(())
    }
}

impl Repository {
    pub(crate) const fn patience(&self) -> Patience {
        Patience::new(self.retry_for())
    }

    /// Repeats what can be begun anew, as long as patience lasts.
    pub(crate) async fn retrying<T, F: Future<Output = Result<T, Error>>>(
        &self,
        progress: &Progress,
        attempt: impl Fn() -> F,
    ) -> Result<T, Error> {
        let mut patience = self.patience();
        loop {
            match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) => patience.wait_after(error, progress).await?,
            }
        }
    }
}

/// Between 0.5 and 1.
fn jitter() -> f64 {
    let [byte, ..] = *uuid::Uuid::new_v4().as_bytes();
    0.5 + f64::from(byte) / 512.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_grow_and_end() {
        let progress = Progress::new();
        progress.enter(Phase::Transferring);
        let mut patience = Patience::new(Duration::from_millis(700));
        patience.wait_after(Error::StreamClosed, &progress).await.unwrap();
        assert_eq!(progress.phase(), Phase::Transferring);
        assert_eq!(patience.next_wait, FIRST_WAIT * 2);
        patience.next_wait = LONGEST_WAIT;
        patience.wait_after(Error::StreamClosed, &progress).await.unwrap_err();
        patience.renew();
        patience.wait_after(Error::StreamClosed, &progress).await.unwrap();
    }

    #[tokio::test]
    async fn what_will_not_pass_is_not_tried_again() {
        let mut patience = Patience::new(Duration::from_secs(60));
        let error = patience.wait_after(Error::CannotResend, &Progress::new()).await.unwrap_err();
        assert!(matches!(error, Error::CannotResend));
    }
}
