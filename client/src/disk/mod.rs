//! What is on a source: partitions, filesystems, free space.

mod layout;

use std::io;

use imprint_disks::{Layout, MapOptions, ReadAt};

pub use layout::{DiskLayout, PartitionLayout};

use crate::{
    Error,
    restore::blocking,
    source::{Source, SourceError},
};

/// Runs of a file that are shorter have no boundaries of their own.
const MIN_RUN_BYTES: u64 = 16 << 10;

/// A source whose length is known, for the reader of disks.
struct Seekable {
    source: Source,
    length: u64,
}

impl ReadAt for Seekable {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.source.read_at(buf, offset).map_err(io::Error::other)
    }
}

/// What is on a file or device. Only the structures of its filesystems are read.
///
/// # Errors
/// Streams have no layout, and a source that cannot be read has none. Whatever is *on* a disk is no error.
pub async fn inspect(source: &Source) -> Result<DiskLayout, Error> {
    let length = source.length().ok_or(SourceError::NotSeekable)?;
    let disk = Seekable { source: source.clone(), length };
    let options = MapOptions { min_run_bytes: MIN_RUN_BYTES };
    let layout = blocking(move || Layout::read(&disk, disk.source.sector_size(), &options)).await??;
    Ok(DiskLayout::from(&layout))
}
