//! The file that decisions are appended to.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

use super::{
    decision::Decision,
    frame::{FileHeader, FrameHeader, MAX_PAYLOAD_BYTES, Position},
    medium::Medium,
    reader::{self, Entries},
};
use crate::{
    Error, RepositoryId,
    storage::{
        WriteGate,
        durable::{rename_new, sync_directory},
    },
};

/// An open journal.
///
/// Written by one process at a time; the repository's lock sees to that.
#[derive(Debug)]
pub struct Journal<M = File> {
    medium: M,
    path: PathBuf,
    repository: RepositoryId,
    key: u32,
    end: Position,
    gate: WriteGate,
}

impl Journal {
    /// Creates an empty journal; durable on return.
    ///
    /// # Errors
    /// [`Error::NotEmpty`] when there is one already: it is never overwritten.
    pub fn create(path: &Path, repository: RepositoryId, gate: WriteGate) -> Result<Self, Error> {
        let header = FileHeader { repository, key: random_key() };
        publish(path, &header.encode())?;
        Self::open(path, repository, gate, Position::START)
    }

    /// Opens a journal and cuts off an entry that a crash left unfinished.
    ///
    /// `applied` is how far the catalog had read it ([`Position::START`] when that is not known). Those entries
    /// were valid once, so a journal that does not have them is damaged, or not the one that the catalog knows.
    ///
    /// # Errors
    /// [`Error::FileCorrupt`] with a byte offset; nothing was changed then.
    pub fn open(path: &Path, repository: RepositoryId, gate: WriteGate, applied: Position) -> Result<Self, Error> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(|error| Error::io("open", path, error))?;
        let mut entries = reader::read(path, repository)?;
        find_applied(&mut entries, applied).and_then(|found| match found {
            true => Ok(()),
            false => Err(Error::FileCorrupt { path: path.to_owned(), why: not_applied(applied, entries.position()) }),
        })?;
        let journal =
            Self { medium: file, path: path.to_owned(), repository, key: entries.key(), end: entries.position(), gate };
        journal.settle(entries.has_rest())?;
        Ok(journal)
    }

    /// The decisions behind `position`, which must be one that this journal gave.
    pub fn read_from(&self, position: Position) -> Result<Entries, Error> {
        let mut entries = reader::read(&self.path, self.repository)?;
        entries.seek(position)?;
        Ok(entries)
    }
}

#[cfg(test)]
impl<M> Journal<M> {
    /// The same journal, with something between it and its file.
    pub(super) fn map_medium<N>(self, wrap: impl FnOnce(M) -> N) -> Journal<N> {
        let Self { medium, path, repository, key, end, gate } = self;
        Journal { medium: wrap(medium), path, repository, key, end, gate }
    }
}

impl<M: Medium> Journal<M> {
    /// Behind the last entry.
    #[must_use]
    pub const fn end(&self) -> Position {
        self.end
    }

    /// Appends a decision and returns the position behind it. It is durable then: this is the commit point.
    ///
    /// # Errors
    /// [`Error::Full`] leaves the journal as it was. After any other failure of the disk it is unknown whether
    /// the decision is durable, and nothing is written any more until the repository is opened again.
    pub fn append(&mut self, decision: &Decision) -> Result<Position, Error> {
        self.gate.check()?;
        let payload = decision.encode();
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(Error::BadRequest(format!("a decision of {} bytes is too long", payload.len())));
        }
        let header = FrameHeader::new(self.key, self.end, &payload);
        let entry = [header.encode().as_slice(), &payload].concat();
        self.medium.write_all_at(&entry, self.end.offset).map_err(|error| self.undo(error))?;
        self.medium.sync().map_err(|error| self.stop("sync", error))?;
        self.end = self.end.after(payload.len(), header.checksum);
        Ok(self.end)
    }

    /// Drops an unfinished entry, then syncs. Also without one: entries that were written but never synced, by
    /// a process that died in between, are about to be believed.
    fn settle(&self, has_rest: bool) -> Result<(), Error> {
        if has_rest {
            tracing::warn!(path = %self.path.display(), at = self.end.offset, "dropping an unfinished journal entry");
            self.medium.truncate(self.end.offset).map_err(|error| self.stop("truncate", error))?;
        }
        self.medium.sync().map_err(|error| self.stop("sync", error))
    }

    /// A full disk is no reason to stop, provided that the unfinished entry goes.
    fn undo(&self, error: io::Error) -> Error {
        if !matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
            return self.stop("append to", error);
        }
        match self.medium.truncate(self.end.offset) {
            Ok(()) => Error::io("append to", &self.path, error),
            Err(error) => self.stop("truncate", error),
        }
    }

    /// Never [`Error::Full`], which would say that nothing was written.
    fn stop(&self, what: &'static str, source: io::Error) -> Error {
        self.gate.stop(format!("cannot {what} {}: {source}", self.path.display()));
        Error::Io { what, path: self.path.clone(), source }
    }
}

/// Reads all entries; whether one of them ends at `applied`.
fn find_applied(entries: &mut Entries, applied: Position) -> Result<bool, Error> {
    let mut found = applied == Position::START;
    for entry in entries {
        found |= entry?.0 == applied;
    }
    Ok(found)
}

fn not_applied(applied: Position, end: Position) -> String {
    let Position { sequence, offset, .. } = applied;
    match end.sequence < sequence {
        true => format!(
            "the catalog has entry {sequence}, which ended at byte {offset}, but entry {} at byte {} is missing or bad",
            end.sequence + 1,
            end.offset
        ),
        false => format!("entry {sequence}, up to byte {offset}, is not the one that the catalog has"),
    }
}

/// Writes a file under another name, then gives it its own: it is never seen unfinished.
fn publish(path: &Path, content: &[u8]) -> Result<(), Error> {
    let unfinished = path.with_extension("new");
    let write = || {
        let mut file = File::create(&unfinished)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(|error| Error::io("write", &unfinished, error))?;
    rename_new(&unfinished, path).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Error::NotEmpty(path.to_owned()),
        _ => Error::io("create", path, error),
    })?;
    sync_directory(path.parent().unwrap_or(Path::new("")))
}

fn random_key() -> u32 {
    uuid::Uuid::new_v4().as_fields().0
}
