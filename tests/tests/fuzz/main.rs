//! Every decoder takes any bytes: it answers with an error or with what encodes to the same bytes, never panics, and takes
//! no more memory than what it was given is worth.
//!
//! Each target gets random bytes, the inputs in `__fuzz__/<target>/corpus`, and those inputs with some bytes changed, half
//! of them with their checksums made right again. `IMPRINT_FUZZ_SECONDS` says for how long. `cargo bolero test -p
//! imprint-tests TARGET` looks for new paths with coverage. What is found becomes a file in `__fuzz__/<target>/crashes`,
//! which is tried each time, and a test with a name.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that goes wrong panics

mod corpus;
mod decode;
mod messages;
mod service;

use std::{env, time::Duration};

use imprint_tests::allocation::{Counting, peak_bytes};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Longest random input, and longest change, in bytes.
const MAX_LENGTH: usize = 4096;

fn fuzz_time() -> Duration {
    let seconds = env::var("IMPRINT_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or(0.5))
}

/// What a decoder may take: so many times its input, and so many bytes in any case.
struct Budget {
    times: usize,
    bytes: usize,
}

impl Budget {
    const fn new(times: usize, bytes: usize) -> Self {
        Self { times, bytes }
    }

    fn assert_kept(&self, input: &[u8], decode: impl FnOnce(&[u8])) {
        let peak = peak_bytes(|| decode(input));
        let allowed = self.bytes + self.times * input.len();
        assert!(peak <= allowed, "{} bytes made it take {peak} bytes, {allowed} are allowed", input.len());
    }
}

macro_rules! targets {
    ($($target:ident: $times:literal times, $bytes:expr;)*) => {
        $(#[test] fn $target() {
            let samples = corpus::samples(stringify!($target));
            let budget = Budget::new($times, $bytes);
            // What is made once, for all inputs.
            samples.iter().for_each(|sample| decode::$target(sample));
            bolero::check!(name = stringify!($target))
                .with_iterations(usize::MAX)
                .with_test_time(fuzz_time())
                .with_max_len(MAX_LENGTH)
                .for_each(|input: &[u8]| {
                    budget.assert_kept(input, decode::$target);
                    if let Some(edited) = corpus::edited(stringify!($target), &samples, input) {
                        budget.assert_kept(&edited, decode::$target);
                    }
                });
        })*
    };
}

/// Errors have texts.
const SOME: usize = 16 << 10;

targets! {
    superblock:     1 times, SOME;
    pack_header:    1 times, SOME;
    // The input is copied, and decoded: at most a chunk of 1 MiB.
    pack_record:    2 times, SOME + (1 << 20);
    pack_footer:    4 times, SOME;
    pack_scan:      1 times, SOME;
    journal_entry:  8 times, SOME;
    journal_file:   8 times, SOME + (64 << 10);
    node:           4 times, SOME;
    content_record: 8 times, SOME;
    payload:        2 times, SOME + (1 << 20);
    names:          8 times, SOME;
    // An empty message in a list takes 2 bytes on the wire and some 100 in memory, and lists grow by doubling.
    wire_message: 200 times, SOME;
    extents_file:   4 times, SOME + (256 << 10);
    target_memory: 16 times, SOME;
}

/// Without a valid input the changed ones would not come far; and the checks above can fail.
#[test]
fn the_corpus_is_valid_and_a_budget_can_be_exceeded() {
    corpus::assert_valid();
    let greedy = std::panic::catch_unwind(|| Budget::new(1, 1000).assert_kept(b"12", |_| drop(vec![0u8; 1003])));
    assert!(greedy.is_err());
    Budget::new(1, 1000).assert_kept(b"12", |_| drop(vec![0u8; 1002]));
}
