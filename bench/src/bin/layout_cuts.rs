//! What cutting at files and leaving out free space is worth: bytes and chunks of a series of disks, for several
//! thresholds, without a repository. The cutter, the division and the compression are the product's.
//!
//! `layout_cuts VARIANT,... DISK...`; a variant is a capture mode, the shortest run of a file that has cuts of its own,
//! and how many zeros end a file in free space: `keep:none:0`, `keep:16384:16`, `omit:65536:0`; with 0 files are not
//! looked for there.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    env,
    error::Error,
    fs::File,
    ops::Range,
    os::unix::fs::FileExt,
    time::Instant,
};

use bytes::Bytes;
use imprint_client::{
    Division, RemnantFinder, Swap,
    cutting::{Cut, SectionCutter},
};
use imprint_content::{CaptureMode, ChunkId, Payload, Profile};
use imprint_disks::{Layout, MapOptions};

const READ: usize = 1 << 20;
const MIB: f64 = (1 << 20) as f64;

/// Compressed length of each chunk that any variant met.
type Stored = HashMap<ChunkId, u64>;

struct Variant {
    name: String,
    mode: CaptureMode,
    profile: Profile,
    seen: HashSet<ChunkId>,
    stored: u64,
    row: String,
}

impl Variant {
    fn parse(name: &str) -> Option<Self> {
        let mut fields = name.split(':');
        let (mode, threshold, slack) = (fields.next()?, fields.next()?, fields.next()?.parse().ok()?);
        let mode = match mode {
            "keep" => CaptureMode::Keep,
            "omit" => CaptureMode::Omit,
            _ => return None,
        };
        let min_file_run = if threshold == "none" { None } else { Some(threshold.parse().ok()?) };
        let profile = Profile { min_file_run, slack, ..Profile::V2 };
        Some(Self { name: name.to_owned(), mode, profile, seen: HashSet::new(), stored: 0, row: String::new() })
    }

    fn add_disk(&mut self, disk: &File, sizes: &mut Stored) -> Result<(), Box<dyn Error>> {
        let length = disk.metadata()?.len();
        // Without cuts at files the map is needed for its free space only.
        let options = MapOptions::new(self.profile.min_file_run.unwrap_or(u64::MAX));
        let start = Instant::now();
        let layout = Layout::read(disk, 512, &options)?;
        let map_seconds = start.elapsed().as_secs_f64();
        let division = Division::new(layout, self.mode, Swap::Zero, &self.profile);
        let (mut new_chunks, mut new_stored, mut chunks) = (0u64, 0u64, 0u64);
        let mut buffer = vec![0; READ];
        let seen = &mut self.seen;
        let mut taker = |cut: Cut<'_>| {
            let Cut::Chunk(bytes) = cut else { return Ok::<_, Infallible>(()) };
            chunks += 1;
            let id = ChunkId::of(bytes);
            if seen.insert(id) {
                let size = *sizes
                    .entry(id)
                    .or_insert_with(|| Payload::compress(&Bytes::copy_from_slice(bytes)).stored.len() as u64);
                new_chunks += 1;
                new_stored += size;
            }
            Ok(())
        };
        let mut at = 0;
        while at < length {
            let section = at..(at + self.profile.section).min(length);
            let boundaries = match self.profile.min_file_run {
                Some(min_run) => boundaries(&division, &section, &self.profile, min_run, disk)?,
                None => Vec::new(),
            };
            let mut cutter = SectionCutter::divided(self.profile, at, boundaries);
            let mut omitted = division.omitted(&section).into_iter();
            loop {
                let next = omitted.next();
                let end = next.map_or(section.end, |(start, _)| start);
                while at < end {
                    let part = &mut buffer[..(end - at).min(READ as u64) as usize];
                    disk.read_exact_at(part, at)?;
                    cutter.add(part, &mut taker)?;
                    at += part.len() as u64;
                }
                let Some((_, extent)) = next else { break };
                cutter.leave_out(extent.length, &mut taker)?;
                at += extent.length;
            }
            cutter.finish(&mut taker)?;
        }
        self.stored += new_stored;
        self.row += &format!(" {:9.2} {new_chunks:6}/{chunks:6} {map_seconds:5.3}", new_stored as f64 / MIB);
        Ok(())
    }
}

fn boundaries(
    division: &Division,
    section: &Range<u64>,
    profile: &Profile,
    min_run: u64,
    disk: &File,
) -> Result<Vec<u64>, Box<dyn Error>> {
    let mut boundaries = division.boundaries(section);
    if profile.slack > 0 {
        for range in division.captured_unused(section) {
            let mut bytes = vec![0; (range.end - range.start) as usize];
            disk.read_exact_at(&mut bytes, range.start)?;
            let mut finder = RemnantFinder::new(range.start, profile.zero_granule, profile.slack, min_run);
            finder.add(&bytes);
            boundaries.extend(finder.finish());
        }
    }
    boundaries.sort_unstable();
    Ok(boundaries)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let names = arguments.next().ok_or("which variants?")?;
    let variants: Option<Vec<_>> = names.split(',').map(Variant::parse).collect();
    let disks: Vec<_> = arguments.map(File::open).collect::<Result<_, _>>()?;
    let mut sizes = Stored::new();
    for mut variant in variants.ok_or("a variant is keep:none, omit:16384, ...")? {
        for disk in &disks {
            variant.add_disk(disk, &mut sizes)?;
        }
        println!(
            "{:14} total {:9.2} MiB {:6} chunks |{}",
            variant.name,
            variant.stored as f64 / MIB,
            variant.seen.len(),
            variant.row
        );
    }
    Ok(())
}
