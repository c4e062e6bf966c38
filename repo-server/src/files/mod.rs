//! The one way from the store to the disk: packs, journal, superblock and reserve are read and written through here.
//!
//! Few operations, because each is a promise that somebody has to keep: what is written is durable after
//! [`File::sync`], the name of a file after [`FileSystem::sync_directory`] of the directory that has it, and nothing
//! is ever replaced. Tests put a simulated disk underneath that forgets what was not synced. RocksDB does not come
//! through here; what it holds can be derived from what does.

mod gate;
#[cfg(test)]
mod laws;
mod local;
mod reserve;
#[cfg(test)]
pub(crate) mod simulated;

use std::{
    fmt::Debug,
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use self::reserve::Reserve;
use crate::Error;

pub use gate::WriteGate;
pub use local::LocalFiles;

/// Names: what a directory tree can do. All paths are files or directories below one repository, or its parents.
pub trait FileSystem: Debug + Send + Sync {
    /// Creates a file to write to and read from; [`io::ErrorKind::AlreadyExists`] when the name is taken.
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>>;

    /// Opens a file, also to write to it when asked.
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>>;

    /// Renames a file unless the new name is taken. Durable once both directories are synced.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable once its directory is synced.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable: what was created, renamed or removed in it.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    /// Creates a directory, unless it exists. Durable once its parent is synced.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// All names in a directory, as paths and in no order.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;

    /// Whether there is a file or directory of this name.
    fn exists(&self, path: &Path) -> io::Result<bool>;
}

/// What an opened file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
}

/// One open file. It stays readable when its name goes.
pub trait File: Debug + Send + Sync {
    /// Writes all of `bytes`. After an error any part of them may have been written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Fills `buffer`; [`io::ErrorKind::UnexpectedEof`] when the file ends before.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Asks the system to drop these bytes from its cache. A wish: it may do nothing.
    fn forget_cached(&self, _range: &Range<u64>) {}

    /// Its length in bytes.
    fn length(&self) -> io::Result<u64>;

    /// Makes everything written so far, and the length, durable; not the name. After an error nobody knows what is.
    fn sync(&self) -> io::Result<()>;

    /// Cuts off what stands behind `length`.
    fn truncate(&self, length: u64) -> io::Result<()>;

    /// Takes room for the first `length` bytes, so that the disk cannot be too full for them.
    fn allocate(&self, length: u64) -> io::Result<()>;
}

/// The files of one repository, the switch that ends writing to them, and the room that is kept for a full disk.
/// Clones share all three.
#[derive(Debug, Clone)]
pub struct Files {
    system: Arc<dyn FileSystem>,
    gate: WriteGate,
    reserve: Option<Arc<Reserve>>,
}

impl Default for Files {
    fn default() -> Self {
        Self::on(Arc::new(LocalFiles))
    }
}

impl Files {
    /// On a file system, accepting writes.
    pub fn on(system: Arc<dyn FileSystem>) -> Self {
        Self { system, gate: WriteGate::default(), reserve: None }
    }

    /// Takes `bytes` for a full disk, in a file of this name; where there is no room now, when there is.
    #[must_use]
    pub fn with_reserve(mut self, path: PathBuf, bytes: u64) -> Self {
        self.reserve = (bytes > 0).then(|| Arc::new(Reserve::open(&*self.system, path, bytes)));
        self
    }

    /// For journal and catalog when the disk is full: gives the reserve up, and says until when it is worth while to
    /// try again. Nothing when there was none, or when that was some time ago.
    #[must_use]
    pub fn make_room(&self) -> Option<Instant> {
        self.reserve.as_ref().and_then(|reserve| reserve.give_up(&*self.system))
    }

    /// For packs before they begin: takes the reserve again, if it was given up.
    ///
    /// # Errors
    /// [`Error::Full`] when there is no room for it.
    pub fn restore_reserve(&self) -> Result<(), Error> {
        let Some(reserve) = &self.reserve else { return Ok(()) };
        reserve.restore(&*self.system).map_err(|error| Error::io("set aside", reserve.path(), error))
    }

