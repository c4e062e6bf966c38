use std::{collections::BTreeMap, convert::Infallible};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Owned {
    Zero(u64),
    Chunk(Vec<u8>),
}

/// Collects cuts; expects what another list has at the same place.
#[derive(Default)]
struct Collector {
    cuts: Vec<Owned>,
    end: usize,
    others: BTreeMap<usize, ExpectedChunk>,
    met: usize,
}

impl Collector {
    fn expecting(other: &[Owned]) -> Self {
        let mut others = BTreeMap::new();
        let mut at = 0;
        for cut in other {
            if let Owned::Chunk(bytes) = cut {
                others.insert(at, ExpectedChunk { id: ChunkId::of(bytes), length: bytes.len() });
            }
            at += cut.length();
        }
        Self { others, ..Self::default() }
    }
}

impl Owned {
    fn length(&self) -> usize {
        match self {
            Self::Zero(length) => *length as usize,
            Self::Chunk(bytes) => bytes.len(),
        }
    }
}

impl TakeCuts<Infallible> for Collector {
    fn expected(&mut self) -> Result<Option<ExpectedChunk>, Infallible> {
        Ok(self.others.get(&self.end).copied())
    }

    fn take(&mut self, cut: Cut<'_>) -> Result<(), Infallible> {
        self.end += cut.length() as usize;
        self.cuts.push(match cut {
            Cut::Zero(length) => Owned::Zero(length),
            Cut::Chunk(bytes) => Owned::Chunk(bytes.to_vec()),
            Cut::Expected(id, bytes) => {
                assert_eq!(ChunkId::of(bytes), id);
                self.met += 1;
                Owned::Chunk(bytes.to_vec())
            }
        });
        Ok(())
    }
}

/// Cuts with reads of `step` granules; zero reads are handed over as holes when `holes`.
fn cut(bytes: &[u8], step: usize, holes: bool) -> Vec<Owned> {
    cut_into(Collector::default(), bytes, step, holes).cuts
}

fn cut_into(collector: Collector, bytes: &[u8], step: usize, holes: bool) -> Collector {
    cut_divided(collector, bytes, &[], step, holes)
}

