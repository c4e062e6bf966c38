//! Who uses a device or a file: mounts, swap, and devices made of it.

use std::{
    collections::HashSet,
    fmt,
    fs::{self, Metadata},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use super::{BlockDevice, DeviceNumber, SystemError, block_device::SYSFS, mounts, mounts::Mount, swaps};

/// One use of a device or file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Use {
    /// A filesystem on it is mounted.
    Mounted {
        /// The device: the one asked about, a partition of it, or one made of it.
        device: PathBuf,
        /// Where.
        at: PathBuf,
        /// The filesystem may write.
        writable: bool,
    },
    /// The system swaps to it.
    Swap {
        /// The device or file.
        device: PathBuf,
    },
    /// Another device is made of it.
    Held {
        /// The device or file.
        device: PathBuf,
        /// The device made of it.
        by: PathBuf,
    },
}

impl Use {
    /// Whether this use may change the content at any moment.
    #[must_use]
    pub const fn writes(&self) -> bool {
        match self {
            Self::Mounted { writable, .. } => *writable,
            Self::Swap { .. } => true,
            // Who only holds it writes on behalf of a user, which is listed as well.
            Self::Held { .. } => false,
        }
    }

    /// How to end it.
    #[must_use]
    pub fn way_out(&self) -> String {
        match self {
            Self::Mounted { at, .. } => format!("unmount it with `umount {}`", at.display()),
            Self::Swap { device } => format!("stop swapping to it with `swapoff {}`", device.display()),
            Self::Held { by, .. } => release_command(by),
        }
    }
}

fn release_command(holder: &Path) -> String {
    let path = holder.display();
    let name = path.to_string();
    if name.starts_with("/dev/loop") {
        format!("detach it with `losetup -d {path}`")
    } else if name.starts_with("/dev/md") {
        format!("stop the array with `mdadm --stop {path}`")
    } else {
        format!("deactivate {path} first (`lvchange -an`, `cryptsetup close` or `dmsetup remove`)")
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mounted { device, at, writable } => {
                let how = if *writable { "for writing" } else { "read-only" };
                write!(f, "{} is mounted {how} at {}", device.display(), at.display())
            }
            Self::Swap { device } => write!(f, "the system swaps to {}", device.display()),
            Self::Held { device, by } => write!(f, "{} is used by {}", device.display(), by.display()),
        }
    }
}

/// All uses of devices and files at one moment.
#[derive(Debug)]
pub struct Usage {
    mounts: Vec<Mount>,
    swaps: Vec<PathBuf>,
    loops: Vec<(BlockDevice, PathBuf)>,
}

impl Usage {
    /// Asks the kernel.
    pub fn read() -> Result<Self, SystemError> {
        Ok(Self { mounts: mounts::read()?, swaps: swaps::read()?, loops: BlockDevice::loops(Path::new(SYSFS))? })
    }

    /// Uses of a device, its partitions, the disk it is a partition of, and whatever is made of them.
    pub fn of_device(&self, device: &BlockDevice) -> Result<Vec<Use>, SystemError> {
        let mut family = device.partitions()?;
        family.push(device.disk()?);
        family.push(device.clone());
        self.of_devices(family)
    }

    /// Uses of a regular file: as swap, behind loop devices, and whatever is made of those.
    pub fn of_file(&self, path: &Path, metadata: &Metadata) -> Result<Vec<Use>, SystemError> {
        let same = |other: &Path| {
            fs::metadata(other)
                .map_or(other == path, |other| (other.dev(), other.ino()) == (metadata.dev(), metadata.ino()))
        };
        let mut uses = Vec::new();
        if self.swaps.iter().any(|swap| same(swap)) {
            uses.push(Use::Swap { device: path.to_owned() });
        }
        let mut devices = Vec::new();
        for (device, _) in self.loops.iter().filter(|(_, backing)| same(backing)) {
            uses.push(Use::Held { device: path.to_owned(), by: device.node() });
            devices.extend(device.partitions()?);
            devices.push(device.clone());
        }
        uses.extend(self.of_devices(devices)?);
        Ok(uses)
    }

