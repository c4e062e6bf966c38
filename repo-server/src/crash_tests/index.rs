//! RocksDB's directory after a crash: none of its latest writes were synced.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::files::simulated::below;

/// What a crash leaves of the index.
#[derive(Debug, Clone, Copy)]
pub(crate) enum IndexLoss {
    Nothing,
    Everything,
    /// Its log ends earlier; the number says where.
    Tail(u64),
    /// It is as it was after an earlier step.
    Newest,
}

impl IndexLoss {
    /// One after the other.
    pub(crate) fn of(number: usize, seed: u64) -> Self {
        match number % 4 {
            0 => Self::Tail(seed),
            1 => Self::Everything,
            2 => Self::Newest,
            _ => Self::Nothing,
        }
    }
}

/// The directory of a repository, for what is not on the simulated disk: lock and index.
pub(crate) struct Place {
    root: TempDir,
}

/// Copies of the index.
pub(crate) struct Saved {
    dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        // Memory, where there is some: nothing here has to survive.
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let place = Self { root };
        fs::create_dir(place.path()).unwrap();
        place
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.root.path().join("repository")
    }

    fn index(&self) -> PathBuf {
        self.path().join("catalog")
    }

    fn older(&self) -> PathBuf {
        self.root.path().join("older")
    }

    pub(crate) fn clear(&self) {
        for directory in [self.index(), self.older()] {
            let _ = fs::remove_dir_all(directory);
        }
    }

    /// Keeps the index as it is now, for [`IndexLoss::Newest`].
    pub(crate) fn snapshot(&self) {
        copy(&self.index(), &self.older());
    }

    /// Loses in place what a crash takes. [`IndexLoss::Newest`] needs a [`snapshot`](Self::snapshot).
    pub(crate) fn lose(&self, loss: IndexLoss) {
        match loss {
            IndexLoss::Tail(seed) if self.index().exists() => cut_log(&self.index(), seed),
            IndexLoss::Newest if self.older().exists() => copy(&self.older(), &self.index()),
            IndexLoss::Everything => {
                let _ = fs::remove_dir_all(self.index());
                // The next opening makes another index.
                self.remove_former_indexes();
            }
            _ => {}
        }
    }

    /// Removes what rebuilding moved aside, and older copies: they are of another index. One that is put back knows nothing of where
    /// the rebuild found objects, and what was condemned because of that.
    pub(crate) fn remove_former_indexes(&self) {
        if self.older().exists() {
            fs::remove_dir_all(self.older()).unwrap();
        }
        for entry in fs::read_dir(self.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path != self.index() {
                fs::remove_dir_all(path).unwrap();
            }
        }
    }

    /// Takes the index away.
    pub(crate) fn take(&self) -> Saved {
        let dir = tempfile::tempdir_in(self.root.path()).unwrap();
        for (from, name) in [(self.index(), "index"), (self.older(), "older")] {
            if from.exists() {
                copy(&from, &dir.path().join(name));
            }
        }
        Saved { dir }
    }

    /// Puts back what was taken, less what is lost.
    pub(crate) fn restore(&self, saved: &Saved, loss: IndexLoss) {
        self.clear();
        let (index, older) = (saved.dir.path().join("index"), saved.dir.path().join("older"));
        if older.exists() {
            copy(&older, &self.older());
        }
        match loss {
            IndexLoss::Everything => {}
            IndexLoss::Newest if older.exists() => copy(&older, &self.index()),
            _ if !index.exists() => {}
            IndexLoss::Tail(seed) => {
                copy(&index, &self.index());
                cut_log(&self.index(), seed);
            }
            IndexLoss::Nothing | IndexLoss::Newest => copy(&index, &self.index()),
        }
    }
}

/// Shortens RocksDB's newest log: a power cut takes back the latest writes, in their order.
fn cut_log(index: &Path, mut seed: u64) {
    let logs = fs::read_dir(index).unwrap().map(|entry| entry.unwrap().path());
    let Some(newest) = logs.filter(|path| path.extension().is_some_and(|name| name == "log")).max() else { return };
    let file = fs::File::options().write(true).open(newest).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(below(&mut seed, length + 1)).unwrap();
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        // RocksDB may remove a log of its own meanwhile.
        let _ = fs::copy(entry.path(), to.join(entry.file_name()));
    }
}
