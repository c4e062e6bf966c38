//! The clock that files are stamped with.
//!
//! The kernel stamps a change with a clock that ticks every few milliseconds, so that two changes within a tick can
//! carry the same time. A time is proof of "not changed since" only once that clock has moved past it.

use std::{thread, time::Duration};

use rustix::time::{ClockId, clock_getres, clock_gettime};

const NANOSECONDS: i64 = 1_000_000_000;
/// Some filesystems keep whole seconds, FAT even two.
const COARSEST_GRAIN_NS: i64 = 2 * NANOSECONDS;
/// Several ticks of the slowest kernel clock (100 a second).
const LONGEST_WAIT: Duration = Duration::from_millis(50);

/// Seconds and nanoseconds as nanoseconds; the ends of the range stand for what lies beyond.
pub(super) fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(NANOSECONDS).saturating_add(nanoseconds)
}

/// Waits, a few milliseconds at most, until any further change of a file must get a later time than `time_ns`.
///
/// False if that cannot be reached: the time lies in the future, or may have been cut to whole seconds.
#[must_use]
pub fn wait_until_past(time_ns: i64) -> bool {
    let tick = tick();
    let mut waited = Duration::ZERO;
    while !has_passed(time_ns) {
        if waited >= LONGEST_WAIT {
            return false;
        }
        thread::sleep(tick);
        waited += tick;
    }
    true
}

/// Whether any further change of a file must get a later time than `time_ns`.
#[must_use]
pub fn has_passed(time_ns: i64) -> bool {
    is_past(time_ns, now_ns())
}

fn is_past(time_ns: i64, now_ns: i64) -> bool {
    let grain = if time_ns % NANOSECONDS == 0 { COARSEST_GRAIN_NS } else { 0 };
    now_ns > time_ns.saturating_add(grain)
}

fn now_ns() -> i64 {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    nanoseconds(now.tv_sec, now.tv_nsec)
}

fn tick() -> Duration {
    let tick = clock_getres(ClockId::RealtimeCoarse);
    let tick = Duration::from_nanos(u64::try_from(nanoseconds(tick.tv_sec, tick.tv_nsec)).unwrap_or(0));
    tick.clamp(Duration::from_millis(1), LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_past_once_the_clock_moved_on() {
        assert!(is_past(1_500_000_000, 1_500_000_001));
        assert!(!is_past(1_500_000_000, 1_500_000_000), "a change in the same tick would look the same");
    }

    #[test]
    fn whole_seconds_may_have_been_cut() {
        assert!(!is_past(3_000_000_000, 4_999_999_999));
        assert!(is_past(3_000_000_000, 5_000_000_001));
    }

    #[test]
    fn a_time_in_the_future_is_never_past() {
        assert!(!wait_until_past(now_ns() + 3_600 * NANOSECONDS));
        assert!(wait_until_past(now_ns() + 1));
    }
}
