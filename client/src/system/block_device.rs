//! Block devices as sysfs describes them: partitions, holders, counters.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{DeviceNumber, SystemError, counters::Counters, read_text};

/// Where sysfs is.
pub const SYSFS: &str = "/sys";

/// sysfs counts in sectors of this many bytes, whatever the device's own are.
const SYSFS_SECTOR_BYTES: u64 = 512;

/// Reading two sets of counters that belong together is tried this often while their disk is busy.
const STABLE_READ_ATTEMPTS: usize = 200;

/// A disk, a partition, or a device made of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockDevice {
    number: DeviceNumber,
    directory: PathBuf,
}

/// What was written to a device, told apart from what was written beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// To the device itself; for a disk this includes its partitions.
    pub own: Counters,
    /// To the disk of a partition, but through none of its partitions; zero for a disk.
    pub outside: Counters,
}

impl BlockDevice {
    /// The device with this number, in the sysfs mounted at `sysfs`.
    pub fn find(sysfs: &Path, number: DeviceNumber) -> Result<Self, SystemError> {
        let link = sysfs.join("dev/block").join(number.to_string());
        let directory = fs::canonicalize(&link).map_err(|source| SystemError::read(&link, source))?;
        Ok(Self { number, directory })
    }

    /// The loop devices that have a backing file, with its path.
    pub fn loops(sysfs: &Path) -> Result<Vec<(Self, PathBuf)>, SystemError> {
        let mut loops = Vec::new();
        for directory in entries(&sysfs.join("block"))? {
            if let Some(file) = optional_text(&directory.join("loop/backing_file"))? {
                let file = file.strip_suffix('\n').unwrap_or(&file);
                loops.push((Self::at(&directory)?, file.into()));
            }
        }
        Ok(loops)
    }

    fn at(directory: &Path) -> Result<Self, SystemError> {
        let directory = fs::canonicalize(directory).map_err(|source| SystemError::read(directory, source))?;
        let path = directory.join("dev");
        let text = read_text(&path)?;
        let number = text.parse().map_err(|_| SystemError::unexpected(&path, &text))?;
        Ok(Self { number, directory })
    }

    /// Its number.
    #[must_use]
    pub const fn number(&self) -> DeviceNumber {
        self.number
    }

    /// Its usual path below `/dev`, for messages.
    #[must_use]
    pub fn node(&self) -> PathBuf {
        if let Ok(name) = read_text(&self.directory.join("dm/name")) {
            return Path::new("/dev/mapper").join(name.trim_end());
        }
        // sysfs writes `!` where a name has a `/`.
        let name = self.directory.file_name().unwrap_or_default().to_string_lossy().replace('!', "/");
        Path::new("/dev").join(name)
    }

    /// Whether it is a partition.
    #[must_use]
    pub fn is_partition(&self) -> bool {
        self.directory.join("partition").exists()
    }

    /// The disk of a partition; any other device is its own.
    pub fn disk(&self) -> Result<Self, SystemError> {
        match self.directory.parent() {
            Some(disk) if self.is_partition() => Self::at(disk),
            _ => Ok(self.clone()),
        }
    }

    /// Its partitions.
    pub fn partitions(&self) -> Result<Vec<Self>, SystemError> {
        let mut directories = entries(&self.directory)?;
        directories.retain(|directory| directory.join("partition").exists());
        directories.iter().map(|directory| Self::at(directory)).collect()
    }

    /// The devices made of it, such as logical volumes and arrays.
    pub fn holders(&self) -> Result<Vec<Self>, SystemError> {
        entries(&self.directory.join("holders"))?.iter().map(|holder| Self::at(holder)).collect()
    }

    /// Whether it is made of other devices, and so can change without being written to.
    pub fn is_stacked(&self) -> Result<bool, SystemError> {
        Ok(!entries(&self.disk()?.directory.join("slaves"))?.is_empty())
    }

    /// The file behind a loop device or a partition of one.
    pub fn backing_file(&self) -> Result<Option<PathBuf>, SystemError> {
        let text = optional_text(&self.disk()?.directory.join("loop/backing_file"))?;
        Ok(text.map(|path| path.strip_suffix('\n').unwrap_or(&path).into()))
    }

    /// Grows with every disk that appears; a disk that was swapped for another has a new one. Since Linux 5.15.
    pub fn disk_sequence(&self) -> Result<Option<u64>, SystemError> {
        let text = optional_text(&self.disk()?.directory.join("diskseq"))?;
        Ok(text.and_then(|text| text.trim_end().parse().ok()))
    }

    /// What no other disk in the world says of itself: WWN, EUI, or the number of a card. Serial numbers are not that
    /// unique, and not asked for.
    pub fn hardware_id(&self) -> Result<Option<String>, SystemError> {
        let disk = self.disk()?;
        for file in ["wwid", "device/wwid", "device/cid"] {
            let text = optional_text(&disk.directory.join(file))?.unwrap_or_default();
            if !text.trim().is_empty() {
                return Ok(Some(text.trim().to_owned()));
            }
        }
        Ok(None)
    }

    /// In bytes.
    pub fn length(&self) -> Result<u64, SystemError> {
        let path = self.directory.join("size");
        let text = read_text(&path)?;
        let sectors: Option<u64> = text.trim_end().parse().ok();
        let length = sectors.and_then(|sectors| sectors.checked_mul(SYSFS_SECTOR_BYTES));
        length.ok_or_else(|| SystemError::unexpected(&path, &text))
    }

