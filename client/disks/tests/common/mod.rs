//! Real disks and filesystems, made by the system's own tools, and what those tools say of them.
#![allow(dead_code, unreachable_pub, missing_docs)] // part of each test binary, which uses a part of it

use std::{
    fs::{self, File},
    io::Write,
    ops::Range,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use imprint_disks::{Layout, MapOptions, Partition, ReadAt, Reason};
use tempfile::TempDir;

pub const MIB: u64 = 1 << 20;
pub const OPTIONS: MapOptions = MapOptions::new(16 << 10);

/// Runs a tool; it must succeed. Returns what it wrote.
pub fn run(command: &mut Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub fn output(command: &mut Command) -> Output {
    let path = format!("{}:/sbin:/usr/sbin", std::env::var("PATH").unwrap());
    command.env("PATH", path).env("LC_ALL", "C.UTF-8").env("TZ", "UTC").env("MTOOLS_SKIP_CHECK", "1").output().unwrap()
}

/// Gives a tool its input.
pub fn run_with(command: &mut Command, input: &str) {
    let path = format!("{}:/sbin:/usr/sbin", std::env::var("PATH").unwrap());
    let mut child = command.env("PATH", path).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{command:?}");
}

/// Bytes that look random (xorshift).
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A directory with files of many sizes, links, holes, and names of all lengths.
pub fn tree(root: &Path, bytes: u64) {
    let mut total = 0;
    let mut seed = 1;
    while total < bytes {
        let directory = root.join(format!("directory-{}", seed % 7)).join(format!("{}", seed % 3));
        fs::create_dir_all(&directory).unwrap();
        let length = match seed % 23 {
            0 => 700_000,
            1 => 70_000,
            2 => 16_384,
            3 => 0,
            n => n * 611,
        };
        fs::write(directory.join(format!("file {seed}")), noise(length as usize, seed)).unwrap();
        total += length;
        seed += 1;
    }
    let links = root.join("links");
    fs::create_dir(&links).unwrap();
    std::os::unix::fs::symlink("../directory-1", links.join("short")).unwrap();
    std::os::unix::fs::symlink("long".repeat(60), links.join("long")).unwrap();
    fs::hard_link(root.join("directory-1/1/file 1"), links.join("hard")).unwrap();
    let sparse = File::create(root.join("sparse")).unwrap();
    for n in 0..40 {
        std::os::unix::fs::FileExt::write_all_at(&sparse, &noise(5000, n), n * 200_000).unwrap();
    }
}

/// A filesystem in a file of its own.
pub struct Image {
    pub path: PathBuf,
    directory: TempDir,
}

impl Image {
    pub fn empty(length: u64) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("disk.raw");
        File::create(&path).unwrap().set_len(length).unwrap();
        Self { path, directory }
    }

    /// Made by `mke2fs`, with a tree of files that fills so many bytes.
    pub fn ext(length: u64, content: u64, options: &[&str]) -> Self {
        let image = Self::empty(length);
        let files = image.directory.path().join("files");
        fs::create_dir(&files).unwrap();
        tree(&files, content);
        image.make_ext(&files, options);
        fs::remove_dir_all(&files).unwrap();
        image
    }

    /// Runs `mke2fs` with the files of a directory.
    pub fn make_ext(&self, files: &Path, options: &[&str]) {
        run(Command::new("mke2fs").args(["-q", "-F"]).args(options).arg("-d").arg(files).arg(&self.path));
    }

    /// Made by `mkfs.fat`, filled by mtools.
    pub fn fat(length: u64, content: u64, options: &[&str]) -> Self {
        let image = Self::empty(length);
        let files = image.directory.path().join("files");
        fs::create_dir(&files).unwrap();
        tree(&files, content);
        // No links there, and holes are written out.
        fs::remove_dir_all(files.join("links")).unwrap();
        fs::remove_file(files.join("sparse")).unwrap();
        image.make_fat(&files, options);
        fs::remove_dir_all(&files).unwrap();
        image
    }

    /// Runs `mkfs.fat`, and copies the files of a directory.
    pub fn make_fat(&self, files: &Path, options: &[&str]) {
        run(Command::new("mkfs.fat").args(options).arg(&self.path));
        let mut copy = Command::new("mcopy");
        copy.args(["-s", "-Q", "-m", "-i"]).arg(&self.path);
        for entry in fs::read_dir(files).unwrap() {
            copy.arg(entry.unwrap().path());
        }
        run(copy.arg("::/"));
    }

    pub fn bytes(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap()
    }

    /// Runs commands of `debugfs` that change the filesystem.
    pub fn debugfs(&self, commands: &str) {
        let script = self.directory.path().join("script");
        fs::write(&script, commands).unwrap();
        run(Command::new("debugfs").arg("-w").arg("-f").arg(&script).arg(&self.path));
    }

    /// A file beside the image.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn layout(&self) -> Layout {
        read(self.bytes().as_slice())
    }
}

