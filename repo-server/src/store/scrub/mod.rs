//! Looks at everything before somebody needs it: every byte of every pack, and the tree of every version.
//!
//! The rule that must not be broken: what is found damaged is quarantined before the scrub goes on, and nothing healthy is.
//! From then on it is asked for again, and the next push that has it heals it.
//!
//! Packs are looked at one after the other, those first that were never verified, then those verified longest ago; when
//! a pack was verified is noted as soon as it was. So a scrub may end at any point, with the process or without, and the
//! next one goes on. Nothing is locked: packs that a collection takes meanwhile are passed over.

mod met;
mod pace;
mod packs;
mod phase;
mod report;
mod versions;

use std::{
    collections::{HashMap, HashSet},
    num::NonZero,
    time::Duration,
};

use tracing::{info, warn};

use super::Store;
use crate::{
    Error, PackId,
    catalog::{MarkEnd, PackRecord, ScrubState},
    clock::now_unix_ms,
};
use packs::{IntactPart, PackOutcome, PackScrubber};

pub(super) use met::Met;
pub(super) use packs::{ReadPack, Throttle, damaged_pack, read_pack, unopened};
pub(super) use versions::{Compared, walk_versions};

pub use phase::{ScrubControl, ScrubPhase, ScrubProgress};
pub use report::{DamagedPack, DamagedVersion, PackState, ScrubFinding, ScrubReport};

/// Which packs are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScrubScope {
    /// All that were not verified since the open round began; without an open round, all, and that opens one.
    Round,
    /// All that were not verified for so long.
    OlderThan(Duration),
}

/// Optional behaviour of a scrub.
#[derive(Debug, Clone, Copy)]
pub struct ScrubOptions {
    /// Which packs are looked at.
    pub scope: ScrubScope,
    /// Read at most so much; `None` for as fast as it goes.
    pub bytes_per_second: Option<NonZero<u64>>,
}

/// Damaged objects that are counted.
const MAX_COUNTED: usize = 1 << 20;

impl Store {
    /// Scrubs: verifies packs, then walks the trees of all versions. Findings are told as they are found.
    ///
    /// What was found and noted before an error stays so.
    ///
    /// # Errors
    /// [`Error::Busy`] while another scrub runs. [`Error::Stopping`] when `control` stopped it. Damage is no error.
    pub async fn scrub(
        &self,
        options: ScrubOptions,
        control: &ScrubControl,
        found: &(dyn Fn(ScrubFinding) + Send + Sync),
    ) -> Result<ScrubReport, Error> {
        let _only = self.scrubbing.try_lock().map_err(|_| Error::Busy { what: "scrubs", limit: 1 })?;
        let began = now_unix_ms();
        let state = self.catalog.scrub_state().await?;
        let since = self.begin_round(options.scope, state, began).await?;
        let mut report = ScrubReport { since_unix_ms: since, ..Default::default() };
        let due = self.due_packs(since, began, &mut report).await?;
        self.scrub_packs(due, &options, control, found, &mut report).await?;
        self.scrub_versions(control, found, &mut report).await?;
        self.catalog.note_trees(report.damaged_versions > 0).await?;
        report.unhealed_objects = self.catalog.unhealed_damage(MAX_COUNTED).await?.len() as u64;
        // A round is over when all that was there when it began was looked at since.
        let open_since_unix_ms = state.open_since_unix_ms.filter(|open| *open > since && *open <= began);
        let finished_unix_ms = Some(now_unix_ms());
        self.catalog.note_scrub_state(ScrubState { open_since_unix_ms, finished_unix_ms }).await?;
        info!(%report, "scrub");
        Ok(report)
    }

    /// Since when packs need not have been verified again.
    async fn begin_round(&self, scope: ScrubScope, state: ScrubState, now: i64) -> Result<i64, Error> {
        match (scope, state.open_since_unix_ms) {
            (ScrubScope::OlderThan(age), _) => Ok(before(now, age)),
            // From a clock that went back since: it would never come to an end.
            (ScrubScope::Round, Some(open)) if open <= now => Ok(open),
            (ScrubScope::Round, _) => {
                self.catalog.note_scrub_state(ScrubState { open_since_unix_ms: Some(now), ..state }).await?;
                Ok(now)
            }
        }
    }

