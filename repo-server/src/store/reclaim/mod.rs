//! Gives back the space of what nothing needs any more, while pushes and restores go on.
//!
//! The rule that must not be broken: a pack goes only through [`condemn`](crate::catalog::Catalog::condemn), which finds out itself
//! whether anything rests on it. What is planned here is a wish. The protocol: `docs/reclamation.md`.
//!
//! Nothing of a collection is remembered but what the journal says: it may end at any point, with the process or without.

mod delete;
mod mark;
mod marks;
mod order;
mod phase;
mod plan;
mod repack;
mod report;
mod safety;
mod sweep;
mod walk;

use std::{cmp::Reverse, time::Duration};

use tracing::{info, warn};

use super::Store;
use crate::{
    Error,
    catalog::{Mark, MarkEnd, Root, RootKind, VersionKey},
    clock::now_unix_ms,
};

pub use marks::Marks;
pub use phase::{CollectControl, CollectPhase, CollectProgress};
pub use plan::{PackUse, Plan, PlanOptions, Rewrite, plan};
pub use report::{CollectReport, PackTotals};

pub(super) use delete::delete_condemned;

/// Whether a collection changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectMode {
    /// It only says what it would do.
    DryRun,
    /// It collects.
    Collect,
}

/// Optional behaviour of a collection.
#[derive(Debug, Clone, Copy)]
pub struct CollectOptions {
    /// Whether it changes anything.
    pub mode: CollectMode,
    /// Removed versions can be brought back for so long; those that were removed before are purged.
    pub grace: Duration,
    /// Uploads that no stream used for so long are closed.
    pub idle_upload: Duration,
    /// Which packs are rewritten.
    pub plan: PlanOptions,
}

impl CollectOptions {
    /// The usual behaviour, with this grace period.
    #[must_use]
    pub const fn with_grace(mode: CollectMode, grace: Duration) -> Self {
        Self { mode, grace, idle_upload: Duration::from_secs(24 * 3600), plan: PlanOptions::DEFAULT }
    }
}

/// Removed versions looked at at once.
const PAGE: usize = 256;

impl Store {
    /// Collects: purges, marks, and gives back the space of packs that nothing needs.
    ///
    /// What was done before an error stays done, and is safe.
    ///
    /// # Errors
    /// [`Error::Busy`] while another collection runs. [`Error::TreeUnreadable`] and [`Error::VersionsVanished`] before
    /// anything was condemned: what is needed could not be found out. [`Error::Stopping`] when `control` stopped it.
    pub async fn collect(&self, options: CollectOptions, control: &CollectControl) -> Result<CollectReport, Error> {
        let _only = self.collecting.try_lock().map_err(|_| Error::Busy { what: "collections", limit: 1 })?;
        let mut report = CollectReport::new(options.mode);
        let now = now_unix_ms();
        let expired = self.expired_versions(now.saturating_sub(millis(options.grace))).await?;
        if options.mode == CollectMode::Collect {
            let idle_since = now.saturating_sub(millis(options.idle_upload));
            report.expired_uploads = self.catalog.expire_uploads(idle_since).await?.len() as u64;
            self.purge(&expired).await?;
            delete_condemned(self).await?;
        }
        report.purged_versions = expired.len() as u64;
        let mark = self.catalog.begin_mark().await?;
        let id = mark.id;
        let result = self.collect_marked(mark, &expired, &options, control, &mut report).await;
        let end = match (&result, options.mode) {
            (Ok(()), CollectMode::Collect) if report.incomplete.is_none() => MarkEnd::Finished(now_unix_ms()),
            _ => MarkEnd::Abandoned,
        };
        let ended = self.catalog.end_mark(id, end).await;
        result?;
        if let Err(error) = ended {
            // All is done; only the next collection has less to compare itself with.
            warn!(%error, "the end of a collection could not be noted");
        }
        info!(%report, "collection");
        Ok(report)
    }

