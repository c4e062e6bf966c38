//! Loop devices and mounts that go away with their guards. Where there are none, the reason is printed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::files::run;

/// A loop device over a file.
#[derive(Debug)]
pub struct LoopDevice {
    node: PathBuf,
}

impl LoopDevice {
    /// `None`, with the reason printed, where none can be made: not root, or no loop devices.
    #[must_use]
    pub fn over(file: &Path) -> Option<Self> {
        Self::with(file, &[])
    }

    /// The same, for reading only.
    #[must_use]
    pub fn read_only(file: &Path) -> Option<Self> {
        Self::with(file, &["-r"])
    }

    /// The same, with sectors of so many bytes.
    #[must_use]
    pub fn with_sectors(file: &Path, bytes: u32) -> Option<Self> {
        Self::with(file, &["-b", &bytes.to_string()])
    }

    fn with(file: &Path, options: &[&str]) -> Option<Self> {
        if !is_root() {
            return None;
        }
        let output = Command::new("losetup").args(["-f", "--show"]).args(options).arg(file).output();
        match output {
            Ok(output) if output.status.success() => {
                Some(Self { node: String::from_utf8(output.stdout).unwrap().trim_end().into() })
            }
            failed => {
                println!("skipped: no loop device: {failed:?}");
                None
            }
        }
    }

    /// `/dev/loop7`.
    #[must_use]
    pub fn node(&self) -> &Path {
        &self.node
    }

    /// Bytes written to the devices of this name so far, as the kernel counts them.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        let name = self.node.file_name().unwrap().to_str().unwrap();
        let stat = fs::read_to_string(format!("/sys/block/{name}/stat")).unwrap();
        stat.split_whitespace().nth(6).unwrap().parse::<u64>().unwrap() * 512
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("-d").arg(&self.node).status();
    }
}

/// A mounted filesystem. Declare it after its device, so that it goes away first.
#[derive(Debug)]
pub struct Mounted(TempDir);

impl Mounted {
    /// Mounts the filesystem on `device`.
    #[must_use]
    pub fn new(device: &Path, options: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        run(Command::new("mount").args(["-o", options]).arg(device).arg(directory.path()));
        Self(directory)
    }

    /// A filesystem in memory of so many MiB; `None`, with the reason printed, without the right to mount.
    #[must_use]
    pub fn memory(mebibytes: u64) -> Option<Self> {
        if !is_root() {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"]).arg(directory.path());
        if !mount.status().unwrap().success() {
            println!("skipped: no tmpfs can be mounted");
            return None;
        }
        Some(Self(directory))
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("skipped: not root");
    }
    is_root
}
