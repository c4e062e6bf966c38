//! One node: its entries, their encoding, and the rule that ends it. Layout: `docs/format.md`, "Node".

use crate::{ChunkId, DecodeError, Extent, ExtentKind, NodeId, bytes::Reader, profile::MAX_CHUNK_BYTES};

/// Encoding version, the first byte of every node.
const FORMAT: u8 = 1;
/// format, level, entry count
const HEADER_BYTES: usize = 4;
/// node id, length, data bytes, extents
const CHILD_BYTES: usize = 32 + 3 * 8;

/// A node has at least this many entries, unless it is the last of its level.
const MIN_NODE_ENTRIES: usize = 16;
/// After the minimum, one entry in this many ends its node: about 80 entries, 3 to 4.5 KiB.
const BOUNDARY_ONE_IN: u32 = 64;
/// A node never has more entries.
pub const MAX_NODE_ENTRIES: usize = 320;
/// Upper bound of an encoded node, in bytes.
pub const MAX_NODE_BYTES: usize = HEADER_BYTES + MAX_NODE_ENTRIES * CHILD_BYTES;
/// Highest level a node may have: at 16 entries a node, more extents than an image of 2^64 bytes can have.
pub const MAX_LEVEL: u8 = 16;

const KIND_DATA: u8 = 1;
const KIND_ZERO: u8 = 2;
const KIND_FREE: u8 = 3;

/// Totals of a subtree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Image bytes covered.
    pub length: u64,
    /// Of them, bytes in data extents.
    pub data: u64,
    /// Extents below.
    pub extents: u64,
}

impl Summary {
    /// Adds `other`, or `None` when a total exceeds `u64`.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Some(Self {
            length: self.length.checked_add(other.length)?,
            data: self.data.checked_add(other.data)?,
            extents: self.extents.checked_add(other.extents)?,
        })
    }
}

impl From<&Extent> for Summary {
    fn from(extent: &Extent) -> Self {
        Self { length: extent.length, data: extent.data_bytes(), extents: 1 }
    }
}

/// An entry of an inner node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Child {
    /// The node one level below.
    pub id: NodeId,
    /// Its totals, so that a reader can seek without fetching it.
    pub summary: Summary,
}

/// A decoded node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// Level 0: extents in image order.
    Leaf(Vec<Extent>),
    /// Level 1 and up: nodes of the level below in image order.
    Inner {
        /// At least 1, at most [`MAX_LEVEL`].
        level: u8,
        /// Never empty.
        children: Vec<Child>,
    },
}

impl Node {
    /// 0 for leaves.
    #[must_use]
    pub const fn level(&self) -> u8 {
        match self {
            Self::Leaf(_) => 0,
            Self::Inner { level, .. } => *level,
        }
    }

