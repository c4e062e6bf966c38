//! Derives the catalog anew, and finds out first whether the journal is all there.
//!
//! The rule that must not be broken: a decision that was acknowledged is not given up unless somebody says so. A damaged
//! last entry looks like one that a crash cut short; only a catalog that had read everything before it can say that nobody
//! was told of it, because it takes a decision before the answer. What is cut off is kept in any case
//! (`docs/adr/0010-the-end-of-the-journal.md`).

use std::path::Path;

use super::{EmbeddedCatalog, directory, reading::Reading};
use crate::{
    Error, RepositoryId,
    blocking::Blocking,
    catalog::{
        journal::{self, Journal, Position, Survey},
        rocks::{IndexUse, RocksIndex},
    },
    files::Files,
};

/// What a rebuild does when decisions may be missing from the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InDoubt {
    /// It fails, and changes nothing.
    Refuse,
    /// It goes on with what the journal has.
    GoOn,
}

impl EmbeddedCatalog {
    /// Derives the catalog anew from the journal. Blocks. The caller then adds every pack again, and [`flush`](Self::flush)es.
    ///
    /// The former index is moved aside, never removed. Nothing is changed when this fails before that.
    ///
    /// # Errors
    /// [`Error::FileCorrupt`] when the journal is damaged before its end, whatever `in_doubt` says;
    /// [`Error::JournalInDoubt`] when its end is, or may be, lost.
    pub fn rebuild(
        dir: &Path,
        repository: RepositoryId,
        blocking: Blocking,
        files: &Files,
        cache_bytes: usize,
        in_doubt: InDoubt,
    ) -> Result<Self, Error> {
        let path = directory::journal(dir);
        let former = former_position(&directory::index(dir), files);
        let applied = former.as_ref().map_or(Position::START, |applied| *applied);
        let survey = journal::read(files, &path, repository)?.survey(applied)?;
        if let Some(why) = doubt(survey, &former) {
            match in_doubt {
                InDoubt::Refuse => return Err(Error::JournalInDoubt { path, why }),
                InDoubt::GoOn => tracing::warn!(path = %path.display(), why, "going on without what is in doubt"),
            }
        }
        let journal = Journal::open(&path, repository, files.clone(), Position::START)?;
        directory::move_index_aside(dir)?;
        let index = RocksIndex::open(&directory::index(dir), cache_bytes, files, IndexUse::Deriving)?;
        Self::caught_up(index, journal, blocking, files)
    }

    /// Makes durable what was derived, so that no opening has to do it again.
    pub async fn flush(&self) -> Result<(), Error> {
        self.run(|inner| inner.gate.written(inner.index.flush())).await
    }
}

/// How far the former index had read the journal, or why that is not known.
fn former_position(index: &Path, files: &Files) -> Result<Position, String> {
    let read = || {
        let index = RocksIndex::open_to_look(index, files)?;
        let reading = Reading::new(index.view());
        Ok::<_, Error>(if reading.has_known_format()? { Some(reading.applied()?) } else { None })
    };
    match index.try_exists() {
        Ok(false) => return Err("there is no former catalog".into()),
        Ok(true) => {}
        Err(error) => return Err(format!("the former catalog cannot be looked at: {error}")),
    }
    match read() {
        Ok(Some(applied)) => Ok(applied),
        Ok(None) => Err("the former catalog is empty, or of another version".into()),
        Err(error) => Err(format!("the former catalog cannot be read: {error}")),
    }
}

/// Why decisions that were acknowledged may be missing from the journal, if they may.
fn doubt(survey: Survey, former: &Result<Position, String>) -> Option<String> {
    let Survey { end, rest, has_applied } = survey;
    let bytes =
        format!("behind entry {}, at byte {}, stand {rest} bytes that are no valid entry", end.sequence, end.offset);
    match former {
        Ok(applied) if !has_applied => Some(journal::not_applied(*applied, end)),
        _ if rest == 0 => None,
        // Whoever was told of one more decision was told after the catalog had it.
        Ok(applied) if *applied == end => None,
        Ok(applied) => Some(format!(
            "{bytes}; whether they were one is not known, because the former catalog has only entry {}",
            applied.sequence
        )),
        Err(why) => Some(format!("{bytes}; whether they were one is not known: {why}")),
    }
}
