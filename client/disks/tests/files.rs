//! Names and extents of files, against the files that were put there and against the kernel.

#![allow(clippy::unwrap_used, clippy::panic)] // a test fails where it stands

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    ops::ControlFlow,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{FileExt, MetadataExt},
    },
    path::{Path, PathBuf},
    process::Command,
};

use common::*;
use imprint_disks::{FileEntry, FileExtent, FileKind, FileVisitor, FilesError, Reason, files};

/// One name as it was visited.
#[derive(Debug, Clone)]
struct Seen {
    kind: FileKind,
    length: u64,
    modified_seconds: i64,
    id: u64,
    is_encrypted: bool,
    extents: Vec<FileExtent>,
}

/// Everything, by path; the root is empty.
#[derive(Default)]
struct Collector {
    seen: BTreeMap<Vec<u8>, Seen>,
    last: Vec<u8>,
    /// Ends the walk after so many names.
    stop_after: Option<usize>,
}

impl FileVisitor for Collector {
    fn file(&mut self, file: &FileEntry<'_>) -> ControlFlow<()> {
        let seen = Seen {
            kind: file.kind,
            length: file.length,
            modified_seconds: file.modified_seconds,
            id: file.id,
            is_encrypted: file.is_encrypted,
            extents: Vec::new(),
        };
        self.last = file.path.to_vec();
        assert!(self.seen.insert(self.last.clone(), seen).is_none(), "{:?} comes twice", file.path);
        if Some(self.seen.len()) == self.stop_after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn extent(&mut self, extent: &FileExtent) -> ControlFlow<()> {
        let extents = &mut self.seen.get_mut(&self.last).unwrap().extents;
        assert!(extents.last().is_none_or(|last| last.offset + last.length <= extent.offset), "{extent:?}");
        extents.push(*extent);
        ControlFlow::Continue(())
    }
}

fn walk(disk: &[u8]) -> Result<BTreeMap<Vec<u8>, Seen>, FilesError> {
    let mut collector = Collector::default();
    let _ = files(&Borrowed(disk), 0..disk.len() as u64, &mut collector)?;
    Ok(collector.seen)
}

fn refusal(disk: &[u8]) -> String {
    match walk(disk) {
        Err(FilesError::Refused(reason)) => reason.to_string(),
        other => panic!("{:?}", other.map(|seen| seen.len())),
    }
}

/// What the extents of a file say its content is.
fn content(disk: &[u8], seen: &Seen) -> Vec<u8> {
    let mut content = vec![0; seen.length as usize];
    for extent in seen.extents.iter().filter(|extent| extent.is_written && extent.offset < seen.length) {
        let length = extent.length.min(seen.length - extent.offset) as usize;
        let (to, from) = (extent.offset as usize, extent.start as usize);
        content[to..to + length].copy_from_slice(&disk[from..from + length]);
    }
    content
}

/// Paths below a directory, without it.
fn paths(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.symlink_metadata().unwrap().is_dir() {
                pending.push(path.clone());
            }
            found.push(path);
        }
    }
    found
}

/// Compares names, kinds, times and every byte with a directory of the system.
fn assert_same(disk: &[u8], root: &Path, time_slack: i64) {
    let seen = walk(disk).unwrap();
    let mut expected = BTreeSet::from([Vec::new()]);
    for path in paths(root) {
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
        let found = seen.get(&name).unwrap_or_else(|| panic!("{} was not visited", path.display()));
        let metadata = path.symlink_metadata().unwrap();
        if metadata.is_file() {
            assert_eq!(found.kind, FileKind::File);
            assert_eq!(found.length, metadata.len(), "{}", path.display());
            assert!(content(disk, found) == fs::read(&path).unwrap(), "{}", path.display());
            assert!((found.modified_seconds - metadata.mtime()).abs() <= time_slack, "{}", path.display());
        } else if metadata.is_symlink() {
            assert_eq!(found.kind, FileKind::Link);
            assert_eq!(content(disk, found), fs::read_link(&path).unwrap().into_os_string().into_vec());
        } else {
            let kind = if metadata.is_dir() { FileKind::Directory } else { FileKind::Other };
            assert_eq!(found.kind, kind);
        }
        expected.insert(name);
    }
    let more: Vec<_> =
        seen.keys().filter(|name| !expected.contains(*name) && name.as_slice() != b"lost+found").collect();
    assert!(more.is_empty(), "{more:?}");
}

