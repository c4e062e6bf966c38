//! A bar on a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Snapshot;

/// Shorter operations show nothing.
const FIRST: Duration = Duration::from_millis(500);
/// Every change of a part redraws the whole; more would only flicker.
const DRAWS_PER_SECOND: u8 = 8;
/// Two lines, so that the numbers have room beside a bar that can be seen.
const WITH_TOTAL: &str = "{prefix:<16} [{wide_bar}] {percent:>3} %\n  {wide_msg}";
const WITHOUT_TOTAL: &str = "{prefix:<16} {spinner}\n  {wide_msg}";

/// Appears when an operation takes long, and goes away with it.
#[derive(Default)]
pub(crate) struct Bar {
    drawn: Option<ProgressBar>,
    has_total: bool,
}

impl Bar {
    pub(super) fn show(&mut self, verb: &'static str, snapshot: &Snapshot) {
        if snapshot.elapsed < FIRST {
            return;
        }
        let has_total = snapshot.total_bytes > 0;
        let restyle = self.drawn.is_none() || has_total != self.has_total;
        let bar = self.drawn.get_or_insert_with(|| {
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND))
        });
        if restyle {
            bar.set_style(style(has_total));
            self.has_total = has_total;
        }
        if has_total {
            bar.set_length(snapshot.total_bytes);
        }
        bar.set_prefix(snapshot.activity(verb));
        bar.set_message(snapshot.details());
        bar.set_position(snapshot.done_bytes);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = self.drawn.take() {
            bar.finish_and_clear();
        }
    }
}

fn style(has_total: bool) -> ProgressStyle {
    let template = if has_total { WITH_TOTAL } else { WITHOUT_TOTAL };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::{super::snapshot::tests::SAMPLE, *};

    #[test]
    fn the_templates_are_valid() {
        for template in [WITH_TOTAL, WITHOUT_TOTAL] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn a_short_operation_shows_nothing() {
        let mut bar = Bar::default();
        bar.show("testing", &Snapshot { elapsed: FIRST / 2, ..SAMPLE });
        assert!(bar.drawn.is_none());
    }
}
