//! Moves through a stored tree by image offset.
//!
//! Two trees are compared in step: what has the same node at the same level and offset is the same, and everything
//! below it is never looked at. So a comparison costs what differs, not what the images are.

use std::{collections::HashMap, sync::Arc};

use imprint_content::{
    ChunkId, Extent, NodeId,
    tree::{Child, Node},
};

use crate::Error;

use super::nodes::NodeReader;

/// A tree that can be looked up by offset.
pub(super) struct TreeView {
    nodes: NodeReader,
    root: Child,
    level: u8,
}

impl TreeView {
    pub(super) async fn open(nodes: NodeReader, root: NodeId) -> Result<Self, Error> {
        let node = nodes.node(root).await?;
        Ok(Self { nodes, root: Child { id: root, summary: node.summary() }, level: node.level() })
    }

    /// A tree that others may share with. One that cannot be read vouches for nothing and must not be in their way.
    pub(super) async fn open_if_readable(nodes: &NodeReader, root: Option<NodeId>) -> Option<Self> {
        let root = root?;
        let view = Self::open(nodes.clone(), root).await;
        view.inspect_err(|error| tracing::warn!(%root, %error, "a tree cannot be read; nothing is shared with it")).ok()
    }

    /// Whether it has this very node, with these totals, at this level and offset. What is damaged it does not have.
    pub(super) async fn has(&self, level: u8, offset: u64, child: &Child) -> bool {
        self.node_at(level, offset).await.is_ok_and(|found| found.as_ref() == Some(child))
    }

    /// The node of this level that starts at `offset`, if one does, and what its parent says of it.
    async fn node_at(&self, level: u8, offset: u64) -> Result<Option<Child>, Error> {
        if level > self.level {
            return Ok(None);
        }
        let (mut found, mut start) = (self.root, 0);
        for _ in level..self.level {
            match child_covering(&*self.nodes.node(found.id).await?, start, offset) {
                Some(below) => (found, start) = below,
                None => return Ok(None),
            }
        }
        Ok((start == offset).then_some(found))
    }

    /// The leaf that covers `offset`, and where it starts.
    async fn leaf_covering(&self, offset: u64) -> Result<Option<(Arc<Node>, u64)>, Error> {
        let (mut node, mut start) = (self.nodes.node(self.root.id).await?, 0);
        while node.level() > 0 {
            match child_covering(&node, start, offset) {
                Some((child, child_start)) => (node, start) = (self.nodes.node(child.id).await?, child_start),
                None => return Ok(None),
            }
        }
        Ok(Some((node, start)))
    }
}

/// The child that covers `offset`, and where it starts, in a node that starts at `start`. A stored tree may say
/// anything of lengths, so sums end at the largest offset.
fn child_covering(node: &Node, start: u64, offset: u64) -> Option<(Child, u64)> {
    let Node::Inner { children, .. } = node else { return None };
    let mut child_start = start;
    for child in children {
        let child_end = child_start.saturating_add(child.summary.length);
        if (child_start..child_end).contains(&offset) {
            return Some((*child, child_start));
        }
        child_start = child_end;
    }
    None
}

/// Finds chunks by the offset at which their extents start; ascending offsets are cheap.
pub(super) struct LeafCursor {
    view: TreeView,
    starts: HashMap<u64, ChunkId>,
}

impl LeafCursor {
    pub(super) fn new(view: TreeView) -> Self {
        Self { view, starts: HashMap::new() }
    }

    pub(super) async fn chunk_at(&mut self, offset: u64) -> Result<ChunkId, Error> {
        if let Some(id) = self.starts.get(&offset) {
            return Ok(*id);
        }
        self.starts.clear();
        if let Some((leaf, start)) = self.view.leaf_covering(offset).await? {
            self.starts.extend(data_starts(&leaf, start));
        }
        let no_data = || Error::BadRequest(format!("the version has no data extent that starts at byte {offset}"));
        self.starts.get(&offset).copied().ok_or_else(no_data)
    }
}

fn data_starts(leaf: &Node, start: u64) -> Vec<(u64, ChunkId)> {
    let Node::Leaf(extents) = leaf else { return Vec::new() };
    let mut offset = start;
    let mut starts = Vec::with_capacity(extents.len());
    for extent in extents {
        starts.extend(extent.chunk().map(|id| (offset, id)));
        offset = offset.saturating_add(extent.length);
    }
    starts
}

/// A piece of a version's tree, in image order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreePiece {
    /// A leaf.
    Leaf(Vec<Extent>),
    /// So many bytes have the same extents, cut into the same leaves, as in the other tree.
    Shared(u64),
}

/// Walks a tree from front to back, leaving out what another tree shares.
pub struct TreeWalk {
    nodes: NodeReader,
    have: Option<TreeView>,
    /// Subtrees still to visit, the next one last: level, offset, node.
    stack: Vec<(u8, u64, Child)>,
}

impl TreeWalk {
    pub(super) async fn start(nodes: &NodeReader, root: NodeId, have: Option<NodeId>) -> Result<Self, Error> {
        let node = nodes.node(root).await?;
        let have = TreeView::open_if_readable(nodes, have).await;
        let root = Child { id: root, summary: node.summary() };
        Ok(Self { nodes: nodes.clone(), have, stack: vec![(node.level(), 0, root)] })
    }

    /// The next piece, `None` behind the last.
    pub async fn next(&mut self) -> Result<Option<TreePiece>, Error> {
        while let Some((level, offset, child)) = self.stack.pop() {
            if let Some(have) = &self.have
                && have.has(level, offset, &child).await
            {
                return Ok(Some(TreePiece::Shared(child.summary.length)));
            }
            match &*self.nodes.node(child.id).await? {
                Node::Leaf(extents) => return Ok(Some(TreePiece::Leaf(extents.clone()))),
                Node::Inner { level, children } => self.descend(*level - 1, offset, children).await?,
            }
        }
        Ok(None)
    }

    async fn descend(&mut self, level: u8, start: u64, children: &[Child]) -> Result<(), Error> {
        let mut ends = start;
        let mut below = Vec::with_capacity(children.len());
        for child in children {
            below.push((level, ends, *child));
            ends = ends.saturating_add(child.summary.length);
        }
        // One read for all of them; what `have` shares is not needed, but lies between the others.
        if self.have.is_none() {
            let ids: Vec<NodeId> = children.iter().map(|child| child.id).collect();
            self.nodes.intact(&ids).await?;
        }
        self.stack.extend(below.into_iter().rev());
        Ok(())
    }
}
