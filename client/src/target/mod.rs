//! What a version is restored onto: a file or a block device.
//!
//! [`Target::open`] checks everything before anything is changed: after a refusal the target is as it was, and a
//! new file does not exist. Whoever opens one for writing tells the [`memory`] first, so that an interrupted
//! restore is never believed.

mod error;
pub mod memory;
mod opening;
pub mod overrides;
mod shape;
#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // lists of ranges, some with one
mod tests;
pub mod witness;
mod writeback;
mod zeroing;

use std::{
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

pub use error::TargetError;
pub use memory::{Held, Memory, MemoryError};
pub use overrides::Override;
pub use shape::Shape;
pub use witness::{Witness, current as current_witness};

use writeback::Writeback;

use crate::{
    source::Source,
    system::{BlockDevice, DiskIdentity, ranges},
};

/// What a target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// A file that was created for this restore; it has no data yet.
    NewFile,
    /// A file that was there; it may hold data to reuse.
    File,
    /// A disk, a partition, or a device made of others.
    BlockDevice,
}

/// Optional behaviour of [`Target::open`].
#[derive(Debug, Clone, Default)]
pub struct TargetOptions {
    /// Directories that no target may lie in, such as the repository's own.
    pub forbidden_below: Vec<PathBuf>,
    /// The length in bytes that the image was fitted to: what a file gets, and a device must have. Without it the
    /// image's.
    pub length: Option<u64>,
}

/// An open target; clones share it, so that several threads can read and write.
#[derive(Debug, Clone)]
pub struct Target {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    path: PathBuf,
    kind: TargetKind,
    /// For block devices.
    device: Option<BlockDevice>,
    length: u64,
    image_length: u64,
    sector_size: u32,
    /// A failed sync is final: the kernel may have dropped the pages, and a second sync would not say so.
    sync_failed: AtomicBool,
    writeback: Writeback,
}

impl Target {
    /// Opens, or creates, the file or device at `path` for an image of `image_length` bytes. A file gets that
    /// length, or the one in `options`; what it holds below it is kept.
    ///
    /// # Errors
    /// Every refusal comes before the first change.
    pub fn open(
        path: &Path,
        image_length: u64,
        sector_size: u32,
        options: &TargetOptions,
    ) -> Result<Self, TargetError> {
        opening::open(path, image_length, sector_size, options).map(|inner| Self { inner: Arc::new(inner) })
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> TargetKind {
        self.inner.kind
    }

    /// Length of the file or device, in bytes: at least that of the image, unless that was fitted to a shorter one.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.inner.length
    }

    /// Length of the image it was opened for, in bytes.
    #[must_use]
    pub fn image_length(&self) -> u64 {
        self.inner.image_length
    }

    /// Logical sector size of a device in bytes; 512 for files.
    #[must_use]
    pub fn sector_size(&self) -> u32 {
        self.inner.sector_size
    }

    /// The path without symbolic links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Which disk it is; `None` for a file.
    pub fn disk(&self) -> Result<Option<DiskIdentity>, TargetError> {
        Ok(self.inner.device.as_ref().map(DiskIdentity::of).transpose()?)
    }

    /// The image's range of this target, to be read like a source.
    pub fn as_source(&self) -> Result<Source, TargetError> {
        self.beginning(self.length().min(self.image_length()))
    }

    /// All of it, to be read like a source: what says where its partitions are may be behind the image's range.
    pub fn as_disk(&self) -> Result<Source, TargetError> {
        self.beginning(self.length())
    }

    fn beginning(&self, length: u64) -> Result<Source, TargetError> {
        let open_error = |source| TargetError::Open { path: self.inner.path.clone(), source };
        let file = self.inner.file.try_clone().map_err(open_error)?;
        Ok(Source::of_opened(file, self.inner.path.clone(), length, self.sector_size()))
    }

    /// Fills `buf` from `offset`.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), TargetError> {
        self.inner.read_at(buf, offset)
    }

    /// Writes all of `buf` at `offset`; durable only after [`Target::flush`].
    pub fn write_at(&self, buf: &[u8], offset: u64) -> Result<(), TargetError> {
        self.inner.write_at(buf, offset)
    }

    /// The parts of `range` that may hold data, ascending; the rest reads as zero. Where the kernel cannot tell, it
    /// is the whole range.
    pub fn data_ranges(&self, range: Range<u64>) -> Result<Vec<Range<u64>>, TargetError> {
        self.inner.data_ranges(range)
    }

    /// Makes `range` read as zero, as a hole where possible. Returns how many bytes had to be changed for it.
    pub fn zero(&self, range: Range<u64>) -> Result<u64, TargetError> {
        zeroing::zero(&self.inner, range)
    }

    /// Makes `range`, which is free space, read as zero without reading it first, where the device can do that; else as
    /// [`Target::zero`] does. Returns how many bytes were discarded or changed.
    pub fn discard(&self, range: Range<u64>) -> Result<u64, TargetError> {
        zeroing::discard(&self.inner, range)
    }

    /// Makes everything written so far durable, the name of a new file included.
    ///
    /// # Errors
    /// After a failure nothing written is known to be durable, and every further flush fails.
    pub fn flush(&self) -> Result<(), TargetError> {
        self.inner.sync()?;
        if self.inner.kind == TargetKind::NewFile { self.inner.sync_directory() } else { Ok(()) }
    }

    /// What tells later whether anything else wrote; `None` when that could not be known. Taken after
    /// [`Target::flush`], while nothing writes.
    pub fn witness(&self) -> Result<Option<Witness>, TargetError> {
        self.inner.sync()?;
        witness::of(&self.inner.file, self.path(), self.inner.device.as_ref())
    }
}

impl Inner {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), TargetError> {
        let error = |source| TargetError::Read { path: self.path.clone(), offset, source };
        self.file.read_exact_at(buf, offset).map_err(error)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<(), TargetError> {
        self.check_inside(offset, buf.len() as u64)?;
        self.file.write_all_at(buf, offset).map_err(|source| self.write_error(offset, source))?;
        self.writeback.wrote(&self.file, offset..offset + buf.len() as u64);
        Ok(())
    }

    /// Writing behind the end would make a file longer than its image.
    fn check_inside(&self, offset: u64, length: u64) -> Result<(), TargetError> {
        match offset.checked_add(length) {
            Some(end) if end <= self.length => Ok(()),
            _ => Err(TargetError::Outside { path: self.path.clone(), offset, length }),
        }
    }

    fn data_ranges(&self, range: Range<u64>) -> Result<Vec<Range<u64>>, TargetError> {
        let offset = range.start;
        let error = |source| TargetError::Read { path: self.path.clone(), offset, source };
        ranges::data_ranges(&self.file, range).map_err(error)
    }

    fn write_error(&self, offset: u64, source: io::Error) -> TargetError {
        TargetError::Write { path: self.path.clone(), offset, source }
    }

    fn sync(&self) -> Result<(), TargetError> {
        if self.sync_failed.load(Ordering::Acquire) {
            return Err(TargetError::SyncFailedBefore { path: self.path.clone() });
        }
        self.file.sync_all().map_err(|source| self.sync_error(source))
    }

    fn sync_directory(&self) -> Result<(), TargetError> {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(|source| self.sync_error(source))
    }

    fn sync_error(&self, source: io::Error) -> TargetError {
        self.sync_failed.store(true, Ordering::Release);
        TargetError::Sync { path: self.path.clone(), source }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Closing alone would leave the lock to a process that was started meanwhile, until it runs its program.
        let _ = rustix::fs::flock(&self.file, rustix::fs::FlockOperation::NonBlockingUnlock);
    }
}
