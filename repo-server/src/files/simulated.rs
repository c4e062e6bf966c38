//! A disk in memory that forgets what was not synced, and fails where a test says so.
//!
//! Harsher than any real one: after a crash each unsynced write, each unsynced name and each half of an unsynced
//! rename may be there or not, whatever the others are; a write may be there in part, or as zeros.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use super::{Access, File, FileSystem, parent};

mod loss;
mod tests;

pub(crate) use loss::{Loss, below};

/// A call that changes something, or makes it durable. Reads are none: a crash at one leaves what a crash at the
/// next change leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    Create(PathBuf),
    Write(PathBuf),
    Sync(PathBuf),
    Truncate(PathBuf),
    Allocate(PathBuf),
    Rename { from: PathBuf, to: PathBuf },
    Remove(PathBuf),
    SyncDirectory(PathBuf),
    CreateDirectory(PathBuf),
}

type Fault = Box<dyn FnMut(&Call) -> Option<ErrorKind> + Send>;

/// The disk. Clones share it.
#[derive(Clone)]
pub(crate) struct Simulated {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    root: PathBuf,
    inodes: Vec<Inode>,
    directories: BTreeMap<PathBuf, Directory>,
    fault: Option<Fault>,
    calls: Vec<Call>,
    crash_at: Option<usize>,
    crashed: bool,
}

/// A file's bytes: as they are read, as they survive for certain, and what lies between.
#[derive(Debug, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

