//! Where journal and index are in a repository's directory.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{Error, files::Files};

const JOURNAL: &str = "journal";
const INDEX: &str = "catalog";

pub(super) fn journal(dir: &Path) -> PathBuf {
    dir.join(JOURNAL)
}

pub(super) fn index(dir: &Path) -> PathBuf {
    dir.join(INDEX)
}

/// Moves the index to `catalog.old-1`, or the next number that is free: it may be evidence.
pub(super) fn move_index_aside(dir: &Path) -> Result<(), Error> {
    let index = index(dir);
    let failed = |source| Error::io("move aside", &index, source);
    if !index.try_exists().map_err(failed)? {
        return Ok(());
    }
    let mut aside = dir.join(format!("{INDEX}.old-1"));
    for number in 2u64.. {
        if !aside.try_exists().map_err(failed)? {
            break;
        }
        aside = dir.join(format!("{INDEX}.old-{number}"));
    }
    tracing::info!(from = %index.display(), to = %aside.display(), "keeping the former index");
    fs::rename(&index, &aside).map_err(failed)?;
    Files::default().sync_directory(dir)
}