    /// For packs while they grow: what was given up is not theirs.
    ///
    /// # Errors
    /// [`Error::Full`] while the reserve is given up.
    pub fn expect_reserve(&self) -> Result<(), Error> {
        match &self.reserve {
            Some(reserve) if !reserve.is_kept() => {
                Err(Error::Full { what: format!("{} was given up", reserve.path().display()) })
            }
            _ => Ok(()),
        }
    }

    /// The switch that ends writing, for those who write past these files too.
    #[must_use]
    pub const fn gate(&self) -> &WriteGate {
        &self.gate
    }

    /// [`FileSystem::create`].
    pub fn create(&self, path: &Path) -> Result<Box<dyn File>, Error> {
        self.system.create(path).map_err(|error| Error::io("create", path, error))
    }

    /// [`FileSystem::open`]; the reason is told apart by the caller.
    pub fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        self.system.open(path, access)
    }

    /// [`FileSystem::rename_new`]; the reason is told apart by the caller.
    pub fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.system.rename_new(from, to)
    }

    /// [`FileSystem::remove`]; to remove what does not exist succeeds.
    pub fn remove(&self, path: &Path) -> Result<(), Error> {
        match self.system.remove(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(|error| Error::io("remove", path, error)),
        }
    }

    /// [`FileSystem::sync_directory`].
    pub fn sync_directory(&self, path: &Path) -> Result<(), Error> {
        self.system.sync_directory(path).map_err(|error| Error::io("sync", path, error))
    }

    /// [`FileSystem::create_directory`].
    pub fn create_directory(&self, path: &Path) -> Result<(), Error> {
        self.system.create_directory(path).map_err(|error| Error::io("create", path, error))
    }

    /// [`FileSystem::list`].
    pub fn list(&self, path: &Path) -> Result<Vec<PathBuf>, Error> {
        self.system.list(path).map_err(|error| Error::io("list", path, error))
    }

    /// [`FileSystem::exists`].
    pub fn exists(&self, path: &Path) -> Result<bool, Error> {
        self.system.exists(path).map_err(|error| Error::io("look at", path, error))
    }

    /// Reads a whole file that is known to be small.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, Access::Read)?;
        let length = usize::try_from(file.length()?).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Writes a new file that is never seen unfinished; durable on return, provided that its directory is.
    ///
    /// # Errors
    /// [`Error::NotEmpty`] when there is one already: it is never overwritten.
    pub fn publish(&self, path: &Path, content: &[u8]) -> Result<(), Error> {
        let unfinished = path.with_extension("new");
        self.remove(&unfinished)?;
        let file = self.create(&unfinished)?;
        let written = file.write_all_at(content, 0).and_then(|()| file.sync());
        written.map_err(|error| Error::io("write", &unfinished, error))?;
        self.rename_new(&unfinished, path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::NotEmpty(path.to_owned()),
            _ => Error::io("create", path, error),
        })?;
        self.sync_directory(parent(path))
    }
}

/// The directory that has this name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        // The parent of a bare name is "".
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// A file read front to back.
#[derive(Debug)]
pub struct Sequential {
    file: Box<dyn File>,
    offset: u64,
    length: u64,
}

impl Sequential {
    /// From `offset` to where the file ends now.
    pub fn new(file: Box<dyn File>, offset: u64) -> io::Result<Self> {
        let length = file.length()?;
        Ok(Self { file, offset, length })
    }

    /// Length of the file when it was opened.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }
}

impl io::Read for Sequential {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.length.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        self.file.read_exact_at(&mut buffer[..wanted], self.offset)?;
        self.offset += wanted as u64;
        Ok(wanted)
    }
}

impl io::Seek for Sequential {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        let from_here = |start: u64, by: i64| start.checked_add_signed(by).ok_or(io::ErrorKind::InvalidInput);
        self.offset = match to {
            io::SeekFrom::Start(offset) => offset,
            io::SeekFrom::End(by) => from_here(self.length, by)?,
            io::SeekFrom::Current(by) => from_here(self.offset, by)?,
        };
        Ok(self.offset)
    }
}
