//! One restore: copies first, then scanners and fetches side by side.

use std::{
    collections::HashSet,
    num::NonZero,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    Error, Progress, Repository, Version,
    extents::ExtentMap,
    fetch::{Accept, Fetched, Need, fetch_chunks},
    target::Override,
};

use super::{
    FreeSpace, RestoreOutcome, blocking,
    local::{Local, Seed},
    mover::Mover,
    scan::Scanner,
    surface::Surface,
};

/// Counters that scanners and writers share.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) kept: AtomicU64,
    pub(super) copied: AtomicU64,
    pub(super) zeroed: AtomicU64,
    pub(super) discarded: AtomicU64,
    pub(super) free_kept: AtomicU64,
    pub(super) written: AtomicU64,
}

/// Lists of needs that scanners have found and nobody has asked for yet.
const QUEUED_NEEDS: usize = 4;

/// What a target holds.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) extents: ExtentMap,
    /// What was done with those extents that are free: unless it was kept, they read as zero.
    pub(super) free_space: FreeSpace,
    /// Where it holds something else.
    pub(super) overrides: Vec<Override>,
}

/// One restore, planned.
pub(super) struct Job {
    surface: Surface,
    wanted: ExtentMap,
    found: Option<Found>,
    free_space: FreeSpace,
    local: Arc<Local>,
    counts: Arc<Counts>,
    progress: Arc<Progress>,
}

impl Job {
    pub(super) async fn plan(
        surface: Surface,
        wanted: ExtentMap,
        found: Option<Found>,
        seeds: Vec<Seed>,
        free_space: FreeSpace,
        progress: Arc<Progress>,
    ) -> Result<Self, Error> {
        let (all, there) = (wanted.clone(), found.as_ref().map(|found| found.extents.clone()));
        let local = blocking(move || Local::find(&all, there.as_ref(), seeds)).await??;
        Ok(Self { surface, wanted, found, free_space, local: local.into(), counts: Arc::default(), progress })
    }

    pub(super) async fn run(&self, repository: &Repository, version: &Version) -> Result<Fetched, Error> {
        let mover = Mover {
            surface: self.surface.clone(),
            local: Arc::clone(&self.local),
            counts: Arc::clone(&self.counts),
            progress: Arc::clone(&self.progress),
        };
        let moved = Arc::new(blocking(move || mover.run()).await??);
        let (found, needs) = mpsc::channel(QUEUED_NEEDS);
        let scanning = self.start_scanners(&found, &moved)?;
        drop(found);
        let fetching = fetch_chunks(repository, version, needs, self.writer(), &self.progress);
        let (fetched, scanned) = tokio::join!(fetching, join_all(scanning));
        // A scanner that found nobody to take its needs says nothing: the fetch has the reason.
        let fetched = fetched?;
        scanned?;
        Ok(fetched)
    }

    fn start_scanners(
        &self,
        needs: &mpsc::Sender<Vec<Need>>,
        moved: &Arc<HashSet<u64>>,
    ) -> Result<Vec<JoinHandle<Result<(), Error>>>, Error> {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let cursor = Arc::new(Mutex::new(self.wanted.cursor_at(0)?));
        let mut scanners = Vec::new();
        for _ in 0..cores.min(8) {
            let scanner = Scanner {
                surface: self.surface.clone(),
                found: self.found.clone(),
                free_space: self.free_space,
                moved: Arc::clone(moved),
                local: Arc::clone(&self.local),
                counts: Arc::clone(&self.counts),
                progress: Arc::clone(&self.progress),
                needs: needs.clone(),
            };
            let cursor = Arc::clone(&cursor);
            scanners.push(tokio::task::spawn_blocking(move || scanner.run(&cursor)));
        }
        Ok(scanners)
    }

    fn writer(&self) -> Accept {
        let (surface, counts, progress) = (self.surface.clone(), Arc::clone(&self.counts), Arc::clone(&self.progress));
        Arc::new(move |offset: u64, raw: &[u8]| {
            surface.write_at(raw, offset)?;
            counts.written.fetch_add(raw.len() as u64, Relaxed);
            progress.add_new(raw.len() as u64);
            progress.add_done(raw.len() as u64);
            Ok(())
        })
    }

    pub(super) fn outcome(&self, image_bytes: u64, fetched: Fetched) -> RestoreOutcome {
        RestoreOutcome {
            image_bytes,
            kept_bytes: self.counts.kept.load(Relaxed),
            copied_bytes: self.counts.copied.load(Relaxed),
            zeroed_bytes: self.counts.zeroed.load(Relaxed),
            discarded_bytes: self.counts.discarded.load(Relaxed),
            free_kept_bytes: self.counts.free_kept.load(Relaxed),
            written_bytes: self.counts.written.load(Relaxed),
            fetched_chunks: fetched.chunks,
            fetched_bytes: fetched.stored_bytes,
            ..RestoreOutcome::default()
        }
    }
}

async fn join_all(scanners: Vec<JoinHandle<Result<(), Error>>>) -> Result<(), Error> {
    let mut result = Ok(());
    for scanner in scanners {
        let ended = scanner.await.map_err(|_| Error::WorkerStopped).flatten();
        result = result.and(ended);
    }
    result
}
