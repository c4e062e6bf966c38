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

/// What was written since the kernel was asked last.
#[derive(Debug, Default)]
pub(super) struct Writeback {
    pending: Mutex<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    bytes: u64,
    /// Covers everything that was written.
    range: Option<Range<u64>>,
}

impl Writeback {
    /// Notes that `range` of `file` was written, and now and then has the kernel start with what was noted.
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
        let all = match pending.range.take() {
            Some(before) => before.start.min(range.start)..before.end.max(range.end),
            None => range,
        };
        if pending.bytes < STEP_BYTES {
            pending.range = Some(all);
            return None;
        }
        pending.bytes = 0;
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_written_byte_is_handed_on_once_enough_came_together() {
        let writeback = Writeback::default();
        let half = STEP_BYTES / 2;
        assert_eq!(writeback.note(half * 4..half * 5), None);
        assert_eq!(writeback.note(0..half), Some(0..half * 5));
        assert_eq!(writeback.note(half..half * 2), None);
        assert_eq!(writeback.note(half * 2..half * 3), Some(half..half * 3));
    }
}