/// Names of all kinds, on top of [`tree`].
fn strange_names(root: &Path, crowd: u32) {
    let long = "n".repeat(255);
    for name in [long.as_str(), "new\nline", "-rf", "…", "ünïcode", "...", "a b  c"] {
        fs::write(root.join(name), name).unwrap();
    }
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"\xff\xfe")), "no text").unwrap();
    let mut deep = root.to_path_buf();
    for level in 0..60 {
        deep.push(format!("level {level}"));
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("below"), "deep").unwrap();
    let crowded = root.join("crowded");
    fs::create_dir(&crowded).unwrap();
    for n in 0..crowd {
        fs::write(crowded.join(format!("one of many {n}")), n.to_string()).unwrap();
    }
    run(Command::new("mkfifo").arg(root.join("pipe")));
}

#[test]
fn every_byte_of_every_file_of_ext() {
    let matrix: &[&[&str]] = &[
        &["-t", "ext2", "-b", "1024"],
        &["-t", "ext2", "-b", "2048", "-I", "128"],
        &["-t", "ext3"],
        &["-t", "ext4"],
        &["-t", "ext4", "-b", "1024", "-O", "^64bit"],
        &["-t", "ext4", "-O", "^extent,^64bit,^metadata_csum"],
        &["-t", "ext4", "-O", "bigalloc"],
        &["-t", "ext4", "-O", "inline_data", "-I", "1024"],
        &["-t", "ext4", "-O", "inline_data", "-b", "1024"],
        &["-t", "ext4", "-O", "metadata_csum_seed,ea_inode,large_dir,casefold,encrypt,verity"],
    ];
    for options in matrix {
        println!("{options:?}");
        let image = Image::empty(64 * MIB);
        let files = image.beside("files");
        fs::create_dir(&files).unwrap();
        tree(&files, 8 * MIB);
        strange_names(&files, 300);
        image.make_ext(&files, &[*options, &["-N", "4000"]].concat());
        let disk = image.bytes();
        assert_same(&disk, &files, 0);
        let seen = walk(&disk).unwrap();
        let id = |path: &[u8]| seen[path].id;
        assert_eq!(id(b"links/hard"), id(b"directory-1/1/file 1"));
        assert_ne!(id(b"links/hard"), id(b"links/long"));
        // As many as the map counts, and the root.
        let ids: BTreeSet<u64> = seen.values().map(|seen| seen.id).collect();
        assert_eq!(only(&image.layout()).content.map.as_ref().unwrap().files(), ids.len() as u64 - 1);
    }
}

#[test]
fn every_byte_of_every_file_of_fat() {
    for (mib, options) in [
        (16, &["-F", "12", "-s", "16", "-r", "512"][..]),
        (40, &["-F", "16", "-r", "512"]),
        (64, &["-F", "32"]),
        (64, &["-F", "32", "-s", "1"]),
    ] {
        println!("{options:?}");
        let image = Image::empty(mib * MIB);
        let files = image.beside("files");
        fs::create_dir(&files).unwrap();
        tree(&files, 4 * MIB);
        fs::remove_dir_all(files.join("links")).unwrap();
        for name in [
            "SHORT.TXT",
            "lower.txt",
            "Mixed.Txt",
            "a name of more than thirteen",
            "ünïcode in a long name",
            "日本語",
            "dots.a.b",
            "empty",
        ] {
            fs::write(files.join(name), name).unwrap();
        }
        fs::write(files.join("nothing"), "").unwrap();
        fs::create_dir_all(files.join("a/b/c")).unwrap();
        let crowded = files.join("crowded");
        fs::create_dir(&crowded).unwrap();
        for n in 0..300 {
            fs::write(crowded.join(format!("one of many {n}")), n.to_string()).unwrap();
        }
        image.make_fat(&files, options);
        // Two seconds are the smallest step; time zones are whole hours away from each other.
        assert_same(&image.bytes(), &files, 2);
    }
}

#[test]
fn a_visitor_can_end_the_walk() {
    let image = Image::ext(32 * MIB, 2 * MIB, &["-t", "ext4"]);
    let mut collector = Collector { stop_after: Some(7), ..Collector::default() };
    let disk = File::open(&image.path).unwrap();
    assert!(files(&disk, 0..32 * MIB, &mut collector).unwrap().is_break());
    assert_eq!(collector.seen.len(), 7);
}

