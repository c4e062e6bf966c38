//! The file operations that a journal's durability rests on, so that tests can make each of them fail.

use std::{fs::File, io, os::unix::fs::FileExt};

/// Where a journal is written.
pub trait Medium {
    /// Writes all of `bytes` at `offset`. After an error, any part of them may have been written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes everything written so far durable.
    fn sync(&self) -> io::Result<()>;

    /// Cuts off what stands behind `length`.
    fn truncate(&self, length: u64) -> io::Result<()>;
}

impl Medium for File {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}
