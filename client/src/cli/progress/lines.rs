//! A line every few seconds, where there is no terminal.

use std::time::Duration;

use super::{Pace, Snapshot};
use crate::cli::output::write_error_line;

/// Shorter operations show nothing.
const FIRST: Duration = Duration::from_secs(2);
const INTERVAL: Duration = Duration::from_secs(5);

pub(crate) struct Lines(Pace);

impl Default for Lines {
    fn default() -> Self {
        Self(Pace::new(FIRST, INTERVAL))
    }
}

impl Lines {
    pub(super) fn show(&mut self, verb: &'static str, snapshot: &Snapshot) {
        if self.0.is_due(snapshot.elapsed) {
            write_error_line(&line(verb, snapshot));
        }
    }
}

/// `pushing: 25 %, 1.00 GiB of 4.00 GiB, ...`.
fn line(verb: &'static str, snapshot: &Snapshot) -> String {
    let (activity, details) = (snapshot.activity(verb), snapshot.details());
    match snapshot.percent() {
        _ if details.is_empty() => activity.to_owned(),
        Some(percent) => format!("{activity}: {percent} %, {details}"),
        None => format!("{activity}: {details}"),
    }
}

#[cfg(test)]
mod tests {
    use imprint_client::Phase;

    use super::{super::snapshot::tests::SAMPLE, *};

    #[test]
    fn a_line_says_what_is_done_and_how_far() {
        assert_eq!(
            line("pushing", &SAMPLE),
            "pushing: 25 %, 1.00 GiB of 4.00 GiB, 256 MiB/s, 12 s left; 163 MiB new, 741 MiB reused"
        );
        let start = Snapshot { phase: Phase::Preparing, done_bytes: 0, ..SAMPLE };
        assert_eq!(line("pushing", &start), "preparing");
    }
}
