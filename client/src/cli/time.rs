//! Times and durations: local and short for people, RFC 3339 in UTC for programs.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};

/// `2026-11-23 10:15` where the user is.
pub(crate) fn local(unix_ms: i64) -> String {
    local_in(unix_ms, TimeZone::system())
}

fn local_in(unix_ms: i64, zone: TimeZone) -> String {
    Timestamp::from_millisecond(unix_ms)
        .map_or_else(|_| format!("{unix_ms} ms"), |time| time.to_zoned(zone).strftime("%Y-%m-%d %H:%M").to_string())
}

/// `2026-11-23T09:15:02.25Z`; nothing for a time that no calendar has.
pub(crate) fn rfc3339(unix_ms: i64) -> Option<String> {
    Timestamp::from_millisecond(unix_ms).ok().map(|time| time.to_string())
}

/// `0.04 s`, `2.1 s`, `64 s`, `12 min 04 s`, `2 h 05 min`.
pub(crate) fn elapsed(duration: Duration) -> String {
    let seconds = duration.as_secs_f64().round() as u64;
    match seconds {
        0 => format!("{:.2} s", duration.as_secs_f64()),
        1..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..120 => format!("{seconds} s"),
        120..7200 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// What is left of something whose end can only be guessed: `9 s`, `64 s`, `12 min`, `2 h 05 min`.
pub(crate) fn estimate(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_local_for_people_and_utc_for_programs() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(local_in(1_795_425_302_250, zone.clone()), "2026-11-23 11:15");
        assert_eq!(rfc3339(1_795_425_302_250).as_deref(), Some("2026-11-23T09:15:02.25Z"));
        assert_eq!(local_in(i64::MAX, zone), "9223372036854775807 ms");
        assert_eq!(rfc3339(i64::MAX), None);
    }

    #[test]
    fn durations_get_coarser_as_they_grow() {
        let table = [
            (0, "0.00 s"),
            (40, "0.04 s"),
            (2_140, "2.1 s"),
            (9_499, "9.5 s"),
            (9_999, "10 s"),
            (64_000, "64 s"),
            (724_000, "12 min 04 s"),
            (7_500_000, "2 h 05 min"),
        ];
        for (milliseconds, text) in table {
            assert_eq!(elapsed(Duration::from_millis(milliseconds)), text);
        }
    }

    #[test]
    fn an_estimate_claims_no_more_than_it_knows() {
        for (seconds, text) in [(9, "9 s"), (119, "119 s"), (724, "12 min"), (7_500, "2 h 05 min")] {
            assert_eq!(estimate(Duration::from_secs(seconds)), text);
        }
    }
}
