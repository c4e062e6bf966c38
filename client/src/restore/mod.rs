//! Restores a version onto a file or device: plan, keep what is right, fetch the rest, make it durable.
//!
//! Every byte that ends up in the image range was hashed when it was written or kept, or is covered by a witness
//! that nothing else wrote; the list of what belongs where was proved against the version's root before.

mod scan;

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use imprint_content::Ref;
use tokio::sync::mpsc;

use crate::{
    Error, Phase, Progress, Repository, Version,
    extents::ExtentMap,
    fetch::{Accept, Fetched, Need, fetch_chunks},
    target::{Held, Memory, Target, TargetOptions, Witness, witness},
};

use scan::Scanner;

/// Optional behaviour of a restore.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// The ref that the target follows from now on; `None`: the version itself.
    pub following: Option<Ref>,
    /// Where it is noted what targets hold.
    pub memory: Memory,
}

/// What a restore did, in bytes of the image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RestoreOutcome {
    /// Length of the image.
    pub image_bytes: u64,
    /// Data that the target held already.
    pub kept_bytes: u64,
    /// Bytes that had to be made zero.
    pub zeroed_bytes: u64,
    /// Data that was written.
    pub written_bytes: u64,
    /// Chunks that were fetched.
    pub fetched_chunks: u64,
    /// Their bytes as sent, compressed.
    pub fetched_bytes: u64,
}

/// Counters that scanners and writers share.
#[derive(Debug, Default)]
struct Counts {
    kept: AtomicU64,
    zeroed: AtomicU64,
    written: AtomicU64,
}

/// Makes the target exactly `version`. Durable when it returns.
///
/// # Errors
/// Refusals come before the first write. After a later failure the target is incomplete, and known to be; the same
/// call again keeps what is right and completes it.
pub async fn restore(
    repository: &Repository,
    version: &Version,
    path: &Path,
    options: RestoreOptions,
    progress: Arc<Progress>,
) -> Result<RestoreOutcome, Error> {
    let held = trusted(repository, path, &options.memory, &progress).await?;
    let have = held.as_ref().map(|held| (&held.version, &held.extents));
    let wanted = repository.tree(version, have, &progress).await?;
    let target_options =
        TargetOptions { forbidden_below: repository.directory().map(Path::to_owned).into_iter().collect() };
    let (length, sector_size) = (version.content.length, version.content.sector_size);
    // Opening creates a new file and cuts a longer one.
    progress.enter(Phase::Transferring);
    let target = open_target(path, length, sector_size, target_options).await?;
    let trusted = still_trusted(held, &target).await?;
    // From here on an interruption must not leave a note that is believed.
    options.memory.forget(target.path())?;
    progress.set_total(length);
    let job = Job { trusted, target: target.clone(), wanted, counts: Arc::default(), progress: Arc::clone(&progress) };
    let fetched = job.run(repository, version).await?;
    progress.enter(Phase::Finishing);
    remember(repository, version, target, &options).await?;
    Ok(RestoreOutcome {
        image_bytes: length,
        kept_bytes: job.counts.kept.load(Relaxed),
        zeroed_bytes: job.counts.zeroed.load(Relaxed),
        written_bytes: job.counts.written.load(Relaxed),
        fetched_chunks: fetched.chunks,
        fetched_bytes: fetched.stored_bytes,
    })
}

/// What a target is known to hold, until something else is found to have written to it.
struct Trusted {
    version: Version,
    extents: ExtentMap,
    witness: Witness,
}

/// The version that the target holds: noted, complete, and untouched since.
async fn trusted(
    repository: &Repository,
    path: &Path,
    memory: &Memory,
    progress: &Progress,
) -> Result<Option<Trusted>, Error> {
    let Some(held) = memory.load(path)?.filter(|held| held.complete && held.repository == repository.id()) else {
        return Ok(None);
    };
    let looked_at = path.to_owned();
    let found = blocking(move || witness::current(&looked_at)).await?.ok().flatten();
    let Some(witness) = found.filter(|found| held.witness.as_ref() == Some(found)) else { return Ok(None) };
    let Ok(reference) = format!("{}@{}", held.image, held.number).parse() else { return Ok(None) };
    match repository.version(&reference).await {
        Ok(version) if version.id.to_string() == held.version => {
            let extents = repository.tree(&version, None, progress).await?;
            Ok(Some(Trusted { version, extents, witness }))
        }
        _ => Ok(None), // removed since, or another repository at the same place: read the target instead
    }
}