#[test]
fn a_partition_is_walked_in_its_own_offsets() {
    let image = Image::ext(32 * MIB, 2 * MIB, &["-t", "ext4"]);
    let mut disk = vec![0; MIB as usize];
    disk.extend(image.bytes());
    let path = image.beside("disk");
    fs::write(&path, &disk).unwrap();
    let mut collector = Collector::default();
    assert!(files(&File::open(&path).unwrap(), MIB..33 * MIB, &mut collector).unwrap().is_continue());
    let alone = walk(&image.bytes()).unwrap();
    assert_eq!(collector.seen[&b"sparse"[..]].extents, alone[&b"sparse"[..]].extents);
}

#[test]
fn encrypted_names_are_given_as_digits() {
    let image = Image::ext(32 * MIB, MIB, &["-t", "ext4", "-O", "encrypt,^metadata_csum"]);
    image.debugfs("sif directory-1 flags 0x80800\n");
    let seen = walk(&image.bytes()).unwrap();
    // A byte that would be refused in any other name.
    let hex: String = "1".bytes().map(|byte| format!("{byte:02x}")).collect();
    let below = seen[format!("directory-1/{hex}/file 1").as_bytes()].clone();
    assert!(below.is_encrypted);
    assert!(!seen[&b"directory-1"[..]].is_encrypted && !seen[&b"directory-2"[..]].is_encrypted);
}

/// A disk changed by `debugfs`, or by a patch of its bytes.
fn changed(commands: &str) -> Vec<u8> {
    let image = Image::ext(32 * MIB, MIB, &["-t", "ext2", "-b", "1024"]);
    image.debugfs(commands);
    image.bytes()
}

#[test]
fn what_is_no_tree_is_refused() {
    assert_eq!(refusal(&changed("ln directory-1 directory-2/again\n")), "a directory has two names");
    assert_eq!(refusal(&changed("ln directory-1 directory-1/loop\n")), "a directory has two names");
    assert_eq!(refusal(&changed("ln / directory-1/loop\n")), "a directory has two names");
    assert_eq!(refusal(&changed("sif sparse links_count 0\n")), "a name is of no file");
    assert_eq!(refusal(&changed("clri sparse\n")), "a name is of no file");
    assert_eq!(refusal(&changed("sif <2> mode 0100644\n")), "root directory is none");
    let mut disk = changed("ln sparse alias-of-sparse\n");
    let at = disk.windows(15).position(|window| window == b"alias-of-sparse").unwrap() - 8;
    disk[at..at + 4].copy_from_slice(&4_000_000u32.to_le_bytes());
    assert_eq!(refusal(&disk), "an inode is beyond the end");
    disk[at..at + 4].copy_from_slice(&3000u32.to_le_bytes());
    assert_eq!(refusal(&disk), "a name is of no file");
}

/// What is behind its end would be half a block. Found by `fuzz.rs`: it was a panic where blocks have checksums.
#[test]
fn a_directory_of_half_a_block_is_refused() {
    for options in [&["-t", "ext2"][..], &["-t", "ext4"]] {
        let image = Image::ext(32 * MIB, MIB, options);
        for size in [1, 9, 1000] {
            image.debugfs(&format!("sif directory-1 size {size}\n"));
            assert_eq!(refusal(&image.bytes()), "a directory is no whole number of blocks");
        }
    }
}

/// Gives the entry of a file another name of this length.
fn renamed(from: &[u8], to: &[u8]) -> Vec<u8> {
    let image = Image::empty(8 * MIB);
    let files = image.beside("files");
    fs::create_dir(&files).unwrap();
    fs::write(files.join(std::ffi::OsStr::from_bytes(from)), "x").unwrap();
    fs::create_dir(files.join("directory")).unwrap();
    image.make_ext(&files, &["-t", "ext2"]);
    let mut disk = image.bytes();
    // With its length and kind, or a short name is also found in the filesystem's random UUID.
    let entry = [&[from.len() as u8, 1], from].concat();
    let at = disk.windows(entry.len()).position(|window| window == entry).unwrap() + 2;
    disk[at..at + to.len()].copy_from_slice(to);
    disk
}

