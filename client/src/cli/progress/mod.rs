//! Shows how far an operation is: a bar on a terminal, lines elsewhere, events for programs.
//!
//! The display only reads counters, and it lives and dies with the operation's future: when that ends or is dropped,
//! nothing of the display is left.

mod bar;
mod events;
mod lines;
mod served;
mod snapshot;

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use imprint_client::Progress;
use tokio::time::{MissedTickBehavior, interval};

use super::output::Output;
use {
    bar::Bar,
    events::Events,
    lines::Lines,
    snapshot::{Meter, Snapshot},
};

pub(crate) use served::ServedProgress;

/// How often the counters are read.
const TICK: Duration = Duration::from_millis(125);

/// How progress is shown.
pub(crate) enum View {
    Nothing,
    Bar(Bar),
    Lines(Lines),
    Events(Events),
}

impl View {
    pub(crate) fn bar() -> Self {
        Self::Bar(Bar::default())
    }

    pub(crate) fn lines() -> Self {
        Self::Lines(Lines::default())
    }

    pub(crate) fn events(output: Output) -> Self {
        Self::Events(Events::new(output))
    }

    fn show(&mut self, verb: &'static str, snapshot: &Snapshot) {
        match self {
            Self::Nothing => {}
            Self::Bar(bar) => bar.show(verb, snapshot),
            Self::Lines(lines) => lines.show(verb, snapshot),
            Self::Events(events) => events.show(verb, snapshot),
        }
    }
}

/// Runs `operation` and shows its progress until it ends.
pub(crate) async fn watch<T>(
    progress: &Progress,
    view: View,
    verb: &'static str,
    operation: impl Future<Output = T>,
) -> T {
    tokio::select! {
        biased;
        outcome = operation => outcome,
        never = show(progress, view, verb) => match never {},
    }
}

async fn show(progress: &Progress, mut view: View, verb: &'static str) -> Infallible {
    let start = Instant::now();
    let mut meter = Meter::default();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        view.show(verb, &meter.read(progress, start.elapsed()));
    }
}

/// Lets something through at most once in an interval.
#[derive(Debug)]
struct Pace {
    next: Duration,
    interval: Duration,
}

impl Pace {
    const fn new(first: Duration, interval: Duration) -> Self {
        Self { next: first, interval }
    }

    fn is_due(&mut self, elapsed: Duration) -> bool {
        let due = elapsed >= self.next;
        if due {
            self.next = elapsed + self.interval;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_keeps_its_interval() {
        let mut pace = Pace::new(Duration::from_secs(2), Duration::from_secs(5));
        let due: Vec<u64> = (0..15).filter(|&second| pace.is_due(Duration::from_secs(second))).collect();
        assert_eq!(due, [2, 7, 12]);
    }

    #[tokio::test]
    async fn an_operation_keeps_its_outcome() {
        let progress = Progress::new();
        assert_eq!(watch(&progress, View::Nothing, "testing", async { 7 }).await, 7);
    }
}
