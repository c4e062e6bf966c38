//! Which files differ between two versions, by the directories of their filesystems.
//!
//! Directories and inodes are read through the repository, file contents are not: a file counts as changed when its kind,
//! length or time of change differs. Only for partitions that are understood in both versions and differ at all.

use std::{
    collections::HashMap,
    io,
    ops::{ControlFlow, Range},
    sync::{Arc, Mutex},
};

use imprint_disks::{FileEntry, FileExtent, FileKind, FileVisitor, FilesError, ReadAt, ReadError, files};

use crate::{
    DiffOutcome, DiskLayout, Error, PartitionLayout, Progress, Repository, Version,
    restore::blocking,
    verify::MAX_REPORTED,
    version_reader::{ChunkCache, VersionReader},
};

/// What the names of one filesystem may take in memory, with what is remembered beside each: some 600 000 files and
/// directories.
const MAX_NAMES_BYTES: usize = 96 << 20;
/// Beside a name.
const ENTRY_BYTES: usize = 96;

/// How a file differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileChangeKind {
    /// Only the second version has it.
    Added,
    /// Both have it, with another kind, length or time.
    Changed,
    /// Only the first version has it.
    Removed,
}

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// How.
    pub kind: FileChangeKind,
    /// Its path in the filesystem, without a slash in front; bytes that are no UTF-8 are replaced. Written by whoever
    /// filled the disk: to be escaped before it is printed.
    pub path: String,
}

/// Files of one partition. Directories are not among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileChanges {
    /// Number of the partition.
    pub partition: u32,
    /// How many the second version has and the first has not.
    pub added: u64,
    /// How many differ.
    pub changed: u64,
    /// How many the first version has and the second has not.
    pub removed: u64,
    /// The first 1000 of them that were found, by path.
    pub files: Vec<FileChange>,
    /// Why nothing is known.
    pub unknown: Option<String>,
}

/// Compares the files of the partitions that `outcome` found changed.
///
/// # Errors
/// When the repository cannot deliver what has to be read. What is on the disks is no error.
pub async fn file_changes(
    repository: &Repository,
    from: &Version,
    to: &Version,
    outcome: &DiffOutcome,
    progress: Arc<Progress>,
) -> Result<Vec<FileChanges>, Error> {
    let Some(before) = DiskLayout::decode(&from.content.layout) else { return Ok(Vec::new()) };
    let pairs: Vec<_> = outcome
        .partitions
        .iter()
        .filter(|change| change.changed_bytes > 0 && has_files(&change.partition))
        .filter_map(|change| {
            let earlier = before.partitions.iter().find(|earlier| earlier.number == change.partition.number)?;
            has_files(earlier).then(|| (earlier.clone(), change.partition.clone()))
        })
        .collect();
    if pairs.is_empty() {
        return Ok(Vec::new());
    }
    let cache = Arc::new(Mutex::new(ChunkCache::default()));
    let mut readers = Vec::new();
    for version in [from, to] {
        let extents = repository.tree(version, None, &progress).await?;
        readers.push(VersionReader::new(repository, version, extents, Arc::clone(&cache), &progress));
    }
    blocking(move || pairs.iter().map(|(before, after)| compare(&readers[0], before, &readers[1], after)).collect())
        .await?
}

fn has_files(partition: &PartitionLayout) -> bool {
    partition.plain.is_none() && partition.files.is_some_and(|files| files > 0)
}

fn compare(
    from: &dyn ReadAt,
    before: &PartitionLayout,
    to: &dyn ReadAt,
    after: &PartitionLayout,
) -> Result<FileChanges, Error> {
    let mut changes = FileChanges { partition: after.number, ..FileChanges::default() };
    let mut earlier = Earlier::default();
    let unknown = match walk(from, before.range(), &mut earlier)? {
        Ok(()) => {
            let mut later = Later { earlier: earlier.files, changes: &mut changes };
            let walked = walk(to, after.range(), &mut later)?;
            let removed = later.earlier;
            if walked.is_ok() {
                changes.add_removed(removed);
            }
            walked.err()
        }
        Err(reason) => Some(reason),
    };
    match unknown {
        // Half of the answer would be a wrong one.
        Some(unknown) => Ok(FileChanges { partition: after.number, unknown: Some(unknown), ..FileChanges::default() }),
        None => Ok(changes),
    }
}

