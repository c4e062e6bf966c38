//! Checks that everything a new tree needs is there, before it may become a version.
//!
//! A subtree counts as complete only where the base has the same node, with the same totals, at the same place. Any
//! other node is read and its references are looked up, even if its bytes were present before: a node that was left
//! behind by a removed version says nothing about its children.
//!
//! Whatever the base does not vouch for is held from here until the commit, also if the client never asked about it.

use std::collections::{HashMap, hash_map::Entry};

use imprint_content::{
    ChunkId, Extent, NodeId, ObjectId,
    tree::{Child, Node, Summary},
};
use imprint_proto::limits::MAX_MISSING_IDS;

use crate::{Error, UploadId, catalog::Catalog, pack::Purpose};

use super::{nodes::NodeReader, tree_view::TreeView};

/// What a tree needs and no live pack has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing {
    /// Chunks.
    pub chunks: Vec<ChunkId>,
    /// Nodes, and damaged ones; what is below them is not known yet.
    pub nodes: Vec<NodeId>,
}

impl Missing {
    const fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.nodes.is_empty()
    }

    const fn is_long(&self) -> bool {
        self.chunks.len() + self.nodes.len() >= MAX_MISSING_IDS
    }
}

/// Walks what is new in a tree.
pub(super) struct ClosureCheck<'a> {
    nodes: &'a NodeReader,
    catalog: &'a dyn Catalog,
    upload: UploadId,
    base: Option<TreeView>,
    /// Nodes whose subtrees were walked, as what they were believed to be: a tree may refer to one node from many
    /// places, and must say the same of it everywhere.
    visited: HashMap<NodeId, (u8, Summary)>,
    chunks: Vec<(ChunkId, u64)>,
    missing: Missing,
}

/// A node where a tree has it: level, offset in bytes, and what is said of it.
type Place = (u8, u64, Child);

/// Looked up at once.
const BATCH: usize = 1024;

impl<'a> ClosureCheck<'a> {
    pub(super) async fn new(
        nodes: &'a NodeReader,
        catalog: &'a dyn Catalog,
        upload: UploadId,
        base: Option<NodeId>,
    ) -> Self {
        let base = TreeView::open_if_readable(nodes, base).await;
        let visited = HashMap::new();
        Self { nodes, catalog, upload, base, visited, chunks: Vec::new(), missing: Missing::default() }
    }

    /// The totals of the tree, or what is missing for it.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when the tree contradicts itself or the chunks it refers to.
    pub(super) async fn run(mut self, root: NodeId) -> Result<Result<Summary, Missing>, Error> {
        let Some(node) = self.nodes.intact(&[root]).await?.remove(&root) else {
            return Ok(Err(Missing { nodes: vec![root], chunks: Vec::new() }));
        };
        let totals = node.summary();
        let mut stack = Vec::new();
        let top = (node.level(), 0, Child { id: root, summary: totals });
        self.push_located(vec![top], &mut stack).await?;
        while let Some((place, is_located)) = stack.pop() {
            let (level, offset, child) = place;
            if self.missing.is_long() {
                break;
            }
            if self.is_complete(level, offset, child).await? {
                continue;
            }
            if !is_located {
                self.missing.nodes.push(child.id);
            } else if let Some(node) = self.load(level, child).await? {
                self.enter(&node, offset, &mut stack).await?;
            }
        }
        self.look_up_chunks().await?;
        Ok(if self.missing.is_empty() { Ok(totals) } else { Err(self.missing) })
    }

    async fn is_complete(&mut self, level: u8, offset: u64, child: Child) -> Result<bool, Error> {
        if let Some(base) = &self.base
            && base.has(level, offset, &child).await
        {
            return Ok(true);
        }
        match self.visited.entry(child.id) {
            Entry::Occupied(found) if *found.get() == (level, child.summary) => Ok(true),
            Entry::Occupied(_) => Err(contradiction(child.id)),
            Entry::Vacant(first) => {
                first.insert((level, child.summary));
                Ok(false)
            }
        }
    }

    async fn load(&mut self, level: u8, child: Child) -> Result<Option<std::sync::Arc<Node>>, Error> {
        let Some(node) = self.nodes.intact(&[child.id]).await?.remove(&child.id) else {
            self.missing.nodes.push(child.id);
            return Ok(None);
        };
        if node.level() != level || node.summary() != child.summary {
            return Err(contradiction(child.id));
        }
        Ok(Some(node))
    }

    async fn enter(&mut self, node: &Node, offset: u64, stack: &mut Vec<(Place, bool)>) -> Result<(), Error> {
        match node {
            Node::Leaf(extents) => {
                self.chunks.extend(extents.iter().filter_map(with_length));
                if self.chunks.len() >= BATCH {
                    self.look_up_chunks().await?;
                }
            }
            Node::Inner { level, children } => {
                let mut start = offset;
                let mut below = Vec::with_capacity(children.len());
                for child in children {
                    below.push((level - 1, start, *child));
                    start = start.saturating_add(child.summary.length);
                }
                self.push_located(below, stack).await?;
            }
        }
        Ok(())
    }

    /// Holds nodes and pushes them, the first one last. A node that no live pack has is missing, even if it is still in the
    /// cache of those that were read.
    async fn push_located(&self, below: Vec<Place>, stack: &mut Vec<(Place, bool)>) -> Result<(), Error> {
        let ids = below.iter().map(|(_, _, child)| child.id.into()).collect();
        let locations = self.catalog.locate_and_hold(self.upload, Purpose::Nodes, ids).await?;
        stack.extend(below.into_iter().zip(locations.iter().map(Option::is_some)).rev());
        Ok(())
    }

    async fn look_up_chunks(&mut self) -> Result<(), Error> {
        let chunks = std::mem::take(&mut self.chunks);
        let ids: Vec<ObjectId> = chunks.iter().map(|(id, _)| (*id).into()).collect();
        let locations = self.catalog.locate_and_hold(self.upload, Purpose::Chunks, ids).await?;
        for ((id, length), location) in chunks.into_iter().zip(locations) {
            match location {
                Some(found) if u64::from(found.raw_length) == length => {}
                Some(found) => {
                    return Err(Error::BadRequest(format!(
                        "the tree says chunk {id} has {length} bytes, it has {}",
                        found.raw_length
                    )));
                }
                None => self.missing.chunks.push(id),
            }
        }
        Ok(())
    }
}

fn contradiction(id: NodeId) -> Error {
    Error::BadRequest(format!("node {id} is not what its parent says"))
}

fn with_length(extent: &Extent) -> Option<(ChunkId, u64)> {
    extent.chunk().map(|id| (id, extent.length))
}
