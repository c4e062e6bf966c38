//! Builds the tree of a sequence of extents, in one pass and in memory that grows with the tree's height.

use super::node::{Boundary, Child, Node, Summary, encode_child, encode_extent};
use crate::{Extent, NodeId};

/// A finished node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltNode {
    /// The id of `encoded`.
    pub id: NodeId,
    /// 0 for leaves.
    pub level: u8,
    /// Totals of its subtree.
    pub summary: Summary,
    /// The canonical encoding.
    pub encoded: Vec<u8>,
}

/// Takes extents in image order and gives back nodes as they are finished, children before parents.
///
/// Neighbouring extents of one kind are merged, so the tree does not depend on how a run was cut up.
#[derive(Debug, Default)]
pub struct TreeBuilder {
    pending: Option<Extent>,
    leaf: Vec<Extent>,
    leaf_boundary: Boundary,
    inner: Vec<Level>,
    scratch: Vec<u8>,
}

#[derive(Debug, Default)]
struct Level {
    children: Vec<Child>,
    boundary: Boundary,
    finished_nodes: u64,
}

impl TreeBuilder {
    /// A tree without extents.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next extent; nodes that this finished are appended to `finished`.
    ///
    /// # Panics
    /// When the extent is empty or the image would exceed 2^64 bytes.
    pub fn push(&mut self, extent: Extent, finished: &mut Vec<BuiltNode>) {
        assert!(extent.length > 0, "extents are not empty");
        match &mut self.pending {
            Some(pending) if pending.merges_with(&extent) => pending.length += extent.length,
            _ => {
                if let Some(complete) = self.pending.replace(extent) {
                    self.add_entry(complete, finished);
                }
            }
        }
    }

    /// Finishes the tree: appends the remaining nodes to `finished` and returns the root.
    #[must_use]
    pub fn finish(mut self, finished: &mut Vec<BuiltNode>) -> Child {
        if let Some(extent) = self.pending.take() {
            self.add_entry(extent, finished);
        }
        let is_empty = self.inner.is_empty() && self.leaf.is_empty();
        if !self.leaf.is_empty() || is_empty {
            self.finish_leaf(finished);
        }
        self.finish_inner_levels(finished)
    }

    fn add_entry(&mut self, extent: Extent, finished: &mut Vec<BuiltNode>) {
        self.scratch.clear();
        encode_extent(&extent, &mut self.scratch);
        self.leaf.push(extent);
        if self.leaf_boundary.ends_after(&self.scratch) {
            self.finish_leaf(finished);
        }
    }

    fn finish_leaf(&mut self, finished: &mut Vec<BuiltNode>) {
        let child = emit(&Node::Leaf(std::mem::take(&mut self.leaf)), finished);
        self.add_child(0, child, finished);
    }

    /// Adds a node of level `below` to the open node above it.
    fn add_child(&mut self, below: usize, child: Child, finished: &mut Vec<BuiltNode>) {
        if self.inner.len() == below {
            self.inner.push(Level::default());
        }
        self.scratch.clear();
        encode_child(&child, &mut self.scratch);
        let level = &mut self.inner[below];
        level.children.push(child);
        if level.boundary.ends_after(&self.scratch) {
            self.finish_inner(below, finished);
        }
    }

    fn finish_inner(&mut self, index: usize, finished: &mut Vec<BuiltNode>) {
        let level = &mut self.inner[index];
        level.finished_nodes += 1;
        let children = std::mem::take(&mut level.children);
        let child = emit(&Node::Inner { level: index as u8 + 1, children }, finished);
        self.add_child(index + 1, child, finished);
    }

    /// Closes each level from below; the first level that has only one node below it has that node as the root.
    fn finish_inner_levels(&mut self, finished: &mut Vec<BuiltNode>) -> Child {
        let mut index = 0;
        loop {
            let level = &self.inner[index];
            if level.finished_nodes == 0 && level.children.len() == 1 {
                return level.children[0];
            }
            if !level.children.is_empty() {
                self.finish_inner(index, finished);
            }
            index += 1;
        }
    }
}

