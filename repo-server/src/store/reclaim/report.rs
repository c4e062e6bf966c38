//! What a collection came to.

use std::fmt;

use super::{CollectMode, PackUse, Plan};

/// A number of packs and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PackTotals {
    /// Packs.
    pub packs: u64,
    /// Their length in bytes.
    pub bytes: u64,
}

/// What a collection did, or would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectReport {
    /// Whether it changed anything.
    pub mode: CollectMode,
    /// Versions whose trees were walked: live ones, and those that can be brought back.
    pub versions: u64,
    /// Removed versions whose grace was over.
    pub purged_versions: u64,
    /// Uploads that were closed because nobody used them.
    pub expired_uploads: u64,
    /// All packs when it began.
    pub live: PackTotals,
    /// Packs of which nothing was needed.
    pub dead: PackTotals,
    /// Packs that were, or would be, rewritten.
    pub rewritten: PackTotals,
    /// Bytes of those that are needed, and are to be copied.
    pub copied_bytes: u64,
    /// Packs whose files were deleted; none by a dry run.
    pub deleted: PackTotals,
    /// Bytes of the packs that were written instead.
    pub written_bytes: u64,
    /// Packs that could have gone, but that an upload or a new version relies on.
    pub busy_packs: u64,
    /// Packs that could have gone, but that are damaged.
    pub kept_packs: u64,
    /// Damaged records that were found, and quarantined, while copying.
    pub damaged_records: u64,
    /// Damaged chunks that versions need and that nothing has healed yet.
    pub missing_chunks: u64,
    /// Why the rest was left for the next collection.
    pub incomplete: Option<String>,
}

impl CollectReport {
    pub(super) fn new(mode: CollectMode) -> Self {
        Self {
            mode,
            versions: 0,
            purged_versions: 0,
            expired_uploads: 0,
            live: PackTotals::default(),
            dead: PackTotals::default(),
            rewritten: PackTotals::default(),
            copied_bytes: 0,
            deleted: PackTotals::default(),
            written_bytes: 0,
            busy_packs: 0,
            kept_packs: 0,
            damaged_records: 0,
            missing_chunks: 0,
            incomplete: None,
        }
    }

    /// Bytes that the repository's packs become fewer by, as planned: to be had if nobody comes to rely on them.
    #[must_use]
    pub const fn reclaimable_bytes(&self) -> u64 {
        (self.dead.bytes + self.rewritten.bytes).saturating_sub(self.copied_bytes)
    }

    /// Bytes that the repository's packs became fewer by; 0 if it was more that was written.
    #[must_use]
    pub const fn freed_bytes(&self) -> u64 {
        self.deleted.bytes.saturating_sub(self.written_bytes)
    }

    pub(super) fn planned(&mut self, plan: &Plan, uses: &[PackUse]) {
        let dead = uses.iter().filter(|pack| pack.live_records == 0);
        self.dead = PackTotals { packs: plan.dead.len() as u64, bytes: dead.map(|pack| pack.bytes).sum() };
        let rewritten: std::collections::HashSet<_> =
            plan.rewrites.iter().flat_map(|group| group.packs.iter().copied()).collect();
        for pack in uses.iter().filter(|pack| rewritten.contains(&pack.id)) {
            self.rewritten.packs += 1;
            self.rewritten.bytes += pack.bytes;
            self.copied_bytes += pack.live_bytes;
        }
    }
}

impl fmt::Display for CollectReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { versions, purged_versions, deleted, written_bytes, live, .. } = self;
        write!(
            f,
            "{versions} versions, {purged_versions} purged; {} of {} packs deleted, ",
            deleted.packs, live.packs
        )?;
        write!(f, "{} bytes; {written_bytes} bytes written", deleted.bytes)
    }
}