    /// When packs were verified last. What a clock that went back has noted for the future counts as never.
    async fn verifications(&self, now: i64) -> Result<HashMap<PackId, i64>, Error> {
        Ok(self.catalog.verifications().await?.into_iter().filter(|(_, verified)| *verified <= now).collect())
    }

    /// Whether a scrub of what was not verified for so long has something to do: packs to read, or trees to walk, because the
    /// last one ended before it came to them. Without that nobody would hear which versions need what it found.
    pub async fn is_scrub_due(&self, age: Duration) -> Result<bool, Error> {
        let now = now_unix_ms();
        let verified = self.verifications(now).await?;
        let times: Vec<Option<i64>> =
            self.catalog.packs().await?.iter().map(|pack| verified.get(&pack.id).copied()).collect();
        if times.iter().any(|time| is_due(*time, before(now, age))) {
            return Ok(true);
        }
        let walked = self.catalog.scrub_state().await?.finished_unix_ms.filter(|walked| *walked <= now);
        Ok(times.into_iter().max().flatten() > walked)
    }

    /// Packs that were not verified between these times, the longest ago first, and those of which something is lost: their
    /// files may have been put back since.
    async fn due_packs(&self, since: i64, now: i64, report: &mut ScrubReport) -> Result<Vec<PackRecord>, Error> {
        let verified = self.verifications(now).await?;
        let damaged = self.catalog.unhealed_damage(MAX_COUNTED).await?;
        let damaged: HashSet<PackId> = damaged.into_iter().map(|damaged| damaged.pack).collect();
        let when = |pack: &PackRecord| verified.get(&pack.id).copied();
        let is_due = |pack: &PackRecord| is_due(when(pack), since) || damaged.contains(&pack.id);
        let (mut due, recent): (Vec<_>, Vec<_>) = self.catalog.packs().await?.into_iter().partition(is_due);
        report.recent_packs = recent.len() as u64;
        due.sort_by_key(|pack| (when(pack), pack.id));
        Ok(due)
    }

    async fn scrub_packs(
        &self,
        due: Vec<PackRecord>,
        options: &ScrubOptions,
        control: &ScrubControl,
        found: &(dyn Fn(ScrubFinding) + Send + Sync),
        report: &mut ScrubReport,
    ) -> Result<(), Error> {
        control.begin(ScrubPhase::Packs, due.iter().map(|pack| pack.bytes).sum());
        let mut due = self.without_missing(due, found, report).await?;
        let throttle = Throttle::new(control, options.bytes_per_second);
        let mut scrubber = PackScrubber { store: self, control, throttle };
        for pack in due.drain(..) {
            control.expect_going_on()?;
            let now = now_unix_ms();
            match scrubber.scrub(pack.id).await? {
                PackOutcome::Gone => continue,
                PackOutcome::Healthy(intact) => report.verified(&intact),
                PackOutcome::Damaged(intact, damaged) => {
                    report.verified(&intact);
                    tell(damaged, found, report);
                }
                // Not verified, so that the next scrub tries again.
                PackOutcome::Unopened(damaged) => {
                    tell(damaged, found, report);
                    continue;
                }
            }
            self.catalog.note_verified(vec![pack.id], now).await?;
        }
        Ok(())
    }

    /// All missing packs at once: for each look, all places there are have to be gone through.
    async fn without_missing(
        &self,
        due: Vec<PackRecord>,
        found: &(dyn Fn(ScrubFinding) + Send + Sync),
        report: &mut ScrubReport,
    ) -> Result<Vec<PackRecord>, Error> {
        let (here, missing) = self.part_missing(due).await?;
        if missing.is_empty() {
            return Ok(here);
        }
        let now = now_unix_ms();
        for damaged in packs::missing(self, &missing).await? {
            tell(damaged, found, report);
        }
        self.catalog.note_verified(missing, now).await?;
        Ok(here)
    }

