//! A repository under random operations, compared with a map from versions to bytes.
//!
//! Each sequence has a repository of its own, on a disk in memory that loses what was not synced when the power fails:
//! pushes, also interrupted ones that go on under the same id, removals, tags, pins, rules, collections with all of that
//! in between, reopening, rebuilding, crashes, damage. After each operation a version is read and compared byte for byte,
//! now and then everything. A version that was acknowledged is there; one that was under way is whole or absent; a removed
//! one comes back whole until it is given up, and never after; numbers and counters never repeat; damage is an error and never
//! wrong bytes, and heals when it is pushed again; a collection leaves nothing that no version needs.
//!
//! `IMPRINT_MODEL_OPERATIONS` says how many operations; each sequence has a seed of its own, counted from the first one,
//! which is printed and which `IMPRINT_SEED` sets. A sequence that fails is shortened and printed.

mod collection;
mod content;
mod damage;
mod decisions;
mod inspect;
mod model;
mod operation;
mod process;
mod push;
mod random;
mod session;
mod shorten;

use std::{
    env,
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use self::{
    operation::Operation,
    session::{Counts, Session, Trouble},
};

/// Operations of one sequence: enough for versions to come and go several times.
const SEQUENCE: usize = 500;

#[test]
fn whatever_is_done_a_repository_is_a_map_from_versions_to_bytes() {
    let number = |name, default| env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (operations, seed): (u64, u64) = (number("IMPRINT_MODEL_OPERATIONS", 20_000), number("IMPRINT_SEED", 1));
    println!("seed {seed} (replay with IMPRINT_SEED={seed})");
    let sequences = operations.div_ceil(SEQUENCE as u64);
    let (next, totals, has_failed) = (AtomicU64::new(0), Mutex::new(Counts::default()), AtomicBool::new(false));
    thread::scope(|threads| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            threads.spawn(|| {
                while !has_failed.load(Relaxed) {
                    let n = next.fetch_add(1, Relaxed);
                    if n >= sequences {
                        break;
                    }
                    let seed = seed.wrapping_add(n);
                    match run(seed, &operation::sequence(seed, SEQUENCE)) {
                        Ok(counts) => totals.lock().unwrap().add(&counts),
                        Err(failure) => {
                            has_failed.store(true, Relaxed);
                            report(seed, &failure);
                        }
                    }
                }
            });
        }
    });
    println!("model: {sequences} sequences, {:?}", totals.lock().unwrap());
    assert!(!has_failed.load(Relaxed), "a sequence failed: see above");
}

/// How a sequence failed: after how many of its operations, and why.
#[derive(Debug)]
struct Failure {
    after: usize,
    why: String,
}

/// Runs one sequence in a new repository.
fn run(seed: u64, operations: &[Operation]) -> Result<Counts, Failure> {
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut session = Session::new(seed).map_err(|trouble: Trouble| (0, format!("{trouble:?}")))?;
        session.run(operations)?;
        Ok(session.counts)
    }));
    match ran {
        Ok(Ok(counts)) => Ok(counts),
        Ok(Err((after, why))) => Err(Failure { after, why }),
        Err(_) => Err(Failure { after: operations.len(), why: "a panic: its message is above".into() }),
    }
}

/// Says what failed, and the shortest sequence that was found to fail too.
fn report(seed: u64, failure: &Failure) {
    println!("the sequence of seed {seed} (IMPRINT_SEED={seed} IMPRINT_MODEL_OPERATIONS={SEQUENCE}) failed");
    println!("in operation {}: {}", failure.after, failure.why);
    let mut operations = operation::sequence(seed, SEQUENCE);
    operations.truncate(failure.after + 1);
    let (shorter, why) = shorten::shorten(seed, operations);
    println!("{} operations are enough: {why}", shorter.len());
    for (n, operation) in shorter.iter().enumerate() {
        println!("{n:4} {operation:?}");
    }
}