#[test]
fn hostile_names_are_refused() {
    let name = b"innocent";
    for hostile in [&b"inno/ent"[..], b"../cent/", b"inno\0ent", b"/nnocent"] {
        assert_eq!(refusal(&renamed(name, hostile)), "a name is impossible", "{hostile:?}");
    }
    assert!(walk(&renamed(name, b"inno\xffent")).is_ok());
    // What leads elsewhere while it says that it is the directory itself, or its parent.
    assert_eq!(refusal(&renamed(b"z", b".")), "a directory is not itself");
    assert_eq!(refusal(&renamed(b"zz", b"..")), "a directory has another parent");
}

#[test]
fn an_unclean_filesystem_has_no_names() {
    let image = Image::ext(32 * MIB, MIB, &["-t", "ext4"]);
    image.debugfs("feature needs_recovery\n");
    assert!(matches!(walk(&image.bytes()), Err(FilesError::Refused(Reason::Unclean(_)))));
    assert!(matches!(walk(&vec![0; 1 << 20]), Err(FilesError::Refused(Reason::NoFilesystem))));
}

/// A directory whose block is damaged is noticed where there are checksums.
#[test]
fn a_damaged_directory_is_refused() {
    let image = Image::ext(32 * MIB, MIB, &["-t", "ext4"]);
    let mut disk = image.bytes();
    let block = walk(&disk).unwrap()[&b"directory-1"[..]].extents[0].start as usize;
    disk[block + 2000] ^= 1;
    assert!(refusal(&disk).starts_with("checksum of directory"));
}

#[test]
fn fat_chains_that_meet_or_loop_are_refused() {
    let image = Image::fat(16 * MIB, 2 * MIB, &["-F", "16", "-f", "1"]);
    let disk = image.bytes();
    let seen = walk(&disk).unwrap();
    let clusters = |path: &str| seen[path.as_bytes()].extents[0];
    let (one, other) = (clusters("directory-1/1/file 1"), clusters("directory-4/1/file 4"));
    let data = walk(&disk).unwrap()[&b""[..]].extents[0];
    let first = data.start + data.length;
    let cluster_bytes = u64::from(disk[0xd]) * 512;
    let number = |start: u64| ((start - first) / cluster_bytes + 2) as u16;
    let table = field16(&disk, 0xe) as usize * 512;
    let link = |from: u64, to: u16| {
        let mut disk = disk.clone();
        let at = table + 2 * usize::from(number(from));
        disk[at..at + 2].copy_from_slice(&to.to_le_bytes());
        disk
    };
    assert_eq!(refusal(&link(one.start, number(other.start))), "a cluster has two owners");
    assert_eq!(refusal(&link(one.start, number(one.start))), "a cluster has two owners");
    assert_eq!(refusal(&link(one.start, 0)), "a file has a cluster that is free");
}

fn field16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn write_scattered(path: &Path) {
    let file = File::create(path).unwrap();
    for n in 0..200u64 {
        file.write_all_at(&noise(3000, n), n * 1_000_003).unwrap();
    }
}

/// Hash trees, holes, reserved space, long files: as the kernel writes them.
#[test]
fn what_the_kernel_writes() {
    for options in [
        &["-t", "ext4", "-b", "1024"][..],
        &["-t", "ext4", "-O", "inline_data"],
        &["-t", "ext4", "-O", "bigalloc"],
        &["-t", "ext3", "-b", "1024"],
        &["-t", "ext2"],
    ] {
        let image = Image::empty(200 * MIB);
        run(Command::new("mke2fs").args(["-q", "-F", "-N", "12000"]).args(options).arg(&image.path));
        let mount = image.beside("mount");
        fs::create_dir(&mount).unwrap();
        if !output(Command::new("mount").args(["-o", "loop"]).arg(&image.path).arg(&mount)).status.success() {
            println!("skipped: loop devices cannot be mounted here");
            return;
        }
        tree(&mount, 10 * MIB);
        strange_names(&mount, 1500);
        for n in 0..1200 {
            fs::remove_file(mount.join(format!("crowded/one of many {n}"))).unwrap();
        }
        write_scattered(&mount.join("long"));
        output(Command::new("fallocate").args(["-l", "3MiB"]).arg(mount.join("reserved")));
        let copy = image.beside("copy");
        run(Command::new("cp").args(["-a", "--sparse=always"]).arg(&mount).arg(&copy));
        run(Command::new("umount").arg(&mount));
        println!("{options:?}");
        let _ = fs::remove_dir(copy.join("lost+found"));
        assert_same(&image.bytes(), &copy, 0);
    }
}
