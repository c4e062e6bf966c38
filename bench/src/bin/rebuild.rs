//! How fast a catalog is rebuilt, and how soon a repository opens after a crash: `rebuild [RECORDS] [RUNS]`.
//!
//! A synthetic repository in a temporary directory (`TMPDIR`): small records in packs of 1000, as many as a full pack of
//! disk data has, written through the store, so that footers, journal and catalog are the product's. The page cache is
//! warm: everything was just written. The limit in the same run: reading and hashing the bytes of the footers, which is what a
//! rebuild cannot do without.
#![allow(clippy::unwrap_used, clippy::panic)] // a bench that goes wrong ends

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use bytes::Bytes;
use imprint_content::{ChunkId, Codec, ObjectId, Payload, Profile};
use imprint_server::{
    UploadId,
    catalog::UploadRecord,
    pack::{HEADER_BYTES, Purpose, TRAILER_BYTES, Trailer},
    store::{Directory, OpenMode, Store, StoreOptions},
};

const PACK_RECORDS: u64 = 1000;
/// What the process that is killed adds: about what two write buffers of the catalog hold.
const CRASH_RECORDS: u64 = 200_000;
const CRASH: &str = "--crash-in";

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, dir, first] = arguments.as_slice()
        && flag == CRASH
    {
        return crash(Path::new(dir), first.parse().unwrap()).await;
    }
    let number = |n: usize, default| arguments.get(n).map_or(default, |text: &String| text.parse().unwrap());
    let (records, runs) = (number(0, 1_000_000), number(1, 3));
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("repository");
    let (seconds, _) = timed(async || add(&open(&dir).await.store, 0, records).await).await;
    println!("{records} records in packs of {PACK_RECORDS}; written in {seconds:.1} s");
    for run in 0..runs {
        let crashed = Command::new(std::env::current_exe().unwrap())
            .arg(CRASH)
            .arg(&dir)
            .arg((records + run * CRASH_RECORDS).to_string())
            .status();
        assert!(!crashed.unwrap().success(), "it was to be killed");
        let (opened, cpu) = timed(async || drop(open(&dir).await)).await;
        println!("run {}: open after a crash {opened:.2} s (CPU {cpu:.2} s)", run + 1);

        let total = records + (run + 1) * CRASH_RECORDS;
        let mut bytes = 0;
        let (limit, _) = timed(async || bytes = read_footers(&dir.join("packs"))).await;
        let mut rebuilt = 0;
        let rebuild = async || rebuilt = Directory::rebuild(&dir, StoreOptions::default()).await.unwrap().records;
        let (seconds, cpu) = timed(rebuild).await;
        assert_eq!(rebuilt, total);
        println!(
            "       rebuild of {total} records {seconds:.2} s (CPU {cpu:.2} s): {:.0} records/s; \
             {bytes} bytes of footers read and hashed in {limit:.2} s: {:.1} times that",
            total as f64 / seconds,
            seconds / limit
        );
        let (opened, cpu) = timed(async || drop(open(&dir).await)).await;
        println!("       open after the rebuild {opened:.2} s (CPU {cpu:.2} s), peak memory {} MiB", peak_kib() >> 10);
        remove_former_catalogs(&dir);
    }
}

async fn open(dir: &Path) -> Directory {
    Directory::open(dir, OpenMode::OrCreate, StoreOptions::default()).await.unwrap()
}

/// Adds records, pack by pack.
async fn add(store: &Store, first: u64, count: u64) {
    let record = UploadRecord { id: UploadId::random(), image: "bench".parse().unwrap(), base: None };
    let mut upload = store.open_upload(record, Profile::V1).await.unwrap().unwrap();
    for start in (first..first + count).step_by(PACK_RECORDS as usize) {
        let objects = (start..(start + PACK_RECORDS).min(first + count)).map(object).collect();
        upload.store(Purpose::Chunks, objects).await.unwrap();
        upload.seal().await.unwrap();
    }
}

fn object(n: u64) -> (ObjectId, Payload) {
    let stored = Bytes::copy_from_slice(&n.to_le_bytes());
    (ChunkId::of(&stored).into(), Payload { codec: Codec::Raw, raw_length: 8, stored })
}

/// The process ends without closing anything.
async fn crash(dir: &Path, first: u64) {
    let directory = open(dir).await;
    add(&directory.store, first, CRASH_RECORDS).await;
    std::process::abort();
}

/// Reads and hashes the footers of all packs; their length in bytes.
fn read_footers(packs: &Path) -> u64 {
    let files = fs::read_dir(packs).unwrap().flat_map(|fan_out| fs::read_dir(fan_out.unwrap().path()).unwrap());
    files.map(|file| read_footer(file.unwrap().path())).sum()
}

fn read_footer(path: PathBuf) -> u64 {
    let file = File::open(path).unwrap();
    let length = file.metadata().unwrap().len();
    let mut header = [0; HEADER_BYTES];
    file.read_exact_at(&mut header, 0).unwrap();
    let mut tail = [0; TRAILER_BYTES];
    file.read_exact_at(&mut tail, length - TRAILER_BYTES as u64).unwrap();
    let range = Trailer::decode(&tail, length).unwrap().footer;
    let mut entries = vec![0; (range.end - range.start) as usize];
    file.read_exact_at(&mut entries, range.start).unwrap();
    std::hint::black_box(blake3::hash(&entries));
    entries.len() as u64
}

fn remove_former_catalogs(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_name().to_str().unwrap().starts_with("catalog.old-") {
            fs::remove_dir_all(entry.path()).unwrap();
        }
    }
}

/// Wall time and CPU time of all threads, in seconds.
async fn timed(work: impl AsyncFnOnce()) -> (f64, f64) {
    let (started, cpu) = (Instant::now(), cpu_seconds());
    work().await;
    (started.elapsed().as_secs_f64(), cpu_seconds() - cpu)
}

fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    // The program's name may have blanks in it; user and system time are the 12th and 13th field behind it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u32 = fields[11].parse::<u32>().unwrap() + fields[12].parse::<u32>().unwrap();
    f64::from(ticks) / 100.0
}

fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
