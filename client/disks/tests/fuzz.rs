//! Any bytes, in each structure of a disk: no panic, no end that is not reached, no memory that the disk is not worth.
//!
//! Each target has disks made by the system's tools, and places on them. The input says which bytes change there; where a
//! structure has a checksum, half of the inputs have it made right again, so that what is behind it is reached. Then layout,
//! maps and files are read. `IMPRINT_FUZZ_SECONDS` says for how long each target runs; `cargo bolero test -p imprint-disks
//! TARGET` looks for new paths with coverage. What is found becomes a test with a name in `damage.rs` or `files.rs`.

#![allow(clippy::unwrap_used, clippy::panic)] // a test fails where it stands

#[path = "common/allocations.rs"]
mod allocations;
mod common;
#[path = "common/mended.rs"]
mod mended;

use std::{
    cell::Cell,
    env, fs, io,
    ops::{ControlFlow, Range},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use allocations::{Counting, peak_of};
use common::*;
use imprint_disks::{FileEntry, FileExtent, FileVisitor, Layout, ReadAt, files};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Most memory for a disk: some times its length, and what a table of partitions and windows of inodes take.
const MEMORY_TIMES: usize = 4;
const MEMORY_BYTES: usize = 4 << 20;
/// Most bytes read, in times of the length: directories and trees may be read up to 16 times for each of their names.
const READ_TIMES: u64 = 64;
const READ_BYTES: u64 = 16 << 20;

fn fuzz_time() -> Duration {
    let seconds = env::var("IMPRINT_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or(0.5))
}

/// A disk that notices when it is read without end.
struct Watched<'a> {
    disk: &'a [u8],
    left: Cell<u64>,
}

impl ReadAt for Watched<'_> {
    fn length(&self) -> u64 {
        self.disk.len() as u64
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        // Small reads are no cheaper than some bytes.
        let cost = buf.len().max(64) as u64;
        self.left.set(self.left.get().checked_sub(cost).expect("reading comes to an end"));
        self.disk.read_exact_at(buf, offset)
    }
}

struct Visitor(u64);

impl FileVisitor for Visitor {
    fn file(&mut self, _: &FileEntry<'_>) -> ControlFlow<()> {
        self.0 += 1;
        ControlFlow::Continue(())
    }

    fn extent(&mut self, _: &FileExtent) -> ControlFlow<()> {
        self.0 += 1;
        ControlFlow::Continue(())
    }
}

/// Reads everything there is to read. Returns whether there is a map, and how many names and extents.
fn assert_bounded(disk: &[u8]) -> (bool, u64) {
    let watched = Watched { disk, left: Cell::new(READ_BYTES + READ_TIMES * disk.len() as u64) };
    let ((has_map, visited), peak) = peak_of(|| {
        let layout = Layout::read(&watched, 512, &OPTIONS).unwrap();
        let mut has_map = false;
        for partition in &layout.partitions {
            if let Ok(map) = &partition.content.map {
                has_map = true;
                let within = 0..partition.length;
                let unused: u64 = map.unused(within.clone()).map(|range| range.end - range.start).sum();
                assert!(unused <= partition.length && unused == map.unused_bytes());
                assert!(map.boundaries(within).count() as u64 <= map.boundary_count());
            }
        }
        let mut visitor = Visitor(0);
        let _ = files(&watched, 0..u64::MAX, &mut visitor);
        for partition in &layout.partitions {
            let _ = files(&watched, partition.start..partition.start + partition.length, &mut visitor);
        }
        (has_map, visitor.0)
    });
    let allowed = MEMORY_BYTES + MEMORY_TIMES * disk.len();
    assert!(peak <= allowed, "{} bytes of disk took {peak} bytes of memory", disk.len());
    (has_map, visited)
}

/// A disk, and where its structures are.
struct Sample {
    disk: Vec<u8>,
    places: Vec<Range<usize>>,
}

