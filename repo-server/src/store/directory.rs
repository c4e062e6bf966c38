//! A repository in a directory: `superblock`, `journal`, `catalog/`, `packs/`, `lock`.

use std::{fs, path::Path, sync::Arc};

use imprint_content::DecodeError;

use crate::{
    Error, RepositoryId,
    blocking::Blocking,
    catalog::{EmbeddedCatalog, InDoubt, journal::Position},
    files::{Files, parent},
    storage::LocalPacks,
};

use super::{Lock, Store, Superblock, recover};

pub(super) const SUPERBLOCK: &str = "superblock";
pub(super) const PACKS: &str = "packs";
const CATALOG: &str = "catalog";
const JOURNAL: &str = "journal";
/// Takes room that is given up when the disk is full.
const RESERVE: &str = "reserve";

/// What to do where there is no repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Fail.
    Existing,
    /// Create one, if the directory is empty or does not exist.
    OrCreate,
}

/// Optional behaviour of an opened repository.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Memory for the catalog's cache, filters included, in bytes.
    pub catalog_cache_bytes: usize,
    /// Shown to those who find the repository in use.
    pub program: String,
    /// Room that is kept for a full disk, in bytes; 0 for none. Less than 32 MiB may not be enough for RocksDB.
    pub reserve_bytes: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { catalog_cache_bytes: 32 << 20, program: "imprint".into(), reserve_bytes: 64 << 20 }
    }
}

/// An opened repository directory. Nobody else can open it while a clone of its store, or work begun by one, lives.
pub struct Directory {
    /// The repository.
    pub store: Store,
    /// The lock, to announce an address; the store keeps it too.
    pub lock: Arc<Lock>,
}

impl Directory {
    /// Opens the repository and finishes what a crash interrupted.
    ///
    /// When most of its packs have no file, writing is stopped: more likely their disk is not mounted than that they are lost. A
    /// push would rely on what is not there, and what it writes would be hidden later.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::NoRepository`], [`Error::NotEmpty`], [`Error::Incompatible`], or damage.
    pub async fn open(path: &Path, mode: OpenMode, options: StoreOptions) -> Result<Self, Error> {
        let opened = Self::open_on(Files::default(), path, mode, options).await?;
        if opened.store.are_most_packs_missing().await? {
            opened.store.gate().stop(
                "most packs have no file, as if their disk were not mounted; if they are lost, `imprint-server rebuild` goes on \
                 without them",
            );
        }
        Ok(opened)
    }

    /// The same, on any file system, whatever is missing. The lock and RocksDB are on this machine's in any case.
    pub(crate) async fn open_on(
        files: Files,
        path: &Path,
        mode: OpenMode,
        options: StoreOptions,
    ) -> Result<Self, Error> {
        let blocking = Blocking::for_this_machine();
        let opened = {
            let (path, blocking) = (path.to_owned(), blocking.clone());
            blocking.clone().run(move || open_engines(&files, &path, mode, &options, &blocking)).await?
        };
        let (store, lock) = opened.into_store(blocking);
        recover::index_unknown_packs(&store).await?;
        Ok(Self { store, lock })
    }

    /// Creates the catalog anew from packs and journal; the old one is kept beside it.
    ///
    /// # Errors
    /// As [`rebuild_in_doubt`](Self::rebuild_in_doubt) has with [`InDoubt::Refuse`].
    pub async fn rebuild(path: &Path, options: StoreOptions) -> Result<recover::RecoverOutcome, Error> {
        Self::rebuild_in_doubt(path, options, InDoubt::Refuse).await
    }

    /// The same, with a wish for when decisions may be missing from the journal.
    ///
    /// # Errors
    /// Those of opening, but that the former catalog may be damaged; [`Error::JournalInDoubt`], after which nothing was changed.
    pub async fn rebuild_in_doubt(
        path: &Path,
        options: StoreOptions,
        in_doubt: InDoubt,
    ) -> Result<recover::RecoverOutcome, Error> {
        Self::rebuild_on(Files::default(), path, options, in_doubt).await
    }

    /// The same, on any file system.
    pub(crate) async fn rebuild_on(
        files: Files,
        path: &Path,
        options: StoreOptions,
        in_doubt: InDoubt,
    ) -> Result<recover::RecoverOutcome, Error> {
        let blocking = Blocking::for_this_machine();
        let opened = {
            let (path, engines) = (path.to_owned(), blocking.clone());
            let rebuild = move || {
                let superblock = read_superblock(&files, &path)?;
                let lock = Lock::take(&path, &options.program)?;
                let files = files.with_reserve(path.join(RESERVE), options.reserve_bytes);
                let catalog = EmbeddedCatalog::rebuild(
                    &path,
                    superblock.repository,
                    engines.clone(),
                    &files,
                    options.catalog_cache_bytes,
                    in_doubt,
                )?;
                let packs = LocalPacks::open(path.join(PACKS), engines, files.clone())?;
                Ok::<_, Error>(Engines { superblock, packs, catalog, files, lock })
            };
            blocking.run(rebuild).await?
        };
        let catalog = opened.catalog.clone();
        let outcome = recover::rebuild(&opened.into_store(blocking).0).await?;
        catalog.flush().await?;
        Ok(outcome)
    }
}

struct Engines {
    superblock: Superblock,
    packs: LocalPacks,
    catalog: EmbeddedCatalog,
    files: Files,
    lock: Lock,
}

