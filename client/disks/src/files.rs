//! Names of files, and where their content lies: a walk through the directories of one filesystem.
//!
//! The walk is in the order of the directories on the disk, depth first, and keeps only the directories above the
//! present file. It ends on any disk: each directory is read once, and what is read at all is bounded by the length of
//! the filesystem.

use std::ops::{ControlFlow, Range};

use thiserror::Error;

use crate::{
    filesystem::find,
    read::{ReadAt, ReadError, Volume},
    reason::{Obstacle, Reason, limit, require},
};

/// Most directories above a file: a path that a system accepts has at most 4096 bytes.
const MAX_DEPTH: usize = 2048;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// Bytes.
    File,
    /// Names.
    Directory,
    /// Another path.
    Link,
    /// A device, a pipe, a socket.
    Other,
}

/// One name, and what it stands for. A file with several names comes once for each of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry<'a> {
    /// Names of the directories and of the file, with `/` between them and none in front; empty for the root. None of
    /// them is empty, `.`, `..`, or has a `/` or a zero byte; whatever else is in them, bytes that are no UTF-8 included,
    /// is what somebody wrote there: escape it before it is printed. Names in FAT are UTF-8, short ones of other than
    /// ASCII characters excepted.
    pub path: &'a [u8],
    /// What it is.
    pub kind: FileKind,
    /// Bytes, as the filesystem counts them. Extents may go further (space that was reserved) or less far (holes).
    pub length: u64,
    /// When the content was changed: seconds since 1970. FAT keeps local time; it is taken for UTC.
    pub modified_seconds: i64,
    /// The same for all names of a file, and for no other file of this filesystem.
    pub id: u64,
    /// Names that it has, as it says itself.
    pub links: u32,
    /// Bytes of the volume with what the filesystem says of it: its inode, or its entry in a directory. The root of FAT
    /// has none, which is the range `0..0`.
    pub record: Range<u64>,
    /// Some names of the path are encrypted: they are given as hexadecimal digits.
    pub is_encrypted: bool,
}

/// A contiguous part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileExtent {
    /// Byte of the file.
    pub offset: u64,
    /// Byte of the volume.
    pub start: u64,
    /// Length in bytes.
    pub length: u64,
    /// Whether the bytes there are the file's; otherwise it reads as zero.
    pub is_written: bool,
}

/// Who is told of files. Either call may end the walk.
pub trait FileVisitor {
    /// The next name.
    fn file(&mut self, file: &FileEntry<'_>) -> ControlFlow<()>;

    /// An extent of the file that was named last. They come in the order of the file, and none continues the one before.
    /// Short content that is kept in the inode is an extent there. A directory's extents are those of its entries.
    fn extent(&mut self, extent: &FileExtent) -> ControlFlow<()>;
}

/// Why there are no names, or no more of them.
#[derive(Debug, Error)]
pub enum FilesError {
    /// The disk could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Not a filesystem whose directories are understood, not a clean one, or one that does not agree with itself.
    #[error("{0}")]
    Refused(Reason),
}

/// Walks the files of the filesystem in a range of a disk: a partition's, or all of it.
///
/// The names are only as right as the directories are: unlike for a map, not everything is compared with everything.
/// Offsets are counted from the start of the range.
///
/// # Errors
/// What was visited before an error stays visited; whoever needs all names must drop it.
pub fn files(
    disk: &dyn ReadAt,
    within: Range<u64>,
    visitor: &mut dyn FileVisitor,
) -> Result<ControlFlow<()>, FilesError> {
    let length = within.end.min(disk.length()).saturating_sub(within.start);
    let volume = Volume::new(disk, within.start, length);
    let filesystem = find(&volume)?.map_err(FilesError::Refused)?;
    let mut stoppable = Stoppable { visitor, is_stopped: false };
    match filesystem.files(&volume, &mut stoppable) {
        _ if stoppable.is_stopped => Ok(ControlFlow::Break(())),
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(Obstacle::Read(error)) => Err(error.into()),
        Err(Obstacle::Reason(reason)) => Err(FilesError::Refused(reason)),
    }
}

/// A visitor whose wish to end the walk is passed on as an obstacle.
pub(crate) struct Stoppable<'a> {
    visitor: &'a mut dyn FileVisitor,
    is_stopped: bool,
}

impl Stoppable<'_> {
    pub(crate) fn file(&mut self, file: &FileEntry<'_>) -> Result<(), Obstacle> {
        let flow = self.visitor.file(file);
        self.follow(flow)
    }

    pub(crate) fn extent(&mut self, extent: &FileExtent) -> Result<(), Obstacle> {
        let flow = self.visitor.extent(extent);
        self.follow(flow)
    }

    fn follow(&mut self, flow: ControlFlow<()>) -> Result<(), Obstacle> {
        self.is_stopped |= flow.is_break();
        require(!self.is_stopped, "the walk", "was ended")
    }
}

/// The path of the present file.
#[derive(Default)]
pub(crate) struct Path {
    bytes: Vec<u8>,
    /// Length of the path of each directory above.
    lengths: Vec<usize>,
}

impl Path {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Goes to a name in the present directory.
    pub(crate) fn push(&mut self, name: &[u8]) -> Result<(), Obstacle> {
        let possible = !matches!(name, b"" | b"." | b"..") && !name.iter().any(|byte| matches!(byte, 0 | b'/'));
        require(possible, "a name", "is impossible")?;
        limit("directories above a file", self.lengths.len() as u64, MAX_DEPTH as u64)?;
        self.lengths.push(self.bytes.len());
        if !self.bytes.is_empty() {
            self.bytes.push(b'/');
        }
        self.bytes.extend_from_slice(name);
        Ok(())
    }

    /// Goes back to the directory; the root stays where it is.
    pub(crate) fn pop(&mut self) {
        self.bytes.truncate(self.lengths.pop().unwrap_or(0));
    }
}

/// Joins what continues each other, and hands it on.
#[derive(Default)]
pub(crate) struct Joiner {
    pending: Option<FileExtent>,
}

impl Joiner {
    pub(crate) fn add(&mut self, next: FileExtent, visitor: &mut Stoppable<'_>) -> Result<(), Obstacle> {
        if let Some(pending) = &mut self.pending
            && pending.offset.checked_add(pending.length) == Some(next.offset)
            && pending.start.checked_add(pending.length) == Some(next.start)
            && pending.is_written == next.is_written
        {
            pending.length += next.length;
            return Ok(());
        }
        match self.pending.replace(next) {
            Some(ready) => visitor.extent(&ready),
            None => Ok(()),
        }
    }

    /// The file has no more extents.
    pub(crate) fn end(&mut self, visitor: &mut Stoppable<'_>) -> Result<(), Obstacle> {
        self.pending.take().map_or(Ok(()), |last| visitor.extent(&last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_grow_and_shrink() {
        let mut path = Path::default();
        path.push(b"usr").unwrap();
        path.push(b"bin").unwrap();
        assert_eq!(path.bytes(), b"usr/bin");
        path.pop();
        path.pop();
        path.pop();
        assert_eq!(path.bytes(), b"");
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0"] {
            assert!(Path::default().push(name).is_err(), "{name:?}");
        }
        for name in [&b"..."[..], b" ", b"a\nb", b"\xff"] {
            assert!(Path::default().push(name).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let mut path = Path::default();
        let depth = (0..).take_while(|_| path.push(b"d").is_ok()).count();
        assert_eq!(depth, MAX_DEPTH + 1);
    }
}
