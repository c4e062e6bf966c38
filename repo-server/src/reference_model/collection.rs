//! Collections, and what happens during them.

use std::{pin::pin, time::Duration};

use super::{
    model::Change,
    operation::{Grace, Operation, PushPlan},
    push::Push,
    session::{Session, Trouble, ensure, fail},
};
use crate::{
    Error,
    clock::now_unix_ms,
    store::reclaim::{CollectControl, CollectMode, CollectOptions, CollectReport},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Grace {
    fn duration(self) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::Days(days) => DAY * days,
            Self::Ever => DAY * 1_000_000,
        }
    }
}

/// Until the clock shows another one.
pub(super) fn wait_a_millisecond() {
    let before = now_unix_ms();
    while now_unix_ms() <= before {
        std::hint::spin_loop();
    }
}

impl Session {
    pub(super) async fn collect(
        &mut self,
        grace: Grace,
        closes_uploads: bool,
        during: &[(usize, Operation)],
        is_stopped: bool,
    ) -> Result<(), Trouble> {
        let (store, packs) = (self.process().store.clone(), self.process().packs.clone());
        let is_alone = during.is_empty() && !is_stopped;
        if closes_uploads {
            // The last one was opened in an earlier millisecond.
            wait_a_millisecond();
        }
        let purged = self.begin_purge(grace);
        let idle_upload = if closes_uploads { Duration::ZERO } else { DAY };
        let options =
            CollectOptions { idle_upload, ..CollectOptions::with_grace(CollectMode::Collect, grace.duration()) };
        let control = CollectControl::new();
        let mut collecting = pin!(store.collect(options, &control));
        let mut outcome = None;
        for (calls, operation) in during {
            let mut is_waiting = false;
            if outcome.is_none() {
                packs.pause_after(*calls);
                tokio::select! {
                    biased;
                    ended = &mut collecting => {
                        self.purged(&purged, &ended);
                        outcome = Some(ended);
                    }
                    () = packs.paused() => {
                        self.end_purge(&purged);
                        is_waiting = true;
                    }
                }
                packs.never_pause();
            }
            if self.disk.has_crashed() {
                // What it gave up is in doubt, and so is every answer.
                packs.go_on();
                break;
            }
            let done = match (operation, &outcome) {
                (Operation::Collect { .. }, None) => self.expect_busy().await,
                (Operation::Collect { .. }, Some(_)) => Ok(()),
                (operation, _) => self.perform(operation).await,
            };
            if is_waiting {
                packs.go_on();
            }
            done?;
        }
        if is_stopped {
            control.stop();
        }
        let ended = match outcome {
            Some(ended) => ended,
            None => {
                let ended = collecting.await;
                self.purged(&purged, &ended);
                ended
            }
        };
        self.counts.collections += 1;
        match ended {
            Ok(report) => self.check_report(&report, grace, closes_uploads, is_alone).await,
            Err(Error::Stopping) if is_stopped => Ok(()),
            Err(Error::TreeUnreadable { .. }) if self.harmed.is_any() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What a collection with this grace gives up, in doubt until it is known.
    fn begin_purge(&mut self, grace: Grace) -> Vec<Change> {
        let grace_ms = i64::try_from(grace.duration().as_millis()).unwrap_or(i64::MAX);
        let limit = now_unix_ms().saturating_sub(grace_ms);
        let versions = self.model.versions.keys();
        let purged = versions.filter(|key| self.model.removed_at(**key).is_some_and(|at| at <= limit));
        let purged: Vec<_> = purged.map(|key| Change::Purge(*key)).collect();
        self.doubt.extend(purged.clone());
        purged
    }

    fn purged(&mut self, purged: &[Change], ended: &Result<CollectReport, Error>) {
        // Purging comes before whatever a collection may fail at, but for a crash.
        if ended.is_ok() || !self.disk.has_crashed() {
            self.end_purge(purged);
        }
    }

    /// They are gone; whatever comes now is decided on top of that.
    fn end_purge(&mut self, purged: &[Change]) {
        if self.doubt.iter().any(|change| matches!(change, Change::Purge(_))) {
            purged.iter().for_each(|change| self.model.apply(change.clone()));
            self.doubt.retain(|change| !matches!(change, Change::Purge(_)));
        }
    }

    async fn expect_busy(&self) -> Result<(), Trouble> {
        let options = CollectOptions::with_grace(CollectMode::Collect, DAY);
        match self.process().store.collect(options, &CollectControl::new()).await {
            Err(Error::Busy { .. }) => Ok(()),
            other => fail(format!("a second collection came to {other:?}")),
        }
    }

    async fn check_report(
        &mut self,
        report: &CollectReport,
        grace: Grace,
        closes_uploads: bool,
        is_alone: bool,
    ) -> Result<(), Trouble> {
        self.counts.deleted_packs += report.deleted.packs;
        let is_damaged = report.damaged_records + report.missing_chunks > 0;
        ensure(self.harmed.is_any() || !is_damaged, || format!("damage that nobody did: {report:?}"))?;
        ensure(report.incomplete.is_none(), || format!("the disk is not full: {report:?}"))?;
        if is_alone {
            let versions = self.model.with_content().count() as u64;
            ensure(report.versions == versions, || format!("{versions} versions, but {report:?}"))?;
            ensure(self.harmed.is_any() || report.kept_packs == 0, || format!("packs were kept: {report:?}"))?;
        }
        let has_pushes = self.pushes.iter().flatten().any(Push::is_streaming);
        if is_alone && closes_uploads && !has_pushes && !self.harmed.is_any() {
            self.check_space().await?;
        }
        // What can be brought back has all that it needs.
        if grace != Grace::None || self.random.percent(20) {
            self.check_removed().await?;
        }
        self.check_everything().await
    }

    /// Brings one back, reads it and removes it again.
    async fn check_removed(&mut self) -> Result<(), Trouble> {
        let removed = self.model.versions.keys().filter(|key| self.model.removed_at(**key).is_some());
        let removed: Vec<_> = removed.copied().collect();
        let sample = self.random.below(removed.len().max(1) as u64) as usize;
        let Some(key) = removed.get(sample).copied() else { return Ok(()) };
        let unix_ms = self.model.removed_at(key).unwrap_or_default();
        self.doubt.push(Change::Undelete(key));
        self.process().store.undelete_version(key.version()).await?;
        self.acknowledged(Change::Undelete(key));
        self.check_version(key).await?;
        let again = Change::Remove { key, unix_ms };
        self.doubt.push(again.clone());
        self.process().store.catalog().remove_version(key.version(), unix_ms).await?;
        self.acknowledged(again);
        Ok(())
    }

    /// Nobody decides who comes first.
    pub(super) async fn at_once(&mut self, plans: &[PushPlan; 2]) -> Result<(), Trouble> {
        let store = self.process().store.clone();
        let mut pushes: Vec<Push> = plans.iter().map(|plan| self.plan(plan)).collect();
        // Two images, so that the numbers are known.
        pushes[1].image = (pushes[0].image + 1) % super::operation::IMAGES;
        for push in &mut pushes {
            push.base.take_if(|(key, _)| !self.model.is_live(*key));
        }
        let changes: Vec<Change> = pushes.iter().map(|push| self.commit_of(push, None)).collect();
        let purged = self.begin_purge(Grace::None);
        self.doubt.extend(changes.clone());
        let may_miss = self.harmed.is_any();
        let [one, other] = &mut pushes[..] else { return fail("two pushes") };
        let options = CollectOptions::with_grace(CollectMode::Collect, Duration::ZERO);
        let control = CollectControl::new();
        let (first, second, collected) = tokio::join!(
            one.run(&store, None, may_miss),
            other.run(&store, None, may_miss),
            store.collect(options, &control)
        );
        // In a crash all of it is in doubt.
        for (version, (push, change)) in [first?, second?].iter().zip(pushes.iter().zip(changes)) {
            let doubt = std::mem::take(&mut self.doubt);
            self.committed(version, push, change)?;
            self.doubt = doubt;
        }
        self.counts.collections += 1;
        match collected {
            Ok(report) => self.counts.deleted_packs += report.deleted.packs,
            Err(Error::TreeUnreadable { .. }) if may_miss => {}
            Err(error) => return Err(error.into()),
        }
        purged.into_iter().for_each(|change| self.model.apply(change));
        self.doubt.clear();
        self.check_everything().await
    }
}
