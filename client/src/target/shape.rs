//! How long a target is, before it is opened for writing: what an image is fitted to.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileTypeExt,
    path::Path,
};

use rustix::fs::SeekFrom;

use super::TargetError;

/// A block device's length and sectors, both in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// How long it is.
    pub length: u64,
    /// Its logical sectors.
    pub sector_size: u32,
}

impl Shape {
    /// Of the device at `path`; `None` for anything else, whose length is for its user to choose.
    pub fn of_device(path: &Path) -> Result<Option<Self>, TargetError> {
        let error = |source| TargetError::Open { path: path.to_owned(), source };
        match fs::metadata(path) {
            Ok(metadata) if metadata.file_type().is_block_device() => {}
            Ok(_) => return Ok(None),
            Err(failed) if failed.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(error(source)),
        }
        let file = File::open(path).map_err(error)?;
        let length = rustix::fs::seek(&file, SeekFrom::End(0)).map_err(|failed| error(failed.into()))?;
        let sector_size = rustix::fs::ioctl_blksszget(&file).map_err(|failed| error(failed.into()))?;
        Ok(Some(Self { length, sector_size }))
    }
}