/// `Err` in `Ok` is why the names are not known.
fn walk(disk: &dyn ReadAt, within: Range<u64>, visitor: &mut dyn FileVisitor) -> Result<Result<(), String>, Error> {
    match files(disk, within, visitor) {
        Ok(ControlFlow::Continue(())) => Ok(Ok(())),
        Ok(ControlFlow::Break(())) => Ok(Err("too many files to compare".into())),
        Err(FilesError::Refused(reason)) => Ok(Err(reason.to_string())),
        Err(FilesError::Read(error)) => Err(read_error(error)),
    }
}

/// What the repository said, where it was that.
fn read_error(error: ReadError) -> Error {
    let ReadError { offset, source } = error;
    match source.downcast::<Error>() {
        Ok(error) => error,
        Err(source) => Error::Disk(ReadError { offset, source: io::Error::other(source) }),
    }
}

/// What is compared of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Facts {
    kind: FileKind,
    length: u64,
    modified_seconds: i64,
}

impl Facts {
    const fn of(file: &FileEntry<'_>) -> Self {
        Self { kind: file.kind, length: file.length, modified_seconds: file.modified_seconds }
    }
}

/// The files of the first version.
#[derive(Default)]
struct Earlier {
    files: HashMap<Box<[u8]>, Facts>,
    bytes: usize,
}

impl FileVisitor for Earlier {
    fn file(&mut self, file: &FileEntry<'_>) -> ControlFlow<()> {
        // Directories count, although they are not kept: there is an end to what is walked.
        self.bytes += file.path.len() + ENTRY_BYTES;
        if file.kind != FileKind::Directory {
            self.files.insert(file.path.into(), Facts::of(file));
        }
        if self.bytes > MAX_NAMES_BYTES { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn extent(&mut self, _: &FileExtent) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Compares the files of the second version with those of the first, and leaves those that it has not.
struct Later<'a> {
    earlier: HashMap<Box<[u8]>, Facts>,
    changes: &'a mut FileChanges,
}

impl FileVisitor for Later<'_> {
    fn file(&mut self, file: &FileEntry<'_>) -> ControlFlow<()> {
        if file.kind != FileKind::Directory {
            match self.earlier.remove(file.path) {
                None => self.changes.add(FileChangeKind::Added, file.path),
                Some(facts) if facts != Facts::of(file) => self.changes.add(FileChangeKind::Changed, file.path),
                Some(_) => {}
            }
        }
        ControlFlow::Continue(())
    }

    fn extent(&mut self, _: &FileExtent) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl FileChanges {
    fn add(&mut self, kind: FileChangeKind, path: &[u8]) {
        match kind {
            FileChangeKind::Added => self.added += 1,
            FileChangeKind::Changed => self.changed += 1,
            FileChangeKind::Removed => self.removed += 1,
        }
        if self.files.len() < MAX_REPORTED {
            self.files.push(FileChange { kind, path: String::from_utf8_lossy(path).into_owned() });
        }
    }

    fn add_removed(&mut self, files: HashMap<Box<[u8]>, Facts>) {
        let mut paths: Vec<_> = files.into_keys().collect();
        paths.sort_unstable();
        for path in paths {
            self.add(FileChangeKind::Removed, &path);
        }
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_an_end_to_files_and_to_directories() {
        for kind in [FileKind::File, FileKind::Directory] {
            let mut earlier = Earlier::default();
            let path = [b'n'; 1 << 12];
            let visit = |n: usize| {
                let mut path = path;
                path[..8].copy_from_slice(&n.to_le_bytes());
                let (length, modified_seconds, id, links, is_encrypted) = (0, 0, n as u64, 1, false);
                let entry =
                    FileEntry { path: &path, kind, length, modified_seconds, id, links, record: 0..0, is_encrypted };
                earlier.file(&entry).is_continue()
            };
            let visited = (0..MAX_NAMES_BYTES >> 11).map(visit).take_while(|goes_on| *goes_on).count();
            assert!(visited < MAX_NAMES_BYTES >> 12, "{kind:?}: {visited}");
        }
    }
}
