//! Grows the filesystem of a partition that was grown, with the filesystem's own tools.
//!
//! By then the restore is complete and durable, and the target is closed. It is noted before that the tools may have
//! written, so that nobody takes what they did for the version.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, FileTypeExt},
    },
    path::Path,
    process::Command,
};

use imprint_disks::Grown;
use rustix::fs::FlockOperation;

use crate::{
    Error,
    target::{Held, Memory},
};

use super::blocking;

/// Where the tools are, which are not in every user's path.
const TOOL_DIRECTORIES: &str = "/usr/sbin:/sbin";
/// Where an ext filesystem has its magic number.
const EXT_MAGIC_AT: u64 = 1024 + 56;
const EXT_MAGIC: [u8; 2] = 0xef53u16.to_le_bytes();
/// resize2fs counts in these when it is told so.
const SECTOR_BYTES: u64 = 512;
/// What e2fsck says of itself: nothing to do, or mended.
const E2FSCK_FINE: [i32; 2] = [0, 1];

/// A partition that takes what the target has more than its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrownPartition {
    /// As the system counts; 0 is a disk without a table.
    pub number: u32,
    /// Its name in the table.
    pub name: Option<String>,
    /// Its length in the image, in bytes.
    pub bytes_before: u64,
    /// Its length on the target, in bytes.
    pub bytes: u64,
    /// What became of its filesystem.
    pub filesystem: FilesystemGrowth,
}

/// What became of a filesystem in a partition that was grown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilesystemGrowth {
    /// It has all of the partition.
    Grown,
    /// It is as long as in the image: that it grows was not asked for, only that the partition does, earlier.
    Left,
    /// It is none that can be grown without being mounted.
    Unknown,
    /// A program is missing.
    ToolMissing(Commands),
    /// A program failed.
    Failed {
        /// What it said.
        why: String,
        /// What to run.
        commands: Commands,
    },
}

/// What grows a filesystem, to be run by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commands(String);

impl std::fmt::Display for Commands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Grows what it can. That it cannot is no error: the target holds the version.
pub(super) async fn grow(memory: &Memory, held: Held, grown: Grown) -> Result<GrownPartition, Error> {
    let range = grown.slot.range.start..grown.end;
    let (memory, path) = (memory.clone(), held.target.clone());
    let extent = Extent { start: range.start, length: range.end - range.start };
    let filesystem = blocking(move || {
        if !is_ext(&path, extent.start) {
            return Ok(FilesystemGrowth::Unknown);
        }
        memory.store(&Held { filesystem_grown: true, ..held })?;
        Ok::<_, Error>(grow_ext(&path, extent))
    })
    .await??;
    Ok(GrownPartition { filesystem, ..GrownPartition::without_filesystem(&grown) })
}

impl GrownPartition {
    /// What the table says, and nothing else.
    pub(super) fn without_filesystem(grown: &Grown) -> Self {
        let Grown { slot, end } = grown;
        Self {
            number: slot.number,
            name: slot.name.clone(),
            bytes_before: slot.range.end - slot.range.start,
            bytes: end - slot.range.start,
            filesystem: FilesystemGrowth::Left,
        }
    }
}

/// Where a filesystem is, and how long it may become.
#[derive(Clone, Copy)]
struct Extent {
    start: u64,
    length: u64,
}

fn is_ext(path: &Path, start: u64) -> bool {
    let mut magic = [0; 2];
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut magic, start.saturating_add(EXT_MAGIC_AT)));
    read.is_ok() && magic == EXT_MAGIC
}

fn grow_ext(path: &Path, extent: Extent) -> FilesystemGrowth {
    let commands = Commands::of(path, extent);
    let failed = |why: String| FilesystemGrowth::Failed { why, commands: commands.clone() };
    if path.as_os_str().as_bytes().contains(&b'?') {
        return failed("the tools take no path with a question mark".into());
    }
    match try_to_grow_ext(path, extent) {
        Ok(()) => FilesystemGrowth::Grown,
        Err(Trouble::Failed(why)) => failed(why),
        Err(Trouble::System(error)) if error.kind() == io::ErrorKind::NotFound => {
            FilesystemGrowth::ToolMissing(commands)
        }
        Err(Trouble::System(error)) => failed(error.to_string()),
    }
}

