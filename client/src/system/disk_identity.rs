//! Which disk a device is, whatever was written to it: names of devices go to other disks.

use std::{fs, os::unix::fs::FileTypeExt, path::Path};

use serde::{Deserialize, Serialize};

use super::{BlockDevice, DeviceNumber, SystemError, block_device::SYSFS, identity};

/// One disk, or one partition of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskIdentity {
    /// What the disk says of itself, where it does: the same after a reboot.
    pub hardware: Option<String>,
    /// Disk sequences are counted from each boot on.
    pub boot_id: String,
    /// Which disk it is since the boot; `None` before Linux 5.15.
    pub disk_sequence: Option<u64>,
    /// Where a partition starts on its disk, in bytes.
    pub start: u64,
    /// In bytes.
    pub length: u64,
}

impl DiskIdentity {
    /// Of the block device at `path`; `None` for anything else.
    pub fn at(path: &Path) -> Result<Option<Self>, SystemError> {
        match fs::metadata(path) {
            Ok(metadata) if metadata.file_type().is_block_device() => {
                Self::of(&BlockDevice::find(Path::new(SYSFS), DeviceNumber::of_node(&metadata))?).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Of a device.
    pub fn of(device: &BlockDevice) -> Result<Self, SystemError> {
        Ok(Self {
            hardware: device.hardware_id()?,
            boot_id: identity::boot_id()?,
            disk_sequence: device.disk_sequence()?,
            start: device.start()?,
            length: device.length()?,
        })
    }

    /// Whether both are one disk, and one range of it. Not so when in doubt.
    #[must_use]
    pub fn is_same_disk(&self, other: &Self) -> bool {
        let is_same_hardware = self.hardware.is_some() && self.hardware == other.hardware;
        let is_same_since_boot =
            self.boot_id == other.boot_id && self.disk_sequence.is_some() && self.disk_sequence == other.disk_sequence;
        (self.start, self.length) == (other.start, other.length) && (is_same_hardware || is_same_since_boot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(hardware: Option<&str>, boot_id: &str, disk_sequence: Option<u64>) -> DiskIdentity {
        let hardware = hardware.map(str::to_owned);
        DiskIdentity { hardware, boot_id: boot_id.into(), disk_sequence, start: 0, length: 1 << 30 }
    }

    #[test]
    fn a_disk_is_known_by_what_it_says_or_until_the_next_boot() {
        let named = disk(Some("naa.5000c500a1b2c3d4"), "one", Some(7));
        assert!(named.is_same_disk(&disk(Some("naa.5000c500a1b2c3d4"), "two", Some(3))));
        assert!(!named.is_same_disk(&disk(Some("naa.5000c500a1b2c3d5"), "two", Some(7))));
        assert!(!named.is_same_disk(&DiskIdentity { start: 512, ..named.clone() }));
        assert!(!named.is_same_disk(&DiskIdentity { length: 512, ..named.clone() }));
        let nameless = disk(None, "one", Some(7));
        assert!(nameless.is_same_disk(&nameless.clone()));
        assert!(!nameless.is_same_disk(&disk(None, "one", Some(8))));
        assert!(!nameless.is_same_disk(&disk(None, "two", Some(7))));
        assert!(!disk(None, "one", None).is_same_disk(&disk(None, "one", None)));
    }
}
