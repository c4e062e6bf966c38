//! Cuts the bytes of one section into zero runs and chunks.
//!
//! The result depends only on the bytes and the profile: not on how they arrive, which of them were holes, or what
//! is cut beside them. That is what makes two captures of one disk the same tree.

use fastcdc::v2020::FastCDC;
use imprint_content::Profile;

/// A run of the image, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Cut<'a> {
    /// So many zeros.
    Zero(u64),
    /// One chunk.
    Chunk(&'a [u8]),
}

/// Cuts one section. Bytes go in from front to back; cuts come out as soon as they are certain.
pub struct SectionCutter {
    profile: Profile,
    /// Data not cut yet; starts at a chunk's start.
    data: Vec<u8>,
    /// Zeros behind `data` that may still belong to a chunk.
    zeros: u64,
}

impl SectionCutter {
    /// For the next section.
    #[must_use]
    pub const fn new(profile: Profile) -> Self {
        Self { profile, data: Vec::new(), zeros: 0 }
    }

    /// Adds bytes as they were read. Every call but a section's last must bring whole granules.
    pub fn add<E>(&mut self, bytes: &[u8], mut emit: impl FnMut(Cut<'_>) -> Result<(), E>) -> Result<(), E> {
        let granule = self.profile.zero_granule;
        let mut rest = bytes;
        while !rest.is_empty() {
            let zeros = count_granules(rest, granule, true);
            let (run, behind) = rest.split_at(zeros);
            self.zeros += run.len() as u64;
            let data = count_granules(behind, granule, false);
            let (run, behind) = behind.split_at(data);
            self.add_data(run, &mut emit)?;
            rest = behind;
        }
        Ok(())
    }

    /// Adds zeros that need not be looked at, such as a hole. They must be whole granules, but for a section's end.
    pub const fn add_zeros(&mut self, length: u64) {
        self.zeros += length;
    }

    /// Ends the section.
    pub fn finish<E>(mut self, mut emit: impl FnMut(Cut<'_>) -> Result<(), E>) -> Result<(), E> {
        self.settle_zeros(&mut emit)?;
        self.end_run(&mut emit)
    }

    fn add_data<E>(&mut self, run: &[u8], emit: &mut impl FnMut(Cut<'_>) -> Result<(), E>) -> Result<(), E> {
        if run.is_empty() {
            return Ok(());
        }
        self.settle_zeros(emit)?;
        self.data.extend_from_slice(run);
        // With a whole maximal chunk in sight a cut does not depend on what follows.
        self.cut_while(self.profile.max_chunk, emit)
    }

    /// Zeros before data, or before the end: long ones are an extent, short ones stay in the chunk.
    fn settle_zeros<E>(&mut self, emit: &mut impl FnMut(Cut<'_>) -> Result<(), E>) -> Result<(), E> {
        let zeros = std::mem::take(&mut self.zeros);
        if zeros >= self.profile.min_zero_run as u64 {
            self.end_run(emit)?;
            return emit(Cut::Zero(zeros));
        }
        self.data.resize(self.data.len() + zeros as usize, 0);
        Ok(())
    }

    fn end_run<E>(&mut self, emit: &mut impl FnMut(Cut<'_>) -> Result<(), E>) -> Result<(), E> {
        self.cut_while(1, emit)
    }

    /// Cuts chunks off the front while at least `needed` bytes are there.
    fn cut_while<E>(&mut self, needed: usize, emit: &mut impl FnMut(Cut<'_>) -> Result<(), E>) -> Result<(), E> {
        if self.data.len() < needed {
            return Ok(());
        }
        let Profile { min_chunk, avg_chunk, max_chunk, .. } = self.profile;
        let cutter = FastCDC::new(&self.data, min_chunk, avg_chunk, max_chunk);
        let mut start = 0;
        while self.data.len() - start >= needed {
            let window = (self.data.len() - start).min(max_chunk);
            let (_, end) = cutter.cut(start, window);
            emit(Cut::Chunk(&self.data[start..end]))?;
            start = end;
        }
        self.data.drain(..start);
        Ok(())
    }
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
    use std::convert::Infallible;

    use imprint_content::ChunkId;
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Owned {
        Zero(u64),
        Chunk(Vec<u8>),
    }

    fn own(cut: &Cut<'_>) -> Owned {
        match cut {
            Cut::Zero(length) => Owned::Zero(*length),
            Cut::Chunk(bytes) => Owned::Chunk(bytes.to_vec()),
        }
    }

    /// Cuts with reads of `step` granules; zero reads are handed over as holes when `holes`.
    fn cut(bytes: &[u8], step: usize, holes: bool) -> Vec<Owned> {
        let mut out = Vec::new();
        let mut emit = |cut: Cut<'_>| -> Result<(), Infallible> {
            out.push(own(&cut));
            Ok(())
        };
        let mut cutter = SectionCutter::new(Profile::V1);
        for read in bytes.chunks(step * Profile::V1.zero_granule) {
            if holes && is_zero(read) {
                cutter.add_zeros(read.len() as u64);
            } else {
                cutter.add(read, &mut emit).unwrap();
            }
        }
        cutter.finish(&mut emit).unwrap();
        out
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
    }
}
