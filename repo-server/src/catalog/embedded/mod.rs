//! The catalog of one machine: a journal that decides, and an index that can be derived from it and the packs.
//!
//! A decision is made under one lock: read what is, append to the journal (the commit point), then change the
//! index in one write that also stores the journal position. [`replay::apply`] is the only way from a decision to
//! the index, live and on opening, so both give the same.
//!
//! A decision in the journal stands, whatever becomes of that write. Where the disk was full just then, its caller
//! hears so and may repeat it; before anything else is decided, the index catches up. After any other failure
//! nothing is written any more, and opening catches up.
//!
//! Locks, in this order: `journal`, held while deciding and through the sync; `holds`, held for moments, so that
//! pushes can ask while a commit waits for the disk; `marks`, for less than that. Condemning a pack takes all three. The set
//! of live packs changes only under `holds`.

use std::{
    collections::{BTreeSet, HashSet},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use async_trait::async_trait;
use imprint_content::{ImageName, ObjectId, Selector, TagName};

use super::{
    Candidate, Catalog, Condemnation, Damage, DamagedObject, ImageRecord, IntactRecords, Location, Mark, MarkEnd,
    MarkId, NewVersion, PackContents, PackRecord, RemovedVersion, ScrubState, TagRecord, Totals, UploadRecord,
    UploadState, UploadUse, VersionKey, VersionRecord,
    active_marks::ActiveMarks,
    journal::{Journal, Position},
    keys,
    rocks::{Batch, IndexUse, RocksIndex},
    uses::Uses,
};
use crate::{
    Error, PackId, RepositoryId, UploadId,
    blocking::Blocking,
    files::{Files, WriteGate},
    pack::Purpose,
    store::Lock,
};

mod damage;
mod decisions;
mod directory;
mod look;
mod objects;
mod queries;
mod reading;
mod rebuild;
mod reclamation;
mod replay;
mod retention;
mod scrub;
mod uploads;

#[cfg(test)]
mod tests;

use reading::Reading;
pub use rebuild::InDoubt;
use replay::Uploads;

/// The catalog of a repository in a directory.
#[derive(Clone)]
pub struct EmbeddedCatalog {
    inner: Arc<Inner>,
    blocking: Blocking,
}

struct Inner {
    index: RocksIndex,
    journal: Mutex<Journal>,
    holds: Mutex<()>,
    marks: Mutex<ActiveMarks>,
    uses: Uses,
    /// Packs in which objects may be located: all that are known, but for those being condemned. 16 bytes for each pack.
    live: RwLock<HashSet<PackId>>,
    gate: WriteGate,
    /// The last field: released when the index is closed, not before.
    lock: OnceLock<Arc<Lock>>,
}

impl EmbeddedCatalog {
    /// Keeps the directory's lock until the index is closed, whoever uses it last.
    #[must_use]
    pub fn keeping(self, lock: Arc<Lock>) -> Self {
        let _ = self.inner.lock.set(lock);
        self
    }

    /// Creates the catalog of a new repository. Blocks.
    ///
    /// # Errors
    /// [`Error::NotEmpty`] when `dir` has a journal already.
    pub fn create(
        dir: &Path,
        repository: RepositoryId,
        blocking: Blocking,
        files: &Files,
        cache_bytes: usize,
    ) -> Result<Self, Error> {
        let journal = Journal::create(&directory::journal(dir), repository, files.clone())?;
        let index = RocksIndex::open(&directory::index(dir), cache_bytes, files, IndexUse::Serving)?;
        Self::caught_up(index, journal, blocking, files)
    }

    /// Opens the catalog and applies the decisions that a crash kept from its index. Blocks.
    ///
    /// Where the index is missing, all decisions are applied, but packs are unknown until they are added again.
    ///
    /// # Errors
    /// [`Error::FileCorrupt`] when journal or index is damaged, or when the journal is not the one that the index
    /// knows: then an older copy was put in its place, and decisions are missing.
    pub fn open(
        dir: &Path,
        repository: RepositoryId,
        blocking: Blocking,
        files: &Files,
        cache_bytes: usize,
    ) -> Result<Self, Error> {
        let index = RocksIndex::open(&directory::index(dir), cache_bytes, files, IndexUse::Serving)?;
        let applied = Reading::new(index.view()).applied()?;
        let journal = Journal::open(&directory::journal(dir), repository, files.clone(), applied)?;
        Self::caught_up(index, journal, blocking, files)
    }

    fn caught_up(index: RocksIndex, journal: Journal, blocking: Blocking, files: &Files) -> Result<Self, Error> {
        expect_known_format(&index)?;
        replay::catch_up(&index, &journal, Uploads::Doubtful)?;
        let live = Reading::new(index.view()).packs()?.into_iter().map(|pack| pack.id).collect();
        let inner = Inner {
            index,
            journal: Mutex::new(journal),
            holds: Mutex::default(),
            marks: Mutex::default(),
            uses: Uses::default(),
            live: RwLock::new(live),
            gate: files.gate().clone(),
            lock: OnceLock::new(),
        };
        Ok(Self { inner: Arc::new(inner), blocking })
    }

    /// The one way from async code to the engine.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = Arc::clone(&self.inner);
        self.blocking.run(move || work(&inner)).await
    }
}