/// A directory's names, likewise.
#[derive(Debug, Default)]
struct Directory {
    now: BTreeMap<OsString, Entry>,
    durable: BTreeMap<OsString, Entry>,
    unsynced: Vec<(OsString, Option<Entry>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    File(usize),
    Directory,
}

impl Simulated {
    /// An empty disk, on which `root` exists.
    pub(crate) fn with_root(root: &Path) -> Self {
        let state = State {
            root: root.to_owned(),
            directories: [(root.to_owned(), Directory::default())].into(),
            ..State::default()
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Asked before each call that changes something; what it answers is how the call fails. A write that fails has
    /// written half.
    pub(crate) fn set_fault(&self, fault: impl FnMut(&Call) -> Option<ErrorKind> + Send + 'static) {
        self.lock().fault = Some(Box::new(fault));
    }

    pub(crate) fn clear_fault(&self) {
        self.lock().fault = None;
    }

    /// Dies at the call with this number, counted from now: the call may have happened or not, and none follows it.
    pub(crate) fn crash_at(&self, call: usize) {
        let mut state = self.lock();
        state.calls.clear();
        state.crash_at = Some(call);
    }

    pub(crate) fn has_crashed(&self) -> bool {
        self.lock().crashed
    }

    /// The calls so far, or since [`crash_at`](Self::crash_at).
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// The disk after a crash now, as a new one: nothing is unsynced on it. The old one stays dead.
    pub(crate) fn after_crash(&self, loss: &mut Loss) -> Self {
        let mut state = self.lock();
        state.crashed = true;
        let inodes = state.inodes.iter().map(|inode| Inode::durable(loss.content(inode))).collect();
        let names =
            |(path, directory): (&PathBuf, &Directory)| (path.clone(), Directory::durable(loss.names(directory)));
        let mut directories: BTreeMap<_, _> = state.directories.iter().map(names).collect();
        remove_unreachable(&mut directories, &state.root);
        let root = state.root.clone();
        let mut left = State { root, inodes, directories, ..State::default() };
        left.forget_unnamed();
        Self { state: Arc::new(Mutex::new(left)) }
    }

    /// Changes what lies on the disk, behind everybody's back. Whether there is such a file.
    pub(crate) fn alter(&self, path: &Path, change: impl Fn(&mut Vec<u8>)) -> bool {
        let mut state = self.lock();
        let Ok(inode) = state.file(path) else { return false };
        let inode = &mut state.inodes[inode];
        change(&mut inode.now);
        change(&mut inode.durable);
        true
    }

    /// Takes a file away, likewise. Who has it open still reads it.
    pub(crate) fn lose_file(&self, path: &Path) -> bool {
        let mut state = self.lock();
        let (Ok(_), Some(name)) = (state.file(path), path.file_name()) else { return false };
        let Ok(directory) = state.directory(parent(path)) else { return false };
        directory.now.remove(name);
        directory.durable.remove(name);
        directory.unsynced.retain(|(changed, _)| changed != name);
        true
    }

    /// Puts a file where there is none, likewise. Whether there was none.
    pub(crate) fn put_file(&self, path: &Path, content: &[u8]) -> bool {
        let mut state = self.lock();
        if state.file(path).is_ok() || state.directory(parent(path)).is_err() {
            return false;
        }
        state.inodes.push(Inode::durable(content.to_vec()));
        let entry = Entry::File(state.inodes.len() - 1);
        let (Some(name), Ok(directory)) = (path.file_name(), state.directory(parent(path))) else { return false };
        directory.now.insert(name.to_owned(), entry);
        directory.durable.insert(name.to_owned(), entry);
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn handle(&self, inode: usize, path: &Path) -> Box<dyn File> {
        Box::new(Handle { disk: self.clone(), inode, path: path.to_owned() })
    }
}

/// Directories whose name was lost are gone, with all below them. Parents come before what they hold.
fn remove_unreachable(directories: &mut BTreeMap<PathBuf, Directory>, root: &Path) {
    let paths: Vec<PathBuf> = directories.keys().filter(|path| *path != root).cloned().collect();
    for path in paths {
        let name = path.file_name().unwrap_or_default();
        if !directories.get(parent(&path)).is_some_and(|holder| holder.now.contains_key(name)) {
            directories.remove(&path);
        }
    }
}

impl State {
    /// Notes a call. An error, or `Err(Crash)`, when it must not be done.
    fn begin(&mut self, call: Call) -> Result<(), Refused> {
        if self.crashed {
            return Err(Refused::Dead);
        }
        if let Some(kind) = self.fault.as_mut().and_then(|fault| fault(&call)) {
            return Err(Refused::Fault(kind));
        }
        self.calls.push(call);
        if self.crash_at == Some(self.calls.len()) {
            self.crashed = true;
            return Err(Refused::Crash);
        }
        Ok(())
    }

    fn alive(&self) -> io::Result<()> {
        if self.crashed { Err(dead()) } else { Ok(()) }
    }

    fn directory(&mut self, path: &Path) -> io::Result<&mut Directory> {
        self.directories.get_mut(path).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn entry(&self, path: &Path) -> Option<Entry> {
        self.directories.get(parent(path))?.now.get(path.file_name()?).copied()
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.entry(path) {
            Some(Entry::File(inode)) => Ok(inode),
            Some(Entry::Directory) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    /// Frees the bytes of files without a name. Nobody has one open on a new disk.
    fn forget_unnamed(&mut self) {
        let named: BTreeSet<usize> = self
            .directories
            .values()
            .flat_map(|directory| directory.now.values())
            .filter_map(|entry| match entry {
                Entry::File(inode) => Some(*inode),
                Entry::Directory => None,
            })
            .collect();
        let unnamed = self.inodes.iter_mut().enumerate().filter(|(number, _)| !named.contains(number));
        unnamed.for_each(|(_, inode)| *inode = Inode::default());
    }

    fn expect_free(&self, path: &Path) -> io::Result<()> {
        if self.entry(path).is_some() { Err(ErrorKind::AlreadyExists.into()) } else { Ok(()) }
    }

    fn set_name(&mut self, path: &Path, entry: Option<Entry>) -> io::Result<()> {
        let name = path.file_name().ok_or(ErrorKind::InvalidInput)?.to_owned();
        let directory = self.directory(parent(path))?;
        match entry {
            Some(entry) => directory.now.insert(name.clone(), entry),
            None => directory.now.remove(&name),
        };
        directory.unsynced.push((name, entry));
        Ok(())
    }
}

/// Why a call is not simply done.
enum Refused {
    /// It fails; a write has done half.
    Fault(ErrorKind),
    /// It is the last one: done, but nobody hears of it and nothing of it is durable.
    Crash,
    /// The process died before.
    Dead,
}

fn dead() -> io::Error {
    io::Error::other("crashed")
}

/// Does a change, or what is left of it when it fails or is the last one before the crash.
fn perform<T>(begun: &Result<(), Refused>, change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    match begun {
        Ok(()) => change(),
        Err(Refused::Crash) => change().and(Err(dead())),
        Err(Refused::Fault(kind)) => Err((*kind).into()),
        Err(Refused::Dead) => Err(dead()),
    }
}

impl Inode {
    fn durable(content: Vec<u8>) -> Self {
        Self { now: content.clone(), durable: content, unsynced: Vec::new() }
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.now, &change);
        self.unsynced.push(change);
    }

    fn sync(&mut self) {
        self.durable.clone_from(&self.now);
        self.unsynced.clear();
    }
}

impl Directory {
    fn durable(names: BTreeMap<OsString, Entry>) -> Self {
        Self { now: names.clone(), durable: names, unsynced: Vec::new() }
    }
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { offset, bytes } => {
            let end = offset + bytes.len();
            if content.len() < end && !bytes.is_empty() {
                content.resize(end, 0);
            }
            if let Some(place) = content.get_mut(*offset..end) {
                place.copy_from_slice(bytes);
            }
        }
        Change::Truncate(length) => content.resize(*length, 0),
    }
}

impl std::fmt::Debug for Simulated {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Simulated")
    }
}

impl FileSystem for Simulated {
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let mut state = self.lock();
        let begun = state.begin(Call::Create(path.to_owned()));
        let inode = perform(&begun, || {
            state.expect_free(path)?;
            state.inodes.push(Inode::default());
            let inode = state.inodes.len() - 1;
            state.set_name(path, Some(Entry::File(inode)))?;
            Ok(inode)
        })?;
        Ok(self.handle(inode, path))
    }

    fn open(&self, path: &Path, _access: Access) -> io::Result<Box<dyn File>> {
        let state = self.lock();
        state.alive()?;
        Ok(self.handle(state.file(path)?, path))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let begun = state.begin(Call::Rename { from: from.to_owned(), to: to.to_owned() });
        perform(&begun, || {
            let inode = state.file(from)?;
            state.expect_free(to)?;
            state.set_name(to, Some(Entry::File(inode)))?;
            state.set_name(from, None)
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.alive()?;
        state.file(path)?;
        let begun = state.begin(Call::Remove(path.to_owned()));
        perform(&begun, || state.set_name(path, None))
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        // The parent of the root is another disk's.
        if !state.directories.contains_key(path) {
            return state.alive();
        }
        match state.begin(Call::SyncDirectory(path.to_owned())) {
            Err(Refused::Crash) => Err(dead()),
            begun => perform(&begun, || {
                let directory = state.directory(path)?;
                *directory = Directory::durable(std::mem::take(&mut directory.now));
                Ok(())
            }),
        }
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.alive()?;
        if state.directories.contains_key(path) {
            return Ok(());
        }
        let begun = state.begin(Call::CreateDirectory(path.to_owned()));
        perform(&begun, || {
            state.set_name(path, Some(Entry::Directory))?;
            state.directories.insert(path.to_owned(), Directory::default());
            Ok(())
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut state = self.lock();
        state.alive()?;
        Ok(state.directory(path)?.now.keys().map(|name| path.join(name)).collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.lock();
        state.alive()?;
        Ok(state.directories.contains_key(path) || state.entry(path).is_some())
    }
}

#[derive(Debug)]
struct Handle {
    disk: Simulated,
    inode: usize,
    path: PathBuf,
}

impl Handle {
    fn change(&self, call: Call, change: Change) -> io::Result<()> {
        let mut state = self.disk.lock();
        let begun = state.begin(call);
        let inode = &mut state.inodes[self.inode];
        if let (Err(Refused::Fault(_)), Change::Write { offset, bytes }) = (&begun, &change) {
            inode.change(Change::Write { offset: *offset, bytes: bytes[..bytes.len() / 2].to_vec() });
        }
        perform(&begun, || {
            inode.change(change);
            Ok(())
        })
    }
}

impl File for Handle {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        self.change(Call::Write(self.path.clone()), Change::Write { offset, bytes: bytes.to_vec() })
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.disk.lock();
        state.alive()?;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let range = start..start.saturating_add(buffer.len());
        if buffer.is_empty() {
            return Ok(());
        }
        buffer.copy_from_slice(state.inodes[self.inode].now.get(range).ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        let state = self.disk.lock();
        state.alive()?;
        Ok(state.inodes[self.inode].now.len() as u64)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.lock();
        match state.begin(Call::Sync(self.path.clone())) {
            Err(Refused::Crash) => Err(dead()),
            begun => perform(&begun, || {
                state.inodes[self.inode].sync();
                Ok(())
            }),
        }
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        self.change(Call::Truncate(self.path.clone()), Change::Truncate(length))
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        self.change(Call::Allocate(self.path.clone()), Change::Truncate(length))
    }
}
