//! What identifies the present content of a file or device without reading it.

use std::{fs::File, os::unix::fs::MetadataExt, path::Path};

use rustix::fs::{SeekFrom, seek};

use super::{BlockDevice, SystemError, block_device::Written, clock, read_text};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What changes when a regular file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileState {
    /// The filesystem it lies in.
    pub device: u64,
    /// Which of its files.
    pub inode: u64,
    /// In bytes.
    pub size: u64,
    /// Last write, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Last change of content or attributes, in nanoseconds since 1970; unlike `mtime_ns` nobody can set it.
    pub ctime_ns: i64,
}

impl FileState {
    /// The state of an open file.
    pub fn of(file: &File) -> std::io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mtime_ns: clock::nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: clock::nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// Whether any later change must show in the state.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        clock::has_passed(self.ctime_ns)
    }

    /// Waits a moment until any later change must show in the state; false if it might not.
    #[must_use]
    pub fn settle(&self) -> bool {
        clock::wait_until_past(self.ctime_ns)
    }
}

/// What changes when a block device is written to, swapped for another, or the machine starts anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceState {
    /// Counters start at zero with every boot.
    pub boot_id: String,
    /// Which disk it is since the boot; `None` before Linux 5.15.
    pub disk_sequence: Option<u64>,
    /// Where a partition starts on its disk, in bytes.
    pub start: u64,
    /// In bytes.
    pub length: u64,
    /// What was written; `None` where it is not counted.
    pub written: Option<Written>,
}

impl DeviceState {
    /// The state of an open device. What anybody wrote to the page cache is written out first, so that it is counted.
    pub fn of(file: &File, device: &BlockDevice) -> Result<Self, SystemError> {
        let error = |source: rustix::io::Errno| SystemError::read(&device.node(), source);
        rustix::fs::fsync(file).map_err(error)?;
        Ok(Self {
            boot_id: boot_id()?,
            disk_sequence: device.disk_sequence()?,
            start: device.start()?,
            length: seek(file, SeekFrom::End(0)).map_err(error)?,
            written: device.written()?,
        })
    }
}

/// Which boot of which machine this is.
pub(super) fn boot_id() -> Result<String, SystemError> {
    Ok(read_text(Path::new(BOOT_ID))?.trim_end().to_owned())
}
