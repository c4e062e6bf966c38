//! Brings the catalog up to what storage has: after a crash a few packs, after a loss of the catalog all of them.

use std::collections::HashSet;

use futures::{StreamExt, stream};
use tracing::{info, warn};

use crate::{Error, PackId, pack::index::read_index};

use super::Store;

/// Packs whose index is read while that of another one is added. Each takes as much memory as a footer, some MiB at most for
/// usual records, 80 for the smallest ones.
const READ_AHEAD: usize = 2;
/// Records that are added at once: some 30 MB.
const BATCH_RECORDS: usize = 128 << 10;

/// What indexing packs came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoverOutcome {
    /// Packs whose records are known now.
    pub packs: u64,
    /// Their records.
    pub records: u64,
    /// Packs that could not be read at all, or are of a newer format.
    pub unreadable: Vec<PackId>,
    /// Packs with damaged parts; their other records are known.
    pub damaged: Vec<PackId>,
}

/// Deletes the packs that were condemned, and adds those that were sealed but not recorded: a crash leaves both.
///
/// The catalog forgets a condemned pack when its file is gone, the journal does not. Who brings such a file back, with others out of
/// a backup, must not bring the pack back: objects would be placed in it, and the next rebuild would leave it out. Nor is the
/// file deleted: what was copied out of it then may be lost by now.
pub(super) async fn index_unknown_packs(store: &Store) -> Result<RecoverOutcome, Error> {
    super::reclaim::delete_condemned(store).await?;
    let known: HashSet<PackId> = store.catalog.packs().await?.iter().map(|pack| pack.id).collect();
    let stored = store.packs.list().await?;
    let on_storage: HashSet<PackId> = stored.iter().copied().collect();
    for lost in known.difference(&on_storage) {
        warn!(pack = %lost, "a pack that the catalog knows is missing");
    }
    let mut unknown: Vec<PackId> = stored.into_iter().filter(|pack| !known.contains(pack)).collect();
    if !unknown.is_empty() {
        for pack in store.catalog.ever_condemned(unknown.clone()).await? {
            warn!(%pack, "a pack that a collection had given up was put back; it is not used, and left as it is");
            unknown.retain(|unknown| *unknown != pack);
        }
    }
    // Without a catalog there is nothing to take over, and many packs at once cost a fraction.
    let adding = if known.is_empty() { Adding::Everything } else { Adding::WhatIsNowhere };
    index(store, unknown, adding).await
}

/// Fills an empty catalog, whose journal was replayed, from all packs.
///
/// Condemned packs whose files are still there are left alone; the next opening deletes them.
pub async fn rebuild(store: &Store) -> Result<RecoverOutcome, Error> {
    let packs = store.packs.list().await?;
    info!(packs = packs.len(), "reading the index of every pack");
    index(store, packs, Adding::Everything).await
}

/// What of a pack is placed in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Adding {
    Everything,
    /// Nobody has read these records: what another pack has stays there, or a collection could give up the proven copy.
    WhatIsNowhere,
}

async fn index(store: &Store, packs: Vec<PackId>, adding: Adding) -> Result<RecoverOutcome, Error> {
    let mut outcome = RecoverOutcome::default();
    let read = |pack| async move { (pack, read_index(&*store.packs, store.repository, pack).await) };
    let mut indexes = stream::iter(packs).map(read).buffered(READ_AHEAD);
    let mut batch = Vec::new();
    let mut waiting = 0;
    while let Some((pack, read)) = indexes.next().await {
        match read {
            Ok(index) => {
                if !index.damage.is_empty() {
                    warn!(%pack, damaged_ranges = index.damage.len(), "a pack is damaged; the rest of it is used");
                    outcome.damaged.push(pack);
                }
                outcome.packs += 1;
                outcome.records += u64::from(index.record.records);
                if adding == Adding::WhatIsNowhere {
                    let ids = index.objects.iter().map(|(id, _)| *id).collect();
                    let places = store.catalog.locate(index.record.purpose, ids).await?.into_iter();
                    let nowhere = index.objects.into_iter().zip(places).filter(|(_, place)| place.is_none());
                    store.catalog.add_pack(index.record, nowhere.map(|(object, _)| object).collect(), None).await?;
                    continue;
                }
                waiting += index.objects.len();
                batch.push((index.record, index.objects));
                if waiting >= BATCH_RECORDS {
                    waiting = 0;
                    store.catalog.add_packs(std::mem::take(&mut batch)).await?;
                }
            }
            // Also one that cannot be opened. Whatever the reason, it stays unknown, and the next opening tries again.
            Err(
                error @ (Error::RecordCorrupt { .. }
                | Error::PackMissing(_)
                | Error::PackTooNew { .. }
                | Error::Io { .. }),
            ) => {
                warn!(%pack, error = error.with_cause(), "a pack cannot be read; it is left as it is");
                outcome.unreadable.push(pack);
            }
            Err(error) => return Err(error),
        }
    }
    store.catalog.add_packs(batch).await?;
    Ok(outcome)
}
