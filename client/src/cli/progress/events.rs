//! A JSON line every second, for programs.

use std::time::Duration;

use imprint_client::Phase;
use serde::Serialize;

use super::{Pace, Snapshot};
use crate::cli::output::Output;

const INTERVAL: Duration = Duration::from_secs(1);

pub(crate) struct Events {
    output: Output,
    pace: Pace,
}

/// A snapshot as JSON.
#[derive(Debug, Serialize)]
struct ProgressDocument {
    activity: &'static str,
    phase: &'static str,
    total_bytes: Option<u64>,
    done_bytes: u64,
    new_bytes: u64,
    reused_bytes: u64,
    transferred_bytes: u64,
    bytes_per_second: u64,
    seconds_left: Option<u64>,
}

impl Events {
    pub(super) const fn new(output: Output) -> Self {
        Self { output, pace: Pace::new(INTERVAL, INTERVAL) }
    }

    /// Writes an event when one is due. A failure to write comes up again, and is reported, with the result.
    pub(super) fn show(&mut self, verb: &'static str, snapshot: &Snapshot) {
        if self.pace.is_due(snapshot.elapsed) {
            let _ = self.output.event("progress", &document(verb, snapshot));
        }
    }
}

fn document(verb: &'static str, snapshot: &Snapshot) -> ProgressDocument {
    ProgressDocument {
        activity: verb,
        phase: match snapshot.phase {
            Phase::Preparing => "preparing",
            Phase::ReadingTree => "reading_tree",
            Phase::ReadingTarget => "reading_target",
            Phase::Transferring => "transferring",
            Phase::Finishing => "finishing",
            Phase::Waiting => "waiting",
            Phase::Spooling => "spooling",
        },
        total_bytes: Some(snapshot.total_bytes).filter(|&total| total > 0),
        done_bytes: snapshot.done_bytes,
        new_bytes: snapshot.new_bytes,
        reused_bytes: snapshot.reused_bytes,
        transferred_bytes: snapshot.transferred_bytes,
        bytes_per_second: snapshot.bytes_per_second,
        seconds_left: snapshot.left().map(|left| left.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::snapshot::tests::SAMPLE, *};

    #[test]
    fn the_shape_of_an_event_does_not_change() {
        let expected = "{\"activity\":\"pushing\",\"phase\":\"transferring\",\"total_bytes\":4294967296,\
            \"done_bytes\":1073741824,\"new_bytes\":170917888,\"reused_bytes\":776994816,\
            \"transferred_bytes\":63963136,\"bytes_per_second\":268435456,\"seconds_left\":12}";
        assert_eq!(serde_json::to_string(&document("pushing", &SAMPLE)).unwrap(), expected);
    }
}
