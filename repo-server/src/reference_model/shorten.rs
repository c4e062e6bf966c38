//! Leaves out operations of a sequence that fails, as long as it fails.

use std::time::{Duration, Instant};

use super::{operation::Operation, run};

/// Whoever waits for the sequence wants to see it before long.
const BUDGET: Duration = Duration::from_secs(60);

/// A shorter sequence that fails too, and how.
pub(super) fn shorten(seed: u64, mut operations: Vec<Operation>) -> (Vec<Operation>, String) {
    let start = Instant::now();
    let mut why = match run(seed, &operations) {
        Err(failure) => failure.why,
        Ok(_) => return (operations, "not when it was done again: something depends on time".into()),
    };
    let mut part = operations.len() / 2;
    while part > 0 {
        let mut at = 0;
        while at < operations.len() && start.elapsed() < BUDGET {
            let mut shorter = operations.clone();
            shorter.drain(at..(at + part).min(operations.len()));
            match run(seed, &shorter) {
                Err(failure) => (operations, why) = (shorter, failure.why),
                Ok(_) => at += part,
            }
        }
        part /= 2;
    }
    (operations, why)
}
