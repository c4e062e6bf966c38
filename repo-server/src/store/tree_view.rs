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
    root: NodeId,
    level: u8,
}

impl TreeView {
    pub(super) async fn open(nodes: NodeReader, root: NodeId) -> Result<Self, Error> {
        let level = nodes.node(root).await?.level();
        Ok(Self { nodes, root, level })
    }

    /// The node of this level that starts at `offset`, if one does.
    pub(super) async fn node_at(&self, level: u8, offset: u64) -> Result<Option<NodeId>, Error> {
        if level > self.level {
            return Ok(None);
        }
        let (mut id, mut start) = (self.root, 0);
        for _ in level..self.level {
            match child_covering(&*self.nodes.node(id).await?, start, offset) {
                Some((child, child_start)) => (id, start) = (child.id, child_start),
                None => return Ok(None),
            }
        }
        Ok((start == offset).then_some(id))
    }

    /// The leaf that covers `offset`, and where it starts.
    async fn leaf_covering(&self, offset: u64) -> Result<Option<(Arc<Node>, u64)>, Error> {
        let (mut node, mut start) = (self.nodes.node(self.root).await?, 0);
        while node.level() > 0 {
            match child_covering(&node, start, offset) {
                Some((child, child_start)) => (node, start) = (self.nodes.node(child.id).await?, child_start),
                None => return Ok(None),
            }
        }
        Ok(Some((node, start)))
    }
}

fn child_covering(node: &Node, start: u64, offset: u64) -> Option<(Child, u64)> {
    let Node::Inner { children, .. } = node else { return None };
    let mut child_start = start;
    for child in children {
        let child_end = child_start + child.summary.length;
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
        offset += extent.length;
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
    /// Subtrees still to visit, the next one last: level, offset, node, length.
    stack: Vec<(u8, u64, NodeId, u64)>,
}

impl TreeWalk {
    pub(super) async fn start(nodes: &NodeReader, root: NodeId, have: Option<NodeId>) -> Result<Self, Error> {
        let node = nodes.node(root).await?;
        let have = match have {
            Some(have) => Some(TreeView::open(nodes.clone(), have).await?),
            None => None,
        };
        Ok(Self { nodes: nodes.clone(), have, stack: vec![(node.level(), 0, root, node.summary().length)] })
    }

    /// The next piece, `None` behind the last.
    pub async fn next(&mut self) -> Result<Option<TreePiece>, Error> {
        while let Some((level, offset, id, length)) = self.stack.pop() {
            if let Some(have) = &self.have
                && have.node_at(level, offset).await? == Some(id)
            {
                return Ok(Some(TreePiece::Shared(length)));
            }
            match &*self.nodes.node(id).await? {
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
            below.push((level, ends, child.id, child.summary.length));
            ends += child.summary.length;
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
