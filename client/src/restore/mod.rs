//! Makes a target hold a version: plan, copy what is here, fetch the rest, make it durable.
//!
//! Every byte that ends up in the image's range was hashed when it was written or kept, or is covered by a witness
//! that nothing else wrote; the list of what belongs where was proved against the version's root before. Copies
//! inside the target come first, in an order that reads each byte before it is overwritten; nothing that fails to
//! hash right is used, and whatever is not here is fetched.

mod local;
mod mover;
mod moves;
mod scan;
mod trust;
mod update;

use std::{
    collections::HashSet,
    num::NonZero,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use imprint_content::{Profile, Ref};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    Error, Phase, Progress, Repository, Version,
    extents::ExtentMap,
    fetch::{Accept, Fetched, Need, fetch_chunks},
    target::{Held, Memory, Target, TargetKind, TargetOptions},
};

use local::{Local, Seed, survey};
use mover::Mover;
use scan::Scanner;
use trust::noted;

pub use update::{UpdateOptions, rollback, update};

/// What becomes of a target's space that no filesystem of the version uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FreeSpace {
    /// It is discarded where the device promises that it then reads as zero, else made zero.
    #[default]
    Discard,
    /// It is left alone: what was there before stays on the target.
    Keep,
}

/// Optional behaviour of a restore.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// The ref that the target follows from now on; `None`: the version itself.
    pub following: Option<Ref>,
    /// Files and devices that may hold the same data; they are only read.
    pub seeds: Vec<PathBuf>,
    /// What becomes of free space.
    pub free_space: FreeSpace,
    /// Where it is noted what targets hold.
    pub memory: Memory,
}

/// What a restore did, in bytes of the image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RestoreOutcome {
    /// Length of the image.
    pub image_bytes: u64,
    /// Data that was in its place already.
    pub kept_bytes: u64,
    /// Data that was copied from elsewhere on the target, or from a seed.
    pub copied_bytes: u64,
    /// Bytes that had to be made zero.
    pub zeroed_bytes: u64,
    /// Free space that was discarded, or made zero.
    pub discarded_bytes: u64,
    /// Free space that was left alone: earlier data may be there.
    pub free_kept_bytes: u64,
    /// Data that was fetched and written.
    pub written_bytes: u64,
    /// Chunks that were fetched.
    pub fetched_chunks: u64,
    /// Their bytes as sent, compressed.
    pub fetched_bytes: u64,
}

/// Makes the target exactly `version`. Durable when it returns.
///
/// # Errors
/// Refusals come before the first write. After a later failure the target is incomplete, and noted as such; the same
/// call again keeps what is right and completes it.
pub async fn restore(
    repository: &Repository,
    version: &Version,
    path: &Path,
    options: RestoreOptions,
    progress: Arc<Progress>,
) -> Result<RestoreOutcome, Error> {
    let profile = Profile::from_number(version.content.profile)?;
    let held = noted(repository, path, &options.memory, &progress).await?;
    let have = held.as_ref().map(|held| (&held.version, &held.found.extents));
    let wanted = repository.tree(version, have, &progress).await?;
    let mut seeds = Vec::new();
    for seed in &options.seeds {
        progress.enter(Phase::ReadingTarget);
        seeds.push(Seed::open(repository, seed, profile, &options.memory, &progress).await?);
    }
    // Opening creates a new file and cuts a longer one.
    progress.begin(Phase::Transferring, version.content.length);
    let target = open_target(repository, version, path).await?;
    let found = match held {
        Some(held) => held.confirmed_by(&target).await?,
        None => None,
    };
    // What was created for this holds nothing that could stay.
    let free_space = if target.kind() == TargetKind::NewFile { FreeSpace::Discard } else { options.free_space };
    let options = RestoreOptions { free_space, ..options };
    // From here on an interruption must not leave a note that is believed.
    let note = note(repository, version, &target, &options)?;
    let memory = options.memory.clone();
    memory.store(&note)?;
    let found = match found {
        None if target.kind() != TargetKind::NewFile => {
            let extents = survey(repository, &target.as_source()?, profile, &progress).await?;
            Some(Found { extents, free_space: FreeSpace::Keep })
        }
        found => found,
    };
    progress.begin(Phase::Transferring, version.content.length);
    let job = Job::plan(target, wanted, found, seeds, options.free_space, Arc::clone(&progress)).await?;
    let fetched = job.run(repository, version).await?;
    progress.enter(Phase::Finishing);
    let target = job.target.clone();
    blocking(move || {
        target.flush()?;
        let witness = target.witness()?;
        Ok::<_, Error>(memory.store(&Held { witness, complete: true, ..note })?)
    })
    .await??;
    Ok(job.outcome(version.content.length, fetched))
}

