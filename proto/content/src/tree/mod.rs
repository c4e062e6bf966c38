//! The Merkle tree of a version.
//!
//! Leaves list extents, inner nodes list nodes; where a node ends depends only on its entries, so two versions
//! share every subtree that did not change. One sequence of extents has exactly one tree: [`TreeBuilder`] is the
//! only writer. [`Node::decode`] refuses nodes that are wrong in themselves; it does not ask whether the rule would
//! have ended them there. Who needs the one tree builds it from the extents and compares roots.

mod builder;
mod node;

pub use builder::{BuiltNode, TreeBuilder};
pub use node::{Child, MAX_LEVEL, MAX_NODE_BYTES, MAX_NODE_ENTRIES, Node, Summary};