    /// Totals of the subtree, as its entries claim them.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let sum = |total: Summary, next: Summary| total.checked_add(next).expect("decode checked the totals");
        match self {
            Self::Leaf(extents) => extents.iter().map(Summary::from).fold(Summary::default(), sum),
            Self::Inner { children, .. } => children.iter().map(|c| c.summary).fold(Summary::default(), sum),
        }
    }

    /// The canonical encoding; its hash is the node's id.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4096);
        let entries = match self {
            Self::Leaf(extents) => extents.len(),
            Self::Inner { children, .. } => children.len(),
        };
        out.extend_from_slice(&[FORMAT, self.level()]);
        out.extend_from_slice(&(entries as u16).to_le_bytes());
        match self {
            Self::Leaf(extents) => extents.iter().for_each(|extent| encode_extent(extent, &mut out)),
            Self::Inner { children, .. } => children.iter().for_each(|child| encode_child(child, &mut out)),
        }
        out
    }

    /// Parses an encoding that [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// Anything else: unknown formats and kinds, empty or unmerged extents, totals that overflow, bytes left over.
    pub fn decode(encoded: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(encoded);
        match reader.u8("node format")? {
            FORMAT => {}
            found => return Err(DecodeError::Unknown { what: "node format", found: found.into() }),
        }
        let level = reader.u8("node level")?;
        let entries = usize::from(reader.u16("node entry count")?);
        if level > MAX_LEVEL || entries > MAX_NODE_ENTRIES {
            return Err(DecodeError::invalid("node", "its level or entry count is above the limit"));
        }
        let node = if level == 0 {
            Self::Leaf((0..entries).map(|_| decode_extent(&mut reader)).collect::<Result<_, _>>()?)
        } else {
            let children = (0..entries).map(|_| decode_child(&mut reader)).collect::<Result<_, _>>()?;
            Self::Inner { level, children }
        };
        reader.finish("node")?;
        node.check()?;
        Ok(node)
    }

    /// Ids of everything directly below.
    pub fn references(&self) -> impl Iterator<Item = crate::ObjectId> + '_ {
        let (extents, children): (&[Extent], &[Child]) = match self {
            Self::Leaf(extents) => (extents, &[]),
            Self::Inner { children, .. } => (&[], children),
        };
        let chunks = extents.iter().filter_map(Extent::chunk).map(Into::into);
        chunks.chain(children.iter().map(|child| child.id.into()))
    }

    fn check(&self) -> Result<(), DecodeError> {
        let overflow = DecodeError::invalid("node", "its totals overflow");
        let mut total = Summary::default();
        match self {
            Self::Leaf(extents) => {
                if extents.windows(2).any(|pair| pair[0].merges_with(&pair[1])) {
                    return Err(DecodeError::invalid("node", "neighbouring extents of one kind are not merged"));
                }
                for extent in extents {
                    total = total.checked_add(extent.into()).ok_or(overflow.clone())?;
                }
            }
            Self::Inner { children, .. } => {
                if children.is_empty() {
                    return Err(DecodeError::invalid("node", "an inner node has no children"));
                }
                for child in children {
                    total = total.checked_add(child.summary).ok_or(overflow.clone())?;
                }
            }
        }
        Ok(())
    }
}

/// Decides, entry by entry, where a node ends.
#[derive(Debug, Default)]
pub(super) struct Boundary {
    entries: usize,
}

impl Boundary {
    /// Whether the node ends after this entry, given its encoding.
    pub(super) fn ends_after(&mut self, encoded_entry: &[u8]) -> bool {
        self.entries += 1;
        let ends = self.entries >= MAX_NODE_ENTRIES
            || self.entries >= MIN_NODE_ENTRIES && entry_hash(encoded_entry) < u32::MAX / BOUNDARY_ONE_IN;
        if ends {
            self.entries = 0;
        }
        ends
    }
}

fn entry_hash(encoded_entry: &[u8]) -> u32 {
    let hash = blake3::hash(encoded_entry);
    u32::from_le_bytes([hash.as_bytes()[0], hash.as_bytes()[1], hash.as_bytes()[2], hash.as_bytes()[3]])
}

pub(super) fn encode_extent(extent: &Extent, out: &mut Vec<u8>) {
    let kind = match extent.kind {
        ExtentKind::Data(_) => KIND_DATA,
        ExtentKind::Zero => KIND_ZERO,
        ExtentKind::Free => KIND_FREE,
    };
    out.push(kind);
    out.extend_from_slice(&extent.length.to_le_bytes());
    if let ExtentKind::Data(id) = extent.kind {
        out.extend_from_slice(id.as_bytes());
    }
}

fn decode_extent(reader: &mut Reader<'_>) -> Result<Extent, DecodeError> {
    let kind = reader.u8("extent kind")?;
    let length = reader.u64("extent length")?;
    let kind = match kind {
        KIND_DATA => ExtentKind::Data(ChunkId::from_bytes(reader.array("chunk id")?)),
        KIND_ZERO => ExtentKind::Zero,
        KIND_FREE => ExtentKind::Free,
        found => return Err(DecodeError::Unknown { what: "extent kind", found: found.into() }),
    };
    if length == 0 {
        return Err(DecodeError::invalid("extent length", "0"));
    }
    if matches!(kind, ExtentKind::Data(_)) && length > MAX_CHUNK_BYTES as u64 {
        return Err(DecodeError::invalid("extent length", "longer than a chunk can be"));
    }
    Ok(Extent { kind, length })
}