impl Sample {
    /// The disk with what an input says: how checksums are treated, and then bytes at places.
    fn edited(&self, input: &[u8]) -> Option<Vec<u8>> {
        let (how, edits) = input.split_first()?;
        let mut disk = self.disk.clone();
        let length: usize = self.places.iter().map(Range::len).sum();
        for edit in edits.chunks_exact(4).take(64) {
            let mut at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) * 61 % length.max(1);
            for place in &self.places {
                if at < place.len() {
                    // Mostly one byte; sometimes the values over which programs stumble.
                    let (value, bytes) = match edit[3] % 8 {
                        0 => (u64::MAX, 4),
                        1 => (0, 4),
                        2 => (u64::from(edit[2]), 4),
                        3 => (1 << (edit[2] % 32), 4),
                        _ => (u64::from(edit[2]), 1),
                    };
                    let end = (place.start + at + bytes).min(place.end);
                    let from = place.start + at;
                    disk[from..end].copy_from_slice(&value.to_le_bytes()[..end - from]);
                    break;
                }
                at -= place.len();
            }
        }
        if how % 2 == 0 {
            mended::mend(&mut disk);
        }
        Some(disk)
    }
}

/// Structures of an ext filesystem, as `debugfs` and `dumpe2fs` say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Superblock,
    Descriptors,
    Bitmaps,
    Inodes,
    /// Blocks of extents or numbers, of directories, and whatever else is no file's data.
    Blocks,
}

const KIB: usize = 1024;

/// A single one.
fn place(range: Range<usize>) -> Vec<Range<usize>> {
    Vec::from([range])
}

fn ext(part: Part, options: &[&str]) -> Sample {
    let image = Image::empty(512 << 10);
    let content = image.beside("files");
    fs::create_dir_all(content.join("directory/below")).unwrap();
    for n in 0..40 {
        fs::write(content.join(format!("directory/a longer name {n}")), noise(n * 13, n as u64)).unwrap();
    }
    fs::write(content.join("long"), noise(90_000, 1)).unwrap();
    std::os::unix::fs::symlink("long".repeat(30), content.join("link")).unwrap();
    // Every other block has data, so that it takes a tree to say where they are.
    let mut scattered = vec![0; 60_000];
    scattered.chunks_mut(2048).for_each(|chunk| chunk[0] = 1);
    fs::write(content.join("scattered"), &scattered).unwrap();
    image.make_ext(&content, &[&["-b", "1024", "-N", "64"], options].concat());
    let disk = image.bytes();
    let listing = run(Command::new("dumpe2fs").arg(&image.path));
    let places = ext_places(&image, &listing, part);
    assert!(only(&image.layout()).content.map.is_ok(), "{:?}", only(&image.layout()).content.map);
    Sample { disk, places }
}

fn ext_places(image: &Image, listing: &str, part: Part) -> Vec<Range<usize>> {
    let block = |text: &str| text.trim().trim_end_matches(|end: char| !end.is_ascii_digit()).parse::<usize>().ok();
    let after = |line: &str, what: &str| block(line.split(what).nth(1)?.split([' ', ',', '-', '(']).next()?);
    let blocks = |at: usize, count: usize| at * KIB..(at + count) * KIB;
    let found = match part {
        Part::Superblock => place(KIB..2 * KIB),
        Part::Descriptors => place(2 * KIB..2 * KIB + 64),
        Part::Bitmaps => {
            let of = |what| listing.lines().filter_map(|line| after(line, what)).collect::<Vec<_>>();
            [of("Block bitmap at "), of("Inode bitmap at ")].concat().into_iter().map(|at| blocks(at, 1)).collect()
        }
        Part::Inodes => {
            let tables = listing.lines().filter_map(|line| after(line, "Inode table at "));
            tables.map(|at| blocks(at, 8)).collect()
        }
        Part::Blocks => {
            let inodes = ["directory", "directory/below", "link", "scattered", "long", "lost+found", "/"];
            let of = |inode: &str| run(Command::new("debugfs").args(["-R", &format!("stat {inode}")]).arg(&image.path));
            let listed = |inode: &&str| {
                let text = of(inode);
                let numbers = text.split(['\n', ',', ' ']).filter_map(|word| {
                    let (kind, number) = word.trim().split_once(':')?;
                    let number = number.split('-').next()?.parse::<usize>().ok()?;
                    let is_structure = kind.contains("IND") || kind.contains("ETB") || *inode != "long";
                    (kind.starts_with('(') && is_structure).then(|| blocks(number, 1))
                });
                numbers.take(4).collect::<Vec<_>>()
            };
            inodes.iter().flat_map(listed).collect()
        }
    };
    assert!(!found.is_empty());
    found
}

