//! The order in which records are rewritten: as the newest versions have them, so that restores read forward.

use std::collections::HashMap;

use imprint_content::{ObjectId, tree::Node};

use super::{CollectControl, Marks, Store, walk::Walker};
use crate::{
    Error,
    catalog::{Location, Root},
    pack::Purpose,
};

/// Sorts records by where the first of the roots that has them has them. What no root has any more comes last.
pub(super) async fn in_image_order(
    store: &Store,
    kind: Purpose,
    roots: &[Root],
    mut wanted: HashMap<ObjectId, Location>,
    control: &CollectControl,
) -> Result<Vec<(ObjectId, Location)>, Error> {
    let mut order = Vec::with_capacity(wanted.len());
    let mut walker = Walker::new(store, Marks::default());
    for root in roots {
        if unless_damaged(walker.start(root.node).await)?.is_none() {
            continue;
        }
        // Also a node below the root may have been found damaged since the mark, by this very collection.
        while let Some((id, node)) = unless_damaged(walker.next().await)?.flatten() {
            control.expect_going_on()?;
            let mut take = |id: ObjectId| order.extend(wanted.remove_entry(&id));
            match (kind, &*node) {
                (Purpose::Nodes, _) => take(id.into()),
                (Purpose::Chunks, Node::Leaf(extents)) => {
                    extents.iter().filter_map(imprint_content::Extent::chunk).for_each(|chunk| take(chunk.into()));
                }
                (Purpose::Chunks, Node::Inner { .. }) => {}
            }
            if wanted.is_empty() {
                return Ok(order);
            }
        }
    }
    let mut rest: Vec<_> = wanted.into_iter().collect();
    rest.sort_by_key(|(_, at)| (at.pack, at.offset));
    order.extend(rest);
    Ok(order)
}

/// `None` for a tree that cannot be read: the order is all that is lost.
fn unless_damaged<T>(walked: Result<T, Error>) -> Result<Option<T>, Error> {
    match walked {
        Err(Error::ObjectMissing(_) | Error::RecordCorrupt { .. } | Error::PackMissing(_)) => Ok(None),
        walked => walked.map(Some),
    }
}
