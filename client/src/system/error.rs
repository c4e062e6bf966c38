//! What can go wrong when the kernel is asked.

use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// The kernel's description of the system could not be read.
#[derive(Debug, Error)]
pub enum SystemError {
    /// A file of `/proc` or `/sys`, or the device itself, could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file of `/proc` or `/sys` does not look as the kernel documents it.
    #[error("{path} has unexpected content {found:?}")]
    Unexpected {
        /// The file.
        path: PathBuf,
        /// The start of it.
        found: String,
    },
}

impl SystemError {
    pub(crate) fn read(path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Read { path: path.to_owned(), source: source.into() }
    }

    pub(crate) fn unexpected(path: &Path, found: &str) -> Self {
        Self::Unexpected { path: path.to_owned(), found: found.chars().take(100).collect() }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Read { .. } => "check that /proc and /sys are mounted and that you may read them".into(),
            Self::Unexpected { .. } => "report this with the version of your kernel (`uname -r`)".into(),
        }
    }
}
