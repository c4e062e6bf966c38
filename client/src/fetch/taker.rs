//! What becomes of the messages that arrive.

use std::{num::NonZero, sync::Arc, thread};

use futures::{StreamExt, stream::FuturesUnordered};
use imprint_content::{Codec, Payload};
use imprint_proto::v1;

use super::{
    Accept, Fetched,
    pending::Pending,
    run::{Arrived, accept_all},
};
use crate::{Error, Progress};

/// Checks and hands on what arrives, on a few blocking threads.
pub(super) struct Taker {
    accept: Accept,
    progress: Arc<Progress>,
    jobs: FuturesUnordered<tokio::task::JoinHandle<Result<(), Error>>>,
    max_jobs: usize,
    pub(super) fetched: Fetched,
}

impl Taker {
    pub(super) fn new(accept: Accept, progress: Arc<Progress>) -> Self {
        let max_jobs = thread::available_parallelism().map_or(1, NonZero::get) + 2;
        Self { accept, progress, jobs: FuturesUnordered::new(), max_jobs, fetched: Fetched::default() }
    }

    pub(super) async fn take(&mut self, message: v1::FetchChunksResponse, pending: &Pending) -> Result<(), Error> {
        let mut arrived: Vec<Arrived> = Vec::with_capacity(message.chunks.len());
        for chunk in message.chunks {
            let Some((need, permit)) = pending.remove(chunk.offset) else {
                return Err(Error::Protocol(format!("a chunk for byte {} came unasked", chunk.offset)));
            };
            self.fetched.chunks += 1;
            self.fetched.stored_bytes += chunk.stored.len() as u64;
            self.progress.add_transferred(chunk.stored.len() as u64);
            let codec = Codec::from_number(chunk.codec)?;
            arrived.push((need, permit, Payload { codec, raw_length: chunk.raw_length, stored: chunk.stored }));
        }
        while self.jobs.len() >= self.max_jobs {
            self.next_done().await?;
        }
        let accept = Arc::clone(&self.accept);
        self.jobs.push(tokio::task::spawn_blocking(move || accept_all(arrived, &accept)));
        Ok(())
    }

    /// Waits until nothing is being handed on any more; the first error counts.
    pub(super) async fn finish(mut self) -> Result<Fetched, Error> {
        let mut result = Ok(());
        while !self.jobs.is_empty() {
            result = result.and(self.next_done().await);
        }
        result.map(|()| self.fetched)
    }

    async fn next_done(&mut self) -> Result<(), Error> {
        match self.jobs.next().await {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(Error::WorkerStopped),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        time::Duration,
    };

    use super::*;

    #[tokio::test]
    async fn nothing_is_handed_on_after_an_error_was_returned() {
        let taker = Taker::new(Arc::new(|_, _| Ok(())), Arc::default());
        let is_done = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let done = Arc::clone(&is_done);
        taker.jobs.push(tokio::task::spawn_blocking(|| Err(Error::WorkerStopped)));
        taker.jobs.push(tokio::task::spawn_blocking(move || {
            let _ = receiver.recv();
            done.store(true, Ordering::Release);
            Ok(())
        }));
        let mut finishing = tokio::spawn(taker.finish());
        let early = tokio::time::timeout(Duration::from_millis(200), &mut finishing).await;
        assert!(early.is_err(), "it did not wait for what is being written");
        sender.send(()).unwrap();
        assert!(finishing.await.unwrap().is_err());
        assert!(is_done.load(Ordering::Acquire));
    }
}
