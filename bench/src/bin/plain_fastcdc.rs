//! What a plain chunk store needs for disks: `FastCDC` 16 / 64 / 256 KiB, each distinct chunk once, zstd level 3.
//!
//! Zero runs of 64 KiB and more are left out, as Imprint leaves them out. Names, indexes and trees are not counted.

use std::{
    collections::HashSet,
    env,
    fs::File,
    io::{self, BufReader, Read},
    mem,
};

use fastcdc::v2020::FastCDC;

const MIN_CHUNK: usize = 16 << 10;
const AVG_CHUNK: usize = 64 << 10;
const MAX_CHUNK: usize = 256 << 10;
const PAGE: usize = 4 << 10;
const ZERO_RUN: usize = 64 << 10;
const READ: usize = 1 << 20;
const LEVEL: i32 = 3;

#[derive(Default)]
struct PlainStore {
    seen: HashSet<blake3::Hash>,
    stored_bytes: usize,
}

impl PlainStore {
    fn add_disk(&mut self, mut disk: impl Read) -> io::Result<()> {
        let (mut data, mut zeros, mut page) = (Vec::new(), 0, Vec::with_capacity(PAGE));
        while disk.by_ref().take(PAGE as u64).read_to_end(&mut page)? > 0 {
            zeros = if page.iter().all(|byte| *byte == 0) { zeros + page.len() } else { 0 };
            // What follows a long run of zeros begins with its first byte that is not in them.
            if zeros == 0 || !data.is_empty() {
                data.append(&mut page);
            }
            page.clear();
            if zeros >= ZERO_RUN && !data.is_empty() {
                data.truncate(data.len() - zeros);
                self.add_data(&mem::take(&mut data))?;
            }
        }
        self.add_data(&data)
    }

    fn add_data(&mut self, data: &[u8]) -> io::Result<()> {
        for cut in FastCDC::new(data, MIN_CHUNK, AVG_CHUNK, MAX_CHUNK) {
            let chunk = &data[cut.offset..cut.offset + cut.length];
            if self.seen.insert(blake3::hash(chunk)) {
                self.stored_bytes += zstd::bulk::compress(chunk, LEVEL)?.len().min(chunk.len());
            }
        }
        Ok(())
    }
}

/// Prints the bytes for all disks that are named.
fn main() -> io::Result<()> {
    let mut store = PlainStore::default();
    for disk in env::args_os().skip(1) {
        store.add_disk(BufReader::with_capacity(READ, File::open(disk)?))?;
    }
    println!("{}", store.stored_bytes);
    Ok(())
}
