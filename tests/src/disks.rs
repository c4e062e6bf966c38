//! Real disks: a partition table, an ext4 filesystem, and the files of this machine in it.
//!
//! They are made once and kept in the build directory (`target/tmp`), where `cargo clean` removes them. Nobody may
//! write to them.

use std::{
    env,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use crate::{
    files::{self, MIB, copy_sparse, run},
    random::Random,
};

/// Part of the directory's name: raise it when what is made below changes.
const RECIPE: u32 = 2;
/// Length of the disk.
const DISK_BYTES: u64 = 192 * MIB;
/// Where the partition starts.
pub const PARTITION_OFFSET: u64 = MIB;
/// The partition ends before the backup of the partition table.
const PARTITION_BYTES: u64 = DISK_BYTES - 2 * MIB;
/// Of the filesystem.
const BLOCK_BYTES: u64 = 4096;
/// Blocks of all files and directories in it.
const CONTENT_BYTES: u64 = 96 * MIB;
/// Length of what does not compress: more than two full packs.
const NOISE_BYTES: u64 = 160 * MIB;
/// Where the content comes from.
const SOURCES: [&str; 3] = ["/usr/bin", "/usr/lib", "/usr/share"];

/// Two versions of a disk, and something larger when stored.
#[derive(Debug)]
pub struct Disks {
    /// The first version.
    pub v1: PathBuf,
    /// The same after an update: files added, replaced and removed.
    pub v2: PathBuf,
    /// Random bytes.
    pub noise: PathBuf,
}

/// The disks, made when they are not there yet.
pub fn disks() -> &'static Disks {
    static DISKS: OnceLock<Disks> = OnceLock::new();
    DISKS.get_or_init(|| {
        let build = env::current_exe().unwrap().ancestors().nth(3).unwrap().join("tmp");
        fs::create_dir_all(&build).unwrap();
        let directory = build.join(format!("disks-{RECIPE}"));
        // Test binaries may run at the same time; the kernel releases the lock.
        let lock = File::create(build.join("disks.lock")).unwrap();
        lock.lock().unwrap();
        if !directory.exists() {
            make(&build, &directory);
        }
        let [v1, v2, noise] = ["v1.raw", "v2.raw", "noise.raw"].map(|name| directory.join(name));
        Disks { v1, v2, noise }
    })
}

/// Fails unless the filesystem on the disk is clean.
pub fn assert_clean(disk: &Path) {
    run(Command::new("e2fsck").arg("-fn").arg(filesystem(disk)));
}

/// One file of the filesystem on a disk.
#[must_use]
pub fn read_file(disk: &Path, path: &str) -> Vec<u8> {
    Command::new("debugfs").args(["-R", &format!("cat {path}")]).arg(filesystem(disk)).output().unwrap().stdout
}

/// How e2fsprogs name a filesystem inside a file.
fn filesystem(disk: &Path) -> String {
    format!("{}?offset={PARTITION_OFFSET}", disk.display())
}

fn make(build: &Path, place: &Path) {
    let scratch = tempfile::tempdir_in(build).unwrap();
    let (disks, content) = (scratch.path().join("disks"), scratch.path().join("content"));
    fs::create_dir(&disks).unwrap();
    fs::create_dir(&content).unwrap();
    collect(&content);
    let v1 = disks.join("v1.raw");
    File::create(&v1).unwrap().set_len(DISK_BYTES).unwrap();
    partition(&v1);
    run(Command::new("mkfs.ext4")
        .args(["-q", "-F", "-b", "4096", "-d"])
        .arg(&content)
        .args(["-E", &format!("offset={PARTITION_OFFSET},lazy_itable_init=1")])
        .arg(&v1)
        .arg(format!("{}k", PARTITION_BYTES / 1024)));
    let v2 = disks.join("v2.raw");
    copy_sparse(&v1, &v2);
    update(&v2, &content);
    assert_clean(&v1);
    assert_clean(&v2);
    let noise = files::write(&disks, "noise.raw", &Random::new(7).bytes(NOISE_BYTES as usize));
    for disk in [&v1, &v2, &noise] {
        let mut permissions = fs::metadata(disk).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(disk, permissions).unwrap();
    }
    fs::rename(&disks, place).unwrap();
}

/// Copies files of this machine, in the order of their names, until there are enough.
fn collect(content: &Path) {
    let mut wanted = CONTENT_BYTES;
    for (n, source) in SOURCES.iter().enumerate() {
        let share = wanted / (SOURCES.len() - n) as u64;
        let mut left = share;
        copy_from(Path::new(source), &content.join(n.to_string()), &mut left);
        wanted -= share - left;
    }
}

fn copy_from(from: &Path, to: &Path, left: &mut u64) {
    let Ok(entries) = fs::read_dir(from) else { return };
    let mut entries: Vec<_> = entries.map(|entry| entry.unwrap()).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    fs::create_dir_all(to).unwrap();
    *left = left.saturating_sub(BLOCK_BYTES);
    for entry in entries {
        let Ok(metadata) = fs::symlink_metadata(entry.path()) else { continue };
        let (place, blocks) = (to.join(entry.file_name()), metadata.len().next_multiple_of(BLOCK_BYTES));
        if metadata.is_dir() && *left > 0 {
            copy_from(&entry.path(), &place, left);
        } else if metadata.is_file() && blocks <= (*left).min(8 * MIB) && fs::copy(entry.path(), place).is_ok() {
            *left -= blocks;
        }
    }
}

fn partition(disk: &Path) {
    let mut sfdisk = Command::new("sfdisk").arg("-q").arg(disk).stdin(Stdio::piped()).spawn().unwrap();
    let (start, size) = (PARTITION_OFFSET / 512, PARTITION_BYTES / 512);
    let table = format!("label: gpt\nstart={start}, size={size}, type=linux\n");
    sfdisk.stdin.take().unwrap().write_all(table.as_bytes()).unwrap();
    assert!(sfdisk.wait().unwrap().success());
}

/// Removes every 20th file, adds a few, and writes a note.
fn update(disk: &Path, content: &Path) {
    let mut files = Vec::new();
    list(content, &mut files);
    let mut script = String::new();
    for file in files.iter().step_by(20) {
        script += &format!("rm \"/{}\"\n", file.strip_prefix(content).unwrap().display());
    }
    for (n, file) in files.iter().step_by(50).enumerate() {
        script += &format!("write \"{}\" copy-{n}\n", file.display());
    }
    let note = content.join("note");
    fs::write(&note, "the second version\n").unwrap();
    script += &format!("write \"{}\" note\n", note.display());
    let commands = content.join("commands");
    fs::write(&commands, script).unwrap();
    run(Command::new("debugfs").arg("-w").arg("-f").arg(&commands).arg(filesystem(disk)));
}

fn list(directory: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() { list(&path, files) } else { files.push(path) }
    }
}
