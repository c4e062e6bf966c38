//! Damage that a reader meets before a scrub does.
//!
//! A reader gets an error, which says that a push of the same data heals it. So what is damaged has to be asked for by the next
//! push already, not only after a scrub.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use imprint_content::ObjectId;
use tracing::warn;

use super::{
    DamagedPack, ScrubControl,
    packs::{PackOutcome, PackScrubber, Throttle, missing},
};
use crate::{Error, PackId, store::Store};

/// A pack is not read again for so long: a reader that tries again and again must not make us read it each time.
const PAUSE: Duration = Duration::from_secs(60);
/// A reader waits at most so long until its pack was looked at; a dying disk may take longer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Damaged objects among which the one is looked for that could not be read.
const MAX_SEARCHED: usize = 1 << 12;

/// The packs that were read because of readers, and when.
#[derive(Debug, Default)]
pub(in crate::store) struct Met(HashMap<PackId, Instant>);

impl Met {
    /// Whether to look at it; that is noted.
    fn is_due(&mut self, pack: PackId) -> bool {
        self.0.retain(|_, read| read.elapsed() < PAUSE);
        let is_due = !self.0.contains_key(&pack);
        self.0.entry(pack).or_insert_with(Instant::now);
        is_due
    }
}

impl Store {
    /// Takes the error with which a read failed, and says what is behind it.
    ///
    /// The pack that could not be read is looked at as by a scrub: what is damaged in it is quarantined on return, unless
    /// the disk takes too long. When its file is gone, all packs are whose files are gone, because that takes a pass through all
    /// places that there are, and files seldom go alone; but when most are gone, more likely the disk is, and a scrub has to be
    /// asked for. That cannot fail: the reader has an error already, and the next scrub does what could not be done.
    pub async fn met(&self, error: Error) -> Error {
        match error {
            Error::RecordCorrupt { pack, .. } | Error::PackMissing(pack) => {
                let (store, is_missing) = (self.clone(), matches!(error, Error::PackMissing(_)));
                // A task of its own: it is done whether or not the reader waits.
                let looking = tokio::spawn(async move { store.look_at_met(pack, is_missing).await });
                let _ = tokio::time::timeout(PATIENCE, looking).await;
                error
            }
            Error::ObjectMissing(id) => self.why_missing(id).await.unwrap_or(error),
            error => error,
        }
    }

    /// One at a time.
    async fn look_at_met(&self, pack: PackId, is_missing: bool) {
        let mut met = self.met.lock().await;
        if !met.is_due(pack) {
            return;
        }
        let looked = match is_missing {
            true => self.quarantine_missing().await,
            false => self.quarantine_damage_in(pack).await.map(|found| found.into_iter().collect()),
        };
        let packs = looked.unwrap_or_else(|error| {
            warn!(%pack, %error, "what a reader could not read was not looked at; a scrub does it");
            Vec::new()
        });
        for DamagedPack { pack, state, new_objects, .. } in &packs {
            warn!(%pack, ?state, new_objects, "a reader met damage");
            met.is_due(*pack);
        }
    }

    /// Where the object was, if somebody has found out that it is there no more.
    async fn why_missing(&self, id: ObjectId) -> Option<Error> {
        let damage = self.catalog.unhealed_damage(MAX_SEARCHED).await.ok()?;
        let found = damage.into_iter().find(|damage| damage.id == id)?;
        Some(Error::ObjectDamaged { id, pack: found.pack, why: found.why })
    }

    async fn quarantine_missing(&self) -> Result<Vec<DamagedPack>, Error> {
        let (here, lost) = self.part_missing(self.catalog.packs().await?).await?;
        if lost.len() > here.len() {
            warn!(
                packs = lost.len(),
                "most packs are missing: is the disk of the repository mounted? Nothing was quarantined"
            );
            return Ok(Vec::new());
        }
        if lost.is_empty() { Ok(Vec::new()) } else { missing(self, &lost).await }
    }

    async fn quarantine_damage_in(&self, pack: PackId) -> Result<Option<DamagedPack>, Error> {
        let control = ScrubControl::new();
        let mut scrubber = PackScrubber { store: self, control: &control, throttle: Throttle::new(&control, None) };
        Ok(match scrubber.scrub(pack).await? {
            PackOutcome::Damaged(_, found) | PackOutcome::Unopened(found) => Some(found),
            PackOutcome::Healthy(_) | PackOutcome::Gone => None,
        })
    }
}
