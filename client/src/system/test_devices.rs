//! What tests of devices need: a pretended sysfs, and real loop devices and mounts that go away with their guards.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::{NamedTempFile, TempDir};

/// A directory that looks like the parts of sysfs that are read.
pub(crate) struct FakeSysfs(TempDir);

impl FakeSysfs {
    /// `sda` with two partitions; they count 100, 30 and 60 written, 10, 1 and 2 discarded sectors.
    pub(crate) fn with_disk() -> Self {
        let sysfs = Self(tempfile::tempdir().unwrap());
        sysfs.add("sda", "8:0", (100, 10));
        sysfs.add("sda/sda1", "8:1", (30, 1));
        sysfs.add("sda/sda2", "8:2", (60, 2));
        for (partition, start) in [("sda1", "2048\n"), ("sda2", "4096\n")] {
            sysfs.write(&format!("devices/sda/{partition}/partition"), "1\n");
            sysfs.write(&format!("devices/sda/{partition}/start"), start);
        }
        sysfs.write("devices/sda/queue/iostats", "1\n");
        sysfs.write("devices/sda/diskseq", "7\n");
        sysfs
    }

    /// A logical volume on `device`.
    pub(crate) fn add_volume(&self, device: &str) {
        self.add("dm-0", "253:0", (0, 0));
        self.write("devices/dm-0/dm/name", "vg-root\n");
        let link = self.path().join("devices").join(device).join("holders/dm-0");
        symlink(self.path().join("devices/dm-0"), link).unwrap();
    }

    fn add(&self, device: &str, number: &str, (written, discarded): (u64, u64)) {
        let directory = format!("devices/{device}");
        fs::create_dir_all(self.path().join(&directory).join("holders")).unwrap();
        self.write(&format!("{directory}/dev"), &format!("{number}\n"));
        self.write(
            &format!("{directory}/stat"),
            &format!("1 2 3 4 5 6 {written} 8 9 10 11 12 13 {discarded} 15 16 17\n"),
        );
        fs::create_dir_all(self.path().join("dev/block")).unwrap();
        symlink(self.path().join(&directory), self.path().join("dev/block").join(number)).unwrap();
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// A loop device over a file of zeros.
pub(crate) struct LoopDevice {
    node: PathBuf,
    backing: NamedTempFile,
}

impl LoopDevice {
    /// `None`, with the reason printed, where none can be made: not root, or no loop devices.
    pub(crate) fn new(length: u64) -> Option<Self> {
        let backing = NamedTempFile::new().unwrap();
        backing.as_file().set_len(length).unwrap();
        Self::over(backing)
    }

    /// The same with one partition, from 1 MiB to 31 MiB.
    pub(crate) fn partitioned() -> Option<Self> {
        let backing = NamedTempFile::new().unwrap();
        backing.as_file().set_len(32 << 20).unwrap();
        // So that whoever reads the partition table again, such as udev, finds the same.
        let script = NamedTempFile::new().unwrap();
        fs::write(script.path(), "label: gpt\n2048,61440,L\n").unwrap();
        let script = File::open(script.path()).unwrap();
        run(Command::new("sfdisk").arg("-q").arg(backing.path()).stdin(script));
        let device = Self::over(backing)?;
        if !device.partition().exists() {
            // A kernel that does not read partition tables can be told.
            run(Command::new("addpart").arg(&device.node).args(["1", "2048", "61440"]));
        }
        Some(device)
    }

    fn over(backing: NamedTempFile) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: not root, so there are no loop devices");
            return None;
        }
        let output = Command::new("losetup").args(["-P", "-f", "--show"]).arg(backing.path()).output();
        match output {
            Ok(output) if output.status.success() => {
                let node = String::from_utf8(output.stdout).unwrap().trim_end().into();
                Some(Self { node, backing })
            }
            failed => {
                println!("skipped: no loop device: {failed:?}");
                None
            }
        }
    }

    pub(crate) fn node(&self) -> &Path {
        &self.node
    }

    pub(crate) fn backing(&self) -> &Path {
        self.backing.path()
    }

    pub(crate) fn partition(&self) -> PathBuf {
        format!("{}p1", self.node.display()).into()
    }

    /// Opens it as anybody else would.
    pub(crate) fn open(&self) -> File {
        File::options().read(true).write(true).open(&self.node).unwrap()
    }

    pub(crate) fn format(&self) {
        format(&self.node);
    }

    pub(crate) fn format_partition(&self) {
        format(&self.partition());
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("-d").arg(&self.node).status();
    }
}

/// A mounted filesystem. Declare it after its device, so that it goes away first.
pub(crate) struct Mounted(TempDir);

impl Mounted {
    pub(crate) fn new(device: &Path, options: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        run(Command::new("mount").args(["-o", options]).arg(device).arg(directory.path()));
        Self(directory)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

fn format(device: &Path) {
    run(Command::new("mkfs.ext4").arg("-q").arg(device));
}

pub(crate) fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}");
}
