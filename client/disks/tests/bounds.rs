//! What is read, remembered and counted has bounds, whatever is on the disk.

#![allow(clippy::unwrap_used, clippy::panic)] // a test fails where it stands

mod common;

use std::{cell::Cell, fs, ops::ControlFlow, process::Command};

use common::*;
use imprint_disks::{
    FileEntry, FileExtent, FileVisitor, FilesError, Layout, MapOptions, ReadAt, ReadError, Reason, files,
};

/// How many names there are, and where the record of the first one is.
#[derive(Default)]
struct Names {
    count: usize,
    first_record: u64,
}

impl FileVisitor for Names {
    fn file(&mut self, file: &FileEntry<'_>) -> ControlFlow<()> {
        if self.count == 0 {
            self.first_record = file.record.start;
        }
        self.count += 1;
        ControlFlow::Continue(())
    }

    fn extent(&mut self, _: &FileExtent) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

fn names(disk: &(impl ReadAt + ?Sized)) -> Result<Names, FilesError> {
    let mut names = Names::default();
    assert!(files(&Borrowed(disk), 0..disk.length(), &mut names)?.is_continue());
    Ok(names)
}

fn put(disk: &mut [u8], at: usize, bytes: &[u8]) {
    disk[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Blocks that lie where bytes cannot be counted any more. It was an overflow.
#[test]
fn a_directory_at_the_end_of_all_numbers_is_refused() {
    let image = Image::ext(128 * MIB, MIB, &["-t", "ext4", "-b", "65536", "-O", "^metadata_csum,^has_journal"]);
    let mut disk = image.bytes();
    let inode = names(&disk[..]).unwrap().first_record as usize;
    assert_eq!(disk[inode + 0x28..inode + 0x2a], [0x0a, 0xf3], "the root has extents");
    // Two blocks, each of an extent of its own at block 2^48 - 1.
    put(&mut disk, inode + 4, &(2u32 << 16).to_le_bytes());
    put(&mut disk, inode + 0x2a, &2u16.to_le_bytes());
    for (number, entry) in [(0u32, inode + 0x34), (1, inode + 0x40)] {
        put(&mut disk, entry, &number.to_le_bytes());
        put(&mut disk, entry + 4, &1u16.to_le_bytes());
        put(&mut disk, entry + 6, &[0xff; 6]);
    }
    match names(&disk[..]) {
        Err(FilesError::Refused(reason)) => assert_eq!(reason.to_string(), "a block of a file is beyond the end"),
        other => panic!("{:?}", other.map(|names| names.count)),
    }
}

/// A disk, and how much of it was read.
struct Metered {
    disk: Vec<u8>,
    bytes: Cell<u64>,
}

impl ReadAt for Metered {
    fn length(&self) -> u64 {
        self.disk.len() as u64
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.bytes.set(self.bytes.get() + buf.len() as u64);
        self.disk.read_exact_at(buf, offset)
    }
}

/// The root directory of FAT16 may be as long as much of the filesystem, and all of it directories.
#[test]
fn a_root_full_of_directories_is_not_read_again_for_each_of_them() {
    let image = Image::empty(16 * MIB);
    let root = image.beside("files");
    for n in 0..2000 {
        fs::create_dir_all(root.join(format!("{n}"))).unwrap();
    }
    image.make_fat(&root, &["-F", "16", "-s", "1", "-r", "4096"]);
    let metered = Metered { disk: image.bytes(), bytes: Cell::new(0) };
    assert_eq!(names(&metered).unwrap().count, 2001);
    assert!(metered.bytes.get() < 8 * MIB, "{} bytes read", metered.bytes.get());
}

fn layout(disk: &[u8], max_memory_bytes: u64) -> Result<Layout, ReadError> {
    Layout::read(&Borrowed(disk), 512, &MapOptions { max_memory_bytes, ..OPTIONS })
}

/// The least memory that a filesystem's map is made in.
fn least_memory(disk: &[u8]) -> u64 {
    let has_map = |bytes: u64| only(&layout(disk, bytes).unwrap()).content.map.is_ok();
    let (mut too_few, mut enough) = (0, 1 << 20);
    assert!(has_map(enough) && !has_map(too_few));
    while enough - too_few > 1 {
        let middle = too_few.midpoint(enough);
        if has_map(middle) { enough = middle } else { too_few = middle }
    }
    enough
}

/// The memory is the disk's, whatever number of partitions it says it has.
#[test]
fn maps_of_one_disk_share_its_memory() {
    let ext = Image::ext(16 * MIB, 4 * MIB, &["-t", "ext4", "-b", "1024"]);
    let fat = Image::fat(16 * MIB, 4 * MIB, &["-F", "16"]);
    for image in [ext, fat] {
        let filesystem = image.bytes();
        let one = least_memory(&filesystem);
        let path = image.beside("table.raw");
        fs::write(&path, vec![0; 34 << 20]).unwrap();
        run_with(
            Command::new("sfdisk").arg("-q").arg(&path),
            "label: dos\nstart=1MiB, size=16MiB\nstart=17MiB, size=16MiB\n",
        );
        let mut disk = fs::read(&path).unwrap();
        for start in [1 << 20, 17 << 20] {
            put(&mut disk, start, &filesystem);
        }
        let [few, many] = [one, 2 * one].map(|bytes| layout(&disk, bytes).unwrap());
        assert!(few.partitions[0].content.map.is_ok());
        match &few.partitions[1].content.map {
            Err(reason @ Reason::TooLarge { .. }) => assert!(reason.to_string().contains("memory"), "{reason}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(few.partitions[1].content.identity, many.partitions[1].content.identity);
        assert!(many.partitions.iter().all(|partition| partition.content.map.is_ok()));
    }
}
