//! What other programs say: `e2image` and `dumpe2fs` of what is allocated, the kernel (FIEMAP) of where files are, before
//! and after a filesystem was resized, filled to its last block, or torn from a running system.

#![allow(clippy::unwrap_used, clippy::panic)] // a test fails where it stands

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::Write,
    ops::ControlFlow,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use common::*;
use imprint_disks::{FileEntry, FileExtent, FileVisitor, Map, Reason, files};

/// What is free must be exactly what `dumpe2fs` says: more would lose data, less is not worth the name.
fn assert_exact(image: &Path) {
    let disk = File::open(image).unwrap();
    let layout = read(&disk);
    let map = only(&layout).content.map.as_ref();
    map.unwrap_or_else(|reason| panic!("{} is plain bytes: {reason}", image.display()));
    assert_eq!(free(&layout), dumpe2fs_free(image));
}

fn mke2fs(image: &Image, options: &[&str]) {
    run(Command::new("mke2fs").args(["-q", "-F"]).args(options).arg(&image.path));
}

/// A mounted filesystem, until it is dropped.
struct Mount(PathBuf);

impl Mount {
    /// `None` where that is not allowed.
    fn new(image: &Image) -> Option<Self> {
        let path = image.beside("mount");
        fs::create_dir_all(&path).unwrap();
        let mounted = output(Command::new("mount").args(["-o", "loop"]).arg(&image.path).arg(&path));
        if !mounted.status.success() {
            println!("skipped: no loop mounts: {}", String::from_utf8_lossy(&mounted.stderr));
            return None;
        }
        Some(Self(path))
    }

    fn sync(&self) {
        run(Command::new("sync").arg("-f").arg(&self.0));
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A process that another test is just starting still has this one's open files, and keeps the mount busy.
        let unmounted = || output(Command::new("umount").arg(&self.0)).status.success();
        let mut tries = 0;
        while !unmounted() && tries < 100 {
            thread::sleep(Duration::from_millis(100));
            tries += 1;
        }
    }
}

/// Every byte that `e2image` takes along is one that is not called free: the filesystem is made on a disk of old data, so that
/// what it leaves out shows.
#[test]
fn e2image_takes_exactly_what_is_not_free() {
    for options in [
        &["-t", "ext2", "-b", "1024"][..],
        &["-t", "ext3"],
        &["-t", "ext4"],
        &["-t", "ext4", "-b", "2048", "-O", "meta_bg,^resize_inode"],
        &["-t", "ext4", "-O", "inline_data,^64bit"],
        &["-t", "ext4", "-O", "^metadata_csum,uninit_bg"],
    ] {
        let image = Image::empty(0);
        fs::write(&image.path, vec![0xa5; 48 << 20]).unwrap();
        let content = image.beside("files");
        fs::create_dir(&content).unwrap();
        tree(&content, 6 * MIB);
        image.make_ext(&content, &[options, &["-E", "nodiscard,lazy_itable_init=0"]].concat());
        let taken = image.beside("taken");
        run(Command::new("e2image").arg("-ra").arg(&image.path).arg(&taken));
        let (disk, taken) = (image.bytes(), fs::read(&taken).unwrap());
        let free = free(&read(disk.as_slice()));
        assert!(total(&free) > 20 * MIB, "{options:?}");
        let (mut at, mut differing) = (0, 0);
        for range in free.iter().cloned().chain(std::iter::once(disk.len() as u64..disk.len() as u64)) {
            // Lost data would be here: what is free and was taken along.
            let (start, end) = (range.start as usize, range.end as usize);
            assert!(taken[start.min(taken.len())..end.min(taken.len())].iter().all(|byte| *byte == 0), "{range:?}");
            let used = at..start.min(taken.len());
            differing += disk[used.clone()].chunks(1024).zip(taken[used].chunks(1024)).filter(|(a, b)| a != b).count();
            at = end;
        }
        // What is before the superblock is nobody's; copies of the superblock and bitmaps of groups that were never used are not
        // written by mke2fs, or not taken along.
        println!("{options:?}: {differing} KiB are used and were not taken along");
        assert!(differing <= 64, "{options:?}: {differing}");
    }
}