    fn of_devices(&self, mut pending: Vec<BlockDevice>) -> Result<Vec<Use>, SystemError> {
        let mut uses = Vec::new();
        let mut seen = HashSet::new();
        while let Some(device) = pending.pop() {
            if !seen.insert(device.number()) {
                continue;
            }
            uses.extend(self.direct_uses(&device));
            for holder in self.made_of(&device)? {
                uses.push(Use::Held { device: device.node(), by: holder.node() });
                pending.extend(holder.partitions()?);
                pending.push(holder);
            }
        }
        // A mount point says more than "held", and unmounting comes first.
        uses.sort_by_key(|found| matches!(found, Use::Held { .. }));
        Ok(uses)
    }

    fn direct_uses(&self, device: &BlockDevice) -> Vec<Use> {
        let number = device.number();
        let node = device.node();
        let mounts = self.mounts.iter().filter(|mount| mount.device == number || is_node_of(&mount.source, number));
        let mut uses: Vec<_> = mounts
            .map(|mount| Use::Mounted { device: node.clone(), at: mount.mount_point.clone(), writable: mount.writable })
            .collect();
        if self.swaps.iter().any(|swap| is_node_of(swap, number)) {
            uses.push(Use::Swap { device: node });
        }
        uses
    }

    fn made_of(&self, device: &BlockDevice) -> Result<Vec<BlockDevice>, SystemError> {
        let mut holders = device.holders()?;
        let loops = self.loops.iter().filter(|(_, backing)| is_node_of(backing, device.number()));
        holders.extend(loops.map(|(holder, _)| holder.clone()));
        Ok(holders)
    }
}

fn is_node_of(path: &Path, number: DeviceNumber) -> bool {
    path.is_absolute()
        && fs::metadata(path)
            .is_ok_and(|node| node.file_type().is_block_device() && DeviceNumber::of_node(&node) == number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::test_devices::FakeSysfs;

    fn usage(mounts: &[(&str, bool)]) -> Usage {
        let mount = |(device, writable): &(&str, bool)| Mount {
            device: device.parse().unwrap(),
            mount_point: "/mnt".into(),
            source: "none".into(),
            writable: *writable,
        };
        Usage { mounts: mounts.iter().map(mount).collect(), swaps: Vec::new(), loops: Vec::new() }
    }

    fn uses(usage: &Usage, sysfs: &FakeSysfs, number: &str) -> Vec<Use> {
        let device = BlockDevice::find(sysfs.path(), number.parse().unwrap()).unwrap();
        usage.of_device(&device).unwrap()
    }

    #[test]
    fn a_mounted_partition_is_a_use_of_its_disk_but_not_of_its_neighbour() {
        let sysfs = FakeSysfs::with_disk();
        let usage = usage(&[("8:1", true)]);
        let mounted = Use::Mounted { device: "/dev/sda1".into(), at: "/mnt".into(), writable: true };
        assert_eq!(uses(&usage, &sysfs, "8:0"), std::slice::from_ref(&mounted));
        assert_eq!(uses(&usage, &sysfs, "8:1"), [mounted]);
        assert!(uses(&usage, &sysfs, "8:2").is_empty());
    }

    #[test]
    fn a_mounted_disk_is_a_use_of_its_partitions() {
        let sysfs = FakeSysfs::with_disk();
        assert_eq!(uses(&usage(&[("8:0", false)]), &sysfs, "8:2").len(), 1);
    }

    #[test]
    fn volumes_are_followed_to_where_they_are_mounted() {
        let sysfs = FakeSysfs::with_disk();
        sysfs.add_volume("sda/sda2");
        let held = Use::Held { device: "/dev/sda2".into(), by: "/dev/mapper/vg-root".into() };
        assert_eq!(uses(&usage(&[]), &sysfs, "8:0"), std::slice::from_ref(&held));
        assert!(!held.writes());
        let mounted = Use::Mounted { device: "/dev/mapper/vg-root".into(), at: "/mnt".into(), writable: true };
        assert_eq!(uses(&usage(&[("253:0", true)]), &sysfs, "8:2"), [mounted, held]);
    }

    #[test]
    fn a_file_behind_nothing_is_not_used() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let metadata = file.as_file().metadata().unwrap();
        assert!(Usage::read().unwrap().of_file(file.path(), &metadata).unwrap().is_empty());
    }

    #[test]
    fn a_swap_file_is_used_for_writing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut usage = usage(&[]);
        usage.swaps.push(file.path().to_owned());
        let uses = usage.of_file(file.path(), &file.as_file().metadata().unwrap()).unwrap();
        assert_eq!(uses, [Use::Swap { device: file.path().to_owned() }]);
        assert!(uses[0].writes());
    }
}
