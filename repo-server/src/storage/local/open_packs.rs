//! Files of sealed packs that are kept open, because reads come in many small batches.

use std::{
    collections::VecDeque,
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;

use super::missing_or_io;
use crate::{
    Error, PackId,
    files::{Access, File, Files},
    storage::range_in,
};

/// Most files kept open; the one opened first gives way.
const MAX_OPEN: usize = 64;

/// The files that are open now.
#[derive(Debug)]
pub(super) struct OpenPacks {
    from: Files,
    files: Mutex<VecDeque<Arc<PackFile>>>,
}

/// The file of a sealed pack.
#[derive(Debug)]
pub(super) struct PackFile {
    pack: PackId,
    path: PathBuf,
    length: u64,
    file: Box<dyn File>,
}

impl OpenPacks {
    pub(super) fn new(from: Files) -> Self {
        Self { from, files: Mutex::default() }
    }

    /// The file of a pack, opened if it is not open yet.
    pub(super) fn open(&self, pack: PackId, path: &Path) -> Result<Arc<PackFile>, Error> {
        // Opened under the lock: otherwise a file that is removed meanwhile could be kept, and with it its space.
        let mut files = self.lock();
        if let Some(open) = files.iter().find(|open| open.pack == pack) {
            return Ok(Arc::clone(open));
        }
        let opened =
            PackFile::open(&self.from, pack, path).map_err(|error| missing_or_io(pack, "open", path, error))?;
        if files.len() == MAX_OPEN {
            files.pop_front();
        }
        let opened = Arc::new(opened);
        files.push_back(Arc::clone(&opened));
        Ok(opened)
    }

    /// The file of a pack, opened anew and not kept.
    pub(super) fn open_once(&self, pack: PackId, path: &Path) -> Result<PackFile, Error> {
        PackFile::open(&self.from, pack, path).map_err(|error| missing_or_io(pack, "open", path, error))
    }

    /// Lets go of the file of a pack; who opens it next finds what is there then.
    pub(super) fn forget(&self, pack: PackId) {
        self.lock().retain(|open| open.pack != pack);
    }

    /// Removes the file of a pack, if it exists.
    pub(super) fn remove(&self, pack: PackId, path: &Path) -> Result<(), Error> {
        let mut files = self.lock();
        files.retain(|open| open.pack != pack);
        self.from.remove(path)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<PackFile>>> {
        self.files.lock().expect("nobody panics while holding it")
    }
}

impl PackFile {
    fn open(files: &Files, pack: PackId, path: &Path) -> io::Result<Self> {
        let file = files.open(path, Access::Read)?;
        let length = file.length()?;
        Ok(Self { pack, path: path.into(), length, file })
    }

    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// Reads one range past the system's cache: it is dropped from there before, so that the disk is looked at, and
    /// afterwards, so that nothing that is needed more has to give way.
    pub(super) fn read_uncached(&self, range: &Range<u64>) -> Result<Bytes, Error> {
        self.file.forget_cached(range);
        let read = self.read(range);
        self.file.forget_cached(range);
        read
    }

    /// Reads one range.
    pub(super) fn read(&self, range: &Range<u64>) -> Result<Bytes, Error> {
        let mut bytes = vec![0; range_in(self.pack, range, self.length)?.len()];
        match self.file.read_exact_at(&mut bytes, range.start) {
            Ok(()) => Ok(bytes.into()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let why = "the file became shorter while it was open".into();
                Err(Error::RecordCorrupt { pack: self.pack, offset: range.start, why })
            }
            Err(error) => Err(Error::io("read", &self.path, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_number_of_files_stays_open_and_each_is_opened_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pack");
        std::fs::write(&path, "x").unwrap();
        let pack = |number| PackId::from_bytes([number; 16]);

        let open_packs = OpenPacks::new(Files::default());
        let first = open_packs.open(pack(0), &path).unwrap();
        assert!(Arc::ptr_eq(&first, &open_packs.open(pack(0), &path).unwrap()));
        for number in 0..=MAX_OPEN as u8 {
            open_packs.open(pack(number), &path).unwrap();
        }
        assert_eq!(open_packs.lock().len(), MAX_OPEN);
        assert!(!Arc::ptr_eq(&first, &open_packs.open(pack(0), &path).unwrap()));
    }
}
