//! Progress of work that the repository does, as it tells it.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cli::output::{Audience, Output, Verbosity};

/// Passes on how far work is: now and then, and not at once, because most of it is done in a moment.
pub(crate) struct ServedProgress<'a> {
    output: &'a Output,
    activity: &'static str,
    last: Instant,
}

#[derive(Debug, Serialize)]
struct Document {
    activity: &'static str,
    phase: &'static str,
    /// Counted in what the phase says.
    done: u64,
    total: u64,
}

impl<'a> ServedProgress<'a> {
    /// Of work that begins now.
    pub(crate) fn new(output: &'a Output, activity: &'static str) -> Self {
        Self { output, activity, last: Instant::now() }
    }

    /// `phase` is for programs, `remark` for people.
    pub(crate) fn tell(&mut self, phase: &'static str, done: u64, total: u64, remark: &str) {
        let pace = match self.output.audience {
            Audience::People => Duration::from_secs(5),
            Audience::Programs => Duration::from_secs(1),
        };
        if self.output.verbosity == Verbosity::Quiet || self.last.elapsed() < pace {
            return;
        }
        self.last = Instant::now();
        match self.output.audience {
            Audience::People => self.output.remark(remark),
            Audience::Programs => {
                let document = Document { activity: self.activity, phase, done, total };
                // A failure to write comes up again with the result.
                let _ = self.output.event("progress", &document);
            }
        }
    }
}
