//! What is pushed: a raw file, a block device, or a stream.
//!
//! Opened for reading only, always. What could change while it is read is refused where that is known beforehand,
//! and found afterwards with a [`Stamp`] where it is not: a changed source is an error, never a version.

mod error;
mod opening;
mod stamp;
#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // lists of ranges, some with one
mod tests;

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

pub use error::SourceError;
pub use stamp::Stamp;

use crate::system::{BlockDevice, DeviceState, FileState, ranges};

/// What a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// A regular file.
    File,
    /// A disk, a partition, or a device made of others.
    BlockDevice,
    /// Standard input: read once, front to back.
    Stream,
}

/// An open source; clones share it, so that several threads can read.
#[derive(Debug, Clone)]
pub struct Source {
    inner: Arc<Inner>,
}

#[derive(Debug)]
enum Inner {
    File(Opened),
    Device(Opened, BlockDevice),
    Stream(Stream),
}

#[derive(Debug)]
struct Opened {
    file: File,
    path: PathBuf,
    length: u64,
    sector_size: u32,
}

struct Stream(Mutex<Box<dyn Read + Send>>);

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}

/// Sector size of what has none.
const DEFAULT_SECTOR_BYTES: u32 = 512;

impl Source {
    /// Opens a regular file or a block device.
    ///
    /// # Errors
    /// What is neither, cannot be read, or is in use for writing is refused.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        opening::open(path).map(Self::new)
    }

    /// Reads standard input.
    #[must_use]
    pub fn stdin() -> Self {
        Self::stream(io::stdin())
    }

    /// Reads whatever `reader` gives until its end.
    #[must_use]
    pub fn stream(reader: impl Read + Send + 'static) -> Self {
        Self::new(Inner::Stream(Stream(Mutex::new(Box::new(reader)))))
    }

    /// Reads the first `length` bytes of a file or device that somebody else has opened, checked and locked.
    pub(crate) fn of_opened(file: File, path: PathBuf, length: u64, sector_size: u32) -> Self {
        Self::new(Inner::File(Opened { file, path, length, sector_size }))
    }

    fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    fn opened(&self) -> Option<&Opened> {
        match &*self.inner {
            Inner::File(opened) | Inner::Device(opened, _) => Some(opened),
            Inner::Stream(_) => None,
        }
    }

    fn seekable(&self) -> Result<&Opened, SourceError> {
        self.opened().ok_or(SourceError::NotSeekable)
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> SourceKind {
        match &*self.inner {
            Inner::File(_) => SourceKind::File,
            Inner::Device(..) => SourceKind::BlockDevice,
            Inner::Stream(_) => SourceKind::Stream,
        }
    }

    /// Length in bytes when it was opened; a stream's is not known.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.opened().map(|opened| opened.length)
    }

    /// Logical sector size in bytes; 512 for files and streams.
    #[must_use]
    pub fn sector_size(&self) -> u32 {
        self.opened().map_or(DEFAULT_SECTOR_BYTES, |opened| opened.sector_size)
    }

    /// The path without symbolic links; a stream has none.
    #[must_use]
    pub fn canonical_path(&self) -> Option<&Path> {
        self.opened().map(|opened| opened.path.as_path())
    }

    /// Fills `buf` from `offset`; not for streams.
    ///
    /// # Errors
    /// Also when the source ends earlier: it became shorter.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), SourceError> {
        let opened = self.seekable()?;
        opened.file.read_exact_at(buf, offset).map_err(|source| opened.read_error(offset, source))
    }

    /// Fills `buf` with what comes next in a stream; less than its length only at the end.
    pub fn read_next(&self, buf: &mut [u8]) -> Result<usize, SourceError> {
        let Inner::Stream(Stream(reader)) = &*self.inner else { return Err(SourceError::NotAStream) };
        let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
        let mut filled = 0;
        while filled < buf.len() {
            match reader.read(&mut buf[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(SourceError::ReadStream { source: error }),
            }
        }
        Ok(filled)
    }

    /// The parts of `range` that may hold data, ascending; the rest reads as zero. A hint for speed only: where the
    /// kernel cannot tell, it is the whole range. Not for streams.
    pub fn data_ranges(&self, range: Range<u64>) -> Result<Vec<Range<u64>>, SourceError> {
        let opened = self.seekable()?;
        let start = range.start;
        ranges::data_ranges(&opened.file, range).map_err(|source| opened.read_error(start, source))
    }

    /// What identifies the present content; take one before reading, and compare with it after.
    pub fn stamp(&self) -> Result<Stamp, SourceError> {
        match &*self.inner {
            Inner::File(opened) => opened.stamp().map(Stamp::file),
            Inner::Device(opened, device) => Ok(Stamp::device(DeviceState::of(&opened.file, device)?)),
            Inner::Stream(_) => Ok(Stamp::stream()),
        }
    }

    /// Checks that nothing wrote since `before` was taken.
    ///
    /// # Errors
    /// [`SourceError::Changed`] names what differs.
    pub fn unchanged_since(&self, before: &Stamp) -> Result<(), SourceError> {
        match (self.stamp()?.difference_from(before), self.canonical_path()) {
            (Some(what), path) => Err(SourceError::Changed { path: path.unwrap_or(Path::new("-")).to_owned(), what }),
            (None, _) => Ok(()),
        }
    }
}

impl Opened {
    fn stamp(&self) -> Result<FileState, SourceError> {
        let state = || FileState::of(&self.file).map_err(|source| self.read_error(0, source));
        // A write in the same tick of the clock would leave the same times. If the clock cannot be waited for,
        // a stamp still finds every later write.
        let _ = state()?.settle();
        state()
    }

    fn read_error(&self, offset: u64, source: io::Error) -> SourceError {
        let path = self.path.clone();
        match source.kind() {
            io::ErrorKind::UnexpectedEof => SourceError::Changed { path, what: "it became shorter".into() },
            _ => SourceError::Read { path, offset, source },
        }
    }
}
