//! One process at a time has a repository directory; the others hear how to reach it.
//!
//! The lock is the kernel's (flock), so a crash releases it; there is no stale lock to remove (borg#4923).

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::Error;

/// What the holder wrote into the lock file, for people and for hints.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Holder {
    program: String,
    pid: u32,
    url: String,
}

/// Held as long as it lives.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
    program: String,
}

impl Lock {
    /// Takes the lock of the repository in `directory`.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process has it.
    pub fn take(directory: &Path, program: &str) -> Result<Self, Error> {
        let path = directory.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .map_err(|source| Error::io("open", &path, source))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(locked(directory, file)),
            Err(TryLockError::Error(source)) => return Err(Error::io("lock", path, source)),
        }
        let mut lock = Self { file, path, program: program.to_owned() };
        lock.write("")?;
        Ok(lock)
    }

    /// Notes where this process can be reached.
    pub fn announce(&mut self, url: &str) -> Result<(), Error> {
        self.write(url)
    }

    fn write(&mut self, url: &str) -> Result<(), Error> {
        let holder = Holder { program: self.program.clone(), pid: std::process::id(), url: url.to_owned() };
        let text = serde_json::to_vec(&holder).unwrap_or_default();
        // Not synced: it only matters while this process lives. A full disk must not stop a repository.
        let written = self.file.set_len(0).and_then(|()| self.file.rewind()).and_then(|()| self.file.write_all(&text));
        match written {
            Err(source) if source.kind() != std::io::ErrorKind::StorageFull => {
                Err(Error::io("write", &self.path, source))
            }
            _ => Ok(()),
        }
    }
}

fn locked(directory: &Path, mut file: File) -> Error {
    let mut text = String::new();
    let _ = file.read_to_string(&mut text);
    let holder: Holder = serde_json::from_str(&text).unwrap_or_default();
    let by = match holder.pid {
        0 => "another process".to_owned(),
        pid => format!("{} (process {pid})", holder.program),
    };
    Error::Locked { path: directory.to_owned(), by, url: holder.url }
}
