//! Files as tests look at them: written whole, compared, counted.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    process::Command,
};

/// One mebibyte.
pub const MIB: u64 = 1 << 20;

/// Writes a file and returns its path.
pub fn write(directory: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = directory.join(name);
    File::create(&path).unwrap().write_all(content).unwrap();
    path
}

/// Fails unless both files have the same bytes; names the first that differs.
pub fn assert_same(actual: &Path, expected: &Path) {
    assert_eq!(length(actual), length(expected), "lengths of {} and {}", actual.display(), expected.display());
    let (mut a, mut b) = (File::open(actual).unwrap(), File::open(expected).unwrap());
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut offset = 0;
    loop {
        let count = read_full(&mut a, &mut left);
        assert_eq!(read_full(&mut b, &mut right), count);
        if let Some(at) = (0..count).find(|&at| left[at] != right[at]) {
            panic!("{} differs from {} at byte {}", actual.display(), expected.display(), offset + at);
        }
        if count == 0 {
            return;
        }
        offset += count;
    }
}

/// Whether both files have the same bytes.
#[must_use]
pub fn are_same(a: &Path, b: &Path) -> bool {
    Command::new("cmp").arg("-s").args([a, b]).status().unwrap().success()
}

fn read_full(file: &mut File, buffer: &mut [u8]) -> usize {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]).unwrap() {
            0 => break,
            count => filled += count,
        }
    }
    filled
}

/// Length in bytes.
#[must_use]
pub fn length(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

/// Bytes that the filesystem has set aside for it; 0 when it does not exist.
#[must_use]
pub fn allocated(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.blocks() * 512)
}

/// Inverts the bits of one byte.
pub fn flip(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[!byte[0]], offset).unwrap();
}

/// Overwrites bytes in place.
pub fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    File::options().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

/// Copies with holes wherever there are zeros.
pub fn copy_sparse(from: &Path, to: &Path) {
    run(Command::new("cp").arg("--sparse=always").args([from, to]));
}

/// Copies without a single hole.
pub fn copy_allocated(from: &Path, to: &Path) {
    run(Command::new("cp").args(["--sparse=never", "--reflink=never"]).args([from, to]));
    assert!(allocated(to) >= length(to), "{} has holes", to.display());
}

/// The sealed packs of a repository directory, in order.
#[must_use]
pub fn packs(repository: &Path) -> Vec<PathBuf> {
    let mut packs = Vec::new();
    let Ok(directories) = fs::read_dir(repository.join("packs")) else { return packs };
    for directory in directories.map(|entry| entry.unwrap()).filter(|entry| entry.file_name() != "incoming") {
        packs.extend(fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()));
    }
    packs.sort();
    packs
}

/// Runs a command that must succeed.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
