//! A set of block numbers in little memory: a bit a block, in pages that exist once something is in them.

use std::ops::Range;

/// Blocks in a page: its bits fill 4 KiB.
const PAGE_BLOCKS: u64 = 32 << 10;
const WORDS: usize = PAGE_BLOCKS as usize / 64;

type Page = Box<[u64; WORDS]>;

/// A set of numbers below a bound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BlockSet {
    bound: u64,
    count: u64,
    pages: Vec<Option<Page>>,
}

impl BlockSet {
    /// An empty set of numbers below `bound`, which the caller limits: 8 bytes are taken for every 32 Ki numbers.
    pub(crate) fn new(bound: u64) -> Self {
        Self { bound, count: 0, pages: vec![None; bound.div_ceil(PAGE_BLOCKS) as usize] }
    }

    /// Numbers are below this.
    pub(crate) const fn bound(&self) -> u64 {
        self.bound
    }

    /// So many numbers are in the set.
    pub(crate) const fn count(&self) -> u64 {
        self.count
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
            let (page, bit) = (block / PAGE_BLOCKS, (block % PAGE_BLOCKS) as usize);
            let length = (64 - bit % 64).min((end - block) as usize);
            let mask = (u64::MAX >> (64 - length)) << (bit % 64);
            let page = self.pages[page as usize].get_or_insert_with(|| Box::new([0; WORDS]));
            let word = &mut page[bit / 64];
            added += u64::from((mask & !*word).count_ones());
            *word |= mask;
            block += length as u64;
        }
        self.count += added;
        added
    }

    /// Whether a whole range is in the set.
    pub(crate) fn contains_range(&self, range: Range<u64>) -> bool {
        range.is_empty() || self.next(range.start, false) >= range.end && range.end <= self.bound
    }

    /// The first number from `from` on that is in the set, or is not; the bound when there is none.
    pub(crate) fn next(&self, from: u64, is_in: bool) -> u64 {
        let mut block = from;
        while block < self.bound {
            let (page, bit) = (block / PAGE_BLOCKS, (block % PAGE_BLOCKS) as usize);
            let Some(page) = &self.pages[page as usize] else {
                if !is_in {
                    return block;
                }
                block += PAGE_BLOCKS - bit as u64;
                continue;
            };
            let word = if is_in { page[bit / 64] } else { !page[bit / 64] } >> (bit % 64);
            if word != 0 {
                return (block + u64::from(word.trailing_zeros())).min(self.bound);
            }
            block += 64 - bit as u64 % 64;
        }
        self.bound
    }

    /// The longest runs of numbers within `within` that are in the set, or that are not, ascending.
    pub(crate) fn runs(&self, within: Range<u64>, are_in: bool) -> impl Iterator<Item = Range<u64>> + '_ {
        let end = within.end.min(self.bound);
        let mut from = within.start;
        std::iter::from_fn(move || {
            let start = self.next(from, are_in);
            if start >= end {
                return None;
            }
            from = self.next(start, !are_in).min(end);
            Some(start..from)
        })
    }

    /// Numbers of a range that are in the set.
    pub(crate) fn count_in(&self, range: Range<u64>) -> u64 {
        self.runs(range, true).map(|run| run.end - run.start).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(
            bound in 1u64..100_000,
            ranges in prop::collection::vec((0u64..110_000, 0u64..3000), 0..20),
            from in 0u64..110_000,
        ) {
            let (mut set, mut model) = (BlockSet::new(bound), BTreeSet::new());
            for (start, length) in ranges {
                let range = start..start + length;
                let added = range.clone().filter(|block| *block < bound && model.insert(*block)).count() as u64;
                prop_assert_eq!(set.contains_range(range.clone()), added == 0 && (range.is_empty() || range.end <= bound));
                prop_assert_eq!(set.insert_range(range), added);
            }
            prop_assert_eq!(set.count(), model.len() as u64);
            prop_assert_eq!(set.next(from, true), model.range(from..).next().copied().unwrap_or(bound));
            prop_assert_eq!(set.next(from, false), (from..bound).find(|block| !model.contains(block)).unwrap_or(bound));
            let listed: Vec<u64> = set.runs(from..bound, true).flatten().collect();
            prop_assert!(listed.iter().eq(model.range(from..)));
            prop_assert_eq!(set.count_in(from..bound), listed.len() as u64);
            let others: u64 = set.runs(from..bound, false).map(|run| run.end - run.start).sum();
            prop_assert_eq!(others, bound.saturating_sub(from) - listed.len() as u64);
        }
    }
}