async fn open_target(repository: &Repository, version: &Version, path: &Path) -> Result<Target, Error> {
    let options = TargetOptions { forbidden_below: repository.directory().map(Path::to_owned).into_iter().collect() };
    let (length, sector_size, path) = (version.content.length, version.content.sector_size, path.to_owned());
    Ok(blocking(move || Target::open(&path, length, sector_size, &options)).await??)
}

/// What to remember while the target is being written; with a witness and marked complete, what to remember after.
fn note(repository: &Repository, version: &Version, target: &Target, options: &RestoreOptions) -> Result<Held, Error> {
    let image = version.image.to_string();
    let before = options.memory.load(target.path())?.filter(|before| before.repository == repository.id());
    let following = options.following.clone().unwrap_or_else(|| version.reference());
    Ok(Held {
        target: target.path().to_owned(),
        repository: repository.id(),
        following: following.to_string(),
        number: version.number,
        version: version.id.to_string(),
        root: version.content.root.to_string(),
        length: version.content.length,
        witness: None,
        complete: false,
        free_space_kept: options.free_space == FreeSpace::Keep,
        previous: before.and_then(|before| before.previous_of(&image, version.number)),
        image,
    })
}

pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::WorkerStopped)
}

/// Counters that scanners and writers share.
#[derive(Debug, Default)]
struct Counts {
    kept: AtomicU64,
    copied: AtomicU64,
    zeroed: AtomicU64,
    discarded: AtomicU64,
    free_kept: AtomicU64,
    written: AtomicU64,
}

/// Lists of needs that scanners have found and nobody has asked for yet.
const QUEUED_NEEDS: usize = 4;

/// What a target holds.
#[derive(Clone)]
struct Found {
    extents: ExtentMap,
    /// What was done with those extents that are free: unless it was kept, they read as zero.
    free_space: FreeSpace,
}

struct Job {
    target: Target,
    wanted: ExtentMap,
    found: Option<Found>,
    free_space: FreeSpace,
    local: Arc<Local>,
    counts: Arc<Counts>,
    progress: Arc<Progress>,
}

impl Job {
    async fn plan(
        target: Target,
        wanted: ExtentMap,
        found: Option<Found>,
        seeds: Vec<Seed>,
        free_space: FreeSpace,
        progress: Arc<Progress>,
    ) -> Result<Self, Error> {
        let (all, there) = (wanted.clone(), found.as_ref().map(|found| found.extents.clone()));
        let local = blocking(move || Local::find(&all, there.as_ref(), seeds)).await??;
        Ok(Self { target, wanted, found, free_space, local: local.into(), counts: Arc::default(), progress })
    }

    async fn run(&self, repository: &Repository, version: &Version) -> Result<Fetched, Error> {
        let mover = Mover {
            target: self.target.clone(),
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
                target: self.target.clone(),
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
        let (target, counts, progress) = (self.target.clone(), Arc::clone(&self.counts), Arc::clone(&self.progress));
        Arc::new(move |offset: u64, raw: &[u8]| {
            target.write_at(raw, offset)?;
            counts.written.fetch_add(raw.len() as u64, Relaxed);
            progress.add_new(raw.len() as u64);
            progress.add_done(raw.len() as u64);
            Ok(())
        })
    }

    fn outcome(&self, image_bytes: u64, fetched: Fetched) -> RestoreOutcome {
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

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
