//! Numbers that can be had again.

use crate::files::simulated::below;

/// A sequence of pseudo-random numbers.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        below(&mut self.0, bound)
    }

    pub(super) fn number(&mut self) -> u64 {
        self.below(u64::MAX)
    }

    /// Whether something happens that happens so many times in a hundred.
    pub(super) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