fn ext_all(part: Part) -> Vec<Sample> {
    let kinds: [&[&str]; 6] = [
        &["-t", "ext2"],
        &["-t", "ext4", "-O", "^has_journal,^metadata_csum"],
        &["-t", "ext4", "-O", "^has_journal"],
        &["-t", "ext4", "-O", "^has_journal,inline_data,^metadata_csum"],
        &["-t", "ext4", "-O", "^has_journal,bigalloc,^metadata_csum", "-C", "4096"],
        &["-t", "ext4", "-O", "^has_journal,meta_bg,^resize_inode,^flex_bg", "-g", "256"],
    ];
    kinds.iter().map(|options| ext(part, options)).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FatPart {
    Boot,
    Table,
    Directories,
}

fn fat(part: FatPart) -> Vec<Sample> {
    let kinds: [&[&str]; 3] = [
        &["-F", "12", "-s", "1", "-r", "64"],
        &["-F", "12", "-s", "2", "-f", "1", "-r", "64"],
        &["-F", "16", "-s", "1", "-r", "64"],
    ];
    let made = kinds.iter().map(|options| {
        let image = Image::empty(if options[1] == "16" { 3 << 20 } else { 256 << 10 });
        let content = image.beside("files");
        fs::create_dir_all(content.join("directory/below")).unwrap();
        for n in 0..20 {
            fs::write(content.join(format!("directory/a longer name {n}")), noise(n * 77, n as u64)).unwrap();
        }
        fs::write(content.join("long"), noise(30_000, 1)).unwrap();
        image.make_fat(&content, options);
        image.bytes()
    });
    made.chain([fat32()]).map(|disk| fat_sample(disk, part)).collect()
}

fn fat_sample(disk: Vec<u8>, part: FatPart) -> Sample {
    let word = |at: usize| usize::from(u16::from_le_bytes([disk[at], disk[at + 1]]));
    let (reserved, table) = (word(0xe) * 512, if word(0x16) == 0 { word(0x24) } else { word(0x16) } * 512);
    let data = reserved + usize::from(disk[0x10]) * table;
    let places = match part {
        FatPart::Boot => vec![0..96, 510..reserved.min(8 * 512)],
        FatPart::Table => {
            (0..usize::from(disk[0x10])).map(|n| reserved + n * table..reserved + n * table + 300).collect()
        }
        FatPart::Directories => place(data..data + 8192),
    };
    let layout = read(disk.as_slice());
    assert!(only(&layout).content.map.is_ok(), "{:?}", only(&layout).content.map);
    Sample { disk, places }
}

/// mtools do not believe in a small FAT32; so its files are made here: `A` of three clusters, and a directory `D` with `B`.
fn fat32() -> Vec<u8> {
    let image = Image::empty(1 << 20);
    run(Command::new("mkfs.fat").args(["-F", "32", "-s", "1"]).arg(&image.path));
    let mut disk = image.bytes();
    let (reserved, table) = (32 * 512, usize::from(disk[0x24]) * 512);
    let cluster = |number: usize| reserved + 2 * table + (number - 2) * 512;
    let entry = |name: &[u8; 11], attributes: u8, first: u8, length: u16| {
        let mut raw = [0; 32];
        raw[..11].copy_from_slice(name);
        (raw[11], raw[26]) = (attributes, first);
        raw[28..30].copy_from_slice(&length.to_le_bytes());
        raw
    };
    let (root, directory) = (cluster(2), cluster(6));
    disk[root..root + 32].copy_from_slice(&entry(b"A          ", 0, 3, 1400));
    disk[root + 32..root + 64].copy_from_slice(&entry(b"D          ", 0x10, 6, 0));
    for (n, raw) in
        [entry(b".          ", 0x10, 6, 0), entry(b"..         ", 0x10, 0, 0), entry(b"B          ", 0, 7, 9)]
            .iter()
            .enumerate()
    {
        disk[directory + n * 32..directory + (n + 1) * 32].copy_from_slice(raw);
    }
    for (number, next) in [(3, 4), (4, 5), (5, 0x0fff_ffff), (6, 0x0fff_ffff), (7, 0x0fff_ffff_u32)] {
        for copy in 0..2 {
            let at = reserved + copy * table + number * 4;
            disk[at..at + 4].copy_from_slice(&next.to_le_bytes());
        }
    }
    let free = u32::from_le_bytes([disk[1000], disk[1001], disk[1002], disk[1003]]) - 5;
    disk[1000..1004].copy_from_slice(&free.to_le_bytes());
    disk
}

fn tables(script: &str, places: &[Range<usize>]) -> Vec<Sample> {
    let image = Image::empty(256 << 10);
    run_with(Command::new("sfdisk").arg("-q").arg(&image.path), script);
    assert!(image.layout().partitions.len() > 1);
    vec![Sample { disk: image.bytes(), places: places.to_vec() }]
}

fn swap() -> Vec<Sample> {
    let image = Image::empty(256 << 10);
    run_with(
        Command::new("sfdisk").arg("-q").arg(&image.path),
        "label: gpt\nfirst-lba: 34\nstart=64, size=320, type=swap\n",
    );
    let space = Image::empty(320 * 512);
    run(Command::new("mkswap").arg(&space.path));
    let mut disk = image.bytes();
    disk[64 * 512..384 * 512].copy_from_slice(&space.bytes());
    let start = 64 * 512;
    vec![Sample { disk, places: vec![start + 1024..start + 1100, start + 4080..start + 4096] }]
}

macro_rules! targets {
    ($($target:ident: $samples:expr;)*) => {
        $(#[test] fn $target() {
            static SAMPLES: OnceLock<Vec<Sample>> = OnceLock::new();
            let samples = SAMPLES.get_or_init(|| $samples);
            let maps = samples.iter().filter(|sample| assert_bounded(&sample.disk).0).count();
            println!("{}: {maps} of {} samples have a map", stringify!($target), samples.len());
            bolero::check!(name = stringify!($target))
                .with_iterations(usize::MAX)
                .with_test_time(fuzz_time())
                .with_max_len(257)
                .for_each(|input: &[u8]| {
                    let Some((which, input)) = input.split_first() else { return };
                    let sample = &samples[usize::from(*which) % samples.len()];
                    if let Some(disk) = sample.edited(input) {
                        assert_bounded(&disk);
                    }
                });
        })*
    };
}

