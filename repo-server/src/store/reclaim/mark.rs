//! Marks what the roots reach.

use std::collections::HashSet;

use imprint_content::{ObjectId, tree::Node};

use super::{CollectControl, CollectPhase, Marks, Store, walk::Walker};
use crate::{
    Error,
    catalog::{PackRecord, Root},
    pack::Purpose,
};

/// Chunks that are located at once.
const BATCH: usize = 2048;
/// Damaged objects that may be known; where there are more, a repair comes first.
const MAX_DAMAGE: usize = 1 << 20;

/// What a mark found.
pub(super) struct Marked {
    pub(super) marks: Marks,
    /// Chunks of versions that are located nowhere, all of them known to be damaged.
    pub(super) missing_chunks: u64,
}

/// Walks all trees, in the order of the roots.
///
/// # Errors
/// [`Error::TreeUnreadable`] when what a version needs cannot be found out: a node that cannot be read, or a chunk that is
/// located nowhere though nobody found it damaged. Then the catalog cannot be trusted to know what is needed.
pub(super) async fn mark(
    store: &Store,
    packs: &[PackRecord],
    roots: &[Root],
    control: &CollectControl,
) -> Result<Marked, Error> {
    control.begin(CollectPhase::Marking, roots.len() as u64);
    let mut marker = Marker {
        store,
        walker: Walker::new(store, Marks::of(packs)),
        chunks: Vec::with_capacity(BATCH * 2),
        damaged: HashSet::new(),
        missing: HashSet::new(),
        control,
    };
    for root in roots {
        marker.visit(root).await.map_err(|error| unreadable(root, error))?;
        control.advance(1);
    }
    Ok(Marked { marks: marker.walker.visited, missing_chunks: marker.missing.len() as u64 })
}

/// Damage gets the name of the version; whatever else failed is no statement about it.
fn unreadable(root: &Root, error: Error) -> Error {
    match error {
        Error::ObjectMissing(_) | Error::RecordCorrupt { .. } | Error::PackMissing(_) => {
            let (image, number) = (root.version.image.clone(), root.version.number);
            Error::TreeUnreadable { image, number, why: error.to_string() }
        }
        error => error,
    }
}

struct Marker<'a> {
    store: &'a Store,
    walker: Walker<'a>,
    chunks: Vec<ObjectId>,
    /// Chunks that are known to be damaged.
    damaged: HashSet<ObjectId>,
    /// Those of them that were met.
    missing: HashSet<ObjectId>,
    control: &'a CollectControl,
}

impl Marker<'_> {
    /// Marks the tree of a root, but for what was marked before.
    async fn visit(&mut self, root: &Root) -> Result<(), Error> {
        self.walker.start(root.node).await?;
        while let Some((_, node)) = self.walker.next().await? {
            if let Node::Leaf(extents) = &*node {
                self.chunks.extend(extents.iter().filter_map(|extent| extent.chunk().map(ObjectId::from)));
            }
            if self.chunks.len() >= BATCH {
                self.mark_chunks().await?;
            }
        }
        // Before the next root, so that what is missing is this one's.
        self.mark_chunks().await
    }

    async fn mark_chunks(&mut self) -> Result<(), Error> {
        self.control.expect_going_on()?;
        let ids = std::mem::take(&mut self.chunks);
        let locations = self.store.catalog.locate(Purpose::Chunks, ids.clone()).await?;
        for (id, location) in ids.into_iter().zip(locations) {
            match location {
                Some(location) => _ = self.walker.visited.insert(&location)?,
                None => self.expect_damaged(id).await?,
            }
        }
        Ok(())
    }

    async fn expect_damaged(&mut self, id: ObjectId) -> Result<(), Error> {
        if self.missing.contains(&id) {
            return Ok(());
        }
        if !self.damaged.contains(&id) {
            // It may have been found damaged since the last look.
            let damage = self.store.catalog.unhealed_damage(MAX_DAMAGE).await?;
            self.damaged = damage.into_iter().filter(|it| it.kind == Purpose::Chunks).map(|it| it.id).collect();
        }
        // Or sent again since it was looked for.
        let is_back = || async { Ok::<_, Error>(self.store.catalog.locate(Purpose::Chunks, vec![id]).await?[0]) };
        match self.damaged.contains(&id) {
            true => _ = self.missing.insert(id),
            false => match is_back().await? {
                Some(location) => _ = self.walker.visited.insert(&location)?,
                None => return Err(Error::ObjectMissing(id)),
            },
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use imprint_content::{ChunkId, Codec};

    use super::*;
    use crate::{
        PackId, RepositoryId,
        blocking::Blocking,
        catalog::{Catalog as _, Damage, Location, MemoryCatalog},
        storage::MemoryPacks,
    };

    fn chunk(n: u8) -> ObjectId {
        ChunkId::of(&[n]).into()
    }

    /// All of these were located nowhere a moment ago.
    #[tokio::test]
    async fn a_chunk_that_comes_back_during_a_mark_is_marked() {
        let catalog = MemoryCatalog::new();
        let id = PackId::from_bytes([1; 16]);
        let place = |ordinal| Location {
            pack: id,
            offset: 64 + 100 * ordinal,
            stored_length: 1,
            raw_length: 1,
            codec: Codec::Raw,
            ordinal,
        };
        let pack = PackRecord { id, purpose: Purpose::Chunks, bytes: 1000, records: 2 };
        let objects = vec![(chunk(0), place(0)), (chunk(1), place(1))];
        catalog.add_pack(pack.clone(), objects, None).await.unwrap();
        let (why, objects) = ("a test".into(), vec![chunk(1)]);
        let damage = Damage { pack: id, kind: Purpose::Chunks, objects, why, found_unix_ms: 0 };
        catalog.quarantine(damage).await.unwrap();
        let (packs, blocking) = (Arc::new(MemoryPacks::default()), Blocking::for_this_machine());
        let store = Store::new(RepositoryId::random(), packs, Arc::new(catalog), blocking);
        let control = CollectControl::new();
        let mut marker = Marker {
            store: &store,
            walker: Walker::new(&store, Marks::of(std::slice::from_ref(&pack))),
            chunks: Vec::new(),
            damaged: HashSet::new(),
            missing: HashSet::new(),
            control: &control,
        };
        marker.expect_damaged(chunk(0)).await.unwrap();
        assert!(!marker.walker.visited.insert(&place(0)).unwrap(), "it was sent again: it is needed where it is now");
        marker.expect_damaged(chunk(1)).await.unwrap();
        assert_eq!(marker.missing, HashSet::from([chunk(1)]), "known to be damaged");
        let error = marker.expect_damaged(chunk(2)).await.unwrap_err();
        assert!(matches!(error, Error::ObjectMissing(id) if id == chunk(2)), "{error}");
    }
}
