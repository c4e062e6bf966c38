//! A set of block numbers in little memory: pages of 32 Ki numbers, each with its runs while those are few, and with a bit a
//! number once they are many.

mod page;

use std::ops::Range;

use page::{PAGE_BLOCKS, Page};

/// A set of numbers below a bound.
#[derive(Debug, Clone, Default)]
pub(crate) struct BlockSet {
    bound: u64,
    count: u64,
    /// Of the pages that have an allocation of their own.
    page_bytes: usize,
    pages: Vec<Page>,
}

impl BlockSet {
    /// An empty set of numbers below `bound`, which the caller limits: 24 bytes are taken for every 32 Ki numbers.
    pub(crate) fn new(bound: u64) -> Self {
        let pages = vec![Page::default(); bound.div_ceil(PAGE_BLOCKS.into()) as usize];
        Self { bound, count: 0, page_bytes: 0, pages }
    }

    /// What an empty set takes, in bytes.
    pub(crate) const fn empty_bytes(bound: u64) -> u64 {
        bound.div_ceil(PAGE_BLOCKS as u64).saturating_mul(size_of::<Page>() as u64)
    }

    /// Numbers are below this.
    pub(crate) const fn bound(&self) -> u64 {
        self.bound
    }

    /// So many numbers are in the set.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// Bytes that it takes: at most 32 for 256 numbers.
    pub(crate) const fn memory_bytes(&self) -> usize {
        self.page_bytes + self.pages.len() * size_of::<Page>()
    }

    /// Adds a number; one that is not below the bound is left out.
    pub(crate) fn insert(&mut self, block: u64) -> bool {
        self.insert_range(block..block.saturating_add(1)) == 1
    }

    /// Adds the part of a range that is below the bound, and returns how many were not there.
    pub(crate) fn insert_range(&mut self, range: Range<u64>) -> u64 {
        let end = range.end.min(self.bound);
        let mut block = range.start;
        let mut added = 0;
        while block < end {
            let (index, first) = split(block);
            let length = (end - block).min(u64::from(PAGE_BLOCKS - first)) as u32;
            let page = &mut self.pages[index];
            self.page_bytes -= page.heap_bytes();
            added += u64::from(page.insert(first..first + length));
            self.page_bytes += page.heap_bytes();
            block += u64::from(length);
        }
        self.count += added;
        added
    }

    /// Whether a whole range is in the set.
    pub(crate) fn contains_range(&self, range: Range<u64>) -> bool {
        range.is_empty() || range.end <= self.bound && self.find(range.clone(), false) == range.end
    }

    /// Whether some number of a range is in the set.
    pub(crate) fn touches(&self, range: Range<u64>) -> bool {
        let end = range.end.min(self.bound);
        self.find(range, true) < end
    }

    /// The first number of a range that is in the set, or is not; the end, or the bound when it comes before, when there
    /// is none. Looks no further than the range goes.
    fn find(&self, within: Range<u64>, is_in: bool) -> u64 {
        let end = within.end.min(self.bound);
        let mut block = within.start;
        while block < end {
            let (index, first) = split(block);
            if let Some(found) = self.pages[index].next(first, is_in) {
                return (block + u64::from(found - first)).min(end);
            }
            block += u64::from(PAGE_BLOCKS - first);
        }
        end
    }

    /// The longest runs of numbers within `within` that are in the set, or that are not, ascending.
    pub(crate) fn runs(&self, within: Range<u64>, are_in: bool) -> impl Iterator<Item = Range<u64>> + '_ {
        let end = within.end.min(self.bound);
        let mut from = within.start;
        std::iter::from_fn(move || {
            let start = self.find(from..end, are_in);
            if start >= end {
                return None;
            }
            from = self.find(start..end, !are_in);
            Some(start..from)
        })
    }

    /// Numbers of a range that are in the set.
    pub(crate) fn count_in(&self, range: Range<u64>) -> u64 {
        self.runs(range, true).map(|run| run.end - run.start).sum()
    }
}

/// The page of a number, and its place there.
fn split(block: u64) -> (usize, u32) {
    let page_blocks = u64::from(PAGE_BLOCKS);
    ((block / page_blocks) as usize, (block % page_blocks) as u32)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn memory_is_bounded_by_runs_and_by_numbers() {
        let few = |length: u64| {
            let mut set = BlockSet::new(1 << 32);
            for start in (0..1u64 << 32).step_by(1 << 20) {
                set.insert_range(start..start + length);
            }
            set.memory_bytes()
        };
        // 4096 runs; longer ones fill pages.
        assert!(few(1) < 4 << 20 && few(1 << 19) < 4 << 20);
        let mut every_other = BlockSet::new(1 << 20);
        for block in (0..1 << 20).step_by(2) {
            every_other.insert(block);
        }
        assert!(every_other.memory_bytes() < (1 << 20) / 8 + 4096);
        every_other.insert_range(0..1 << 20);
        assert!(every_other.memory_bytes() < 4096);
    }

    proptest! {
        #[test]
        fn it_is_a_set(
            bound in 1u64..100_000,
            ranges in prop::collection::vec((0u64..110_000, 0u64..3000), 0..20),
            // So many of them that runs become bits.
            comb in prop::option::of((0u64..110_000, 1u64..5000, 2u64..5)),
            from in 0u64..110_000,
        ) {
            let (mut set, mut model) = (BlockSet::new(bound), BTreeSet::new());
            let teeth = comb.into_iter().flat_map(|(start, count, step)| (0..count).map(move |n| (start + n * step, 1)));
            let combed: Vec<(u64, u64)> = teeth.collect();
            let (before, behind) = ranges.split_at(ranges.len() / 2);
            for (start, length) in [before, &combed, behind].concat() {
                let range = start..start + length;
                let added = range.clone().filter(|block| *block < bound && model.insert(*block)).count() as u64;
                prop_assert_eq!(set.contains_range(range.clone()), added == 0 && (range.is_empty() || range.end <= bound));
                prop_assert_eq!(set.insert_range(range), added);
            }
            prop_assert_eq!(set.count(), model.len() as u64);
            prop_assert_eq!(set.touches(from..from + 500), model.range(from..from + 500).next().is_some());
            let listed: Vec<u64> = set.runs(from..bound, true).flatten().collect();
            prop_assert!(listed.iter().eq(model.range(from..)));
            prop_assert_eq!(set.count_in(from..bound), listed.len() as u64);
            let others: u64 = set.runs(from..bound, false).map(|run| run.end - run.start).sum();
            prop_assert_eq!(others, bound.saturating_sub(from) - listed.len() as u64);
        }
    }
}
