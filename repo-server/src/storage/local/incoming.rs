//! A pack that is being written.

use std::path::{Path, PathBuf};

use crate::{
    Error,
    files::{File, Files},
};

/// The file of an unsealed pack. Dropped before it was renamed, it is removed.
#[derive(Debug)]
pub(super) struct Incoming {
    files: Files,
    file: Box<dyn File>,
    path: PathBuf,
    length: u64,
    renamed: bool,
}

impl Incoming {
    pub(super) fn create(files: &Files, path: PathBuf) -> Result<Self, Error> {
        let file = files.create(&path)?;
        Ok(Self { files: files.clone(), file, path, length: 0, renamed: false })
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all_at(bytes, self.length).map_err(|error| Error::io("write", &self.path, error))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn sync(&self) -> Result<(), Error> {
        self.file.sync().map_err(|error| Error::io("sync", &self.path, error))
    }

    pub(super) fn rename(mut self, place: &Path) -> Result<(), Error> {
        let renamed = self.files.rename_new(&self.path, place);
        self.renamed = renamed.is_ok();
        renamed.map_err(|error| Error::io("rename a pack to", place, error))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.renamed {
            return;
        }
        // What stays behind is removed when the repository is opened again.
        if let Err(error) = self.files.remove(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove an abandoned pack");
        }
    }
}
