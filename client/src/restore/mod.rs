//! Makes a target hold a version: plan, copy what is here, fetch the rest, make it durable.
//!
//! Every byte that ends up in the image's range was hashed when it was written or kept, or is covered by a witness
//! that nothing else wrote; the list of what belongs where was proved against the version's root before. Copies
//! inside the target come first, in an order that reads each byte before it is overwritten; nothing that fails to
//! hash right is used, and whatever is not here is fetched.

mod fit;
mod grow;
mod image_bytes;
mod job;
mod local;
mod mover;
mod moves;
mod options;
mod scan;
mod surface;
mod trust;
mod update;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use imprint_content::Profile;

use crate::{
    Error, Phase, Progress, Repository, Version,
    target::{Held, Memory, Override, Target, TargetKind, TargetOptions, Witness},
};

use fit::{Fit, Wish};
use job::{Found, Job};
use local::{Seed, survey};
use surface::Surface;
use trust::{noted, remembered};

pub use fit::TableFit;
pub use grow::{FilesystemGrowth, GrownPartition};
pub use options::{FreeSpace, Growing, RestoreOptions, RestoreOutcome};
pub use update::{UpdateOptions, rollback, update};

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
    let cut = (Profile::from_number(version.content.profile)?, version.content.capture_mode);
    let held = noted(repository, path, &options.memory, &progress).await?;
    let have = held.as_ref().map(|held| (&held.version, &held.found.extents));
    let wanted = repository.tree(version, have, &progress).await?;
    let mut seeds = Vec::new();
    for seed in &options.seeds {
        progress.enter(Phase::ReadingTarget);
        seeds.push(Seed::open(repository, seed, cut, &options.memory, &progress).await?);
    }
    let former = remembered(repository, path, &options.memory).await?.map(|held| held.overrides).unwrap_or_default();
    let wish = Wish { path, size: options.size, growing: options.growing, overrides: &former };
    let fit = Fit::plan(repository, version, &wanted, wish, &progress).await?;
    // Opening creates a new file and cuts a longer one.
    progress.begin(Phase::Transferring, version.content.length);
    let target = open_target(repository, version, path, &fit).await?;
    let found = match held {
        Some(held) => held.confirmed_by(&target).await?,
        None => None,
    };
    // What was created for this holds nothing that could stay.
    let free_space = if target.kind() == TargetKind::NewFile { FreeSpace::Discard } else { options.free_space };
    let options = RestoreOptions { free_space, ..options };
    // From here on an interruption must not leave a note that is believed.
    let before = remembered(repository, target.path(), &options.memory).await?;
    let note = note(repository, version, &target, &fit, &options, before).await?;
    store(&options.memory, note.with_former(&former)).await?;
    let found = match found {
        None if target.kind() != TargetKind::NewFile => {
            let extents = survey(repository, &target.as_disk()?, &target.as_source()?, cut, &progress).await?;
            Some(Found { extents, free_space: FreeSpace::Keep, overrides: Vec::new() })
        }
        found => found,
    };
    progress.begin(Phase::Transferring, version.content.length);
    let surface = Surface::new(target.clone(), &fit.overrides);
    let job = Job::plan(surface.clone(), wanted, found, seeds, options.free_space, Arc::clone(&progress)).await?;
    let fetched = job.run(repository, version).await?;
    progress.enter(Phase::Finishing);
    let outcome = job.outcome(version.content.length, fetched);
    drop(job);
    let witness = blocking(move || complete(&target, &surface, &former)).await??;
    let (grows, regrown) = match (fit.grown, options.growing) {
        (Some(grown), Growing::Requested) => (Some(grown), None),
        // Of a disk without a table nothing but the filesystem could grow.
        (Some(grown), _) if fit.table == TableFit::Refitted => (None, Some(GrownPartition::without_filesystem(&grown))),
        _ => (None, None),
    };
    // Whoever grows a filesystem writes to the target, and nobody could tell that from any other writing.
    let held = Held { witness: witness.filter(|_| grows.is_none()), complete: true, ..note };
    store(&options.memory, held.clone()).await?;
    let grown = match grows {
        Some(grown) => Some(grow::grow(&options.memory, held, grown).await?),
        None => regrown,
    };
    Ok(RestoreOutcome { target_bytes: fit.length, table: fit.table, grown, ..outcome })
}

async fn open_target(repository: &Repository, version: &Version, path: &Path, fit: &Fit) -> Result<Target, Error> {
    let options = TargetOptions {
        forbidden_below: repository.directory().map(Path::to_owned).into_iter().collect(),
        length: fit.length,
    };
    let (length, sector_size, path) = (version.content.length, fit.sector_size, path.to_owned());
    Ok(blocking(move || Target::open(&path, length, sector_size, &options)).await??)
}

/// Writes what makes the version fit, and makes all of it durable.
fn complete(target: &Target, surface: &Surface, former: &[Override]) -> Result<Option<Witness>, Error> {
    surface.apply_overrides()?;
    surface.clear(former)?;
    target.flush()?;
    Ok(target.witness()?)
}

/// What to remember while the target is being written; with a witness and marked complete, what to remember after.
async fn note(
    repository: &Repository,
    version: &Version,
    target: &Target,
    fit: &Fit,
    options: &RestoreOptions,
    before: Option<Held>,
) -> Result<Held, Error> {
    let image = version.image.to_string();
    let opened = target.clone();
    let disk = blocking(move || opened.disk()).await??;
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
        disk,
        target_length: fit.length,
        given_length: options.size,
        overrides: fit.overrides.clone(),
        grown: options.growing != Growing::No,
        filesystem_grown: false,
        free_space_kept: options.free_space == FreeSpace::Keep,
        previous: before.and_then(|before| before.previous_of(&image, version.number)),
        image,
    })
}

async fn store(memory: &Memory, held: Held) -> Result<(), Error> {
    let memory = memory.clone();
    Ok(blocking(move || memory.store(&held)).await??)
}

pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::WorkerStopped)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