    /// Of packs that the catalog had, those that have files, and those that have none and are live.
    async fn part_missing(&self, packs: Vec<PackRecord>) -> Result<(Vec<PackRecord>, Vec<PackId>), Error> {
        let stored: HashSet<PackId> = self.packs.list().await?.into_iter().collect();
        let (here, missing): (Vec<_>, Vec<_>) = packs.into_iter().partition(|pack| stored.contains(&pack.id));
        // After the files were listed: what a collection has taken since is live no longer.
        let live: HashSet<PackId> = match missing.is_empty() {
            true => HashSet::new(),
            false => self.catalog.packs().await?.into_iter().map(|pack| pack.id).collect(),
        };
        let missing = missing.into_iter().map(|pack| pack.id).filter(|pack| live.contains(pack)).collect();
        Ok((here, missing))
    }

    /// Whether more packs have no file than have one: more likely the disk of the repository is not there than that
    /// they are lost.
    pub async fn are_most_packs_missing(&self) -> Result<bool, Error> {
        let (here, missing) = self.part_missing(self.catalog.packs().await?).await?;
        Ok(missing.len() > here.len())
    }

    async fn scrub_versions(
        &self,
        control: &ScrubControl,
        found: &(dyn Fn(ScrubFinding) + Send + Sync),
        report: &mut ScrubReport,
    ) -> Result<(), Error> {
        // A mark, only for its list of roots: all of one moment.
        let mark = self.catalog.begin_mark().await?;
        self.catalog.end_mark(mark.id, MarkEnd::Abandoned).await?;
        let damaged = |finding: ScrubFinding| {
            if let ScrubFinding::Version(version) = &finding {
                let (key, first) = (&version.version, version.first_offset);
                warn!(image = %key.image, number = key.number, first_offset = first, "a version is damaged");
            }
            found(finding);
        };
        let walked = walk_versions(self, None, None, &mark.roots, control, &damaged).await?;
        (report.versions, report.damaged_versions) = (walked.versions, walked.damaged);
        Ok(())
    }
}

/// What scrubs know of a repository, for whoever looks after it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScrubHealth {
    /// When the last scrub came to its end. The server's clock, milliseconds since 1970, as below.
    pub scrubbed_unix_ms: Option<i64>,
    /// Every pack was verified then or later; `None` when some never were, or there is none.
    pub verified_unix_ms: Option<i64>,
    /// Packs that never were.
    pub unverified_packs: u64,
    /// Objects that are known to be damaged or missing, and that no push has brought again.
    pub damaged_objects: u64,
}

impl Store {
    /// What is known without looking.
    pub async fn scrub_health(&self) -> Result<ScrubHealth, Error> {
        let verified = self.verifications(now_unix_ms()).await?;
        let packs = self.catalog.packs().await?;
        let times: Vec<Option<i64>> = packs.iter().map(|pack| verified.get(&pack.id).copied()).collect();
        Ok(ScrubHealth {
            scrubbed_unix_ms: self.catalog.scrub_state().await?.finished_unix_ms,
            verified_unix_ms: times.iter().min().copied().flatten(),
            unverified_packs: times.iter().filter(|time| time.is_none()).count() as u64,
            damaged_objects: self.catalog.unhealed_damage(MAX_COUNTED).await?.len() as u64,
        })
    }
}

/// Whether a pack that was verified then, or never, is to be verified again.
fn is_due(verified: Option<i64>, since: i64) -> bool {
    verified.is_none_or(|verified| verified < since)
}

fn before(now: i64, age: Duration) -> i64 {
    now.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
}

impl ScrubReport {
    const fn verified(&mut self, intact: &IntactPart) {
        self.packs += 1;
        self.bytes += intact.bytes;
        self.records += intact.records;
        self.readmitted_objects += intact.readmitted;
    }
}

fn tell(damaged: DamagedPack, found: &(dyn Fn(ScrubFinding) + Send + Sync), report: &mut ScrubReport) {
    report.new_objects += damaged.new_objects;
    match damaged.state {
        PackState::TooNew => report.too_new_packs += 1,
        _ if damaged.is_known => report.known_packs += 1,
        state => {
            report.damaged_packs += 1;
            report.missing_packs += u64::from(state == PackState::Missing);
        }
    }
    if !damaged.is_known {
        let DamagedPack { pack, damaged_parts, new_objects, .. } = &damaged;
        warn!(%pack, state = ?damaged.state, damaged_parts, new_objects, "a scrub found damage");
    }
    found(ScrubFinding::Pack(damaged));
}
