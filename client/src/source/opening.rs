//! Opening a source: what it is, and whether somebody may write to it.

use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

use rustix::fs::{Advice, OFlags, SeekFrom};

use super::{DEFAULT_SECTOR_BYTES, Inner, Opened, SourceError};
use crate::system::{BlockDevice, DeviceNumber, Use, block_device::SYSFS, node, usage::Usage};

pub(super) fn open(path: &Path) -> Result<Inner, SourceError> {
    let metadata = fs::metadata(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => SourceError::NotFound(path.to_owned()),
        _ => open_error(path, source),
    })?;
    let kind = metadata.file_type();
    if kind.is_block_device() {
        open_device(&canonical(path)?, &metadata)
    } else if kind.is_file() {
        open_file(&canonical(path)?, &metadata)
    } else if kind.is_dir() {
        Err(SourceError::Directory(path.to_owned()))
    } else {
        Err(SourceError::NotStorage { path: path.to_owned(), what: node::describe(&metadata) })
    }
}

fn canonical(path: &Path) -> Result<PathBuf, SourceError> {
    fs::canonicalize(path).map_err(|source| open_error(path, source))
}

fn open_file(path: &Path, metadata: &Metadata) -> Result<Inner, SourceError> {
    refuse_writers(path, &Usage::read()?.of_file(path, metadata)?)?;
    let file = open_for_reading(path, metadata)?;
    Ok(Inner::File(opened(file, path, DEFAULT_SECTOR_BYTES)?))
}

fn open_device(path: &Path, metadata: &Metadata) -> Result<Inner, SourceError> {
    let device = BlockDevice::find(Path::new(SYSFS), DeviceNumber::of_node(metadata))?;
    let uses = Usage::read()?.of_device(&device)?;
    refuse_writers(path, &uses)?;
    if uses.is_empty() {
        refuse_claimed(path, metadata)?;
    }
    let file = open_for_reading(path, metadata)?;
    let sector_size = rustix::fs::ioctl_blksszget(&file).map_err(|error| open_error(path, error))?;
    node::drop_cached_pages(&file);
    Ok(Inner::Device(opened(file, path, sector_size)?, device))
}

fn refuse_writers(path: &Path, uses: &[Use]) -> Result<(), SourceError> {
    match uses.iter().find(|found| found.writes()) {
        Some(found) => Err(SourceError::InUse { path: path.to_owned(), found: found.clone() }),
        None => Ok(()),
    }
}

// Filesystems mounted in other containers, ZFS, and restores are known only to the kernel's exclusive lock. It is
// tried, not kept, so that a device can be pushed twice at a time.
fn refuse_claimed(path: &Path, metadata: &Metadata) -> Result<(), SourceError> {
    match node::open_exclusive(path, metadata, OFlags::RDONLY) {
        Err(error) if node::is_busy(&error) => Err(SourceError::Claimed { path: path.to_owned() }),
        Err(error) => Err(open_error(path, error)),
        Ok(_) => Ok(()),
    }
}

fn open_for_reading(path: &Path, expected: &Metadata) -> Result<File, SourceError> {
    let file = node::open_expected(path, expected, OFlags::RDONLY).map_err(|error| open_error(path, error))?;
    file.ok_or_else(|| SourceError::Replaced(path.to_owned()))
}

fn opened(file: File, path: &Path, sector_size: u32) -> Result<Opened, SourceError> {
    let length = rustix::fs::seek(&file, SeekFrom::End(0)).map_err(|error| open_error(path, error))?;
    // Only advice, for speed.
    let _ = rustix::fs::fadvise(&file, 0, None, Advice::Sequential);
    Ok(Opened { file, path: path.to_owned(), length, sector_size })
}

fn open_error(path: &Path, error: impl Into<io::Error>) -> SourceError {
    SourceError::Open { path: path.to_owned(), source: error.into() }
}
