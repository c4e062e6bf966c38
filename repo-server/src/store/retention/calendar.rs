//! Which hour, day, week, month and year a moment is in. UTC, the Gregorian calendar, weeks from Monday to Sunday.
//!
//! Pure numbers, ascending with time: two moments are in one period exactly when its numbers are equal.

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Hours since 1970.
pub(super) const fn hour(unix_ms: i64) -> i64 {
    unix_ms.div_euclid(HOUR_MS)
}

/// Days since 1970.
pub(super) const fn day(unix_ms: i64) -> i64 {
    unix_ms.div_euclid(DAY_MS)
}

/// Weeks since the one that 1970 began in, on a Thursday.
pub(super) const fn week(unix_ms: i64) -> i64 {
    (day(unix_ms) + 3).div_euclid(7)
}

/// Months since the year 0.
pub(super) const fn month(unix_ms: i64) -> i64 {
    let (year, month) = year_and_month(day(unix_ms));
    year * 12 + month - 1
}

/// The year.
pub(super) const fn year(unix_ms: i64) -> i64 {
    year_and_month(day(unix_ms)).0
}

/// Year and month (1 to 12) of a day since 1970. Years are counted from March, so that a leap day is the last one, in eras
/// of 400 years, after which the calendar repeats itself (H. Hinnant, "chrono-compatible low-level date algorithms").
const fn year_and_month(day: i64) -> (i64, i64) {
    const ERA_DAYS: i64 = 146_097;
    // From 1970-01-01 back to 0000-03-01.
    let day = day + 719_468;
    let era = day.div_euclid(ERA_DAYS);
    let of_era = day.rem_euclid(ERA_DAYS);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
    (year, month)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days_of(year: i64, month: i64) -> i64 {
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        match month {
            4 | 6 | 9 | 11 => 30,
            2 if is_leap => 29,
            2 => 28,
            _ => 31,
        }
    }

    /// Counted forwards and backwards from 1970, a month at a time.
    #[test]
    fn every_day_of_a_thousand_years_is_in_its_month() {
        let mut first = 0;
        for (year, month) in (1970..2500).flat_map(|year| (1..=12).map(move |month| (year, month))) {
            for day in first..first + days_of(year, month) {
                assert_eq!(year_and_month(day), (year, month));
            }
            first += days_of(year, month);
        }
        let mut next = 0;
        for (year, month) in (1500..1970).rev().flat_map(|year| (1..=12).rev().map(move |month| (year, month))) {
            for day in next - days_of(year, month)..next {
                assert_eq!(year_and_month(day), (year, month));
            }
            next -= days_of(year, month);
        }
    }

    #[test]
    fn periods_end_at_midnight_and_weeks_on_sunday() {
        // 2026-11-22 was a Sunday.
        let monday = 1_795_392_000_000;
        assert_eq!(
            (hour(monday - 1) + 1, day(monday - 1) + 1, week(monday - 1) + 1),
            (hour(monday), day(monday), week(monday))
        );
        assert_eq!(week(monday), week(monday + 7 * DAY_MS - 1));
        assert_eq!(month(monday), 2026 * 12 + 10);
        assert_eq!((year(-1), month(-1), week(-1)), (1969, 1969 * 12 + 11, 0));
        assert_eq!((hour(-1), day(-1)), (-1, -1));
    }

    #[test]
    fn no_moment_is_out_of_range() {
        for moment in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX] {
            for period in [hour, day, week, month, year] {
                let _ = period(moment);
            }
        }
    }
}