/// A disk that belongs to somebody else.
pub struct Borrowed<'a, T: ?Sized>(pub &'a T);

impl<T: ReadAt + ?Sized> ReadAt for Borrowed<'_, T> {
    fn length(&self) -> u64 {
        self.0.length()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }
}

pub fn read(disk: &(impl ReadAt + ?Sized)) -> Layout {
    Layout::read(&Borrowed(disk), 512, &OPTIONS).unwrap()
}

/// The only partition, or the whole disk.
pub fn only(layout: &Layout) -> &Partition {
    assert_eq!(layout.partitions.len(), 1, "{:?}", layout.plain);
    &layout.partitions[0]
}

pub fn reason(layout: &Layout) -> Reason {
    match &only(layout).content.map {
        Ok(_) => panic!("it has a map"),
        Err(reason) => reason.clone(),
    }
}

/// Ranges of bytes of the whole disk that the maps call free.
pub fn free(layout: &Layout) -> Vec<Range<u64>> {
    let of = |partition: &Partition| match &partition.content.map {
        Ok(map) => {
            map.unused(0..partition.length).map(|r| partition.start + r.start..partition.start + r.end).collect()
        }
        Err(_) => Vec::new(),
    };
    layout.partitions.iter().flat_map(of).collect()
}

/// Ranges of bytes that `dumpe2fs` calls free.
pub fn dumpe2fs_free(image: &Path) -> Vec<Range<u64>> {
    let listing = run(Command::new("dumpe2fs").arg(image));
    let field = |name| listing.lines().find_map(|line: &str| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    let size = field("Block size:").unwrap();
    // With bigalloc the last block that is listed is the first of its cluster.
    let cluster = field("Cluster size:").unwrap_or(size);
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for list in listing.lines().filter_map(|line| line.strip_prefix("  Free blocks: ")) {
        for part in list.split(", ").filter(|part| !part.trim().is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.trim().parse::<u64>().unwrap(), last.trim().parse::<u64>().unwrap());
            match ranges.last_mut() {
                Some(before) if before.end == first * size => before.end = last * size + cluster,
                _ => ranges.push(first * size..last * size + cluster),
            }
        }
    }
    ranges
}

pub fn total(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

/// The first byte of `inner` that is not in `outer`; both ascending.
pub fn outside(inner: &[Range<u64>], outer: &[Range<u64>]) -> Option<u64> {
    let mut outer = outer.iter().peekable();
    for range in inner {
        let mut at = range.start;
        while at < range.end {
            while outer.next_if(|other| other.end <= at).is_some() {}
            match outer.peek() {
                Some(other) if other.start <= at => at = other.end,
                _ => return Some(at),
            }
        }
    }
    None
}

/// A disk with other bytes in one place.
pub struct Damaged<'a> {
    pub disk: &'a [u8],
    pub at: u64,
    pub bytes: Vec<u8>,
}

impl ReadAt for Damaged<'_> {
    fn length(&self) -> u64 {
        self.disk.len() as u64
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.disk.read_exact_at(buf, offset)?;
        let (start, end) = (offset.max(self.at), (offset + buf.len() as u64).min(self.at + self.bytes.len() as u64));
        if start < end {
            buf[(start - offset) as usize..(end - offset) as usize]
                .copy_from_slice(&self.bytes[(start - self.at) as usize..(end - self.at) as usize]);
        }
        Ok(())
    }
}

/// A disk with other bytes in several places; the last one counts.
#[derive(Clone)]
pub struct Patched<'a> {
    disk: &'a [u8],
    patches: Vec<(u64, Vec<u8>)>,
}

impl<'a> Patched<'a> {
    pub fn new(disk: &'a [u8]) -> Self {
        Self { disk, patches: Vec::new() }
    }

    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        self.patches.push((at as u64, bytes.to_vec()));
    }

    pub fn get<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        self.read_exact_at(&mut bytes, at as u64).unwrap();
        bytes
    }
}

impl ReadAt for Patched<'_> {
    fn length(&self) -> u64 {
        self.disk.len() as u64
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.disk.read_exact_at(buf, offset)?;
        for (at, bytes) in &self.patches {
            let (start, end) = (offset.max(*at), (offset + buf.len() as u64).min(at + bytes.len() as u64));
            if start < end {
                buf[(start - offset) as usize..(end - offset) as usize]
                    .copy_from_slice(&bytes[(start - at) as usize..(end - at) as usize]);
            }
        }
        Ok(())
    }
}
