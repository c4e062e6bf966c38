//! Removes the files of condemned packs.

use super::Store;
use crate::Error;

/// Packs that are forgotten at once.
const BATCH: usize = 64;

/// Deletes the files of all condemned packs, durably, and then has the catalog forget them.
///
/// In this order: an id that was forgotten while its file was still there would be added again as an unknown pack. A file that is
/// not there counts as deleted; so nothing is done while most packs have none, or nobody would delete what comes back when their
/// disk is mounted.
pub(in crate::store) async fn delete_condemned(store: &Store) -> Result<u64, Error> {
    let condemned = store.catalog.condemned_packs().await?;
    if condemned.is_empty() || store.are_most_packs_missing().await? {
        return Ok(0);
    }
    for packs in condemned.chunks(BATCH) {
        for pack in packs {
            store.packs.delete(*pack).await?;
        }
        store.catalog.forget_condemned(packs.to_vec()).await?;
    }
    Ok(condemned.len() as u64)
}