fn try_to_grow_ext(path: &Path, extent: Extent) -> Result<(), Trouble> {
    let place = Place::of(path, extent)?;
    // resize2fs insists on a check.
    let check = ["-f".into(), "-p".into(), place.name.clone()];
    run(Command::new("e2fsck").args(check).stdin(place.held.try_clone()?), &E2FSCK_FINE)?;
    let size = format!("{}s", extent.length / SECTOR_BYTES);
    run(Command::new("resize2fs").arg(&place.name).arg(size).stdin(place.held.try_clone()?), &[0])?;
    place.held.sync_all()?;
    drop(place);
    Ok(File::open(path)?.sync_all()?)
}

/// A filesystem as its tools are told of it.
struct Place {
    name: OsString,
    /// Open as long as a tool runs, which inherits it: a loop device is there until the last one has closed it, and as
    /// long as it is, its file is refused as a target. Devices the tools open exclusively.
    held: File,
}

impl Place {
    /// resize2fs cuts a file off where it believes that the filesystem ends, and knows nothing of the offset then; so a
    /// file has to become a device.
    fn of(path: &Path, extent: Extent) -> Result<Self, Trouble> {
        if fs::metadata(path)?.file_type().is_block_device() {
            return Ok(Self { name: inside(path, extent.start), held: File::open(path)? });
        }
        // Until it is a device: two restores exclude each other like this.
        let locked = File::open(path)?;
        rustix::fs::flock(&locked, FlockOperation::NonBlockingLockExclusive).map_err(io::Error::from)?;
        let (offset, length) = (extent.start.to_string(), extent.length.to_string());
        let arguments = ["-f", "--show", "-o", &offset, "--sizelimit", &length];
        let name = run(Command::new("losetup").args(arguments).arg(path), &[0])?;
        let name = name.trim_end();
        let held = File::open(name);
        // Of a device that is open: as soon as it is closed.
        run(Command::new("losetup").args(["-d", name]), &[0])?;
        Ok(Self { name: name.into(), held: held? })
    }
}

/// How e2fsprogs name a filesystem inside a disk.
fn inside(disk: &Path, start: u64) -> OsString {
    let mut name = disk.as_os_str().to_owned();
    if start > 0 {
        name.push(format!("?offset={start}"));
    }
    name
}

impl Commands {
    fn of(path: &Path, extent: Extent) -> Self {
        let Extent { start, length } = extent;
        if fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_block_device()) {
            let place = inside(path, start).to_string_lossy().into_owned();
            return Self(format!("e2fsck -f '{place}' && resize2fs '{place}' {}s", length / SECTOR_BYTES));
        }
        let path = path.display();
        Self(format!(
            "D=$(losetup -f --show -o {start} --sizelimit {length} '{path}') && e2fsck -f $D && resize2fs $D; losetup -d $D"
        ))
    }
}

/// Why a filesystem did not grow.
enum Trouble {
    /// What a program said.
    Failed(String),
    /// It could not be run, or a file not be opened.
    System(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// Runs a program to its end; returns what it wrote.
fn run(command: &mut Command, fine: &[i32]) -> Result<String, Trouble> {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = command.env("PATH", format!("{path}:{TOOL_DIRECTORIES}")).env("LC_ALL", "C").output()?;
    let written = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.code().is_some_and(|code| fine.contains(&code)) {
        return Ok(written(&output.stdout));
    }
    let said = written(&output.stderr) + &written(&output.stdout);
    let first = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let program = command.get_program().to_string_lossy();
    Err(Trouble::Failed(format!("{program} ended with {}: {first}", output.status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filesystems_inside_of_disks_have_names() {
        assert_eq!(inside(Path::new("/dev/sdc"), 1 << 20), "/dev/sdc?offset=1048576");
        assert_eq!(inside(Path::new("/dev/sdc"), 0), "/dev/sdc");
    }

    #[test]
    fn a_tool_that_fails_and_one_that_is_missing_are_told_apart() {
        let run = |program, fine| run(&mut Command::new(program), fine);
        assert!(run("true", &[0]).is_ok());
        assert!(run("false", &[0, 1]).is_ok());
        assert!(matches!(run("false", &[0]), Err(Trouble::Failed(why)) if why.contains("false")));
        assert!(
            matches!(run("no-such-tool", &[0]), Err(Trouble::System(error)) if error.kind() == io::ErrorKind::NotFound)
        );
    }
}
