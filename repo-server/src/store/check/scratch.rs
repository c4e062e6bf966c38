//! A directory of its own, outside of the repository: what a check derives, it derives there.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::Error;

/// Removed with all that is in it when this is dropped.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn create(parent: &Path, repository: &Path) -> Result<Self, Error> {
        let real = |path: &Path| path.canonicalize().map_err(|source| Error::io("look at", path, source));
        if real(parent)?.starts_with(real(repository)?) {
            let parent = parent.display();
            return Err(Error::BadRequest(format!("{parent} is in the repository, where a check writes nothing")));
        }
        let path = parent.join(format!("imprint-check-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&path).map_err(|source| Error::io("create", &path, source))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Copies the first bytes of a file.
    pub(super) fn copy_start(&self, from: &Path, bytes: u64, name: &str) -> Result<(), Error> {
        let copy = || {
            let mut to = File::create_new(self.0.join(name))?;
            io::copy(&mut File::open(from)?.take(bytes), &mut to)
        };
        copy().map(drop).map_err(|source| Error::io("copy", from, source))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove what a check derived");
        }
    }
}
