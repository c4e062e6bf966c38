//! The files of this machine.

use std::{
    fs, io,
    num::NonZero,
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Advice, CWD, FallocateFlags, RenameFlags, fadvise, fallocate, renameat_with},
    io::Errno,
};

use super::{Access, File, FileSystem};

/// The files of this machine.
#[derive(Debug, Clone, Copy)]
pub struct LocalFiles;

impl FileSystem for LocalFiles {
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let file = fs::File::options().read(true).write(true).create_new(true).open(path)?;
        Ok(Box::new(file))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        Ok(Box::new(fs::File::options().read(true).write(access == Access::Write).open(path)?))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // Not every filesystem knows the flag (NFS, some FUSE ones); a link never replaces anything either.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => rename_by_link(from, to),
            renamed => Ok(renamed?),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            created => created,
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect()
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }
}

impl File for fs::File {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }

    fn forget_cached(&self, range: &Range<u64>) {
        // Whole pages only: the kernel keeps those at the edges. What is not done is no failure.
        let length = NonZero::new(range.end.saturating_sub(range.start));
        let _ = fadvise(self, range.start, length, Advice::DontNeed);
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        match fallocate(self, FallocateFlags::empty(), 0, length) {
            // Not every filesystem can (NFS before 4.2, some FUSE ones).
            Err(Errno::OPNOTSUPP) => write_zeros(self, length),
            allocated => Ok(allocated?),
        }
    }
}

fn write_zeros(file: &fs::File, length: u64) -> io::Result<()> {
    const PIECE: u64 = 1 << 20;
    let mut at = file.metadata()?.len();
    while at < length {
        let piece = PIECE.min(length - at);
        FileExt::write_all_at(file, &vec![0; piece as usize], at)?;
        at += piece;
    }
    Ok(())
}

/// Cut off between its steps, it leaves both names, and the old one is a leftover.
fn rename_by_link(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to)?;
    fs::remove_file(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_can_be_taken_by_writing_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "12").unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        for length in [(2 << 20) + 1, 5] {
            write_zeros(&file, length).unwrap();
            let content = fs::read(&path).unwrap();
            assert_eq!(content.len(), (2 << 20) + 1);
            assert!(content.starts_with(b"12\0") && content[2..].iter().all(|byte| *byte == 0));
        }
    }

    /// SlateDB#1622: a writer that was stalled made a deleted name again.
    #[test]
    fn neither_way_to_rename_replaces_a_file() {
        for rename in [|from: &Path, to: &Path| LocalFiles.rename_new(from, to), rename_by_link] {
            let dir = tempfile::tempdir().unwrap();
            let [old, new] = ["old", "new"].map(|name| dir.path().join(name));
            fs::write(&old, "1").unwrap();
            rename(&old, &new).unwrap();
            assert!(!old.exists());

            fs::write(&old, "2").unwrap();
            assert_eq!(rename(&old, &new).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read(&new).unwrap(), b"1");
        }
    }
}
