//! Where files that were deleted began and ended, seen from what they left behind.
//!
//! Free space that is captured holds what once were files, without a map of them. Their chunks are found again only
//! if they are cut as they were cut then. What remains of a file's end is the rest of its last block, which is zero:
//! so a granule that ends with zeros is taken for the end of a file. A wrong guess costs some deduplication, nothing
//! else.

/// Finds boundaries in one range of free space, whose bytes come in order.
pub struct RemnantFinder {
    granule: usize,
    slack: usize,
    min_run: u64,
    at: u64,
    /// Where the present run began.
    run: u64,
    boundaries: Vec<u64>,
}

impl RemnantFinder {
    /// For a range that starts at `start`. Boundaries are those of runs of at least `min_run` bytes that end with a
    /// granule whose last `slack` bytes are zero, or with the range.
    #[must_use]
    pub const fn new(start: u64, granule: usize, slack: usize, min_run: u64) -> Self {
        Self { granule, slack, min_run, at: start, run: start, boundaries: Vec::new() }
    }

    /// The next bytes, whole granules.
    pub fn add(&mut self, bytes: &[u8]) {
        for granule in bytes.chunks(self.granule) {
            self.at += granule.len() as u64;
            if granule.iter().rev().take(self.slack).all(|byte| *byte == 0) {
                self.end_run();
            }
        }
    }

    /// So many zeros, whole granules.
    pub fn add_zeros(&mut self, length: u64) {
        if length > 0 {
            self.at += self.granule as u64;
            self.end_run();
            self.at += length - self.granule as u64;
            self.run = self.at;
        }
    }

    fn end_run(&mut self) {
        if self.at - self.run >= self.min_run {
            // Where the run before was one, too, its end is there already.
            if self.boundaries.last() != Some(&self.run) {
                self.boundaries.push(self.run);
            }
            self.boundaries.push(self.at);
        }
        self.run = self.at;
    }

    /// The boundaries, ascending.
    #[must_use]
    pub fn finish(mut self) -> Vec<u64> {
        self.end_run();
        self.boundaries
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GRANULE: usize = 4096;

    fn boundaries(bytes: &[u8], start: u64) -> Vec<u64> {
        let mut finder = RemnantFinder::new(start, GRANULE, 16, 4 * GRANULE as u64);
        finder.add(bytes);
        finder.finish()
    }

    /// Files of so many bytes, each from a granule's start.
    fn files(lengths: &[usize]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for length in lengths {
            bytes.resize(bytes.len() + length, 7);
            bytes.resize(bytes.len().next_multiple_of(GRANULE), 0);
        }
        bytes
    }

    #[test]
    fn long_files_have_boundaries_and_short_ones_have_not() {
        let bytes = files(&[100, 5000, 20_000, 3000, 16_000, 30_000, 100]);
        // Granules: 1, 2, 5, 1, 4, 8, 1.
        let granules = [3, 8, 9, 13, 21].map(|granule| (1 << 20) + granule * GRANULE as u64);
        assert_eq!(boundaries(&bytes, 1 << 20), granules);
        // Cut off at its end, a file ends with the range.
        assert_eq!(boundaries(&bytes[..18 * GRANULE], 0), [3, 8, 9, 13, 18].map(|granule| granule * GRANULE as u64));
    }

    proptest! {
        #[test]
        fn zeros_may_come_as_such(lengths in prop::collection::vec(0usize..100_000, 0..10), hole in 0usize..20) {
            let before = files(&lengths);
            let mut bytes = before.clone();
            bytes.resize(bytes.len() + hole * GRANULE, 0);
            bytes.extend(&before);
            let mut finder = RemnantFinder::new(0, GRANULE, 16, 4 * GRANULE as u64);
            finder.add(&before);
            finder.add_zeros((hole * GRANULE) as u64);
            finder.add(&before);
            let found = finder.finish();
            prop_assert!(found.is_sorted_by(|a, b| a < b), "{found:?}");
            prop_assert_eq!(found, boundaries(&bytes, 0));
        }
    }
}
