//! Opening what a path stands for, and making sure that it still does.

use std::{
    fs::{File, Metadata},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
    thread,
    time::Duration,
};

use rustix::{
    fs::{Advice, Mode, OFlags},
    io::Errno,
};

/// What a path that holds no image is, with its article; for what is no file, directory or block device.
#[must_use]
pub fn describe(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    if kind.is_char_device() {
        "a character device"
    } else if kind.is_fifo() {
        "a pipe"
    } else {
        "a socket"
    }
}

/// Opens `path`; `None` if it no longer is the file or device that `expected` was taken of.
pub fn open_expected(path: &Path, expected: &Metadata, flags: OFlags) -> io::Result<Option<File>> {
    // O_NONBLOCK: should a pipe have taken the place of the file, opening it must not wait.
    let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let identity = |node: &Metadata| (node.dev(), node.ino(), node.rdev(), node.mode());
    let same = identity(&file.metadata()?) == identity(expected);
    Ok(same.then_some(file))
}

/// How often, and how long apart, an exclusive opening is tried: others, such as a push that is being started,
/// hold a device for a moment only.
const EXCLUSIVE_ATTEMPTS: u32 = 20;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(10);

/// Opens a block device as [`open_expected`] does, if nobody else has it open exclusively: no mounted filesystem,
/// no swap, no device made of it.
pub fn open_exclusive(path: &Path, expected: &Metadata, flags: OFlags) -> io::Result<Option<File>> {
    let mut attempts = 1..EXCLUSIVE_ATTEMPTS;
    loop {
        match open_expected(path, expected, flags | OFlags::EXCL) {
            Err(error) if is_busy(&error) && attempts.next().is_some() => thread::sleep(BETWEEN_ATTEMPTS),
            done => return done,
        }
    }
}

/// Whether opening failed because somebody else has exclusive use.
#[must_use]
pub fn is_busy(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::BUSY | Errno::TXTBSY))
}

/// Drops clean pages from the cache. A disk's pages are cached apart from those of its partitions, so that they may
/// be older than what was written through a partition.
pub fn drop_cached_pages(file: &File) {
    // Only advice: where it is not taken, the pages are as they were.
    let _ = rustix::fs::fadvise(file, 0, None, Advice::DontNeed);
}
