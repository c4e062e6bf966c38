//! FastCDC v2020's search for the end of a chunk, several stretches at a time.
//!
//! The rolling hash is a chain: each byte waits for the one before it, which is all that the loop of the `fastcdc`
//! crate does with a core. But the hash forgets: 64 bytes further on nothing is left of a byte. So stretches can be
//! hashed side by side, each from 64 bytes before its start, in chains that do not wait for each other. Tables, masks
//! and positions are those of the crate, and so are the cuts.
//!
//! Xia, Zhou, Jiang, Feng, Hua, Hu, Liu, Zhang: FastCDC (USENIX ATC 2016), and its revision of 2020.

use fastcdc::v2020::{Normalization, get_gear_with_seed, select_masks};
use imprint_content::Profile;

/// Bytes of a stretch. Longer ones start less often, shorter ones hash less behind the end of a chunk.
const STRETCH: usize = 1024;
/// Chains that one core keeps going at once.
const LANES: usize = 4;
/// The hash has so many bits, and is shifted by one for each byte.
const MEMORY_BYTES: usize = 64;

/// Finds where chunks end.
#[derive(Debug, Clone)]
pub(super) struct Gear {
    table: Box<[u64; 256]>,
    /// For positions up to the average length: few hashes match.
    mask_short: u64,
    /// For positions behind it: more of them match.
    mask_long: u64,
    min: usize,
    avg: usize,
    max: usize,
}

impl Gear {
    pub(super) fn new(profile: &Profile) -> Self {
        let (mask_short, mask_long) = select_masks(profile.avg_chunk, Normalization::Level1);
        let (table, _) = get_gear_with_seed(0);
        let mut boxed = Box::new([0; 256]);
        boxed.copy_from_slice(&table);
        Self {
            table: boxed,
            mask_short,
            mask_long,
            min: profile.min_chunk,
            avg: profile.avg_chunk,
            max: profile.max_chunk,
        }
    }

    /// Length of the first chunk of `data`, in bytes; all of it when it is at most the shortest chunk.
    pub(super) fn cut(&self, data: &[u8]) -> usize {
        let data = &data[..data.len().min(self.max)];
        if data.len() <= self.min {
            return data.len();
        }
        // Positions are looked at in pairs: of an odd length the last one is not.
        let end = data.len() & !1;
        let center = self.avg.min(end);
        let mut hash = 0;
        self.search(data, self.min..center, self.mask_short, &mut hash)
            .or_else(|| self.search(data, center..end, self.mask_long, &mut hash))
            .unwrap_or(data.len())
    }

    /// Whether `data`, which has no natural cut before `length`, is cut there.
    pub(super) fn cuts_at(&self, data: &[u8], length: usize) -> bool {
        if length == self.max {
            return data.len() >= length;
        }
        // Positions are looked at in pairs; the last byte of data of odd length is not.
        if length < self.min || data.len() < length + 2 {
            return false;
        }
        let is_natural = |position: usize| {
            let window = &data[self.min.max((position + 1).saturating_sub(MEMORY_BYTES))..=position];
            let hash = window.iter().fold(0, |hash, byte| self.step(hash, *byte));
            let mask = if position < self.avg { self.mask_short } else { self.mask_long };
            hash & mask == 0
        };
        // Where data ended at an odd length, one byte before was not looked at.
        is_natural(length) && (length.is_multiple_of(2) || !is_natural(length - 1))
    }

    /// The first position whose hash matches. `hash` is that of the bytes before the range.
    fn search(&self, data: &[u8], range: std::ops::Range<usize>, mask: u64, hash: &mut u64) -> Option<usize> {
        let mut at = range.start;
        while let Some(block) = data.get(at..at + LANES * STRETCH).filter(|_| at + LANES * STRETCH <= range.end) {
            match self.hash_side_by_side(block, mask, *hash) {
                Some(last) => *hash = last,
                // One lane has a match; an earlier lane may have an earlier one.
                None => break,
            }
            at += LANES * STRETCH;
        }
        for (n, byte) in data[at..range.end].iter().enumerate() {
            *hash = self.step(*hash, *byte);
            if *hash & mask == 0 {
                return Some(at + n);
            }
        }
        None
    }

    const fn step(&self, hash: u64, byte: u8) -> u64 {
        (hash << 1).wrapping_add(self.table[byte as usize])
    }

    /// The hash at the end of a block, unless a position in it matches.
    fn hash_side_by_side(&self, block: &[u8], mask: u64, hash: u64) -> Option<u64> {
        let (stretches, _) = block.as_chunks::<STRETCH>();
        let [a, b, c, d] = stretches else { return None };
        let warm = |before: &[u8; STRETCH]| {
            before[STRETCH - MEMORY_BYTES..].iter().fold(0, |hash, byte| self.step(hash, *byte))
        };
        let mut hashes: [u64; LANES] = [hash, warm(a), warm(b), warm(c)];
        for n in 0..STRETCH {
            hashes[0] = self.step(hashes[0], a[n]);
            hashes[1] = self.step(hashes[1], b[n]);
            hashes[2] = self.step(hashes[2], c[n]);
            hashes[3] = self.step(hashes[3], d[n]);
            if hashes.iter().any(|hash| hash & mask == 0) {
                return None;
            }
        }
        Some(hashes[LANES - 1])
    }
}

#[cfg(test)]
mod tests {
    use fastcdc::v2020::FastCDC;
    use proptest::prelude::*;

    use super::*;

    const SMALL: Profile = Profile { min_chunk: 256, avg_chunk: 8 << 10, max_chunk: 32 << 10, ..Profile::V1 };

    fn crate_cuts(data: &[u8], profile: &Profile) -> Vec<usize> {
        let Profile { min_chunk, avg_chunk, max_chunk, .. } = *profile;
        FastCDC::new(data, min_chunk, avg_chunk, max_chunk).map(|chunk| chunk.length).collect()
    }

    fn our_cuts(mut data: &[u8], profile: &Profile) -> Vec<usize> {
        let gear = Gear::new(profile);
        let mut cuts = Vec::new();
        while !data.is_empty() {
            let length = gear.cut(data);
            cuts.push(length);
            data = &data[length..];
        }
        cuts
    }

    /// Noise, and stretches of one byte or of a short pattern, of every length.
    fn any_data() -> impl Strategy<Value = Vec<u8>> {
        let run = (0u8..3, 1usize..60_000, any::<u64>());
        prop::collection::vec(run, 0..8).prop_map(|runs| {
            let mut data = Vec::new();
            for (kind, length, seed) in runs {
                let mut state = seed | 1;
                let next = |n: usize| match kind {
                    0 => {
                        state ^= state << 13;
                        state ^= state >> 7;
                        state ^= state << 17;
                        (state >> 24) as u8
                    }
                    1 => seed as u8,
                    _ => seed.to_le_bytes()[n % 8],
                };
                data.extend((0..length).map(next));
            }
            data
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn cuts_are_those_of_the_crate(data in any_data()) {
            for profile in [SMALL, Profile::V1] {
                prop_assert_eq!(our_cuts(&data, &profile), crate_cuts(&data, &profile));
            }
        }
    }
}
