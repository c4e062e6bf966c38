//! Orders copies inside one target so that nothing is overwritten before its last use.
//!
//! A copy must come before every other copy that overwrites what it reads. Where such copies wait for each other in
//! a ring, one of them is read ahead into memory; when that memory is full, one is given up, and its chunk will be
//! fetched instead.

use std::{collections::VecDeque, ops::Range};

/// A chunk that the target holds, and where it is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) length: u64,
}

impl Move {
    const fn source(&self) -> Range<u64> {
        self.from..self.from + self.length
    }
}

/// What to do next; the number is the move's place in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Read and write it.
    Copy(usize),
    /// Read it and keep it in memory.
    ReadAhead(usize),
    /// Write what was read ahead.
    Write(usize),
    /// Leave it: its source will be overwritten.
    GiveUp(usize),
}

/// Puts moves, whose destinations do not overlap, in an order in which each reads what was there at the start.
/// At most `memory` bytes are read ahead at any time.
pub(super) fn order(moves: &[Move], memory: u64) -> Vec<Step> {
    let mut ordering = Ordering::new(moves, memory);
    for next in 0..moves.len() {
        ordering.drain();
        ordering.break_ring_at(next);
    }
    ordering.drain();
    ordering.steps
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    InMemory,
    Settled,
}

struct Ordering<'a> {
    moves: &'a [Move],
    /// Numbers of the moves by destination.
    by_destination: Vec<usize>,
    /// How many moves still read what this one overwrites.
    readers: Vec<u32>,
    state: Vec<State>,
    ready: VecDeque<usize>,
    free_memory: u64,
    steps: Vec<Step>,
}

impl<'a> Ordering<'a> {
    fn new(moves: &'a [Move], memory: u64) -> Self {
        let mut by_destination: Vec<usize> = (0..moves.len()).collect();
        by_destination.sort_unstable_by_key(|n| moves[*n].to);
        let mut ordering = Self {
            moves,
            by_destination,
            readers: vec![0; moves.len()],
            state: vec![State::Waiting; moves.len()],
            ready: VecDeque::new(),
            free_memory: memory,
            steps: Vec::with_capacity(moves.len()),
        };
        for reader in 0..moves.len() {
            for writer in ordering.overwriters(reader) {
                ordering.readers[writer] += 1;
            }
        }
        ordering.ready = (0..moves.len()).filter(|n| ordering.readers[*n] == 0).collect();
        ordering
    }

    /// The other moves that overwrite what `reader` reads.
    fn overwriters(&self, reader: usize) -> Vec<usize> {
        let source = self.moves[reader].source();
        let end = |n: usize| self.moves[n].to + self.moves[n].length;
        let first = self.by_destination.partition_point(|n| end(*n) <= source.start);
        let overlapping = self.by_destination[first..].iter().copied();
        overlapping.take_while(|n| self.moves[*n].to < source.end).filter(|n| *n != reader).collect()
    }

    fn drain(&mut self) {
        while let Some(next) = self.ready.pop_front() {
            match self.state[next] {
                State::Settled => continue,
                State::Waiting => {
                    self.steps.push(Step::Copy(next));
                    self.release(next);
                }
                State::InMemory => {
                    self.steps.push(Step::Write(next));
                    self.free_memory += self.moves[next].length;
                }
            }
            self.state[next] = State::Settled;
        }
    }

    /// Nothing is ready: all that wait are in rings, or behind one.
    fn break_ring_at(&mut self, candidate: usize) {
        if self.state[candidate] != State::Waiting {
            return;
        }
        let length = self.moves[candidate].length;
        if length <= self.free_memory {
            self.free_memory -= length;
            self.state[candidate] = State::InMemory;
            self.steps.push(Step::ReadAhead(candidate));
        } else {
            self.state[candidate] = State::Settled;
            self.steps.push(Step::GiveUp(candidate));
        }
        self.release(candidate);
    }