/// Runs of a file: byte of the file, byte of the volume, length, whether it was written.
type Runs = Vec<(u64, u64, u64, bool)>;

/// What the kernel says of files, by `filefrag`, joined where runs continue each other.
fn fiemap(root: &Path) -> BTreeMap<Vec<u8>, Runs> {
    let mut paths = Vec::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                pending.push(entry.path());
            } else if kind.is_file() {
                paths.push(entry.path());
            }
        }
    }
    let mut found = BTreeMap::new();
    for some in paths.chunks(200) {
        let listing = run(Command::new("filefrag").args(["-v", "-b1024"]).args(some));
        let mut runs: Runs = Vec::new();
        let mut is_inline = false;
        for line in listing.lines() {
            if let Some((path, _)) =
                line.rsplit_once(": ").filter(|(_, rest)| rest.contains("extent") && rest.contains("found"))
            {
                let name = Path::new(path).strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
                let runs = std::mem::take(&mut runs);
                if !std::mem::take(&mut is_inline) {
                    found.insert(name, runs);
                }
                continue;
            }
            // "   0:        0..     170:       1234..      1404:    171:             last,eof"
            let fields: Vec<&str> = line.split(':').map(str::trim).collect();
            let [index, logical, physical, length, .., flags] = fields[..] else { continue };
            if index.parse::<u32>().is_err() {
                continue;
            }
            is_inline |= flags.contains("inline");
            let first = |range: &str| range.split("..").next().unwrap().trim().parse::<u64>().unwrap() << 10;
            let (logical, physical) = (first(logical), first(physical));
            let length = length.parse::<u64>().unwrap() << 10;
            let is_written = !flags.contains("unwritten");
            match runs.last_mut() {
                Some(run) if run.0 + run.2 == logical && run.1 + run.2 == physical && run.3 == is_written => {
                    run.2 += length;
                }
                _ => runs.push((logical, physical, length, is_written)),
            }
        }
    }
    found
}

#[derive(Default)]
struct Walked {
    runs: BTreeMap<Vec<u8>, Runs>,
    last: Vec<u8>,
}

impl FileVisitor for Walked {
    fn file(&mut self, file: &FileEntry<'_>) -> ControlFlow<()> {
        self.last = file.path.to_vec();
        self.runs.insert(self.last.clone(), Vec::new());
        ControlFlow::Continue(())
    }

    fn extent(&mut self, extent: &FileExtent) -> ControlFlow<()> {
        let run = (extent.offset, extent.start, extent.length, extent.is_written);
        self.runs.get_mut(&self.last).unwrap().push(run);
        ControlFlow::Continue(())
    }
}

fn walk(image: &Image) -> BTreeMap<Vec<u8>, Runs> {
    let mut walked = Walked::default();
    let disk = File::open(&image.path).unwrap();
    assert!(files(&disk, 0..u64::MAX, &mut walked).unwrap().is_continue());
    walked.runs
}

/// Leaves files in many pieces, reserved space, holes, and hardly any free block.
fn fill(mount: &Path) {
    tree(&mount.join("tree"), 6 * MIB);
    for n in (1..400).filter(|n| n % 2 == 0) {
        let _ = fs::remove_file(mount.join(format!("tree/directory-{}/{}/file {n}", n % 7, n % 3)));
    }
    output(Command::new("fallocate").args(["-l", "2MiB"]).arg(mount.join("reserved")));
    // Two files that grow in turn, until nothing is left.
    let mut both = ["one", "other"].map(|name| File::create(mount.join(name)).unwrap());
    for piece in 0u64.. {
        let file = &mut both[(piece % 2) as usize];
        let length = 4096 * (1 + piece % 9) as usize;
        if file.write_all(&noise(length, piece)).and_then(|()| file.sync_data()).is_err() {
            break;
        }
    }
}