fn cut_divided(mut collector: Collector, bytes: &[u8], boundaries: &[u64], step: usize, holes: bool) -> Collector {
    let mut cutter = SectionCutter::divided(Profile::V1, 0, boundaries.to_vec());
    for read in bytes.chunks(step * Profile::V1.zero_granule) {
        if holes && is_zero(read) {
            cutter.add_zeros(read.len() as u64);
        } else {
            cutter.add(read, &mut collector).unwrap();
        }
    }
    cutter.finish(&mut collector).unwrap();
    collector
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

#[test]
fn cut_points_of_known_bytes_do_not_change() {
    let mut bytes = noise(3 << 20, 1);
    bytes[1 << 20..(1 << 20) + (128 << 10)].fill(0);
    bytes[2 << 20..(2 << 20) + (32 << 10)].fill(0);
    let listing = listing(&cut(&bytes, 7, false));
    assert_eq!(
        ChunkId::of(listing.as_bytes()).to_string(),
        "0b5a04e4d8c59ef790e5f4b40bcbce1a59f048a0c13f8cbe08a9a6b1fc363c69",
        "{listing}"
    );
}

/// Neighbouring chunks together.
fn runs(cuts: &[Owned]) -> Vec<Owned> {
    let mut runs: Vec<Owned> = Vec::new();
    for cut in cuts {
        match (runs.last_mut(), cut) {
            (Some(Owned::Chunk(run)), Owned::Chunk(bytes)) => run.extend(bytes),
            _ => runs.push(cut.clone()),
        }
    }
    runs
}

fn listing(cuts: &[Owned]) -> String {
    let line = |cut: &Owned| match cut {
        Owned::Zero(length) => format!("zero {length}\n"),
        Owned::Chunk(bytes) => format!("{} {}\n", bytes.len(), ChunkId::of(bytes)),
    };
    cuts.iter().map(line).collect()
}

#[test]
fn cut_points_of_divided_bytes_do_not_change() {
    let mut bytes = noise(1 << 20, 5);
    bytes[300 << 10..400 << 10].fill(0);
    bytes[600 << 10..640 << 10].fill(0);
    // In a long run of zeros, at the end of one, in a short one, and at odd places.
    let boundaries = [4097, 340 << 10, 400 << 10, 500 << 10, 504 << 10, 620 << 10, (900 << 10) + 1];
    let cuts = cut_divided(Collector::default(), &bytes, &boundaries, 7, false).cuts;
    let listing = listing(&cuts);
    assert!(cuts.contains(&Owned::Zero(100 << 10)), "{listing}");
    assert_eq!(
        ChunkId::of(listing.as_bytes()).to_string(),
        "feaee117481a2a31d997cadeb4e91ab414548d5838bf9165c028a26ae47f8db6",
        "{listing}"
    );
}

#[test]
fn what_is_left_out_divides_zeros_too() {
    let mut bytes = noise(256 << 10, 6);
    bytes[64 << 10..192 << 10].fill(0);
    let mut collector = Collector::default();
    let mut cutter = SectionCutter::new(Profile::V2);
    cutter.add(&bytes[..96 << 10], &mut collector).unwrap();
    cutter.leave_out(4096, &mut collector).unwrap();
    cutter.add(&bytes[100 << 10..], &mut collector).unwrap();
    cutter.finish(&mut collector).unwrap();
    // 32 KiB of zeros before it stay in a chunk, 92 KiB behind it are an extent.
    assert_eq!(collector.cuts.iter().filter(|cut| matches!(cut, Owned::Zero(_))).count(), 1);
    assert!(collector.cuts.contains(&Owned::Zero(92 << 10)));
    assert_eq!(collector.cuts.iter().map(Owned::length).sum::<usize>(), (256 << 10) - 4096);
}

#[test]
fn the_byte_behind_a_cut_belongs_to_it() {
    let bytes = noise(8 << 20, 4);
    let before = cut(&bytes, 1 << 20, false);
    let mut moved = 0;
    let mut end = 0;
    for chunk in &before[..before.len() - 1] {
        end += chunk.length();
        let mut edited = bytes.clone();
        edited[end] ^= 0x55;
        let plain = cut(&edited, 1 << 20, false);
        assert_eq!(cut_into(Collector::expecting(&before), &edited, 256, false).cuts, plain, "byte {end}");
        moved += usize::from(!plain.contains(chunk));
    }
    assert!(moved > 50, "{moved} of {} cuts moved", before.len());
}

#[test]
fn short_zero_runs_stay_in_chunks_and_long_ones_do_not() {
    let mut bytes = noise(512 << 10, 2);
    bytes[64 << 10..124 << 10].fill(0);
    assert!(cut(&bytes, 1, false).iter().all(|cut| matches!(cut, Owned::Chunk(_))));
    bytes[64 << 10..128 << 10].fill(0);
    assert!(cut(&bytes, 1, false).contains(&Owned::Zero(64 << 10)));
}

#[test]
fn nothing_and_only_zeros() {
    assert_eq!(cut(&[], 1, false), []);
    assert_eq!(cut(&[0; 100_000], 4, false), [Owned::Zero(100_000)]);
    assert_eq!(cut(&[0; 5000], 1, false), [Owned::Chunk(vec![0; 5000])]);
}

/// A section as a list of runs: zeros or noise, in granules, with a ragged end.
fn any_section() -> impl Strategy<Value = Vec<u8>> {
    let run = (any::<bool>(), 1usize..60, any::<u64>());
    (prop::collection::vec(run, 0..12), 0usize..4096).prop_map(|(runs, tail)| {
        let mut bytes = Vec::new();
        for (is_zero, granules, seed) in runs {
            let length = granules * 4096;
            bytes.extend(if is_zero { vec![0; length] } else { noise(length, seed) });
        }
        bytes.extend(noise(tail, 3));
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn cuts_depend_on_bytes_only(bytes in any_section(), step in 1usize..70) {
        let whole = cut(&bytes, 1 << 20, false);
        prop_assert_eq!(&cut(&bytes, step, false), &whole);
        prop_assert_eq!(&cut(&bytes, 1, true), &whole);
        prop_assert_eq!(&cut(&bytes, step, true), &whole);
        let mut back = Vec::new();
        for cut in &whole {
            match cut {
                Owned::Zero(length) => back.resize(back.len() + *length as usize, 0),
                Owned::Chunk(chunk) => {
                    prop_assert!(!chunk.is_empty() && chunk.len() <= Profile::V1.max_chunk);
                    back.extend(chunk);
                }
            }
        }
        prop_assert_eq!(back, bytes);
    }

    #[test]
    fn what_is_expected_changes_no_cut(
        bytes in any_section(), other in any_section(), step in 1usize..70, edits in edits(),
    ) {
        let mut edited = bytes.clone();
        for (at, length, with) in edits {
            let at = at.min(edited.len());
            let end = (at + length).min(edited.len());
            edited[at..end].fill(with);
        }
        let plain = cut(&edited, 1 << 20, false);
        for expected in [&bytes, &other] {
            let met = cut_into(Collector::expecting(&cut(expected, 1 << 20, false)), &edited, step, false);
            prop_assert_eq!(&met.cuts, &plain);
        }
        let same = cut_into(Collector::expecting(&plain), &edited, step, false);
        prop_assert_eq!(same.cuts.iter().filter(|cut| matches!(cut, Owned::Chunk(_))).count(), same.met);
    }

    #[test]
    fn divided_data_is_cut_at_every_boundary_and_each_part_alone(
        bytes in any_section(), boundaries in boundaries(), step in 1usize..70, holes in any::<bool>(),
    ) {
        let divided = cut_divided(Collector::default(), &bytes, &boundaries, step, holes).cuts;
        // The zero runs are those of the bytes alone; the data between them is cut as if each part were all there is.
        let mut expected = Vec::new();
        let mut at = 0;
        for run in runs(&cut(&bytes, 1 << 20, false)) {
            match run {
                Owned::Zero(length) => expected.push(Owned::Zero(length)),
                Owned::Chunk(data) => {
                    let end = at + data.len();
                    let inside = boundaries.iter().map(|b| *b as usize).filter(|b| at < *b && *b < end);
                    let mut start = at;
                    for part_end in inside.chain([end]) {
                        let gear = Gear::new(&Profile::V1);
                        let mut part = &data[start - at..part_end - at];
                        while !part.is_empty() {
                            let (chunk, rest) = part.split_at(gear.cut(part));
                            expected.push(Owned::Chunk(chunk.to_vec()));
                            part = rest;
                        }
                        start = part_end;
                    }
                    at = end;
                    continue;
                }
            }
            at += expected.last().map_or(0, Owned::length);
        }
        prop_assert_eq!(divided, expected);
    }

    #[test]
    fn what_is_expected_changes_no_cut_of_divided_data(
        bytes in any_section(), edits in edits(), step in 1usize..70, before in boundaries(), now in boundaries(),
    ) {
        let mut edited = bytes.clone();
        for (at, length, with) in edits {
            let at = at.min(edited.len());
            let end = (at + length).min(edited.len());
            edited[at..end].fill(with);
        }
        let plain = cut_divided(Collector::default(), &edited, &now, 1 << 20, false).cuts;
        for boundaries in [&before, &now] {
            let base = cut_divided(Collector::default(), &bytes, boundaries, 1 << 20, false).cuts;
            let met = cut_divided(Collector::expecting(&base), &edited, &now, step, false);
            prop_assert_eq!(&met.cuts, &plain);
        }
        let same = cut_divided(Collector::expecting(&plain), &edited, &now, step, true);
        prop_assert_eq!(&same.cuts, &plain);
        prop_assert_eq!(same.cuts.iter().filter(|cut| matches!(cut, Owned::Chunk(_))).count(), same.met);
    }
}

/// Where an image is divided.
fn boundaries() -> impl Strategy<Value = Vec<u64>> {
    let place = prop_oneof![(0u64..500).prop_map(|granule| granule * 4096), 0u64..2_000_000];
    prop::collection::btree_set(place, 0..20).prop_map(|places| places.into_iter().collect())
}

/// Ranges that are overwritten, many with zeros and as long as zero runs that count.
fn edits() -> impl Strategy<Value = Vec<(usize, usize, u8)>> {
    let length = prop_oneof![1usize..5000, (1usize..40).prop_map(|granules| granules * 4096)];
    let at = prop_oneof![0usize..2_000_000, (0usize..500).prop_map(|granule| granule * 4096)];
    prop::collection::vec((at, length, prop_oneof![Just(0u8), any::<u8>()]), 0..6)
}
