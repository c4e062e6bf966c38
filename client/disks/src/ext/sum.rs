//! Whether two collections of ranges cover the same blocks equally often, without keeping either.
//!
//! Each number has a secret random value, and a range counts as the value of its end less that of its start. Ranges that
//! continue each other add up to the range that they are together, so the sum does not depend on how blocks are divided,
//! nor on their order. Two collections that do not cover each block equally often differ in the balance of starts and ends
//! somewhere; with values that nobody knows, their sums are the same with a probability of one in 2^64.

use std::{
    hash::{BuildHasher, RandomState},
    ops::Range,
};

/// A sum; those of the same [`Values`] can be compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum(u64);

/// Where the values come from: anew in each process and each reading, or somebody could make blocks to match.
#[derive(Debug, Default)]
pub(super) struct Values(RandomState);

impl Sum {
    pub(super) fn add(&mut self, blocks: &Range<u64>, values: &Values) {
        self.0 = self.0.wrapping_add(values.of(blocks.end)).wrapping_sub(values.of(blocks.start));
    }
}

impl Values {
    fn of(&self, number: u64) -> u64 {
        self.0.hash_one(number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Of ranges given as start and end.
    fn sum(ranges: &[(u64, u64)], values: &Values) -> Sum {
        let mut sum = Sum::default();
        ranges.iter().for_each(|(start, end)| sum.add(&(*start..*end), values));
        sum
    }

    #[test]
    fn only_the_same_blocks_have_the_same_sum() {
        let values = Values::default();
        let same = |one: &[(u64, u64)], other: &[(u64, u64)]| sum(one, &values) == sum(other, &values);
        assert!(same(&[(0, 4), (9, 10)], &[(9, 10), (2, 4), (0, 1), (1, 2)]));
        assert!(same(&[(3, 3)], &[]));
        // As many blocks, but others; the same ones, but twice; one twice and one not at all.
        assert!(!same(&[(0, 4)], &[(1, 5)]));
        assert!(!same(&[(0, 4)], &[(0, 4), (0, 4)]));
        assert!(!same(&[(0, 2), (1, 3)], &[(0, 4)]));
        assert!(!same(&[(0, 2), (1, 3)], &[(0, 3)]));
    }

    proptest! {
        /// Against counting.
        #[test]
        fn sums_are_equal_when_each_block_is_covered_equally_often(
            one in prop::collection::vec((0u64..12, 0u64..4), 0..4),
            other in prop::collection::vec((0u64..12, 0u64..4), 0..4),
        ) {
            let ranges = |of: &[(u64, u64)]| of.iter().map(|(start, length)| (*start, start + length)).collect::<Vec<_>>();
            let (one, other) = (ranges(&one), ranges(&other));
            let count = |of: &[(u64, u64)]| {
                let mut counts = [0; 16];
                of.iter().flat_map(|(start, end)| *start..*end).for_each(|block| counts[block as usize] += 1);
                counts
            };
            let values = Values::default();
            prop_assert_eq!(sum(&one, &values) == sum(&other, &values), count(&one) == count(&other));
        }
    }
}
