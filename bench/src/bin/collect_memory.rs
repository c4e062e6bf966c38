//! Memory of a collection's marks and plan, by the number of records: `collect_memory RECORDS`.
//!
//! Prints the peak of the process before and after, as the kernel counts it (`VmHWM`). Records of 64 KiB, 800 in a pack,
//! two in three of them needed, met in random order of packs. One process for each number: a peak does not go down.
#![allow(clippy::unwrap_used)] // a bench that goes wrong ends

use std::{fs, time::Instant};

use imprint_content::Codec;
use imprint_server::{
    PackId,
    catalog::{Location, PackRecord},
    pack::Purpose,
    store::reclaim::{Marks, PlanOptions, plan},
};

const RECORDS_IN_A_PACK: u32 = 800;
const STORED: u32 = 64 << 10;

fn main() {
    let records: u64 = std::env::args().nth(1).map_or(10_000_000, |text| text.parse().unwrap());
    let before = peak_kib();
    let started = Instant::now();
    let count = u32::try_from(records / u64::from(RECORDS_IN_A_PACK)).unwrap();
    let packs: Vec<PackRecord> = (0..count).map(pack).collect();
    let mut marks = Marks::of(&packs);
    for ordinal in 0..RECORDS_IN_A_PACK {
        for n in 0..count {
            // Scattered, as shared chunks are.
            let n = u32::try_from(u64::from(n) * 2_654_435_761 % u64::from(count)).unwrap();
            if (n + ordinal) % 3 != 0 && n % 10 != 0 {
                marks.insert(&location(n, ordinal)).unwrap();
            }
        }
    }
    let uses = marks.uses(&packs);
    let plan = plan(&uses, PlanOptions::DEFAULT);
    let (dead, groups) = (plan.dead.len(), plan.rewrites.len());
    let after = peak_kib();
    let seconds = started.elapsed().as_secs_f64();
    println!("{records} records, {count} packs: {dead} dead, {groups} groups, {seconds:.1} s");
    println!(
        "peak before {before} KiB, after {after} KiB: {:.2} bytes a record",
        (after - before) as f64 * 1024.0 / records as f64
    );
}

fn id(n: u32) -> PackId {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&n.to_le_bytes());
    PackId::from_bytes(id)
}

fn pack(n: u32) -> PackRecord {
    let bytes = u64::from(RECORDS_IN_A_PACK) * u64::from(STORED);
    PackRecord { id: id(n), purpose: Purpose::Chunks, bytes, records: RECORDS_IN_A_PACK }
}

fn location(n: u32, ordinal: u32) -> Location {
    Location { pack: id(n), offset: 64, stored_length: STORED, raw_length: STORED, codec: Codec::Raw, ordinal }
}

fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