    async fn collect_marked(
        &self,
        mark: Mark,
        expired: &[(VersionKey, i64)],
        options: &CollectOptions,
        control: &CollectControl,
        report: &mut CollectReport,
    ) -> Result<(), Error> {
        safety::expect_all_versions(&mark)?;
        let id = mark.id;
        let roots = newest_first(mark.roots, left_out(options.mode, expired));
        // After the mark began: what is added later is not looked at.
        let packs = self.catalog.packs().await?;
        let marks = mark::mark(self, &packs, &roots, control).await?;
        report.versions = roots.iter().filter(|root| root.kind != RootKind::Base).count() as u64;
        report.missing_chunks = marks.missing_chunks;
        let mut uses = marks.marks.uses(&packs);
        report.live = PackTotals { packs: packs.len() as u64, bytes: uses.iter().map(|pack| pack.bytes).sum() };
        // Packs that would not be condemned anyway are not rewritten in vain, and not promised by a dry run.
        let held = self.catalog.held_packs().await?;
        report.busy_packs = plan(&uses, options.plan).packs().filter(|pack| held.contains(pack)).count() as u64;
        uses.retain(|pack| !held.contains(&pack.id));
        let plan = plan(&uses, options.plan);
        report.planned(&plan, &uses);
        if options.mode == CollectMode::DryRun {
            return Ok(());
        }
        sweep::Sweep { store: self, mark: id, roots: &roots, marks: &marks.marks, control, report }.run(&plan).await
    }

    /// Versions that were removed before this time, and when.
    async fn expired_versions(&self, removed_before_unix_ms: i64) -> Result<Vec<(VersionKey, i64)>, Error> {
        let mut expired = Vec::new();
        let mut after = None;
        loop {
            let page = self.catalog.removed_versions(None, after, PAGE).await?;
            let keys = page.into_iter().map(|removed| {
                let key = VersionKey { image: removed.version.image, number: removed.version.number };
                (key, removed.removed_unix_ms)
            });
            let keys: Vec<_> = keys.collect();
            after = keys.last().map(|(key, _)| key.clone());
            expired.extend(keys.into_iter().filter(|(_, removed)| *removed <= removed_before_unix_ms));
            if after.is_none() {
                return Ok(expired);
            }
        }
    }

    async fn purge(&self, versions: &[(VersionKey, i64)]) -> Result<(), Error> {
        for (key, removed_unix_ms) in versions {
            match self.catalog.purge_version(key.clone(), *removed_unix_ms, now_unix_ms()).await {
                // Brought back since it was listed.
                Err(Error::VersionNotFound { .. }) => {}
                purged => purged?,
            }
        }
        Ok(())
    }
}

/// Expired versions that are roots, and are treated as if they were none: those that a dry run did not purge. What a
/// collection purged is no root any more; what it could not purge, because it was brought back and removed again meanwhile, can
/// still be brought back.
const fn left_out(mode: CollectMode, expired: &[(VersionKey, i64)]) -> &[(VersionKey, i64)] {
    match mode {
        CollectMode::DryRun => expired,
        CollectMode::Collect => &[],
    }
}

/// Live versions from the newest to the oldest, then the rest, without those that are left out.
fn newest_first(mut roots: Vec<Root>, left_out: &[(VersionKey, i64)]) -> Vec<Root> {
    roots.retain(|root| {
        let is_removed = matches!(root.kind, RootKind::Removed { .. });
        !(is_removed && left_out.iter().any(|(key, _)| *key == root.version))
    });
    roots.sort_by_key(|root| match root.kind {
        RootKind::Live { committed_unix_ms } => (0, Reverse(committed_unix_ms)),
        RootKind::Removed { committed_unix_ms } => (1, Reverse(committed_unix_ms)),
        RootKind::Base => (2, Reverse(0)),
    });
    roots
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use imprint_content::NodeId;

    use super::*;

    #[test]
    fn only_a_dry_run_leaves_out_a_version_that_is_still_there() {
        let version = VersionKey { image: "a".parse().unwrap(), number: 1 };
        let kind = RootKind::Removed { committed_unix_ms: 0 };
        let roots = vec![Root { node: NodeId::from_bytes([1; 32]), version: version.clone(), kind }];
        let expired = [(version, 5)];
        let left = |mode| newest_first(roots.clone(), left_out(mode, &expired)).len();
        assert_eq!((left(CollectMode::Collect), left(CollectMode::DryRun)), (1, 0));
    }
}
