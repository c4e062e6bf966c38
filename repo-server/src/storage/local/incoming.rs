//! A pack that is being written.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use crate::{Error, storage::durable::rename_new};

/// The file of an unsealed pack. Dropped before it was renamed, it is removed.
#[derive(Debug)]
pub(super) struct Incoming {
    file: File,
    path: PathBuf,
    renamed: bool,
}

impl Incoming {
    pub(super) fn create(path: PathBuf) -> Result<Self, Error> {
        match File::create_new(&path) {
            Ok(file) => Ok(Self::on(file, path)),
            Err(error) => Err(Error::io("create", path, error)),
        }
    }

    /// A file that was just created at `path`.
    pub(super) const fn on(file: File, path: PathBuf) -> Self {
        Self { file, path, renamed: false }
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(|error| Error::io("write", &self.path, error))
    }

    pub(super) fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(|error| Error::io("sync", &self.path, error))
    }

    pub(super) fn rename(mut self, place: &Path) -> Result<(), Error> {
        rename_new(&self.path, place).map_err(|error| Error::io("rename a pack to", place, error))?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.renamed {
            return;
        }
        // What stays behind is removed when the repository is opened again.
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove an abandoned pack");
        }
    }
}
