//! Packs: what is in them, what is wrong with them, and whether that matters.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
};

use futures::{StreamExt, stream};

use super::{CheckFinding, Checker, PACKS, READ_AHEAD, Remedy, Store};
use crate::{
    Error, PackId,
    catalog::{Catalog, EmbeddedCatalog, PackRecord},
    files::Files,
    pack::{PackPart, Purpose, VerifiedPack, verify},
    store::scrub::{
        DamagedPack, PackState, ReadPack, ScrubControl, ScrubPhase, Throttle, damaged_pack, read_pack, unopened,
    },
};

impl Checker<'_> {
    /// Verifies all packs, and tells the derived catalog what is intact in them.
    pub(super) async fn packs(
        &mut self,
        store: &Store,
        derived: &EmbeddedCatalog,
        control: &ScrubControl,
    ) -> Result<VerifiedPacks, Error> {
        let condemned: HashSet<PackId> = derived.condemned_packs().await?.into_iter().collect();
        let stored = store.packs.list().await?;
        let mut lengths = 0;
        for pack in &stored {
            lengths += match store.packs.length(*pack).await {
                // Told below.
                Err(Error::Io { .. }) => 0,
                length => length?,
            };
        }
        control.begin(ScrubPhase::Packs, lengths);
        let (leftovers, mut packs): (Vec<_>, Vec<_>) = stored.into_iter().partition(|pack| condemned.contains(pack));
        if !leftovers.is_empty() {
            let count = leftovers.len();
            self.note(format!("{count} packs were given up and are still there; they are not used"));
        }
        packs.sort_unstable();
        let mut outcome = VerifiedPacks::default();
        let read = |pack| async move { (pack, verified(store, pack, control).await) };
        let mut read = stream::iter(packs).map(read).buffered(READ_AHEAD);
        while let Some(verified) = read.next().await {
            let (pack, verified) = verified;
            let (length, verified) = match verified {
                Err(error @ Error::Io { .. }) => {
                    outcome.damaged.push(unopened(pack, &error));
                    continue;
                }
                verified => verified?,
            };
            let Some(verified) = verified else {
                self.report.too_new_packs += 1;
                let found = DamagedPack { state: PackState::TooNew, ..damaged_pack(pack, &empty()) };
                (self.tell)(CheckFinding::Pack(self.pack_path(pack), found));
                continue;
            };
            self.report.packs += 1;
            self.report.bytes += length;
            self.report.records += verified.intact.len() as u64;
            match verified.damage.is_empty() {
                true => _ = outcome.whole.insert(pack),
                false => outcome.damaged.push(self.damaged(pack, &verified, derived).await?),
            }
            if let Some(purpose) = verified.purpose {
                let records = u32::try_from(verified.intact.len()).unwrap_or(u32::MAX);
                derived
                    .add_pack(PackRecord { id: pack, purpose, bytes: length, records }, verified.intact, None)
                    .await?;
            }
        }
        Ok(outcome)
    }

    fn pack_path(&self, pack: PackId) -> PathBuf {
        let name = pack.to_string();
        self.dir.join(PACKS).join(&name[..2]).join(format!("{name}.pack"))
    }

    /// What is wrong with a pack, and whether all of that is quarantined.
    async fn damaged(
        &self,
        pack: PackId,
        verified: &VerifiedPack,
        derived: &EmbeddedCatalog,
    ) -> Result<DamagedPack, Error> {
        let quarantined = derived.quarantined_in(pack).await?;
        let is_quarantined = |part| match (part, verified.purpose) {
            (PackPart::Record(id), Some(kind)) => quarantined.contains(&(kind, id)),
            _ => false,
        };
        let is_known = verified.damage.iter().all(|damage| is_quarantined(damage.part));
        Ok(DamagedPack { is_known, ..damaged_pack(pack, verified) })
    }

    /// Tells of damaged packs, and of those that are missing. Whether anything is needed of them the catalog says, if it can
    /// be read.
    pub(super) async fn judge_packs(
        &mut self,
        own: Option<&EmbeddedCatalog>,
        derived: &EmbeddedCatalog,
        damaged: Vec<DamagedPack>,
        places: Option<&HashMap<PackId, u64>>,
    ) -> Result<(), Error> {
        let mut damaged = damaged;
        if let Some(own) = own {
            let stored = Files::default();
            // The catalog may have lost its latest writes: then it does not know yet what was condemned and deleted.
            let condemned: HashSet<PackId> = derived.condemned_packs().await?.into_iter().collect();
            for pack in own.packs().await?.into_iter().filter(|pack| !condemned.contains(&pack.id)) {
                let is_known_here = damaged.iter().any(|found| found.pack == pack.id);
                if !is_known_here && !stored.exists(&self.pack_path(pack.id))? {
                    damaged.push(DamagedPack {
                        state: PackState::Missing,
                        kind: Some(pack.purpose),
                        ..damaged_pack(pack.id, &empty())
                    });
                }
            }
        }
        for mut found in damaged {
            let needed = places.map(|places| places.get(&found.pack).copied().unwrap_or(0));
            let is_structural = found.state == PackState::Missing
                || found.damage.iter().any(|damage| !matches!(damage.part, PackPart::Record(_)));
            found.is_known = match needed {
                Some(0) => true,
                _ => found.is_known && !is_structural,
            };
            if found.is_known {
                self.report.known_packs += 1;
            } else {
                self.report.damaged_packs += 1;
                self.report.missing_packs += u64::from(found.state == PackState::Missing);
                self.report.advise(Remedy::Push);
            }
            (self.tell)(CheckFinding::Pack(self.pack_path(found.pack), found));
        }
        Ok(())
    }
}

/// What reading all packs came to.
#[derive(Debug, Default)]
pub(super) struct VerifiedPacks {
    /// Without any damage.
    pub(super) whole: HashSet<PackId>,
    pub(super) damaged: Vec<DamagedPack>,
}

fn empty() -> VerifiedPack {
    VerifiedPack { purpose: None::<Purpose>, intact: Vec::new(), damage: Vec::new() }
}

/// A pack's length, and what is in it; `None` when it needs a newer Imprint.
async fn verified(store: &Store, pack: PackId, control: &ScrubControl) -> Result<(u64, Option<VerifiedPack>), Error> {
    let mut throttle = Throttle::new(control, None);
    let ReadPack { bytes, length } = read_pack(&*store.packs, pack, &mut throttle).await?;
    let repository = store.repository;
    let verified = store.blocking.run(move || verify(repository, pack, length, &bytes)).await;
    Ok((length, verified.ok()))
}