fn assert_fiemap(image: &Image, kernel: &BTreeMap<Vec<u8>, Runs>) {
    let layout = image.layout();
    let map: &Map = only(&layout).content.map.as_ref().unwrap();
    let boundaries: BTreeSet<u64> = map.boundaries(0..u64::MAX).collect();
    let walked = walk(image);
    let free = free(&layout);
    let mut allocated = 0;
    for (path, runs) in kernel {
        let name = String::from_utf8_lossy(path);
        assert_eq!(walked.get(path), Some(runs), "{name}");
        // Runs of the disk, whatever they are in the file.
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (_, start, length, _) in runs {
            match joined.last_mut() {
                Some(last) if last.1 == *start => last.1 += length,
                _ => joined.push((*start, start + length)),
            }
            allocated += length;
            assert!(!free.iter().any(|free| free.start < start + length && *start < free.end), "{name} is called free");
        }
        for (start, end) in joined.iter().filter(|(start, end)| end - start >= OPTIONS.min_run_bytes) {
            assert!(boundaries.contains(start), "{name} begins at {start}");
            assert!(boundaries.contains(end) || *end == layout.length, "{name} ends at {end}");
        }
    }
    assert!(allocated + map.unused_bytes() <= layout.length);
    assert!(kernel.len() > 50 && allocated > 10 * MIB, "{} files, {allocated} bytes", kernel.len());
}

#[test]
fn extents_and_boundaries_are_those_of_the_kernel() {
    for options in [
        &["-t", "ext4"][..],
        &["-t", "ext4", "-b", "1024"],
        &["-t", "ext4", "-O", "inline_data"],
        &["-t", "ext4", "-O", "bigalloc"],
        &["-t", "ext4", "-O", "^extent,^64bit"],
        &["-t", "ext3", "-b", "2048"],
        &["-t", "ext2", "-b", "1024"],
    ] {
        let image = Image::empty(40 * MIB);
        mke2fs(&image, options);
        let Some(mount) = Mount::new(&image) else { return };
        fill(&mount.0);
        mount.sync();
        let kernel = fiemap(&mount.0);
        drop(mount);
        println!("{options:?}: {} files", kernel.len());
        assert_exact(&image.path);
        assert_fiemap(&image, &kernel);
        let layout = image.layout();
        let unused = only(&layout).content.map.as_ref().unwrap().unused_bytes();
        assert!(unused < 3 * MIB, "{unused} bytes are free of a full filesystem");
    }
}

#[test]
fn resized_both_ways() {
    for options in [
        &["-t", "ext4"][..],
        &["-t", "ext4", "-b", "1024"],
        &["-t", "ext4", "-O", "^resize_inode,meta_bg,^64bit"],
        &["-t", "ext4", "-O", "^resize_inode,^meta_bg"],
        &["-t", "ext4", "-O", "sparse_super2"],
        &["-t", "ext4", "-O", "bigalloc"],
        &["-t", "ext4", "-O", "^flex_bg,^metadata_csum,uninit_bg"],
        &["-t", "ext3", "-b", "1024"],
        &["-t", "ext2"],
    ] {
        println!("{options:?}");
        let image = Image::ext(48 * MIB, 8 * MIB, options);
        assert_exact(&image.path);
        File::options().write(true).open(&image.path).unwrap().set_len(400 * MIB).unwrap();
        // Behind the filesystem is nobody's, and kept.
        let layout = image.layout();
        assert!(free(&layout).last().unwrap().end <= 48 * MIB);
        for size in ["400M", "40M", "200M"] {
            run(Command::new("e2fsck").arg("-fp").arg(&image.path));
            run(Command::new("resize2fs").arg("-f").arg(&image.path).arg(size));
            let layout = image.layout();
            if let Err(reason) = &only(&layout).content.map {
                // resize2fs 1.47 counts free clusters of the last group wrongly.
                assert!(options.contains(&"bigalloc"), "plain bytes: {reason}");
                output(Command::new("e2fsck").arg("-fy").arg(&image.path));
            }
            assert_exact(&image.path);
        }
    }
}

#[test]
fn converted_to_64_bit_and_back() {
    let image = Image::ext(48 * MIB, 4 * MIB, &["-t", "ext4", "-O", "^64bit,^resize_inode"]);
    for option in ["-b", "-s"] {
        run(Command::new("e2fsck").arg("-fp").arg(&image.path));
        run(Command::new("resize2fs").arg(option).arg(&image.path));
        assert_exact(&image.path);
    }
}

/// A copy of a disk that is in use.
fn torn(image: &Image, mount: &Mount) -> Image {
    mount.sync();
    let copy = Image::empty(0);
    fs::copy(&image.path, &copy.path).unwrap();
    copy
}

