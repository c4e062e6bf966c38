//! What is known about a disk without reading it.

use std::path::Path;

use crate::{
    Error, Progress, Repository, Version,
    system::DiskIdentity,
    target::{Held, Memory, Target, TargetError, Witness, witness},
};

use super::{FreeSpace, blocking, job::Found};

/// A version that a disk holds, as long as nothing else is found to have written to it.
pub(super) struct Noted {
    pub(super) version: Version,
    pub(super) found: Found,
    witness: Witness,
}

/// What was noted of the target at `path`, which may have changed since. A device's name may mean another disk by now,
/// of which nothing is known.
pub(super) async fn remembered(repository: &Repository, path: &Path, memory: &Memory) -> Result<Option<Held>, Error> {
    let (id, path, memory) = (repository.id(), path.to_owned(), memory.clone());
    blocking(move || {
        let Some(held) = memory.load(&path)?.filter(|held| held.repository == id) else { return Ok(None) };
        let disk = DiskIdentity::at(&path).map_err(TargetError::from)?;
        Ok(Some(held).filter(|held| held.is_of_disk(disk.as_ref())))
    })
    .await?
}

/// The version that the disk at `path` holds: noted, complete, and untouched since.
pub(super) async fn noted(
    repository: &Repository,
    path: &Path,
    memory: &Memory,
    progress: &Progress,
) -> Result<Option<Noted>, Error> {
    let (looked_at, memory) = (path.to_owned(), memory.clone());
    let held = blocking(move || memory.load(&looked_at)).await??;
    let held = held.filter(|held| held.complete && held.repository == repository.id());
    let Some(held) = held else { return Ok(None) };
    let looked_at = path.to_owned();
    let found = blocking(move || witness::current(&looked_at)).await?.ok().flatten();
    let Some(witness) = found.filter(|found| held.witness.as_ref() == Some(found)) else { return Ok(None) };
    let Ok(reference) = format!("{}@{}", held.image, held.number).parse() else { return Ok(None) };
    // Removed since, damaged, or another repository at the same place: the disk is read instead.
    let Ok(version) = repository.version(&reference).await else { return Ok(None) };
    if version.id.to_string() != held.version {
        return Ok(None);
    }
    let free_space = if held.free_space_kept { FreeSpace::Keep } else { FreeSpace::Discard };
    let overrides = held.overrides;
    let extents = repository.tree(&version, None, progress).await.ok();
    Ok(extents.map(|extents| Noted { version, found: Found { extents, free_space, overrides }, witness }))
}

impl Noted {
    /// The extents, if nothing has written since the first look, now that the target is open and locked.
    pub(super) async fn confirmed_by(self, target: &Target) -> Result<Option<Found>, Error> {
        let target = target.clone();
        let now = blocking(move || target.witness()).await??;
        Ok((now.as_ref() == Some(&self.witness)).then_some(self.found))
    }
}