fn emit(node: &Node, finished: &mut Vec<BuiltNode>) -> Child {
    let encoded = node.encode();
    let child = Child { id: NodeId::of(&encoded), summary: node.summary() };
    finished.push(BuiltNode { id: child.id, level: node.level(), summary: child.summary, encoded });
    child
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::*;
    use crate::{ChunkId, ExtentKind, tree::MAX_NODE_BYTES};

    fn build(extents: &[Extent]) -> (Child, Vec<BuiltNode>) {
        let mut builder = TreeBuilder::new();
        let mut nodes = Vec::new();
        for extent in extents {
            builder.push(*extent, &mut nodes);
        }
        let root = builder.finish(&mut nodes);
        (root, nodes)
    }

    fn chunks(count: u32, salt: u32) -> Vec<Extent> {
        (0..count).map(|n| Extent::data(ChunkId::of(&[n.to_le_bytes(), salt.to_le_bytes()].concat()), 65536)).collect()
    }

    fn flatten(root: NodeId, nodes: &HashMap<NodeId, Node>, out: &mut Vec<Extent>) {
        match &nodes[&root] {
            Node::Leaf(extents) => out.extend(extents),
            Node::Inner { children, .. } => children.iter().for_each(|child| flatten(child.id, nodes, out)),
        }
    }

    fn decoded(nodes: &[BuiltNode]) -> HashMap<NodeId, Node> {
        nodes.iter().map(|node| (node.id, Node::decode(&node.encoded).unwrap())).collect()
    }

    fn merged(extents: &[Extent]) -> Vec<Extent> {
        let mut out: Vec<Extent> = Vec::new();
        for extent in extents {
            match out.last_mut() {
                Some(last) if last.merges_with(extent) => last.length += extent.length,
                _ => out.push(*extent),
            }
        }
        out
    }

    #[test]
    fn trees_of_known_extents_do_not_change() {
        assert_eq!(build(&[]).0.id.to_string(), "27abda594a509989204344fbb836526cf7c2bb82031c8176e7d230581cdbe367");
        assert_eq!(
            build(&chunks(5000, 0)).0.id.to_string(),
            "582c2016d1b3304ac0e8d5c3f909dff8ca5f4d45d9f15af594b00012a37380ca"
        );
    }

    #[test]
    fn an_empty_tree_is_one_empty_leaf_and_a_small_one_one_leaf() {
        let (root, nodes) = build(&[]);
        assert_eq!((nodes.len(), nodes[0].level, root.id), (1, 0, nodes[0].id));
        let (root, nodes) = build(&chunks(3, 0));
        assert_eq!((nodes.len(), nodes[0].level, root.id), (1, 0, nodes[0].id));
    }

    #[test]
    fn k_changed_chunks_make_k_log_n_new_nodes() {
        let before = chunks(100_000, 0);
        let known: HashSet<NodeId> = build(&before).1.iter().map(|node| node.id).collect();
        for changed in [1usize, 10, 100] {
            let mut after = before.clone();
            for n in 0..changed {
                after[n * 997] = chunks(1, 7 + n as u32)[0];
            }
            let (root, nodes) = build(&after);
            let height = usize::from(nodes.last().unwrap().level) + 1;
            assert_eq!(nodes.last().unwrap().id, root.id);
            let new = nodes.iter().filter(|node| !known.contains(&node.id)).count();
            // One path a change; now and then a changed entry moves a boundary and makes one more node a level.
            assert!(new <= changed * height * 2, "{changed} changed chunks made {new} new nodes");
        }
    }

    #[test]
    fn inserting_at_the_front_shares_the_rest() {
        let before = chunks(20_000, 0);
        let known: HashSet<NodeId> = build(&before).1.iter().map(|node| node.id).collect();
        let after: Vec<Extent> = chunks(3, 9).into_iter().chain(before).collect();
        let nodes = build(&after).1;
        let new = nodes.iter().filter(|node| !known.contains(&node.id)).count();
        assert!(new < 40, "{new} of {} nodes are new", nodes.len());
    }

    fn any_extent() -> impl Strategy<Value = Extent> {
        prop_oneof![
            (any::<u8>(), 1u64..300_000).prop_map(|(n, length)| Extent::data(ChunkId::of(&[n]), length)),
            (1u64..1 << 40).prop_map(Extent::zero),
            (1u64..1 << 40).prop_map(|length| Extent { kind: ExtentKind::Free, length }),
        ]
    }

    proptest! {
        #[test]
        fn any_extents_come_back_merged(extents in prop::collection::vec(any_extent(), 0..3000)) {
            let (root, nodes) = build(&extents);
            let mut back = Vec::new();
            flatten(root.id, &decoded(&nodes), &mut back);
            prop_assert_eq!(&back, &merged(&extents));
            prop_assert_eq!(root.summary.length, extents.iter().map(|e| e.length).sum::<u64>());
            prop_assert!(nodes.iter().all(|node| node.encoded.len() <= MAX_NODE_BYTES));
        }

        #[test]
        fn splitting_runs_does_not_change_the_root(extents in prop::collection::vec(any_extent(), 1..200)) {
            let split: Vec<Extent> = extents
                .iter()
                .flat_map(|extent| match extent.kind {
                    ExtentKind::Data(_) => vec![*extent],
                    kind if extent.length > 1 => vec![
                        Extent { kind, length: 1 },
                        Extent { kind, length: extent.length - 1 },
                    ],
                    _ => vec![*extent],
                })
                .collect();
            prop_assert_eq!(build(&extents).0, build(&split).0);
        }
    }
}
