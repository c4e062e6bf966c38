//! How fast a scrub may read.

use std::{num::NonZero, time::Duration};

/// Keeps reads below a rate, also within a pack. Pure: told the time, it says how long to wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    bytes_per_second: Option<NonZero<u64>>,
    /// When what was read so far was due to end.
    due: Duration,
}

impl Pace {
    /// No limit when no rate is given.
    pub(super) const fn new(bytes_per_second: Option<NonZero<u64>>) -> Self {
        Self { bytes_per_second, due: Duration::ZERO }
    }

    /// How long to wait before reading so much, at this time since some start. Time in which nothing was read is not made
    /// up for.
    pub(super) fn wait(&mut self, bytes: u64, now: Duration) -> Duration {
        let Some(rate) = self.bytes_per_second else { return Duration::ZERO };
        let start = self.due.max(now);
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.get());
        self.due = start.saturating_add(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)));
        start.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is read, and however long that takes: in no stretch of time more than the rate allows, but for the one
        /// piece that is read at once.
        #[test]
        fn the_rate_is_never_exceeded(
            rate in 1u64..1 << 30,
            reads in prop::collection::vec((1u64..1 << 20, 0u64..2_000_000), 1..50),
        ) {
            let mut pace = Pace::new(NonZero::new(rate));
            let mut now = Duration::ZERO;
            let mut begun = Vec::new();
            for (bytes, took_micros) in reads {
                now += pace.wait(bytes, now);
                begun.push((now, bytes));
                now += Duration::from_micros(took_micros);
            }
            for (first, (start, _)) in begun.iter().enumerate() {
                let mut read = 0.0;
                for (at, bytes) in &begun[first..] {
                    let allowed = (*at - *start).as_secs_f64() * rate as f64;
                    prop_assert!(read <= allowed * 1.000_001 + 1.0, "{read} bytes where {allowed} were allowed");
                    read += *bytes as f64;
                }
            }
        }

        /// Nothing but the rate slows it down.
        #[test]
        fn the_rate_is_used(rate in 1u64..1 << 30, reads in prop::collection::vec(1u64..1 << 20, 1..50)) {
            let mut pace = Pace::new(NonZero::new(rate));
            let mut now = Duration::ZERO;
            let mut before_last = 0;
            for (n, bytes) in reads.iter().enumerate() {
                now += pace.wait(*bytes, now);
                if n + 1 < reads.len() {
                    before_last += bytes;
                }
            }
            let expected = before_last as f64 / rate as f64;
            prop_assert!((now.as_secs_f64() - expected).abs() < 1e-6 * reads.len() as f64 + 1e-6 * expected);
        }
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let mut pace = Pace::new(None);
        assert_eq!(pace.wait(u64::MAX, Duration::ZERO), Duration::ZERO);
        assert_eq!(pace.wait(u64::MAX, Duration::ZERO), Duration::ZERO);
    }
}