#[test]
fn a_disk_copied_while_it_was_mounted_is_plain_bytes() {
    for options in [
        &["-t", "ext4"][..],
        &["-t", "ext4", "-O", "orphan_file"],
        &["-t", "ext4", "-O", "fast_commit"],
        &["-t", "ext3"],
        &["-t", "ext2"],
    ] {
        let image = Image::empty(40 * MIB);
        mke2fs(&image, options);
        let Some(mount) = Mount::new(&image) else { return };
        tree(&mount.0.join("tree"), 4 * MIB);
        let mut deleted = File::create(mount.0.join("deleted")).unwrap();
        deleted.write_all(&noise(1 << 20, 1)).unwrap();
        fs::remove_file(mount.0.join("deleted")).unwrap();
        let copy = torn(&image, &mount);
        drop(deleted);
        drop(mount);
        println!("{options:?}: {}", reason(&copy.layout()));
        assert!(matches!(reason(&copy.layout()), Reason::Unclean(_)));
        if options[1] != "ext2" {
            // The journal is empty then; counts are not right yet, and the deleted file still has its blocks.
            output(Command::new("e2fsck").args(["-y", "-E", "journal_only"]).arg(&copy.path));
            println!("{options:?}: {}", reason(&copy.layout()));
        }
        output(Command::new("e2fsck").arg("-fy").arg(&copy.path));
        assert_exact(&copy.path);
        assert_exact(&image.path);
    }
}

/// A loop device, until it is dropped.
struct Loop(String);

impl Loop {
    fn new(image: &Image) -> Option<Self> {
        let device = output(Command::new("losetup").args(["--find", "--show"]).arg(&image.path));
        device.status.success().then(|| Self(String::from_utf8(device.stdout).unwrap().trim().to_owned()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        output(Command::new("losetup").arg("--detach").arg(&self.0));
    }
}

#[test]
fn a_journal_elsewhere() {
    let (image, journal) = (Image::empty(40 * MIB), Image::empty(8 * MIB));
    mke2fs(&journal, &["-O", "journal_dev", "-b", "4096"]);
    // The journal itself is no filesystem.
    assert!(matches!(reason(&journal.layout()), Reason::UnknownFeatures { .. }));
    let Some(device) = Loop::new(&journal) else {
        println!("skipped: no loop devices");
        return;
    };
    let content = image.beside("files");
    fs::create_dir(&content).unwrap();
    tree(&content, 4 * MIB);
    image.make_ext(&content, &["-t", "ext4", "-b", "4096", "-J", &format!("device={}", device.0)]);
    assert_exact(&image.path);
}

/// 64 KiB cannot be mounted where pages are 4 KiB; whoever writes it on another machine should still be read here.
#[test]
fn blocks_of_64_kib() {
    let image = Image::empty(600 * MIB);
    let content = image.beside("files");
    fs::create_dir(&content).unwrap();
    tree(&content, 8 * MIB);
    image.make_ext(&content, &["-t", "ext4", "-b", "65536"]);
    assert_exact(&image.path);
    let walked = walk(&image);
    assert!(walked.len() > 100);
}

/// Disks of the caller's: `IMPRINT_DISKS=/path/one.raw:/path/other.raw`. They are only read.
#[test]
fn disks_of_the_caller() {
    let Ok(disks) = std::env::var("IMPRINT_DISKS") else {
        println!("skipped: IMPRINT_DISKS names none");
        return;
    };
    for path in disks.split(':') {
        let disk = File::open(path).unwrap();
        for partition in &read(&disk).partitions {
            let kind = partition.content.identity.as_ref().map_or("", |identity| identity.kind);
            let Ok(map) = &partition.content.map else { continue };
            if !kind.starts_with("ext") {
                continue;
            }
            let found: Vec<_> = map.unused(0..u64::MAX).collect();
            let expected = dumpe2fs_free(Path::new(&format!("{path}?offset={}", partition.start)));
            println!(
                "{path} {}: {} files, {} bytes in {} ranges are free, dumpe2fs says {} in {}",
                partition.number,
                map.files(),
                total(&found),
                found.len(),
                total(&expected),
                expected.len()
            );
            assert_eq!(found, expected);
        }
    }
}
