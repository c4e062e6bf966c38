//! The counters of an operation at one moment, with the rate they move at.

use std::{collections::VecDeque, time::Duration};

use imprint_client::{Phase, Progress};

use crate::cli::{size::size, time};

/// The rate is that of the last so many seconds: long enough to be calm, short enough to be true.
const WINDOW: Duration = Duration::from_secs(6);

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Snapshot {
    /// Since the operation began.
    pub(super) elapsed: Duration,
    pub(super) phase: Phase,
    /// 0 when not known.
    pub(super) total_bytes: u64,
    pub(super) done_bytes: u64,
    pub(super) new_bytes: u64,
    pub(super) reused_bytes: u64,
    pub(super) transferred_bytes: u64,
    pub(super) bytes_per_second: u64,
}

impl Snapshot {
    /// What is being done, in words.
    pub(super) const fn activity(&self, verb: &'static str) -> &'static str {
        match self.phase {
            Phase::Preparing => "preparing",
            Phase::ReadingTree => "reading the tree",
            Phase::ReadingTarget => "reading what is there",
            Phase::Transferring => verb,
            Phase::Finishing => "finishing",
            Phase::Waiting => "waiting for the repository",
            Phase::Spooling => "writing standard input to a file",
        }
    }

    /// Whole percents; nothing when the total is not known.
    pub(super) fn percent(&self) -> Option<u64> {
        let done = u128::from(self.done_bytes.min(self.total_bytes));
        (done * 100).checked_div(self.total_bytes.into()).map(|percent| percent as u64)
    }

    /// Time left at this rate.
    pub(super) fn left(&self) -> Option<Duration> {
        let rest = self.total_bytes.checked_sub(self.done_bytes).filter(|_| self.total_bytes > 0)?;
        rest.checked_div(self.bytes_per_second).map(Duration::from_secs)
    }

    /// Amounts, rate and time left; empty before anything was done.
    pub(super) fn details(&self) -> String {
        if self.done_bytes == 0 {
            return String::new();
        }
        let mut text = size(self.done_bytes);
        if self.total_bytes > 0 {
            text += &format!(" of {}", size(self.total_bytes));
        }
        if matches!(self.phase, Phase::ReadingTarget | Phase::Transferring) && self.bytes_per_second > 0 {
            text += &format!(", {}/s", size(self.bytes_per_second));
            if let Some(left) = self.left().filter(|left| !left.is_zero()) {
                text += &format!(", {} left", time::estimate(left));
            }
        }
        if self.new_bytes > 0 || self.reused_bytes > 0 {
            text += &format!("; {} new, {} reused", size(self.new_bytes), size(self.reused_bytes));
        }
        text
    }
}

/// Turns counters into snapshots.
#[derive(Debug, Default)]
pub(super) struct Meter {
    phase: Option<Phase>,
    /// When so many bytes were done; the oldest one is at most a window old.
    marks: VecDeque<(Duration, u64)>,
}

impl Meter {
    /// Reads the counters `elapsed` after the operation began.
    pub(super) fn read(&mut self, progress: &Progress, elapsed: Duration) -> Snapshot {
        let (phase, done_bytes) = (progress.phase(), progress.done());
        Snapshot {
            elapsed,
            phase,
            total_bytes: progress.total(),
            done_bytes,
            new_bytes: progress.new_bytes(),
            reused_bytes: progress.reused_bytes(),
            transferred_bytes: progress.transferred_bytes(),
            bytes_per_second: self.rate(phase, elapsed, done_bytes),
        }
    }

    /// Bytes per second over the window. A new phase starts a new window: its pace has nothing to do with the last.
    fn rate(&mut self, phase: Phase, elapsed: Duration, done: u64) -> u64 {
        if self.phase.replace(phase) != Some(phase) {
            self.marks.clear();
        }
        self.marks.push_back((elapsed, done));
        while self.marks.front().is_some_and(|(at, _)| *at + WINDOW < elapsed) {
            self.marks.pop_front();
        }
        let Some(&(start, before)) = self.marks.front() else { return 0 };
        let milliseconds = (elapsed - start).as_millis() as u64;
        (done.saturating_sub(before).saturating_mul(1000)).checked_div(milliseconds).unwrap_or(0)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cli::progress) const SAMPLE: Snapshot = Snapshot {
        elapsed: Duration::from_secs(4),
        phase: Phase::Transferring,
        total_bytes: 4 << 30,
        done_bytes: 1 << 30,
        new_bytes: 163 << 20,
        reused_bytes: 741 << 20,
        transferred_bytes: 61 << 20,
        bytes_per_second: 256 << 20,
    };

    #[test]
    fn details_have_amounts_rate_and_time_left() {
        assert_eq!(SAMPLE.details(), "1.00 GiB of 4.00 GiB, 256 MiB/s, 12 s left; 163 MiB new, 741 MiB reused");
        assert_eq!((SAMPLE.percent(), SAMPLE.activity("pushing")), (Some(25), "pushing"));
    }

    #[test]
    fn a_stream_has_no_percents_and_no_end() {
        let stream = Snapshot { total_bytes: 0, new_bytes: 0, reused_bytes: 0, ..SAMPLE };
        assert_eq!((stream.percent(), stream.left()), (None, None));
        assert_eq!(stream.details(), "1.00 GiB, 256 MiB/s");
    }

    #[test]
    fn nothing_is_claimed_before_anything_is_done() {
        let start = Snapshot { phase: Phase::Preparing, done_bytes: 0, bytes_per_second: 0, ..SAMPLE };
        assert_eq!((start.details(), start.left(), start.percent()), (String::new(), None, Some(0)));
        assert_eq!(start.activity("pushing"), "preparing");
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let mut meter = Meter::default();
        let mut rate = |second, done| meter.rate(Phase::Transferring, Duration::from_secs(second), done);
        assert_eq!(rate(0, 0), 0);
        assert_eq!(rate(2, 200), 100);
        assert_eq!(rate(6, 200), 33);
        assert_eq!(rate(10, 200), 0);
    }

    #[test]
    fn a_new_phase_has_a_rate_of_its_own() {
        let mut meter = Meter::default();
        meter.rate(Phase::ReadingTree, Duration::ZERO, 0);
        assert_eq!(meter.rate(Phase::Transferring, Duration::from_secs(1), 500), 0);
        assert_eq!(meter.rate(Phase::Transferring, Duration::from_secs(2), 700), 200);
    }
}
