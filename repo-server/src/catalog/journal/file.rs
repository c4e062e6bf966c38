//! The file that decisions are appended to.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use super::{
    decision::Decision,
    frame::{FileHeader, FrameHeader, MAX_PAYLOAD_BYTES, Position},
    reader::{self, Entries},
};
use crate::{
    Error, RepositoryId,
    files::{Access, File, Files},
};

/// An open journal.
///
/// Written by one process at a time; the repository's lock sees to that.
#[derive(Debug)]
pub struct Journal {
    files: Files,
    file: Box<dyn File>,
    path: PathBuf,
    repository: RepositoryId,
    key: u32,
    end: Position,
}

impl Journal {
    /// Creates an empty journal; durable on return.
    ///
    /// # Errors
    /// [`Error::NotEmpty`] when there is one already: it is never overwritten.
    pub fn create(path: &Path, repository: RepositoryId, files: Files) -> Result<Self, Error> {
        let header = FileHeader { repository, key: random_key() };
        files.publish(path, &header.encode())?;
        Self::open(path, repository, files, Position::START)
    }

    /// Opens a journal and cuts off an entry that a crash left unfinished.
    ///
    /// `applied` is how far the catalog had read it ([`Position::START`] when that is not known). Those entries
    /// were valid once, so a journal that does not have them is damaged, or not the one that the catalog knows.
    ///
    /// # Errors
    /// [`Error::FileCorrupt`] with a byte offset; nothing was changed then.
    pub fn open(path: &Path, repository: RepositoryId, files: Files, applied: Position) -> Result<Self, Error> {
        let file = files.open(path, Access::Write).map_err(|error| Error::io("open", path, error))?;
        let mut entries = reader::read(&files, path, repository)?;
        find_applied(&mut entries, applied).and_then(|found| match found {
            true => Ok(()),
            false => Err(Error::FileCorrupt { path: path.to_owned(), why: not_applied(applied, entries.position()) }),
        })?;
        let (key, end) = (entries.key(), entries.position());
        let journal = Self { files, file, path: path.to_owned(), repository, key, end };
        journal.settle(entries.has_rest())?;
        Ok(journal)
    }

    /// The decisions behind `position`, which must be one that this journal gave.
    pub fn read_from(&self, position: Position) -> Result<Entries, Error> {
        let mut entries = reader::read(&self.files, &self.path, self.repository)?;
        entries.seek(position)?;
        Ok(entries)
    }

    /// Behind the last entry.
    #[must_use]
    pub const fn end(&self) -> Position {
        self.end
    }

    /// Appends a decision and returns the position behind it. It is durable then: this is the commit point.
    ///
    /// # Errors
    /// [`Error::Full`], when there is no reserve either, leaves the journal as it was. After any other failure of the disk it is unknown whether
    /// the decision is durable, and nothing is written any more until the repository is opened again.
    pub fn append(&mut self, decision: &Decision) -> Result<Position, Error> {
        self.files.gate().check()?;
        let payload = decision.encode();
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(Error::BadRequest(format!("a decision of {} bytes is too long", payload.len())));
        }
        let header = FrameHeader::new(self.key, self.end, &payload);
        let entry = [header.encode().as_slice(), &payload].concat();
        match self.write(&entry) {
            Err(Error::Full { .. }) if self.files.make_room().is_some() => self.write(&entry)?,
            written => written?,
        }
        self.file.sync().map_err(|error| self.stop("sync", error))?;
        self.end = self.end.after(payload.len(), header.checksum);
        Ok(self.end)
    }

    fn write(&self, entry: &[u8]) -> Result<(), Error> {
        self.file.write_all_at(entry, self.end.offset).map_err(|error| self.undo(error))
    }

    /// Drops an unfinished entry, then syncs. Also without one: entries that were written but never synced, by
    /// a process that died in between, are about to be believed.
    fn settle(&self, has_rest: bool) -> Result<(), Error> {
        if has_rest {
            tracing::warn!(path = %self.path.display(), at = self.end.offset, "dropping an unfinished journal entry");
            self.file.truncate(self.end.offset).map_err(|error| self.stop("truncate", error))?;
        }
        self.file.sync().map_err(|error| self.stop("sync", error))
    }

    /// A full disk is no reason to stop, provided that the unfinished entry goes.
    fn undo(&self, error: io::Error) -> Error {
        if !matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
            return self.stop("append to", error);
        }
        match self.file.truncate(self.end.offset) {
            Ok(()) => Error::io("append to", &self.path, error),
            Err(error) => self.stop("truncate", error),
        }
    }

    /// Never [`Error::Full`], which would say that nothing was written.
    fn stop(&self, what: &'static str, source: io::Error) -> Error {
        self.files.gate().stop(format!("cannot {what} {}: {source}", self.path.display()));
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

fn random_key() -> u32 {
    uuid::Uuid::new_v4().as_fields().0
}
