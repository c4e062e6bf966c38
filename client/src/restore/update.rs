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

use super::{FreeSpace, Growing, RestoreOptions, RestoreOutcome, blocking, restore};

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
    let held = held(repository, path, &options.memory)?;
    let following = match (reference, &held) {
        (Some(reference), _) => reference.clone(),
        (None, Some(held)) => {
            same_disk(path, held).await?;
            held.following.parse()?
        }
        (None, None) => return Err(Error::NotKnown(path.to_owned())),
    };
    let version = repository.version(&following).await?;
    let is_older = |held: &Held| held.image == version.image.as_str() && version.number < held.number;
    if let Some(held) = held.filter(|held| is_older(held) && !options.allow_older) {
        return Err(Error::Older { version: version.reference(), held: held.number });
    }
    go_to(repository, version, path, Some(following), options, progress).await
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
    let held = held(repository, path, &options.memory)?;
    let reference = match (reference, &held) {
        (Some(reference), _) => reference.clone(),
        (None, Some(held)) => {
            same_disk(path, held).await?;
            let before = held.previous.as_ref().ok_or_else(|| Error::NothingBefore(path.to_owned()))?;
            format!("{}@{}", before.image, before.number).parse()?
        }
        (None, None) => return Err(Error::NotKnown(path.to_owned())),
    };
    let version = repository.version(&reference).await?;
    let following = held.and_then(|held| held.following.parse().ok());
    go_to(repository, version, path, following, options, progress).await
}

async fn go_to(
    repository: &Repository,
    version: Version,
    path: &Path,
    following: Option<Ref>,
    options: UpdateOptions,
    progress: Arc<Progress>,
) -> Result<(Version, RestoreOutcome), Error> {
    let held = held(repository, path, &options.memory)?;
    let grown = held.as_ref().is_some_and(|held| held.grown);
    let options = RestoreOptions {
        following,
        seeds: options.seeds,
        free_space: options.free_space,
        size: given_length(path, held.as_ref()).await?,
        growing: if options.growing == Growing::No && grown { Growing::AsBefore } else { options.growing },
        memory: options.memory,
    };
    let outcome = restore(repository, &version, path, options, progress).await?;
    Ok((version, outcome))
}

/// The length that a file was given instead of its image's: it keeps that.
async fn given_length(path: &Path, held: Option<&Held>) -> Result<Option<u64>, Error> {
    let Some(length) = held.and_then(|held| held.target_length) else { return Ok(None) };
    let looked_at = path.to_owned();
    Ok(blocking(move || looked_at.is_file()).await?.then_some(length))
}

fn held(repository: &Repository, path: &Path, memory: &Memory) -> Result<Option<Held>, Error> {
    Ok(memory.load(path)?.filter(|held| held.repository == repository.id()))
}

/// A device's name may mean another disk since: without a witness it takes a ref to say what to write onto it.
async fn same_disk(path: &Path, held: &Held) -> Result<(), Error> {
    let looked_at = path.to_owned();
    let is_file = blocking(move || looked_at.is_file()).await?;
    if is_file {
        return Ok(());
    }
    let looked_at = path.to_owned();
    let found = blocking(move || witness::current(&looked_at)).await??;
    match found.is_some() && found == held.witness {
        true => Ok(()),
        false => Err(Error::AnotherDisk { path: path.to_owned(), following: held.following.clone() }),
    }
}
