//! A repository in a directory: `superblock`, `journal`, `catalog/`, `packs/`, `lock`.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use imprint_content::DecodeError;

use crate::{
    Error, RepositoryId,
    blocking::Blocking,
    catalog::EmbeddedCatalog,
    storage::{LocalPacks, WriteGate},
};

use super::{Lock, Store, Superblock, recover};

const SUPERBLOCK: &str = "superblock";
const PACKS: &str = "packs";

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
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { catalog_cache_bytes: 32 << 20, program: "imprint".into() }
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
    /// # Errors
    /// [`Error::Locked`], [`Error::NoRepository`], [`Error::NotEmpty`], [`Error::Incompatible`], or damage.
    pub async fn open(path: &Path, mode: OpenMode, options: StoreOptions) -> Result<Self, Error> {
        let blocking = Blocking::for_this_machine();
        let opened = {
            let (path, options, blocking) = (path.to_owned(), options.clone(), blocking.clone());
            blocking.clone().run(move || open_engines(&path, mode, &options, &blocking)).await?
        };
        let (store, lock) = opened.into_store(blocking);
        recover::index_unknown_packs(&store).await?;
        Ok(Self { store, lock })
    }

    /// Creates the catalog anew from packs and journal; the old one is kept beside it.
    pub async fn rebuild(path: &Path, options: StoreOptions) -> Result<recover::RecoverOutcome, Error> {
        let blocking = Blocking::for_this_machine();
        let opened = {
            let (path, engines) = (path.to_owned(), blocking.clone());
            let rebuild = move || {
                let superblock = read_superblock(&path)?;
                let lock = Lock::take(&path, &options.program)?;
                let gate = WriteGate::default();
                let catalog = EmbeddedCatalog::rebuild(
                    &path,
                    superblock.repository,
                    engines.clone(),
                    gate.clone(),
                    options.catalog_cache_bytes,
                )?;
                let packs = LocalPacks::open(path.join(PACKS), engines, gate)?;
                Ok::<_, Error>(Engines { superblock, packs, catalog, lock })
            };
            blocking.run(rebuild).await?
        };
        recover::rebuild(&opened.into_store(blocking).0).await
    }
}

struct Engines {
    superblock: Superblock,
    packs: LocalPacks,
    catalog: EmbeddedCatalog,
    lock: Lock,
}

impl Engines {
    fn into_store(self, blocking: Blocking) -> (Store, Arc<Lock>) {
        let lock = Arc::new(self.lock);
        let packs = Arc::new(self.packs.keeping(Arc::clone(&lock)));
        let catalog = Arc::new(self.catalog.keeping(Arc::clone(&lock)));
        let store = Store::new(self.superblock.repository, packs, catalog, blocking)
            .with_default_profile(self.superblock.default_profile);
        (store, lock)
    }
}

fn open_engines(path: &Path, mode: OpenMode, options: &StoreOptions, blocking: &Blocking) -> Result<Engines, Error> {
    let gate = WriteGate::default();
    if !path.join(SUPERBLOCK).exists() {
        match mode {
            OpenMode::Existing => return Err(Error::NoRepository(path.to_owned())),
            OpenMode::OrCreate => return create_engines(path, options, blocking, &gate),
        }
    }
    let superblock = read_superblock(path)?;
    let lock = Lock::take(path, &options.program)?;
    let repository = superblock.repository;
    let catalog = EmbeddedCatalog::open(path, repository, blocking.clone(), gate.clone(), options.catalog_cache_bytes)?;
    let packs = LocalPacks::open(path.join(PACKS), blocking.clone(), gate)?;
    Ok(Engines { superblock, packs, catalog, lock })
}

/// The superblock is written last: a directory without one is not a repository, whatever a crash left in it.
fn create_engines(
    path: &Path,
    options: &StoreOptions,
    blocking: &Blocking,
    gate: &WriteGate,
) -> Result<Engines, Error> {
    fs::create_dir_all(path).map_err(|source| Error::io("create", path, source))?;
    if !is_empty_but_for_a_creation(path)? {
        return Err(Error::NotEmpty(path.to_owned()));
    }
    let lock = Lock::take(path, &options.program)?;
    if path.join(SUPERBLOCK).exists() {
        // Somebody else created it between the look and the lock.
        drop(lock);
        return open_engines(path, OpenMode::Existing, options, blocking);
    }
    remove_interrupted_creation(path)?;
    let repository = RepositoryId::random();
    let catalog =
        EmbeddedCatalog::create(path, repository, blocking.clone(), gate.clone(), options.catalog_cache_bytes)?;
    let packs = LocalPacks::open(path.join(PACKS), blocking.clone(), gate.clone())?;
    let superblock = Superblock::new(repository);
    write_superblock(path, &superblock)?;
    Ok(Engines { superblock, packs, catalog, lock })
}

const CREATION_LEFTOVERS: [&str; 6] = ["lock", "journal", "journal.new", "catalog", PACKS, "superblock.new"];

fn is_empty_but_for_a_creation(path: &Path) -> Result<bool, Error> {
    let error = |source| Error::io("list", path, source);
    for entry in fs::read_dir(path).map_err(error)? {
        let name = entry.map_err(error)?.file_name();
        if !CREATION_LEFTOVERS.iter().any(|known| *known == name) {
            return Ok(false);
        }
    }
    // Packs without a superblock are somebody's data, not a leftover.
    Ok(!has_packs(&path.join(PACKS)))
}

fn has_packs(packs: &Path) -> bool {
    let Ok(fan_out) = fs::read_dir(packs) else { return false };
    fan_out.flatten().any(|directory| fs::read_dir(directory.path()).is_ok_and(|mut files| files.next().is_some()))
}

/// Nothing was ever promised about these: the superblock, written last, is not there.
fn remove_interrupted_creation(path: &Path) -> Result<(), Error> {
    for name in CREATION_LEFTOVERS.iter().filter(|name| **name != "lock") {
        let leftover = path.join(name);
        let removed = if leftover.is_dir() { fs::remove_dir_all(&leftover) } else { fs::remove_file(&leftover) };
        match removed {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", leftover, source));
            }
            _ => {}
        }
    }
    Ok(())
}

fn read_superblock(path: &Path) -> Result<Superblock, Error> {
    let file = path.join(SUPERBLOCK);
    let bytes = match fs::read(&file) {
        Ok(bytes) => bytes,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
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

fn write_superblock(path: &Path, superblock: &Superblock) -> Result<(), Error> {
    let (new, file): (PathBuf, PathBuf) = (path.join("superblock.new"), path.join(SUPERBLOCK));
    let write = || {
        let mut out = File::create(&new)?;
        out.write_all(&superblock.encode())?;
        out.sync_all()?;
        fs::rename(&new, &file)?;
        File::open(path)?.sync_all()?;
        // The directory itself must survive too.
        path.canonicalize()?.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    };
    write().map_err(|source| Error::io("write", &file, source))
}