/// Refuses an index whose keys mean something else; an empty one gets the present format.
fn expect_known_format(index: &RocksIndex) -> Result<(), Error> {
    let reading = Reading::new(index.view());
    if reading.has_known_format()? {
        return Ok(());
    }
    if reading.applied()? != Position::START || !reading.packs()?.is_empty() {
        let why = "it was written by another version of Imprint".into();
        return Err(Error::FileCorrupt { path: index.path().to_owned(), why });
    }
    let mut batch = Batch::default();
    batch.put(&keys::format(), &keys::FORMAT.to_le_bytes());
    index.write(batch)
}

impl Inner {
    fn read(&self) -> Reading<'_> {
        Reading::new(self.index.view())
    }

    /// The lock of decisions, and an index that has all of them. It may lack the last one when the disk was full
    /// just then; as long as it cannot take that one, nothing more is decided.
    fn decisions(&self) -> Result<MutexGuard<'_, Journal>, Error> {
        let journal = lock(&self.journal)?;
        if self.read().applied()? != journal.end() {
            let _holds = lock(&self.holds)?;
            self.gate.check()?;
            self.gate.written(replay::catch_up(&self.index, &journal, Uploads::Known))?;
        }
        Ok(journal)
    }

    fn live_packs(&self) -> RwLockReadGuard<'_, HashSet<PackId>> {
        self.live.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn live_packs_mut(&self) -> RwLockWriteGuard<'_, HashSet<PackId>> {
        self.live.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what no decision depends on.
    fn write(&self, batch: Batch) -> Result<(), Error> {
        self.gate.check()?;
        self.gate.written(self.index.write(batch))
    }
}

/// A panic under a lock leaves unknown state behind it; what was read stays readable.
fn lock<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>, Error> {
    mutex.lock().map_err(|_| Error::WritesStopped { why: "an earlier change of the catalog panicked".into() })
}

#[async_trait]
impl Catalog for EmbeddedCatalog {
    async fn locate(&self, kind: Purpose, ids: Vec<ObjectId>) -> Result<Vec<Option<Location>>, Error> {
        self.run(move |inner| inner.locate(kind, &ids)).await
    }

    async fn locate_and_hold(
        &self,
        upload: UploadId,
        kind: Purpose,
        ids: Vec<ObjectId>,
    ) -> Result<Vec<Option<Location>>, Error> {
        self.run(move |inner| inner.locate_and_hold(upload, kind, &ids)).await
    }

    async fn add_pack(
        &self,
        pack: PackRecord,
        objects: Vec<(ObjectId, Location)>,
        holder: Option<UploadId>,
    ) -> Result<(), Error> {
        self.run(move |inner| inner.add_pack(&pack, &objects, holder)).await
    }

    async fn add_packs(&self, packs: Vec<PackContents>) -> Result<(), Error> {
        self.run(move |inner| inner.add_packs(&packs)).await
    }

    async fn packs(&self) -> Result<Vec<PackRecord>, Error> {
        self.run(|inner| inner.read().packs()).await
    }

    fn use_upload(&self, upload: UploadId) -> UploadUse {
        self.inner.uses.begin(upload)
    }

    async fn open_upload(&self, upload: UploadRecord) -> Result<UploadState, Error> {
        self.run(move |inner| inner.open_upload(&upload)).await
    }

    #[cfg(test)]
    async fn close_upload(&self, upload: UploadId) -> Result<(), Error> {
        self.run(move |inner| inner.close_upload(upload)).await
    }

    async fn expire_uploads(&self, unused_since_unix_ms: i64) -> Result<Vec<UploadId>, Error> {
        self.run(move |inner| inner.expire_uploads(unused_since_unix_ms)).await
    }

    async fn commit(&self, version: NewVersion) -> Result<VersionRecord, Error> {
        self.run(|inner| inner.commit(version)).await
    }

    async fn set_tag(&self, to: VersionKey, tag: TagName, expected: Option<u64>) -> Result<TagRecord, Error> {
        self.run(move |inner| inner.set_tag(to, tag, expected)).await
    }

    async fn remove_tag(&self, image: ImageName, tag: TagName, expected: Option<u64>) -> Result<(), Error> {
        self.run(move |inner| inner.remove_tag(image, tag, expected)).await
    }

    async fn remove_version(&self, version: VersionKey, removed_unix_ms: i64) -> Result<(), Error> {
        self.run(move |inner| inner.remove_version(version, removed_unix_ms)).await
    }

    async fn undelete_version(&self, version: VersionKey, undeleted_unix_ms: i64) -> Result<VersionRecord, Error> {
        self.run(move |inner| inner.undelete_version(version, undeleted_unix_ms)).await
    }

    async fn purge_version(&self, version: VersionKey, removed_unix_ms: i64, purged_unix_ms: i64) -> Result<(), Error> {
        self.run(move |inner| inner.purge_version(version, removed_unix_ms, purged_unix_ms)).await
    }

