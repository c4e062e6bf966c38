//! Witnesses: proof that nothing else wrote to a target.
//!
//! Two equal witnesses mean equal content. When in doubt there is none: then every range that is to be kept is read
//! and hashed, which costs time and never correctness.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileTypeExt,
    path::Path,
};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::TargetError;
use crate::system::{
    BlockDevice, DeviceNumber, DeviceState, FileState, Use, block_device::SYSFS, counters::Counters, node, usage::Usage,
};

/// What stays the same as long as nothing writes to a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Witness {
    /// Of a regular file.
    File {
        /// The filesystem it lies in.
        device: u64,
        /// Which of its files.
        inode: u64,
        /// In bytes.
        size: u64,
        /// Last write, in nanoseconds since 1970.
        mtime_ns: i64,
        /// Last change, in nanoseconds since 1970.
        ctime_ns: i64,
    },
    /// Of a block device.
    Device {
        /// Counters start at zero with every boot.
        boot_id: String,
        /// Which disk it is since the boot.
        disk_sequence: u64,
        /// Where a partition starts on its disk, in bytes.
        start: u64,
        /// In bytes.
        length: u64,
        /// Sectors of 512 bytes written to it.
        written: u64,
        /// Sectors discarded on it.
        discarded: u64,
        /// Sectors written to the disk of a partition outside of all partitions; 0 for a disk.
        other_written: u64,
        /// Sectors discarded there.
        other_discarded: u64,
        /// The file behind a loop device: writing to that is not counted by the device.
        backing: Option<Box<Witness>>,
    },
}

/// The witness of a target that is only looked at, to be compared with the remembered one.
///
/// None also for what does not exist, is neither file nor device, or is in use for writing.
pub fn current(path: &Path) -> Result<Option<Witness>, TargetError> {
    let open_error = |source| TargetError::Open { path: path.to_owned(), source };
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(open_error(source)),
    };
    let usage = Usage::read()?;
    let kind = metadata.file_type();
    let (device, uses) = if kind.is_block_device() {
        let device = BlockDevice::find(Path::new(SYSFS), DeviceNumber::of_node(&metadata))?;
        let uses = usage.of_device(&device)?;
        (Some(device), uses)
    } else if kind.is_file() {
        (None, usage.of_file(path, &metadata)?)
    } else {
        return Ok(None);
    };
    if uses.iter().any(Use::writes) {
        return Ok(None);
    }
    match node::open_expected(path, &metadata, OFlags::RDONLY).map_err(open_error)? {
        Some(file) => of(&file, path, device.as_ref()),
        None => Ok(None),
    }
}

/// The witness of an open target.
pub(super) fn of(file: &File, path: &Path, device: Option<&BlockDevice>) -> Result<Option<Witness>, TargetError> {
    match device {
        Some(device) => of_device(file, device),
        None => of_file(file).map_err(|source| TargetError::Read { path: path.to_owned(), offset: 0, source }),
    }
}

fn of_file(file: &File) -> io::Result<Option<Witness>> {
    if !times_are_exact(file)? {
        return Ok(None);
    }
    let state = FileState::of(file)?;
    let settled = state.settle();
    let FileState { device, inode, size, mtime_ns, ctime_ns } = state;
    Ok(settled.then_some(Witness::File { device, inode, size, mtime_ns, ctime_ns }))
}

/// Whether every write gives a file of this filesystem a new time, on this machine's own clock. Not so on network
/// filesystems, FUSE and FAT; of those not listed it is not known.
fn times_are_exact(file: &File) -> io::Result<bool> {
    const EXT4: u64 = 0xEF53;
    const XFS: u64 = 0x5846_5342;
    const BTRFS: u64 = 0x9123_683E;
    const F2FS: u64 = 0xF2F5_2010;
    const ZFS: u64 = 0x2FC1_2FC1;
    const BCACHEFS: u64 = 0xCA45_1A4E;
    const TMPFS: u64 = 0x0102_1994;
    const OVERLAY: u64 = 0x794C_7630;
    let kind = rustix::fs::fstatfs(file)?.f_type as u64 & 0xFFFF_FFFF;
    Ok(matches!(kind, EXT4 | XFS | BTRFS | F2FS | ZFS | BCACHEFS | TMPFS | OVERLAY))
}

fn of_device(file: &File, device: &BlockDevice) -> Result<Option<Witness>, TargetError> {
    // What a volume is made of can be written to, or exchanged, without the volume counting it.
    if device.is_stacked()? {
        return Ok(None);
    }
    let state = DeviceState::of(file, device)?;
    match backing(device)? {
        Backing::Known(backing) => Ok(of_state(state, backing)),
        Backing::InDoubt => Ok(None),
    }
}

fn of_state(state: DeviceState, backing: Option<Box<Witness>>) -> Option<Witness> {
    let DeviceState { boot_id, disk_sequence, start, length, written } = state;
    // A driver that does not count says 0 for ever.
    let written = written.filter(|written| written.own != Counters::default())?;
    Some(Witness::Device {
        boot_id,
        disk_sequence: disk_sequence?,
        start,
        length,
        written: written.own.written,
        discarded: written.own.discarded,
        other_written: written.outside.written,
        other_discarded: written.outside.discarded,
        backing,
    })
}

enum Backing {
    Known(Option<Box<Witness>>),
    InDoubt,
}

fn backing(device: &BlockDevice) -> Result<Backing, TargetError> {
    let Some(path) = device.backing_file()? else { return Ok(Backing::Known(None)) };
    let witness = File::open(&path).ok().filter(|file| file.metadata().is_ok_and(|metadata| metadata.is_file()));
    let witness = witness.and_then(|file| of_file(&file).ok()).flatten();
    Ok(witness.map_or(Backing::InDoubt, |witness| Backing::Known(Some(Box::new(witness)))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::block_device::Written;

    fn state(written: u64) -> DeviceState {
        let own = Counters { written, discarded: 0 };
        DeviceState {
            boot_id: "e6235921-555c-4a3f-bf78-ac206f21cce3".into(),
            disk_sequence: Some(7),
            start: 0,
            length: 1 << 30,
            written: Some(Written { own, outside: Counters::default() }),
        }
    }

    #[test]
    fn a_device_that_is_counted_has_a_witness() {
        assert!(of_state(state(1), None).is_some());
        assert_ne!(of_state(state(1), None), of_state(state(2), None));
    }

    #[test]
    fn a_device_without_writes_may_be_one_that_is_not_counted() {
        assert_eq!(of_state(state(0), None), None);
        assert_eq!(of_state(DeviceState { written: None, ..state(1) }, None), None);
    }

    #[test]
    fn a_kernel_without_disk_sequences_gives_no_witness() {
        assert_eq!(of_state(DeviceState { disk_sequence: None, ..state(1) }, None), None);
    }
}