const LAST: usize = 256 << 10;

targets! {
    gpt: tables("label: gpt\nfirst-lba: 34\nstart=40, size=100\nsize=100\n", &[446..1536, LAST - 1536..LAST]);
    mbr: tables("label: dos\nstart=8, size=100, type=83\nstart=120, size=300, type=5\nstart=128, size=64\nstart=200, size=64\n",
        &[440..512, 120 * 512 + 440..121 * 512]);
    swap_space: swap();
    ext_superblock: ext_all(Part::Superblock);
    ext_descriptors: ext_all(Part::Descriptors);
    ext_bitmaps: ext_all(Part::Bitmaps);
    ext_inodes: ext_all(Part::Inodes);
    ext_trees_and_directories: ext_all(Part::Blocks);
    fat_boot: fat(FatPart::Boot);
    fat_table: fat(FatPart::Table);
    fat_directories: fat(FatPart::Directories);
}

/// Bytes that are no disk at all.
#[test]
fn whole_disk() {
    bolero::check!().with_iterations(usize::MAX).with_test_time(fuzz_time()).with_max_len(8192).for_each(
        |input: &[u8]| {
            assert_bounded(input);
        },
    );
}

/// The checks above can fail.
#[test]
fn a_bound_can_be_exceeded() {
    let greedy = || drop(std::hint::black_box(vec![0u8; 1 << 20]));
    assert!(peak_of(greedy).1 >= 1 << 20);
    assert!(peak_of(|| ()).1 < 1000);
    let endless = Watched { disk: &[0; 100], left: Cell::new(1000) };
    let read = || (0..1000).for_each(|_| endless.read_exact_at(&mut [0; 10], 0).unwrap());
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)).is_err());
}
