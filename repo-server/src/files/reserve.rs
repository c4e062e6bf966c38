//! Room that is kept for a full disk.
//!
//! A file of its own takes it as long as there is room. When the disk is full, it is given up to journal and catalog,
//! so that removals, reclamation and commits go on; packs are refused until it can be taken again, because they would
//! take it first.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{Access, FileSystem};

/// RocksDB looks for room every 5 seconds after it had none.
const ROOM_IS_NOTICED_WITHIN: Duration = Duration::from_secs(10);

/// The reserve of one repository.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Kept,
    GivenUp(Instant),
    /// There was no room for it from the start.
    Missing,
}

impl Reserve {
    /// Takes the room, if there is any. A full disk is no reason not to open a repository.
    pub(super) fn open(system: &dyn FileSystem, path: PathBuf, bytes: u64) -> Self {
        let reserve = Self { path, bytes, state: Mutex::new(State::Missing) };
        match reserve.take(system) {
            Ok(()) => *reserve.lock() = State::Kept,
            Err(error) => {
                tracing::warn!(path = %reserve.path.display(), bytes, %error, "no room is kept for a full disk");
            }
        }
        reserve
    }

    /// Gives the room up. Until when it is worth while to try again: nothing when there was none to give, or when that
    /// was long ago.
    pub(super) fn give_up(&self, system: &dyn FileSystem) -> Option<Instant> {
        let mut state = self.lock();
        if *state == State::Kept {
            if let Err(error) = self.release(system) {
                tracing::error!(path = %self.path.display(), %error, "the reserve cannot be given up");
                return None;
            }
            tracing::warn!(bytes = self.bytes, "the disk is full: the reserve was given up, and packs are refused");
            *state = State::GivenUp(Instant::now());
        }
        match *state {
            State::GivenUp(since) => Some(since + ROOM_IS_NOTICED_WITHIN).filter(|until| Instant::now() < *until),
            State::Kept | State::Missing => None,
        }
    }

    /// The file that takes it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is there.
    pub(super) fn is_kept(&self) -> bool {
        *self.lock() == State::Kept
    }

    /// Takes the room again, if it is not there.
    pub(super) fn restore(&self, system: &dyn FileSystem) -> io::Result<()> {
        let mut state = self.lock();
        if *state != State::Kept {
            self.take(system)?;
            tracing::info!(bytes = self.bytes, "room is kept for a full disk again");
            *state = State::Kept;
        }
        Ok(())
    }

    fn take(&self, system: &dyn FileSystem) -> io::Result<()> {
        let file = match system.open(&self.path, Access::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => system.create(&self.path)?,
            opened => opened?,
        };
        if file.length()? > self.bytes {
            file.truncate(self.bytes)?;
        }
        // What a failed attempt has taken is what others lack now.
        file.allocate(self.bytes).inspect_err(|_| drop(file.truncate(0)))
    }

    fn release(&self, system: &dyn FileSystem) -> io::Result<()> {
        system.open(&self.path, Access::Write)?.truncate(0)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
