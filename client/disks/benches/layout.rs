//! What reading a disk's layout and maps costs: `cargo bench -p imprint-disks --bench layout [-- DISK...]`.
//!
//! Memory is the peak of what is allocated. Time is given beside that of reading the same bytes again, in the same pieces.
//! Without arguments, as root: filesystems with 100,000 and 1,000,000 files of several extents each, and one of 16 TiB;
//! `IMPRINT_BENCH_FILES` for another number. They are sparse files of up to 1 GiB below the directory for temporary files.
#![allow(clippy::unwrap_used, clippy::panic)] // a bench that goes wrong ends
#![allow(missing_docs)]

#[path = "../tests/common/allocations.rs"]
mod allocations;

use std::{
    cell::RefCell,
    fs::{self, File},
    io,
    ops::ControlFlow,
    path::Path,
    process::Command,
    time::Instant,
};

use allocations::{Counting, peak_of};
use imprint_disks::{FileEntry, FileExtent, FileVisitor, Layout, MapOptions, ReadAt, files};
use rustix::fs::FallocateFlags;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const OPTIONS: MapOptions = MapOptions::new(16 << 10);
/// What issue 5 allows, at ten million files.
const LIMIT_BYTES: f64 = (256 << 20) as f64;

/// Notes what is read.
struct Recorded {
    file: File,
    reads: RefCell<Vec<(u64, usize)>>,
}

impl ReadAt for Recorded {
    fn length(&self) -> u64 {
        self.file.length()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.reads.borrow_mut().push((offset, buf.len()));
        ReadAt::read_exact_at(&self.file, buf, offset)
    }
}

/// Peak in bytes, of layout and maps, and of naming all files.
struct Cost {
    map: usize,
    files: usize,
}

fn measure(path: &Path) -> Cost {
    let disk = Recorded { file: File::open(path).unwrap(), reads: RefCell::default() };
    // Once for the page cache, and for the list of reads.
    Layout::read(&disk, 512, &OPTIONS).unwrap();
    let reads = disk.reads.take();
    let started = Instant::now();
    let (layout, map_peak) = peak_of(|| Layout::read(&disk.file, 512, &OPTIONS).unwrap());
    let taken = started.elapsed();
    let mut buffer = vec![0; reads.iter().map(|read| read.1).max().unwrap_or(0)];
    let started = Instant::now();
    for (offset, length) in &reads {
        ReadAt::read_exact_at(&disk.file, &mut buffer[..*length], *offset).unwrap();
    }
    let rereading = started.elapsed();
    let bytes: usize = reads.iter().map(|read| read.1).sum();
    println!("{}", path.display());
    let mut files_peak = 0;
    for partition in &layout.partitions {
        let kind = partition.content.identity.as_ref().map_or("nothing known", |identity| identity.kind);
        match &partition.content.map {
            Ok(map) => println!(
                "  {} {kind}: {} files, {} boundaries, {} MiB unused",
                partition.number,
                map.files(),
                map.boundary_count(),
                map.unused_bytes() >> 20
            ),
            Err(reason) => println!("  {} {kind}: {reason}", partition.number),
        }
        if partition.content.map.is_ok() {
            let mut count = Count::default();
            let range = partition.start..partition.start + partition.length;
            let started = Instant::now();
            let (result, peak) = peak_of(|| files(&disk.file, range, &mut count));
            result.unwrap().is_continue().then_some(()).unwrap();
            println!(
                "    {} names, {} extents in {:.2} s",
                count.files,
                count.extents,
                started.elapsed().as_secs_f64()
            );
            files_peak = files_peak.max(peak);
        }
    }
    println!(
        "  {:.2} s for {} MiB in {} reads, {:.2} times reading them; peak {:.1} MiB, of naming files {:.1} MiB",
        taken.as_secs_f64(),
        bytes >> 20,
        reads.len(),
        taken.as_secs_f64() / rereading.as_secs_f64(),
        map_peak as f64 / f64::from(1 << 20),
        files_peak as f64 / f64::from(1 << 20)
    );
    Cost { map: map_peak, files: files_peak }
}

#[derive(Default)]
struct Count {
    files: u64,
    extents: u64,
}

impl FileVisitor for Count {
    fn file(&mut self, _: &FileEntry<'_>) -> ControlFlow<()> {
        self.files += 1;
        ControlFlow::Continue(())
    }

    fn extent(&mut self, _: &FileExtent) -> ControlFlow<()> {
        self.extents += 1;
        ControlFlow::Continue(())
    }
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// A filesystem in a sparse file.
fn make(path: &Path, bytes: u64, options: &[&str]) {
    File::create(path).unwrap().set_len(bytes).unwrap();
    run(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4"]).args(options).arg(path));
}

/// Files of 16 to 112 KiB in directories of 1000: reserved space, which the disk need not hold. Two at a time grow in
/// turn, and so have several extents each.
fn fill(directory: &Path, count: u64) {
    const PIECE_BYTES: u64 = 16 << 10;
    for pair in 0..count / 2 {
        let parent = directory.join((pair / 500).to_string());
        if pair % 500 == 0 {
            fs::create_dir(&parent).unwrap();
        }
        let both = ["a", "b"].map(|suffix| File::create(parent.join(format!("{pair}{suffix}"))).unwrap());
        for piece in 0..=pair % 7 {
            for file in &both {
                rustix::fs::fallocate(file, FallocateFlags::empty(), piece * PIECE_BYTES, PIECE_BYTES).unwrap();
            }
        }
    }
}

fn with_files(directory: &Path, count: u64) -> Cost {
    let path = directory.join("disk");
    let bytes = count * (128 << 10) + (64 << 20);
    make(&path, bytes, &["-N", &(count + count / 100 + 100).to_string(), "-E", "lazy_itable_init=1"]);
    let mount = directory.join("mount");
    fs::create_dir_all(&mount).unwrap();
    run(Command::new("mount").args(["-o", "loop,noinit_itable"]).arg(&path).arg(&mount));
    let filled = std::panic::catch_unwind(|| fill(&mount, count));
    run(Command::new("umount").arg(&mount));
    filled.unwrap();
    let cost = measure(&path);
    fs::remove_file(&path).unwrap();
    cost
}

fn main() {
    let disks: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if !disks.is_empty() {
        for disk in disks {
            measure(Path::new(&disk));
        }
        return;
    }
    let directory = tempfile::TempDir::new().unwrap();
    let count = std::env::var("IMPRINT_BENCH_FILES").map_or(1_000_000, |text| text.parse().unwrap());
    let (few, many) = (with_files(directory.path(), count / 10), with_files(directory.path(), count));
    let at_ten_million = |few: usize, many: usize| {
        let of_one = (many as f64 - few as f64) / (count - count / 10) as f64;
        many as f64 + of_one * (10_000_000.0 - count as f64)
    };
    for (what, bytes) in [("maps", at_ten_million(few.map, many.map)), ("names", at_ten_million(few.files, many.files))]
    {
        let (mib, of_limit) = (bytes / f64::from(1 << 20), 100.0 * bytes / LIMIT_BYTES);
        println!("{what} at ten million files, grown linearly: {mib:.0} MiB, {of_limit:.0} % of the limit");
        assert!(bytes < LIMIT_BYTES);
    }
    let path = directory.path().join("large");
    // A little less: the longest file of an ext4 with blocks of 4 KiB.
    make(&path, (16 << 40) - (1 << 30), &["-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"]);
    assert!((measure(&path).map as f64) < LIMIT_BYTES);
}
