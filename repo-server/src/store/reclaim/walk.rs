//! Walks trees, each node once for all of them.

use std::{collections::HashMap, sync::Arc};

use imprint_content::{NodeId, ObjectId, tree::Node};

use super::{Marks, Store};
use crate::{Error, pack::Purpose};

/// Visits the nodes of trees in image order, parents first. A node that was visited was walked with all below it, whichever
/// tree it belonged to, so that trees that share cost what differs.
pub(in crate::store) struct Walker<'a> {
    store: &'a Store,
    /// The nodes that were visited.
    pub(super) visited: Marks,
    /// Read and not visited, the next one last; at most the children of one node on each level.
    stack: Vec<(NodeId, Arc<Node>)>,
}

impl<'a> Walker<'a> {
    pub(in crate::store) fn new(store: &'a Store, visited: Marks) -> Self {
        Self { store, visited, stack: Vec::new() }
    }

    /// Goes on with this tree.
    pub(in crate::store) async fn start(&mut self, root: NodeId) -> Result<(), Error> {
        self.stack.clear();
        self.push(&[root]).await
    }

    /// The next node, `None` behind the last of the tree.
    ///
    /// # Errors
    /// Those of reading a node; [`Error::ObjectMissing`] when one is located nowhere.
    pub(in crate::store) async fn next(&mut self) -> Result<Option<(NodeId, Arc<Node>)>, Error> {
        let Some((id, node)) = self.stack.pop() else { return Ok(None) };
        if let Node::Inner { children, .. } = &*node {
            let ids: Vec<NodeId> = children.iter().map(|child| child.id).collect();
            self.push(&ids).await?;
        }
        Ok(Some((id, node)))
    }

    /// Reads those that were not visited, in one go.
    async fn push(&mut self, ids: &[NodeId]) -> Result<(), Error> {
        let objects: Vec<ObjectId> = ids.iter().map(|id| (*id).into()).collect();
        let locations = self.store.catalog.locate(Purpose::Nodes, objects.clone()).await?;
        let mut wanted = Vec::new();
        for (id, location) in objects.into_iter().zip(locations) {
            let location = location.ok_or(Error::ObjectMissing(id))?;
            if self.visited.insert(&location)? {
                wanted.push((id, location));
            }
        }
        let mut nodes: HashMap<NodeId, Arc<Node>> = self.store.nodes.located(wanted).await?.into_iter().collect();
        self.stack.extend(ids.iter().rev().filter_map(|id| nodes.remove_entry(id)));
        Ok(())
    }
}
