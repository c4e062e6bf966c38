//! When a collection must not trust what it sees.

use crate::{
    Error,
    catalog::{FinishedMark, Mark},
};

/// Versions that exist, and those that were purged, are as many as were ever committed: that number never falls. Where it
/// did, not all versions are listed, and what the others need would be deleted (restic#4612).
pub(super) fn expect_all_versions(mark: &Mark) -> Result<(), Error> {
    let Some(FinishedMark { counts: before, .. }) = mark.last_finished else { return Ok(()) };
    let known = before.versions.saturating_add(before.purged);
    let now = mark.counts.versions.saturating_add(mark.counts.purged);
    if now < known { Err(Error::VersionsVanished { known, now }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Catalog as _, MarkEnd, MemoryCatalog, VersionCounts};

    async fn judged(versions: u64, purged: u64) -> Result<(), Error> {
        let catalog = MemoryCatalog::new();
        let mut mark = catalog.begin_mark().await.unwrap();
        let counts = VersionCounts { versions: 5, purged: 2 };
        mark.last_finished = Some(FinishedMark { finished_unix_ms: 0, counts });
        mark.counts = VersionCounts { versions, purged };
        catalog.end_mark(mark.id, MarkEnd::Abandoned).await.unwrap();
        expect_all_versions(&mark)
    }

    #[tokio::test]
    async fn an_error_while_listing_deletes_nothing() {
        assert!(judged(5, 2).await.is_ok());
        assert!(judged(3, 4).await.is_ok(), "two were purged");
        assert!(judged(9, 2).await.is_ok());
        for (versions, purged) in [(4, 2), (0, 0), (5, 1), (0, 6)] {
            assert!(matches!(judged(versions, purged).await, Err(Error::VersionsVanished { known: 7, .. })));
        }
    }
}
