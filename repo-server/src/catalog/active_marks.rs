//! Marks under way, and the packs that came to be needed since each began.
//!
//! Kept in memory: a mark dies with the process that began it. An engine that several processes share would keep a
//! counter with each pack instead.

use std::collections::{BTreeMap, HashSet};

use super::{MarkId, VersionCounts};
use crate::PackId;

/// All marks of one engine that were begun and not ended.
#[derive(Debug, Default)]
pub(super) struct ActiveMarks {
    begun: u64,
    active: BTreeMap<MarkId, ActiveMark>,
}

#[derive(Debug, Default)]
struct ActiveMark {
    counts: VersionCounts,
    stamped: HashSet<PackId>,
}

impl ActiveMarks {
    pub(super) fn begin(&mut self) -> MarkId {
        self.begun += 1;
        let id = MarkId(self.begun);
        self.active.insert(id, ActiveMark::default());
        id
    }

    /// Notes what a mark that was just begun had counted.
    pub(super) fn counted(&mut self, id: MarkId, counts: VersionCounts) {
        if let Some(mark) = self.active.get_mut(&id) {
            mark.counts = counts;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    /// Keeps these packs from being condemned by any mark that is active now.
    pub(super) fn stamp(&mut self, packs: &[PackId]) {
        for mark in self.active.values_mut() {
            mark.stamped.extend(packs);
        }
    }

    /// `None` when the mark is not active.
    pub(super) fn is_stamped(&self, id: MarkId, pack: PackId) -> Option<bool> {
        self.active.get(&id).map(|mark| mark.stamped.contains(&pack))
    }

    /// Forgets a mark, and returns what it had counted.
    pub(super) fn end(&mut self, id: MarkId) -> Option<VersionCounts> {
        self.active.remove(&id).map(|mark| mark.counts)
    }
}
