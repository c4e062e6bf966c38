//! One process at a time has a repository directory; the others hear how to reach it.
//!
//! The lock is the kernel's (flock), so a crash releases it; there is no stale lock to remove (borg#4923). The engines
//! keep it, so it ends when the last of them is closed, also where a task outlives the [`Store`](super::Store).

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::Error;

/// A repository that this process had open a moment ago may still be closing: a task is sealing a pack.
const CLOSING: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

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
    /// Takes the lock of the repository in `directory`. Blocks, up to two seconds when this process itself has it.
    ///
    /// # Errors
    /// [`Error::Locked`] when somebody has it.
    pub fn take(directory: &Path, program: &str) -> Result<Self, Error> {
        let path = directory.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .map_err(|source| Error::io("open", &path, source))?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    let holder = read_holder(&file);
                    if holder.pid != std::process::id() || start.elapsed() >= CLOSING {
                        return Err(locked(directory, &holder));
                    }
                    std::thread::sleep(LOOK_AGAIN);
                }
                Err(TryLockError::Error(source)) => return Err(Error::io("lock", path, source)),
            }
        }
        let lock = Self { file, path, program: program.to_owned() };
        lock.write("")?;
        Ok(lock)
    }

    /// Notes where this process can be reached.
    pub fn announce(&self, url: &str) -> Result<(), Error> {
        self.write(url)
    }

    fn write(&self, url: &str) -> Result<(), Error> {
        let holder = Holder { program: self.program.clone(), pid: std::process::id(), url: url.to_owned() };
        let text = serde_json::to_vec(&holder).unwrap_or_default();
        // Not synced: it only matters while this process lives. A full disk must not stop a repository.
        let mut file = &self.file;
        let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(&text));
        match written {
            Err(source) if source.kind() != std::io::ErrorKind::StorageFull => {
                Err(Error::io("write", &self.path, source))
            }
            _ => Ok(()),
        }
    }
}

/// Keeps others from opening a repository for writing, as long as it lives. Several may look at the same time.
#[derive(Debug)]
pub struct LookLock {
    _file: Option<File>,
}

impl LookLock {
    /// Takes the lock of the repository in `directory`, and writes nothing. Where there is no lock file, as in a copy, nobody has
    /// it open.
    ///
    /// # Errors
    /// [`Error::Locked`] when somebody has it open.
    pub fn take(directory: &Path) -> Result<Self, Error> {
        let path = directory.join("lock");
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self { _file: None }),
            Err(source) => return Err(Error::io("open", path, source)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Self { _file: Some(file) }),
            Err(TryLockError::WouldBlock) => Err(locked(directory, &read_holder(&file))),
            Err(TryLockError::Error(source)) => Err(Error::io("lock", path, source)),
        }
    }
}

fn read_holder(mut file: &File) -> Holder {
    let mut text = String::new();
    let _ = file.rewind().and_then(|()| file.read_to_string(&mut text));
    serde_json::from_str(&text).unwrap_or_default()
}

fn locked(directory: &Path, holder: &Holder) -> Error {
    let by = match holder.pid {
        0 => "another process".to_owned(),
        pid => format!("{} (process {pid})", holder.program),
    };
    Error::Locked { path: directory.to_owned(), by, url: holder.url.clone() }
}
