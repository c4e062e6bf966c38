//! Looks at the catalog of a repository that is not to be changed, damaged ones included.

use std::{
    path::Path,
    sync::{Arc, Mutex, OnceLock, RwLock},
};

use super::{EmbeddedCatalog, Inner, directory, reading::Reading};
use crate::{
    Error, RepositoryId,
    blocking::Blocking,
    catalog::{
        journal::{Journal, Position},
        rocks::RocksIndex,
    },
    files::Files,
};

impl EmbeddedCatalog {
    /// Opens what the catalog of the repository in `dir` has, as far as it had read its journal. Nothing is written there:
    /// whatever would change it fails. `journal` is the directory with a copy of the journal.
    ///
    /// # Errors
    /// [`Error::FileCorrupt`] when it cannot be read, or was written by another version of Imprint.
    pub fn open_to_look(
        dir: &Path,
        journal: &Path,
        repository: RepositoryId,
        blocking: Blocking,
    ) -> Result<Self, Error> {
        let files = Files::default();
        let index = RocksIndex::open_to_look(&directory::index(dir), &files)?;
        let live = {
            let reading = Reading::new(index.view());
            if !reading.has_known_format()? {
                let why = "it was written by another version of Imprint, or not finished".into();
                return Err(Error::FileCorrupt { path: index.path().to_owned(), why });
            }
            reading.packs()?.into_iter().map(|pack| pack.id).collect()
        };
        let journal = Journal::open(&directory::journal(journal), repository, files.clone(), Position::START)?;
        let inner = Inner {
            index,
            journal: Mutex::new(journal),
            holds: Mutex::default(),
            marks: Mutex::default(),
            uses: super::Uses::default(),
            live: RwLock::new(live),
            gate: files.gate().clone(),
            lock: OnceLock::new(),
        };
        Ok(Self { inner: Arc::new(inner), blocking })
    }

    /// How far the catalog has read the journal.
    pub async fn applied(&self) -> Result<Position, Error> {
        self.run(|inner| inner.read().applied()).await
    }

    /// Reads every entry of the index, so that its checksums are looked at, and counts them.
    ///
    /// # Errors
    /// [`Error::FileCorrupt`] when one of them is wrong.
    pub async fn read_everything(&self) -> Result<u64, Error> {
        self.run(|inner| {
            let mut entries = 0;
            inner.read().view.scan(&[], &[], usize::MAX, |_, _| {
                entries += 1;
                Ok(())
            })?;
            Ok(entries)
        })
        .await
    }
}
