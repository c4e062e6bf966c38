//! Cuts the bytes of one section into zero runs and chunks.
//!
//! The result depends only on the bytes and the profile: not on how they arrive, which of them were holes, or what
//! is cut beside them. That is what makes two captures of one disk the same tree.

mod gear;

use imprint_content::{ChunkId, Profile};

use gear::Gear;

/// A run of the image, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Cut<'a> {
    /// So many zeros.
    Zero(u64),
    /// One chunk.
    Chunk(&'a [u8]),
    /// The chunk that was expected here, with its id.
    Expected(ChunkId, &'a [u8]),
}

/// A chunk that another version, cut by the same profile, has at some place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpectedChunk {
    /// Its id.
    pub id: ChunkId,
    /// Its length in bytes.
    pub length: usize,
}

/// Takes the cuts of a section, and may know what to expect.
pub trait TakeCuts<E> {
    /// The chunk that probably starts where the cuts taken so far end.
    fn expected(&mut self) -> Result<Option<ExpectedChunk>, E> {
        Ok(None)
    }

    /// Takes the next cut.
    fn take(&mut self, cut: Cut<'_>) -> Result<(), E>;
}

impl<E, F: FnMut(Cut<'_>) -> Result<(), E>> TakeCuts<E> for F {
    fn take(&mut self, cut: Cut<'_>) -> Result<(), E> {
        self(cut)
    }
}

/// Cuts one section. Bytes go in from front to back; cuts come out as soon as they are certain.
pub struct SectionCutter {
    profile: Profile,
    gear: Gear,
    /// Data not cut yet; starts at a chunk's start.
    data: Vec<u8>,
    /// Zeros behind `data` that may still belong to a chunk.
    zeros: u64,
}

impl SectionCutter {
    /// For the next section.
    #[must_use]
    pub fn new(profile: Profile) -> Self {
        Self { profile, gear: Gear::new(&profile), data: Vec::new(), zeros: 0 }
    }

    /// Adds bytes as they were read. Every call but a section's last must bring whole granules.
    pub fn add<E>(&mut self, bytes: &[u8], taker: &mut impl TakeCuts<E>) -> Result<(), E> {
        let granule = self.profile.zero_granule;
        let mut rest = bytes;
        while !rest.is_empty() {
            let zeros = count_granules(rest, granule, true);
            let (run, behind) = rest.split_at(zeros);
            self.zeros += run.len() as u64;
            let data = count_granules(behind, granule, false);
            let (run, behind) = behind.split_at(data);
            self.add_data(run, taker)?;
            rest = behind;
        }
        Ok(())
    }

    /// Adds zeros that need not be looked at, such as a hole. They must be whole granules, but for a section's end.
    pub const fn add_zeros(&mut self, length: u64) {
        self.zeros += length;
    }

    /// Ends the section.
    pub fn finish<E>(mut self, taker: &mut impl TakeCuts<E>) -> Result<(), E> {
        self.settle_zeros(taker)?;
        self.cut(Run::Over, taker)
    }

    fn add_data<E>(&mut self, run: &[u8], taker: &mut impl TakeCuts<E>) -> Result<(), E> {
        if run.is_empty() {
            return Ok(());
        }
        self.settle_zeros(taker)?;
        self.data.extend_from_slice(run);
        self.cut(Run::GoesOn, taker)
    }

    /// Zeros before data, or before the end: long ones are an extent, short ones stay in the chunk.
    fn settle_zeros<E>(&mut self, taker: &mut impl TakeCuts<E>) -> Result<(), E> {
        let zeros = std::mem::take(&mut self.zeros);
        if zeros >= self.profile.min_zero_run as u64 {
            self.cut(Run::Over, taker)?;
            return taker.take(Cut::Zero(zeros));
        }
        self.data.resize(self.data.len() + zeros as usize, 0);
        Ok(())
    }

    /// Cuts off the front what is certain.
    fn cut<E>(&mut self, run: Run, taker: &mut impl TakeCuts<E>) -> Result<(), E> {
        // With a whole maximal chunk in sight a cut does not depend on what follows.
        let needed = match run {
            Run::GoesOn => self.profile.max_chunk,
            Run::Over => 1,
        };
        let mut start = 0;
        while self.data.len() - start >= needed {
            let rest = &self.data[start..];
            let cut = match taker.expected()? {
                Some(expected) if is_there(&expected, rest, run, &self.gear) => {
                    Cut::Expected(expected.id, &rest[..expected.length])
                }
                _ => Cut::Chunk(&rest[..self.gear.cut(rest)]),
            };
            start += cut.length() as usize;
            taker.take(cut)?;
        }
        self.data.drain(..start);
        Ok(())
    }
}

impl Cut<'_> {
    const fn length(&self) -> u64 {
        match self {
            Self::Zero(length) => *length,
            Self::Chunk(bytes) | Self::Expected(_, bytes) => bytes.len() as u64,
        }
    }
}

/// Whether more data may follow directly.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Run {
    GoesOn,
    Over,
}

/// Whether these bytes start with the expected chunk, and cutting them would find it.
///
/// A chunk starts here, and the same bytes were one chunk before: so there is no natural cut inside of them. That there
/// is one at their end does not follow, because it depends on the byte behind it too.
fn is_there(expected: &ExpectedChunk, rest: &[u8], run: Run, gear: &Gear) -> bool {
    let is_rest = run == Run::Over && expected.length == rest.len();
    (is_rest || gear.cuts_at(rest, expected.length))
        && rest.get(..expected.length).is_some_and(|bytes| ChunkId::of(bytes) == expected.id)
}

/// Length of the leading granules that are all zero, or that are not.
fn count_granules(bytes: &[u8], granule: usize, zero: bool) -> usize {
    let matching = bytes.chunks(granule).take_while(|granule| is_zero(granule) == zero);
    matching.map(<[u8]>::len).sum()
}

/// Whether all bytes are zero.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|part| part == &ZEROS[..part.len()])
}

#[cfg(test)]
mod tests {
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

    fn cut_into(mut collector: Collector, bytes: &[u8], step: usize, holes: bool) -> Collector {
        let mut cutter = SectionCutter::new(Profile::V1);
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
        let mut listing = String::new();
        for cut in cut(&bytes, 7, false) {
            listing += &match cut {
                Owned::Zero(length) => format!("zero {length}\n"),
                Owned::Chunk(bytes) => format!("{} {}\n", bytes.len(), ChunkId::of(&bytes)),
            };
        }
        assert_eq!(
            ChunkId::of(listing.as_bytes()).to_string(),
            "0b5a04e4d8c59ef790e5f4b40bcbce1a59f048a0c13f8cbe08a9a6b1fc363c69",
            "{listing}"
        );
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
    }

    /// Ranges that are overwritten, many with zeros and as long as zero runs that count.
    fn edits() -> impl Strategy<Value = Vec<(usize, usize, u8)>> {
        let length = prop_oneof![1usize..5000, (1usize..40).prop_map(|granules| granules * 4096)];
        let at = prop_oneof![0usize..2_000_000, (0usize..500).prop_map(|granule| granule * 4096)];
        prop::collection::vec((at, length, prop_oneof![Just(0u8), any::<u8>()]), 0..6)
    }
}