    async fn removed_versions(
        &self,
        image: Option<ImageName>,
        after: Option<VersionKey>,
        limit: usize,
    ) -> Result<Vec<RemovedVersion>, Error> {
        self.run(move |inner| inner.read().removed_versions(image.as_ref(), after.as_ref(), limit)).await
    }

    async fn grace(&self) -> Result<Duration, Error> {
        self.run(|inner| inner.read().grace()).await
    }

    async fn set_grace(&self, grace: Duration, set_unix_ms: i64) -> Result<(), Error> {
        self.run(move |inner| inner.set_grace(grace, set_unix_ms)).await
    }

    async fn pin_version(&self, version: VersionKey, pinned_unix_ms: i64) -> Result<bool, Error> {
        self.run(move |inner| inner.pin_version(version, pinned_unix_ms)).await
    }

    async fn unpin_version(&self, version: VersionKey, unpinned_unix_ms: i64) -> Result<bool, Error> {
        self.run(move |inner| inner.unpin_version(version, unpinned_unix_ms)).await
    }

    async fn pins(&self, image: ImageName) -> Result<Vec<u64>, Error> {
        self.run(move |inner| inner.read().pins(&image)).await
    }

    async fn version(&self, image: ImageName, selector: Selector) -> Result<VersionRecord, Error> {
        self.run(move |inner| inner.read().version(&image, &selector)).await
    }

    async fn versions(&self, image: ImageName, after: u64, limit: usize) -> Result<Vec<VersionRecord>, Error> {
        self.run(move |inner| inner.read().versions(&image, after, limit)).await
    }

    async fn images(&self, after: Option<ImageName>, limit: usize) -> Result<Vec<ImageRecord>, Error> {
        self.run(move |inner| inner.read().images(after.as_ref(), limit)).await
    }

    async fn tags(&self, image: ImageName) -> Result<Vec<TagRecord>, Error> {
        self.run(move |inner| inner.read().tags(&image)).await
    }

    async fn begin_mark(&self) -> Result<Mark, Error> {
        self.run(Inner::begin_mark).await
    }

    async fn condemn(
        &self,
        mark: MarkId,
        candidates: Vec<Candidate>,
        condemned_unix_ms: i64,
    ) -> Result<Vec<Condemnation>, Error> {
        self.run(move |inner| inner.condemn(mark, &candidates, condemned_unix_ms)).await
    }

    async fn end_mark(&self, mark: MarkId, end: MarkEnd) -> Result<(), Error> {
        self.run(move |inner| inner.end_mark(mark, end)).await
    }

    async fn held_packs(&self) -> Result<BTreeSet<PackId>, Error> {
        self.run(|inner| inner.read().held_packs()).await
    }

    async fn condemned_packs(&self) -> Result<Vec<PackId>, Error> {
        self.run(|inner| inner.read().condemned_packs()).await
    }

    async fn forget_condemned(&self, packs: Vec<PackId>) -> Result<(), Error> {
        self.run(move |inner| inner.forget_condemned(&packs)).await
    }

    async fn ever_condemned(&self, packs: Vec<PackId>) -> Result<Vec<PackId>, Error> {
        self.run(move |inner| inner.ever_condemned(packs)).await
    }

    async fn quarantine(&self, damage: Damage) -> Result<u64, Error> {
        self.run(move |inner| inner.quarantine(damage)).await
    }

    async fn quarantined_in(&self, pack: PackId) -> Result<HashSet<(Purpose, ObjectId)>, Error> {
        self.run(move |inner| inner.read().quarantined_in(pack)).await
    }

    async fn readmit(&self, records: IntactRecords) -> Result<u64, Error> {
        self.run(move |inner| inner.readmit(&records)).await
    }

    async fn unhealed_damage(&self, limit: usize) -> Result<Vec<DamagedObject>, Error> {
        self.run(move |inner| inner.unhealed_damage(limit)).await
    }

    async fn places(
        &self,
        kind: Purpose,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<(ObjectId, Location)>, Error> {
        self.run(move |inner| inner.places(kind, after, limit)).await
    }

    async fn note_verified(&self, packs: Vec<PackId>, verified_unix_ms: i64) -> Result<(), Error> {
        self.run(move |inner| inner.note_verified(&packs, verified_unix_ms)).await
    }

    async fn verifications(&self) -> Result<Vec<(PackId, i64)>, Error> {
        self.run(|inner| inner.read().verifications()).await
    }

    async fn scrub_state(&self) -> Result<ScrubState, Error> {
        self.run(|inner| inner.read().scrub_state()).await
    }

    async fn note_scrub_state(&self, state: ScrubState) -> Result<(), Error> {
        self.run(move |inner| inner.note_scrub_state(state)).await
    }

    async fn are_trees_in_doubt(&self) -> Result<bool, Error> {
        self.run(|inner| Ok(inner.read().view.get(&keys::trees_in_doubt(), |_| Ok(()))?.is_some())).await
    }

    async fn note_trees(&self, in_doubt: bool) -> Result<(), Error> {
        self.run(move |inner| inner.note_trees(in_doubt)).await
    }

    async fn totals(&self) -> Result<Totals, Error> {
        self.run(|inner| inner.read().totals()).await
    }
}
