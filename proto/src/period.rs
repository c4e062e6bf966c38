//! Periods of time as people write them on a command line.

use std::time::Duration;

/// A whole number of minutes, hours, days or weeks: `90m`, `12h`, `30d`, `4w`.
///
/// # Errors
/// What is expected instead, for the person who wrote it.
pub fn parse_period(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len());
    let seconds: u64 = match unit {
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        "w" => 7 * 24 * 60 * 60,
        _ => return Err("a number with m, h, d or w behind it is expected, such as 7d".into()),
    };
    let number: u32 = number.parse().map_err(|_| format!("{number:?} is not a number"))?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_has_a_number_and_a_unit() {
        let hours = |text| parse_period(text).map(|period| period.as_secs_f64() / 3600.0);
        assert_eq!(["90m", "12h", "2d", "1w", "0m"].map(hours), [1.5, 12.0, 48.0, 168.0, 0.0].map(Ok));
        assert!(parse_period("4294967295w").is_ok());
        for text in ["", "d", "7", "-1d", "1.5h", "7 d", "7days", "4294967296m", "1s", "7\u{661}d"] {
            assert!(parse_period(text).is_err(), "{text}");
        }
    }
}
