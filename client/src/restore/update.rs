//! Update and rollback: restores that know what the target held.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use imprint_content::Ref;

use crate::{
    Error, Progress, Repository, Version,
    target::{Held, Memory, witness},
};

use super::{FreeSpace, Growing, RestoreOptions, RestoreOutcome, blocking, restore, trust::remembered};

/// Optional behaviour of an update.
#[derive(Debug, Clone)]
pub struct UpdateOptions {
    /// Also go to a version of the same image with a lower number.
    pub allow_older: bool,
    /// Files and devices that may hold the same data; they are only read.
    pub seeds: Vec<PathBuf>,
    /// What becomes of free space.
    pub free_space: FreeSpace,
    /// Whether the last partition takes what the target has more than the image. Where it did before, it does again.
    pub growing: Growing,
    /// Where it is noted what targets hold.
    pub memory: Memory,
}

/// Brings a target to the version that `reference` means, or to what the target follows.
///
/// # Errors
/// Before the first write: [`Error::NotKnown`] without a ref for a target that nothing is known of;
/// [`Error::Older`] when the version is older than what the target holds.
pub async fn update(
    repository: &Repository,
    path: &Path,
    reference: Option<&Ref>,
    options: UpdateOptions,
    progress: Arc<Progress>,
) -> Result<(Version, RestoreOutcome), Error> {
    let following = match reference {
        Some(reference) => reference.clone(),
        None => followed(repository, path, &options.memory).await?.following.parse()?,
    };
    let version = repository.version(&following).await?;
    let held = remembered(repository, path, &options.memory).await?;
    let is_older = |held: &&Held| held.image == version.image.as_str() && version.number < held.number;
    if let Some(held) = held.as_ref().filter(|held| is_older(held) && !options.allow_older) {
        return Err(Error::Older { version: version.reference(), held: held.number });
    }
    go_to(repository, version, path, Some(following), held, options, progress).await
}

/// Brings a target back to what it held before, or to the version that `reference` means. It follows what it followed.
///
/// # Errors
/// Before the first write: [`Error::NothingBefore`] when it is not known what it held before.
pub async fn rollback(
    repository: &Repository,
    path: &Path,
    reference: Option<&Ref>,
    options: UpdateOptions,
    progress: Arc<Progress>,
) -> Result<(Version, RestoreOutcome), Error> {
    let reference = match reference {
        Some(reference) => reference.clone(),
        None => {
            let held = followed(repository, path, &options.memory).await?;
            let before = held.previous.ok_or_else(|| Error::NothingBefore(path.to_owned()))?;
            format!("{}@{}", before.image, before.number).parse()?
        }
    };
    let version = repository.version(&reference).await?;
    let held = remembered(repository, path, &options.memory).await?;
    let following = held.as_ref().and_then(|held| held.following.parse().ok());
    go_to(repository, version, path, following, held, options, progress).await
}

async fn go_to(
    repository: &Repository,
    version: Version,
    path: &Path,
    following: Option<Ref>,
    held: Option<Held>,
    options: UpdateOptions,
    progress: Arc<Progress>,
) -> Result<(Version, RestoreOutcome), Error> {
    let grown = held.as_ref().is_some_and(|held| held.grown);
    let options = RestoreOptions {
        following,
        seeds: options.seeds,
        free_space: options.free_space,
        // A file keeps the length that it was given; of a device none was noted.
        size: held.and_then(|held| held.given_length),
        growing: if options.growing == Growing::No && grown { Growing::AsBefore } else { options.growing },
        memory: options.memory,
    };
    let outcome = restore(repository, &version, path, options, progress).await?;
    Ok((version, outcome))
}

/// What the target at `path` holds and follows, for who does not say what to write onto it: a device's name may mean
/// another disk since, and without a witness it takes a ref.
async fn followed(repository: &Repository, path: &Path, memory: &Memory) -> Result<Held, Error> {
    let (id, looked_at, memory) = (repository.id(), path.to_owned(), memory.clone());
    blocking(move || {
        let held = memory.load(&looked_at)?.filter(|held| held.repository == id);
        let held = held.ok_or_else(|| Error::NotKnown(looked_at.clone()))?;
        if looked_at.is_file() {
            return Ok(held);
        }
        let found = witness::current(&looked_at)?;
        match found.is_some() && found == held.witness {
            true => Ok(held),
            false => Err(Error::AnotherDisk { path: looked_at, following: held.following }),
        }
    })
    .await?
}
