//! Reads the journal and copies what is valid of it.

use std::path::{Path, PathBuf};

use super::scratch::Scratch;
use crate::{
    Error, RepositoryId,
    catalog::journal::{self, Journal, Position},
    files::Files,
};

/// What there is of a journal. A copy of its valid entries is in the scratch directory.
#[derive(Debug)]
pub(super) struct CopiedJournal {
    /// Valid entries.
    pub(super) entries: u64,
    /// Behind the last of them.
    pub(super) end: Position,
    /// Bytes behind it.
    pub(super) rest: u64,
    /// Why no more can be read, if that is not an entry that a crash cut short.
    pub(super) damage: Option<String>,
    copy: PathBuf,
    repository: RepositoryId,
}

impl CopiedJournal {
    pub(super) fn make(path: &Path, repository: RepositoryId, scratch: &Scratch) -> Result<Self, Error> {
        let files = Files::default();
        let copy = scratch.path().join("journal");
        let mut copied = Self { entries: 0, end: Position::START, rest: 0, damage: None, copy, repository };
        if !files.exists(path)? {
            copied.damage = Some("it is missing".into());
            Journal::create(&copied.copy, repository, files)?;
            return Ok(copied);
        }
        match journal::read(&files, path, repository) {
            Ok(entries) => copied.read(entries)?,
            Err(Error::FileCorrupt { why, .. }) => {
                // Without its header nothing can be told apart in it.
                copied.damage = Some(why);
                Journal::create(&copied.copy, repository, files)?;
                return Ok(copied);
            }
            Err(error) => return Err(error),
        }
        let length = std::fs::metadata(path).map_err(|source| Error::io("look at", path, source))?.len();
        copied.rest = length.saturating_sub(copied.end.offset);
        scratch.copy_start(path, copied.end.offset, "journal")?;
        Ok(copied)
    }

    fn read(&mut self, entries: journal::Entries) -> Result<(), Error> {
        for entry in entries {
            match entry {
                Ok((position, _)) => {
                    self.entries += 1;
                    self.end = position;
                }
                Err(Error::FileCorrupt { why, .. }) => {
                    self.damage = Some(why);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether a valid entry ends there.
    pub(super) fn has(&self, position: Position) -> Result<bool, Error> {
        if position == Position::START || position == self.end {
            return Ok(true);
        }
        for entry in journal::read(&Files::default(), &self.copy, self.repository)? {
            if entry?.0 == position {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
