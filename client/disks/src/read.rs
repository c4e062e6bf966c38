//! How a disk is read: in pieces, at offsets, and never beyond its end or that of a partition.

use std::{fs::File, io, os::unix::fs::FileExt};

use thiserror::Error;

use crate::reason::Obstacle;

/// Something that can be read at any offset, and does not change meanwhile.
pub trait ReadAt {
    /// Length in bytes.
    fn length(&self) -> u64;

    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// Also when it ends before `buf` is full.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for [u8] {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let range = start.and_then(|start| Some(start..start.checked_add(buf.len())?));
        match range.and_then(|range| self.get(range)) {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// A file; its length must not change.
impl ReadAt for File {
    fn length(&self) -> u64 {
        self.metadata().map_or(0, |metadata| metadata.len())
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buf, offset)
    }
}

/// The disk could not be read: nothing is known, and nothing may be assumed.
#[derive(Debug, Error)]
#[error("reading the disk at byte {offset}")]
pub struct ReadError {
    /// Where.
    pub offset: u64,
    /// What the system said.
    pub source: io::Error,
}

/// A range of a disk: what a partition, or a disk without partitions, offers to a filesystem.
#[derive(Clone, Copy)]
pub(crate) struct Volume<'a> {
    disk: &'a dyn ReadAt,
    start: u64,
    length: u64,
}

impl<'a> Volume<'a> {
    /// The caller has checked that `start + length` is within the disk.
    pub(crate) const fn new(disk: &'a dyn ReadAt, start: u64, length: u64) -> Self {
        Self { disk, start, length }
    }

    pub(crate) const fn length(&self) -> u64 {
        self.length
    }

    /// Fills `buf` from `offset`. `None` when that is not within the volume.
    pub(crate) fn try_read(&self, offset: u64, buf: &mut [u8]) -> Result<Option<()>, ReadError> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.length) {
            return Ok(None);
        }
        let offset = self.start + offset;
        self.disk.read_exact_at(buf, offset).map_err(|source| ReadError { offset, source })?;
        Ok(Some(()))
    }

    /// Fills `buf` from `offset`, which a structure on the disk named: `what` says which.
    pub(crate) fn read(&self, offset: u64, buf: &mut [u8], what: &'static str) -> Result<(), Obstacle> {
        self.try_read(offset, buf)?.ok_or_else(|| Obstacle::invalid(what, "is beyond the end"))
    }

    /// Reads so many bytes; `length` must be bounded by the caller.
    pub(crate) fn read_vec(&self, offset: u64, length: usize, what: &'static str) -> Result<Vec<u8>, Obstacle> {
        if length as u64 > self.length {
            return Err(Obstacle::invalid(what, "is beyond the end"));
        }
        let mut buf = vec![0; length];
        self.read(offset, &mut buf, what)?;
        Ok(buf)
    }
}
