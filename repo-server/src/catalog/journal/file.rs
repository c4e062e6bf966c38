//! The file that decisions are appended to.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use super::{
    decision::Decision,
    frame::{FileHeader, FrameHeader, MAX_ENTRY_BYTES, MAX_PAYLOAD_BYTES, Position},
    reader::{self, Entries, Survey},
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

    /// Opens a journal and cuts off an entry that a crash left unfinished. What is cut off is kept beside the journal, as
    /// `journal.cut-OFFSET`.
    ///
    /// `applied` is how far the catalog had read it ([`Position::START`] when that is not known). Those entries
    /// were valid once, so a journal that does not have them is damaged, or not the one that the catalog knows.
    ///
    /// # Errors
    /// [`Error::FileCorrupt`] with a byte offset; nothing was changed then.
    pub fn open(path: &Path, repository: RepositoryId, files: Files, applied: Position) -> Result<Self, Error> {
        let file = files.open(path, Access::Write).map_err(|error| Error::io("open", path, error))?;
        let mut entries = reader::read(&files, path, repository)?;
        let survey = entries.survey(applied)?;
        if !survey.has_applied {
            return Err(Error::FileCorrupt { path: path.to_owned(), why: not_applied(applied, survey.end) });
        }
        let journal = Self { files, file, path: path.to_owned(), repository, key: entries.key(), end: survey.end };
        journal.settle(survey, applied)?;
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
    fn settle(&self, survey: Survey, applied: Position) -> Result<(), Error> {
        if survey.rest > 0 {
            let copy = self.keep_rest(survey.rest)?;
            let (path, copy, at) = (self.path.display(), copy.display(), self.end.offset);
            tracing::warn!(%path, at, %copy, "dropping an unfinished journal entry; a copy of it is kept");
            if applied != self.end {
                tracing::warn!(%path, "the catalog lost its latest writes: it cannot say that the entry was not acknowledged");
            }
            self.file.truncate(self.end.offset).map_err(|error| self.stop("truncate", error))?;
        }
        self.file.sync().map_err(|error| self.stop("sync", error))
    }

    /// Copies what stands behind the last entry into a file of its own, durably. A crash before it is cut off makes it be
    /// copied once more.
    fn keep_rest(&self, length: u64) -> Result<PathBuf, Error> {
        let mut rest = vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(MAX_ENTRY_BYTES)];
        self.file.read_exact_at(&mut rest, self.end.offset).map_err(|error| Error::io("read", &self.path, error))?;
        for number in 1u64.. {
            let copy = self.copy_path(number);
            match self.publish(&copy, &rest) {
                Err(Error::NotEmpty(_)) => {}
                published => return published.map(|()| copy),
            }
        }
        unreachable!("there are more numbers than files")
    }

    fn publish(&self, path: &Path, content: &[u8]) -> Result<(), Error> {
        match self.files.publish(path, content) {
            Err(Error::Full { .. }) if self.files.make_room().is_some() => self.files.publish(path, content),
            published => published,
        }
    }

    /// `journal.cut-OFFSET`, and with a number behind it where there was one before.
    fn copy_path(&self, number: u64) -> PathBuf {
        let offset = self.end.offset;
        self.path.with_extension(match number {
            1 => format!("cut-{offset}"),
            _ => format!("cut-{offset}-{number}"),
        })
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

/// How a journal that ends at `end` lacks an entry that ended at `applied`.
pub(in crate::catalog) fn not_applied(applied: Position, end: Position) -> String {
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
