//! Starts writing to the disk while there is more to come, so that the last sync finds little left to do.

use std::{
    fs::File,
    num::NonZero,
    ops::Range,
    sync::{Mutex, PoisonError},
};

use rustix::fs::{Advice, fadvise};

/// The kernel is asked after so many bytes.
const STEP_BYTES: u64 = 32 << 20;

/// What was written and not handed to the kernel yet.
#[derive(Debug, Default)]
pub(super) struct Writeback {
    pending: Mutex<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    bytes: u64,
    /// Covers what was written in this step.
    step: Option<Range<u64>>,
    /// Covers what was written in the step before.
    last_step: Option<Range<u64>>,
}

impl Writeback {
    /// Notes that `range` of `file` was written, and now and then has the kernel start with what was noted: one step
    /// late, because who writes to a page that is on its way to the disk has to wait for it.
    ///
    /// Linux begins to write dirty pages when it is told that they are not needed, without waiting for them; they
    /// stay in memory until they are clean. Nothing is durable by it, and nothing depends on it.
    pub(super) fn wrote(&self, file: &File, range: Range<u64>) {
        let Some(due) = self.note(range) else { return };
        let _ = fadvise(file, due.start, NonZero::new(due.end - due.start), Advice::DontNeed);
    }

    fn note(&self, range: Range<u64>) -> Option<Range<u64>> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.bytes += range.end - range.start;
        let all = match pending.step.take() {
            Some(before) => before.start.min(range.start)..before.end.max(range.end),
            None => range,
        };
        if pending.bytes < STEP_BYTES {
            pending.step = Some(all);
            return None;
        }
        pending.bytes = 0;
        pending.last_step.replace(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_written_byte_is_handed_on_one_step_late() {
        let writeback = Writeback::default();
        let half = STEP_BYTES / 2;
        assert_eq!(writeback.note(half * 4..half * 5), None);
        assert_eq!(writeback.note(0..half), None);
        assert_eq!(writeback.note(half..half * 2), None);
        assert_eq!(writeback.note(half * 2..half * 3), Some(0..half * 5));
        assert_eq!(writeback.note(half * 6..half * 8), Some(half..half * 3));
    }
}
