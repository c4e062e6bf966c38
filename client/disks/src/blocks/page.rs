//! A part of a set of blocks, in the form that takes least.

use std::ops::Range;

/// Numbers of a page; as bits they fill 4 KiB.
pub(super) const PAGE_BLOCKS: u32 = 32 << 10;
const WORDS: usize = PAGE_BLOCKS as usize / 64;
/// Runs of a page before they become bits. Twice as many would take as much, and be slower to change.
const MAX_RUNS: usize = 512;

/// The numbers below [`PAGE_BLOCKS`] that are in the set.
#[derive(Debug, Clone)]
pub(super) enum Page {
    /// First and last number of each run, ascending; none touch.
    Runs(Vec<(u16, u16)>),
    /// All of them.
    Full,
    Bits(Box<Bits>),
}

#[derive(Debug, Clone)]
pub(super) struct Bits {
    count: u32,
    words: [u64; WORDS],
}

impl Default for Page {
    fn default() -> Self {
        Self::Runs(Vec::new())
    }
}

impl Page {
    /// Bytes allocated outside of the page itself.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Runs(runs) => runs.capacity() * size_of::<(u16, u16)>(),
            Self::Full => 0,
            Self::Bits(_) => size_of::<Bits>(),
        }
    }

    /// Adds a range that is not empty, and returns how many were not there.
    pub(super) fn insert(&mut self, range: Range<u32>) -> u32 {
        if range == (0..PAGE_BLOCKS) {
            let before = self.count();
            *self = Self::Full;
            return PAGE_BLOCKS - before;
        }
        let added = match self {
            Self::Full => 0,
            Self::Bits(bits) => bits.insert(range),
            Self::Runs(runs) => insert_run(runs, range),
        };
        match self {
            Self::Bits(bits) if bits.count == PAGE_BLOCKS => *self = Self::Full,
            Self::Runs(runs) if runs.as_slice() == [(0, (PAGE_BLOCKS - 1) as u16)] => *self = Self::Full,
            Self::Runs(runs) if runs.len() > MAX_RUNS => *self = Self::Bits(Box::new(Bits::of(runs))),
            _ => {}
        }
        added
    }

    fn count(&self) -> u32 {
        match self {
            Self::Full => PAGE_BLOCKS,
            Self::Bits(bits) => bits.count,
            Self::Runs(runs) => runs.iter().map(|run| u32::from(run.1 - run.0) + 1).sum(),
        }
    }

    /// The first number from `from` on, which is below the end, that is in the set, or is not.
    pub(super) fn next(&self, from: u32, is_in: bool) -> Option<u32> {
        match self {
            Self::Full => is_in.then_some(from),
            Self::Bits(bits) => bits.next(from, is_in),
            Self::Runs(runs) => {
                let run = runs.get(runs.partition_point(|run| u32::from(run.1) < from));
                let run = run.map(|run| u32::from(run.0)..u32::from(run.1) + 1);
                match (run, is_in) {
                    (Some(run), true) => Some(run.start.max(from)),
                    (Some(run), false) if run.start <= from => Some(run.end).filter(|end| *end < PAGE_BLOCKS),
                    (_, false) => Some(from),
                    (None, true) => None,
                }
            }
        }
    }
}

/// Adds a run, and joins what it touches.
fn insert_run(runs: &mut Vec<(u16, u16)>, range: Range<u32>) -> u32 {
    let touched = runs.partition_point(|run| u32::from(run.1) + 1 < range.start)
        ..runs.partition_point(|run| u32::from(run.0) <= range.end);
    let before: u32 = runs[touched.clone()].iter().map(|run| u32::from(run.1 - run.0) + 1).sum();
    let first = runs[touched.clone()].first().map_or(range.start, |run| range.start.min(run.0.into()));
    let last = runs[touched.clone()].last().map_or(range.end - 1, |run| (range.end - 1).max(run.1.into()));
    runs.splice(touched, [(first as u16, last as u16)]);
    last - first + 1 - before
}

impl Bits {
    fn of(runs: &[(u16, u16)]) -> Self {
        let mut bits = Self { count: 0, words: [0; WORDS] };
        for (first, last) in runs {
            bits.insert(u32::from(*first)..u32::from(*last) + 1);
        }
        bits
    }

    fn insert(&mut self, range: Range<u32>) -> u32 {
        let mut number = range.start;
        let mut added = 0;
        while number < range.end {
            let bit = number % 64;
            let length = (64 - bit).min(range.end - number);
            let mask = (u64::MAX >> (64 - length)) << bit;
            let word = &mut self.words[(number / 64) as usize];
            added += (mask & !*word).count_ones();
            *word |= mask;
            number += length;
        }
        self.count += added;
        added
    }

    fn next(&self, from: u32, is_in: bool) -> Option<u32> {
        let mut number = from;
        while number < PAGE_BLOCKS {
            let word = self.words[(number / 64) as usize];
            let word = if is_in { word } else { !word } >> (number % 64);
            if word != 0 {
                return Some(number + word.trailing_zeros());
            }
            number += 64 - number % 64;
        }
        None
    }
}