    /// The source of `reader` is no longer needed.
    fn release(&mut self, reader: usize) {
        for writer in self.overwriters(reader) {
            self.readers[writer] -= 1;
            if self.readers[writer] == 0 {
                self.ready.push_back(writer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Carries the steps out on bytes. Returns which moves were made.
    fn carry_out(disk: &mut [u8], moves: &[Move], steps: &[Step], memory: u64) -> Vec<bool> {
        let mut held: HashMap<usize, Vec<u8>> = HashMap::new();
        let mut made = vec![false; moves.len()];
        let read = |disk: &[u8], n: usize| disk[moves[n].from as usize..moves[n].source().end as usize].to_vec();
        for step in steps {
            let (n, bytes) = match step {
                Step::Copy(n) => (*n, read(disk, *n)),
                Step::Write(n) => (*n, held.remove(n).unwrap()),
                Step::ReadAhead(n) => {
                    held.insert(*n, read(disk, *n));
                    assert!(held.values().map(|bytes| bytes.len() as u64).sum::<u64>() <= memory);
                    continue;
                }
                Step::GiveUp(_) => continue,
            };
            disk[moves[n].to as usize..][..bytes.len()].copy_from_slice(&bytes);
            made[n] = true;
        }
        assert!(held.is_empty(), "everything read ahead is written");
        made
    }

    fn check(moves: &[Move], memory: u64) -> Vec<Step> {
        let size = moves.iter().map(|m| m.source().end.max(m.to + m.length)).max().unwrap_or(0);
        let before: Vec<u8> = (0..size).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 13) as u8).collect();
        let mut after = before.clone();
        let steps = order(moves, memory);
        let made = carry_out(&mut after, moves, &steps, memory);
        for (n, m) in moves.iter().enumerate().filter(|(n, _)| made[*n]) {
            let expected = &before[m.from as usize..m.source().end as usize];
            assert_eq!(&after[m.to as usize..][..m.length as usize], expected, "move {n}: {m:?}");
        }
        let given_up = steps.iter().filter(|step| matches!(step, Step::GiveUp(_))).count();
        assert_eq!(made.iter().filter(|made| **made).count() + given_up, moves.len());
        steps
    }

    fn only_copies(steps: &[Step]) -> bool {
        steps.iter().all(|step| matches!(step, Step::Copy(_)))
    }

    fn blocks(map: impl Fn(u64) -> u64, count: u64) -> Vec<Move> {
        (0..count).map(|n| Move { from: n * 10, to: map(n) * 10, length: 10 }).filter(|m| m.from != m.to).collect()
    }

    #[test]
    fn shifted_regions_need_no_memory() {
        assert!(only_copies(&check(&blocks(|n| n + 1, 100), 0)));
        assert!(only_copies(&check(&blocks(|n| n + 100, 100), 0)));
        let back: Vec<Move> = (1..100).map(|n| Move { from: n * 10, to: n * 10 - 7, length: 10 }).collect();
        assert!(only_copies(&check(&back, 0)));
    }

    #[test]
    fn swapped_and_reversed_regions_keep_one_block_in_memory() {
        let swapped = check(&blocks(|n| n ^ 1, 100), 10);
        assert!(swapped.iter().all(|step| !matches!(step, Step::GiveUp(_))));
        let reversed = check(&blocks(|n| 99 - n, 100), 10);
        assert!(reversed.iter().all(|step| !matches!(step, Step::GiveUp(_))));
    }

    #[test]
    fn a_ring_without_memory_costs_one_block() {
        let steps = check(&blocks(|n| (n + 1) % 100, 100), 0);
        assert_eq!(steps.iter().filter(|step| matches!(step, Step::GiveUp(_))).count(), 1);
    }

    proptest! {
        #[test]
        fn any_moves_read_what_was_there_at_the_start(
            lengths in prop::collection::vec(1u64..50, 1..60),
            froms in prop::collection::vec(0u64..1500, 60),
            gaps in prop::collection::vec(0u64..20, 60),
            order in any::<u64>(),
            memory in 0u64..200,
        ) {
            let mut to = 0;
            let mut moves: Vec<Move> = Vec::new();
            for ((length, from), gap) in lengths.into_iter().zip(froms).zip(gaps) {
                to += gap;
                moves.push(Move { from, to, length });
                to += length;
            }
            let by = |m: &Move| m.to.wrapping_mul(order | 1) >> 3;
            moves.sort_by_key(by);
            check(&moves, memory);
            let ample = check(&moves, 1 << 20);
            prop_assert!(ample.iter().all(|step| !matches!(step, Step::GiveUp(_))));
        }
    }
}