/// Looks again now that the target is open and locked: something may have written since the first look.
async fn still_trusted(held: Option<Trusted>, target: &Target) -> Result<Option<ExtentMap>, Error> {
    let Some(held) = held else { return Ok(None) };
    let target = target.clone();
    let now = blocking(move || target.witness()).await??;
    Ok((now.as_ref() == Some(&held.witness)).then_some(held.extents))
}

async fn open_target(path: &Path, length: u64, sector_size: u32, options: TargetOptions) -> Result<Target, Error> {
    let path = path.to_owned();
    Ok(blocking(move || Target::open(&path, length, sector_size, &options)).await??)
}

async fn remember(
    repository: &Repository,
    version: &Version,
    target: Target,
    options: &RestoreOptions,
) -> Result<(), Error> {
    let following = options.following.clone().unwrap_or_else(|| version.reference());
    let held = Held {
        target: target.path().to_owned(),
        repository: repository.id(),
        image: version.image.to_string(),
        following: following.to_string(),
        number: version.number,
        version: version.id.to_string(),
        root: version.content.root.to_string(),
        length: version.content.length,
        witness: None,
        complete: true,
    };
    let memory = options.memory.clone();
    blocking(move || {
        target.flush()?;
        let witness = target.witness()?;
        Ok(memory.store(&Held { witness, ..held })?)
    })
    .await?
}

pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::WorkerStopped)
}

/// Lists of needs that scanners have found and nobody has asked for yet.
const QUEUED_NEEDS: usize = 4;

struct Job {
    target: Target,
    wanted: ExtentMap,
    /// What the target holds for sure.
    trusted: Option<ExtentMap>,
    counts: Arc<Counts>,
    progress: Arc<Progress>,
}

impl Job {
    async fn run(&self, repository: &Repository, version: &Version) -> Result<Fetched, Error> {
        let (found, needs) = mpsc::channel(QUEUED_NEEDS);
        let scanning = self.start_scanners(&found)?;
        drop(found);
        let fetching = fetch_chunks(repository, version, needs, self.writer(), &self.progress);
        let scanned = async {
            for scanner in scanning {
                scanner.await.map_err(|_| Error::WorkerStopped)??;
            }
            Ok::<_, Error>(())
        };
        let (fetched, ()) = tokio::try_join!(fetching, scanned)?;
        Ok(fetched)
    }

    fn start_scanners(
        &self,
        found: &mpsc::Sender<Vec<Need>>,
    ) -> Result<Vec<tokio::task::JoinHandle<Result<(), Error>>>, Error> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let cursor = Arc::new(Mutex::new(self.wanted.cursor_at(0)?));
        let mut scanners = Vec::new();
        for _ in 0..cores.min(8) {
            let scanner = Scanner {
                target: self.target.clone(),
                trusted: self.trusted.clone(),
                counts: Arc::clone(&self.counts),
                progress: Arc::clone(&self.progress),
                found: found.clone(),
            };
            let cursor = Arc::clone(&cursor);
            scanners.push(tokio::task::spawn_blocking(move || scanner.run(&cursor)));
        }
        Ok(scanners)
    }

    fn writer(&self) -> Accept {
        let (target, counts, progress) = (self.target.clone(), Arc::clone(&self.counts), Arc::clone(&self.progress));
        Arc::new(move |need: &Need, raw: &[u8]| {
            for offset in std::iter::once(&need.offset).chain(&need.also) {
                target.write_at(raw, *offset)?;
                counts.written.fetch_add(need.length, Relaxed);
                progress.add_new(need.length);
                progress.add_done(need.length);
            }
            Ok(())
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