    /// Where a partition starts on its disk, in bytes.
    pub fn start(&self) -> Result<u64, SystemError> {
        let path = self.directory.join("start");
        let Some(text) = optional_text(&path)? else { return Ok(0) };
        let sectors: Option<u64> = text.trim_end().parse().ok();
        let start = sectors.and_then(|sectors| sectors.checked_mul(SYSFS_SECTOR_BYTES));
        start.ok_or_else(|| SystemError::unexpected(&path, &text))
    }

    /// What was written so far; `None` where the kernel does not count it.
    pub fn written(&self) -> Result<Option<Written>, SystemError> {
        let disk = self.disk()?;
        let counting = optional_text(&disk.directory.join("queue/iostats"))?;
        if counting.is_none_or(|text| text.trim_end() != "1") {
            return Ok(None);
        }
        if self.is_partition() { self.written_on(&disk) } else { self.written_as_disk() }
    }

    fn written_as_disk(&self) -> Result<Option<Written>, SystemError> {
        Ok(self.counters()?.map(|own| Written { own, outside: Counters::default() }))
    }

    // Disk and partitions are counted in separate files. Neighbours may be written to while they are read, so they
    // are read until two readings agree.
    fn written_on(&self, disk: &Self) -> Result<Option<Written>, SystemError> {
        let neighbours = disk.partitions()?;
        let mut before = None;
        for _ in 0..STABLE_READ_ATTEMPTS {
            let Some(now) = self.read_beside(disk, &neighbours)? else { return Ok(None) };
            if before.replace(now) == Some(now) {
                let (own, whole, partitions) = now;
                return Ok(Some(Written { own, outside: whole - partitions }));
            }
        }
        Ok(None)
    }

    fn read_beside(
        &self,
        disk: &Self,
        partitions: &[Self],
    ) -> Result<Option<(Counters, Counters, Counters)>, SystemError> {
        let (Some(own), Some(whole)) = (self.counters()?, disk.counters()?) else { return Ok(None) };
        let mut sum = Counters::default();
        for partition in partitions {
            let Some(counters) = partition.counters()? else { return Ok(None) };
            sum = sum + counters;
        }
        Ok(Some((own, whole, sum)))
    }

    fn counters(&self) -> Result<Option<Counters>, SystemError> {
        Ok(Counters::parse(&read_text(&self.directory.join("stat"))?))
    }
}

/// What a directory holds, sorted; nothing if it does not exist.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, SystemError> {
    let error = |source| SystemError::read(directory, source);
    let listing = match fs::read_dir(directory) {
        Ok(listing) => listing,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(error(source)),
    };
    let mut paths = listing.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>().map_err(error)?;
    paths.sort();
    Ok(paths)
}

/// The text of a file that not every device or kernel has.
fn optional_text(path: &Path) -> Result<Option<String>, SystemError> {
    match read_text(path) {
        Ok(text) => Ok(Some(text)),
        // sysfs answers ENXIO or EINVAL where a device has nothing behind the file.
        Err(SystemError::Read { source, .. })
            if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::test_devices::FakeSysfs;

    fn number(text: &str) -> DeviceNumber {
        text.parse().unwrap()
    }

    #[test]
    fn partitions_know_their_disk_and_disks_their_partitions() {
        let sysfs = FakeSysfs::with_disk();
        let disk = BlockDevice::find(sysfs.path(), number("8:0")).unwrap();
        let partition = BlockDevice::find(sysfs.path(), number("8:2")).unwrap();
        assert_eq!(partition.disk().unwrap(), disk);
        assert_eq!(disk.disk().unwrap(), disk);
        let nodes: Vec<_> = disk.partitions().unwrap().iter().map(BlockDevice::node).collect();
        assert_eq!(nodes, [Path::new("/dev/sda1"), Path::new("/dev/sda2")]);
        assert_eq!((partition.start().unwrap(), disk.start().unwrap()), (4096 * 512, 0));
        assert_eq!(partition.disk_sequence().unwrap(), Some(7));
    }

    #[test]
    fn writes_beside_a_partition_are_told_apart() {
        let sysfs = FakeSysfs::with_disk();
        let partition = BlockDevice::find(sysfs.path(), number("8:2")).unwrap();
        let counters = |written, discarded| Counters { written, discarded };
        // Of 100 written and 10 discarded sectors, 30 + 60 and 1 + 2 are its partitions'.
        let expected = Written { own: counters(60, 2), outside: counters(10, 7) };
        assert_eq!(partition.written().unwrap(), Some(expected));
    }

    #[test]
    fn a_disk_that_is_not_counted_has_no_counters() {
        let sysfs = FakeSysfs::with_disk();
        let disk = BlockDevice::find(sysfs.path(), number("8:0")).unwrap();
        assert!(disk.written().unwrap().is_some());
        sysfs.write("devices/sda/queue/iostats", "0\n");
        assert_eq!(disk.written().unwrap(), None);
    }

    #[test]
    fn an_unknown_device_is_an_error() {
        let sysfs = FakeSysfs::with_disk();
        assert!(BlockDevice::find(sysfs.path(), number("9:9")).is_err());
    }
}