impl Engines {
    fn into_store(self, blocking: Blocking) -> (Store, Arc<Lock>) {
        let lock = Arc::new(self.lock);
        let packs = Arc::new(self.packs.keeping(Arc::clone(&lock)));
        let catalog = Arc::new(self.catalog.keeping(Arc::clone(&lock)));
        let store = Store::new(self.superblock.repository, packs, catalog, blocking)
            .with_default_profile(self.superblock.default_profile)
            .with_gate(self.files.gate().clone());
        (store, lock)
    }
}

fn open_engines(
    files: &Files,
    path: &Path,
    mode: OpenMode,
    options: &StoreOptions,
    blocking: &Blocking,
) -> Result<Engines, Error> {
    if !files.exists(&path.join(SUPERBLOCK))? {
        expect_no_decisions(files, path)?;
        match mode {
            OpenMode::Existing => return Err(Error::NoRepository(path.to_owned())),
            OpenMode::OrCreate => return create_engines(files, path, options, blocking),
        }
    }
    let superblock = read_superblock(files, path)?;
    let lock = Lock::take(path, &options.program)?;
    let repository = superblock.repository;
    // Before the catalog: it needs room to open, and on a full disk this is all there is.
    let files = files.clone().with_reserve(path.join(RESERVE), options.reserve_bytes);
    let catalog = EmbeddedCatalog::open(path, repository, blocking.clone(), &files, options.catalog_cache_bytes)?;
    let packs = LocalPacks::open(path.join(PACKS), blocking.clone(), files.clone())?;
    Ok(Engines { superblock, packs, catalog, files, lock })
}

/// The superblock is written last: a directory without one is not a repository, whatever a crash left in it.
fn create_engines(files: &Files, path: &Path, options: &StoreOptions, blocking: &Blocking) -> Result<Engines, Error> {
    fs::create_dir_all(path).map_err(|source| Error::io("create", path, source))?;
    if !is_empty_but_for_a_creation(files, path)? {
        return Err(Error::NotEmpty(path.to_owned()));
    }
    let lock = Lock::take(path, &options.program)?;
    if files.exists(&path.join(SUPERBLOCK))? {
        // Somebody else created it between the look and the lock.
        drop(lock);
        return open_engines(files, path, OpenMode::Existing, options, blocking);
    }
    remove_interrupted_creation(files, path)?;
    let repository = RepositoryId::random();
    let files = files.clone().with_reserve(path.join(RESERVE), options.reserve_bytes);
    let catalog = EmbeddedCatalog::create(path, repository, blocking.clone(), &files, options.catalog_cache_bytes)?;
    let packs = LocalPacks::open(path.join(PACKS), blocking.clone(), files.clone())?;
    let superblock = Superblock::new(repository);
    // The directory's own name first: whoever sees the superblock may rely on the repository.
    let path = path.canonicalize().map_err(|source| Error::io("look at", path, source))?;
    files.sync_directory(parent(&path))?;
    files.publish(&path.join(SUPERBLOCK), &superblock.encode())?;
    Ok(Engines { superblock, packs, catalog, files, lock })
}

/// A superblock is written before the first decision: a journal that has one is a repository whose superblock was lost.
fn expect_no_decisions(files: &Files, path: &Path) -> Result<(), Error> {
    match files.read(&path.join(JOURNAL)) {
        Ok(journal) if journal.len() as u64 > Position::START.offset => {
            let why = "it is missing, but there is a journal with decisions".into();
            Err(Error::FileCorrupt { path: path.join(SUPERBLOCK), why })
        }
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("read", path.join(JOURNAL), source))
        }
        _ => Ok(()),
    }
}

const CREATION_LEFTOVERS: [&str; 7] = ["lock", "journal", "journal.new", CATALOG, PACKS, RESERVE, "superblock.new"];

fn is_empty_but_for_a_creation(files: &Files, path: &Path) -> Result<bool, Error> {
    let is_known = |found: &Path| CREATION_LEFTOVERS.iter().any(|known| found == path.join(known));
    let only_leftovers = files.list(path)?.iter().all(|found| is_known(found));
    // Packs without a superblock are somebody's data, not a leftover.
    Ok(only_leftovers && !has_packs(files, &path.join(PACKS)))
}

fn has_packs(files: &Files, packs: &Path) -> bool {
    let Ok(fan_out) = files.list(packs) else { return false };
    fan_out.iter().any(|directory| files.list(directory).is_ok_and(|packs| !packs.is_empty()))
}

/// Nothing was ever promised about these: the superblock, written last, is not there. Directories of packs are empty
/// and stay.
fn remove_interrupted_creation(files: &Files, path: &Path) -> Result<(), Error> {
    for name in CREATION_LEFTOVERS.iter().filter(|name| !["lock", CATALOG, PACKS].contains(name)) {
        files.remove(&path.join(name))?;
    }
    // RocksDB's own files.
    match fs::remove_dir_all(path.join(CATALOG)) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", path.join(CATALOG), source))
        }
        _ => Ok(()),
    }
}

pub(super) fn read_superblock(files: &Files, path: &Path) -> Result<Superblock, Error> {
    let file = path.join(SUPERBLOCK);
    let bytes = match files.read(&file) {
        Ok(bytes) => bytes,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
            expect_no_decisions(files, path)?;
            return Err(Error::NoRepository(path.to_owned()));
        }
        Err(source) => return Err(Error::io("read", file, source)),
    };
    let superblock = Superblock::decode(&bytes).map_err(|error| match error {
        DecodeError::Unknown { .. } => Error::Incompatible { path: path.to_owned(), why: error.to_string() },
        damage => Error::FileCorrupt { path: file, why: damage.to_string() },
    })?;
    match superblock.refusal() {
        Some(why) => Err(Error::Incompatible { path: path.to_owned(), why }),
        None => Ok(superblock),
    }
}