pub(super) fn encode_child(child: &Child, out: &mut Vec<u8>) {
    out.extend_from_slice(child.id.as_bytes());
    out.extend_from_slice(&child.summary.length.to_le_bytes());
    out.extend_from_slice(&child.summary.data.to_le_bytes());
    out.extend_from_slice(&child.summary.extents.to_le_bytes());
}

fn decode_child(reader: &mut Reader<'_>) -> Result<Child, DecodeError> {
    let id = NodeId::from_bytes(reader.array("child id")?);
    let summary = Summary {
        length: reader.u64("child length")?,
        data: reader.u64("child data bytes")?,
        extents: reader.u64("child extents")?,
    };
    if summary.extents == 0 || summary.length == 0 || summary.data > summary.length {
        return Err(DecodeError::invalid("child totals", "empty, or more data than length"));
    }
    Ok(Child { id, summary })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Node {
        Node::Leaf(vec![
            Extent::data(ChunkId::of(b"a"), 65536),
            Extent::zero(1 << 20),
            Extent { kind: ExtentKind::Free, length: 4096 },
        ])
    }

    fn inner_sample() -> Node {
        let leaf = sample();
        let child = Child { id: NodeId::of(&leaf.encode()), summary: leaf.summary() };
        Node::Inner { level: 1, children: vec![child, child] }
    }

    #[test]
    fn encodings_do_not_change() {
        assert_eq!(
            NodeId::of(&sample().encode()).to_string(),
            "2cf6b4d2b0e10e5fe26faf821f888271b3ec825b8aa1643669a1d1fb6e74acfe"
        );
        assert_eq!(
            NodeId::of(&inner_sample().encode()).to_string(),
            "9f95e1fffc427882a4175605c722713534cbb54af4ad5cc9e9098ed8622107fd"
        );
        assert_eq!(
            NodeId::of(&Node::Leaf(vec![]).encode()).to_string(),
            "27abda594a509989204344fbb836526cf7c2bb82031c8176e7d230581cdbe367"
        );
        assert_eq!(Node::Leaf(vec![]).encode(), [1, 0, 0, 0]);
    }

    #[test]
    fn nodes_come_back() {
        for node in [sample(), inner_sample(), Node::Leaf(vec![])] {
            assert_eq!(Node::decode(&node.encode()), Ok(node));
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        for encoded in [sample().encode(), inner_sample().encode()] {
            for end in 0..encoded.len() {
                assert!(Node::decode(&encoded[..end]).is_err(), "cut at {end}");
            }
        }
    }

    #[test]
    fn every_flipped_bit_changes_the_id() {
        for encoded in [sample().encode(), inner_sample().encode()] {
            let id = NodeId::of(&encoded);
            for bit in 0..encoded.len() * 8 {
                let mut flipped = encoded.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_ne!(NodeId::of(&flipped), id);
                let _ = Node::decode(&flipped); // an error or a node, never a panic
            }
        }
    }

    #[test]
    fn what_the_builder_would_not_write_is_refused() {
        let unmerged = Node::Leaf(vec![Extent::zero(1), Extent::zero(1)]).encode();
        let empty_extent = Node::Leaf(vec![Extent::zero(0)]).encode();
        let huge_chunk = Node::Leaf(vec![Extent::data(ChunkId::of(b""), 1 << 21)]).encode();
        let overflow = Node::Leaf(vec![Extent::zero(u64::MAX), Extent { kind: ExtentKind::Free, length: 1 }]).encode();
        let childless = Node::Inner { level: 1, children: vec![] }.encode();
        for bad in [unmerged, empty_extent, huge_chunk, overflow, childless] {
            assert!(Node::decode(&bad).is_err());
        }
    }
}
