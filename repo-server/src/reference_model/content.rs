//! What images are made of: chunks that all sequences share, so that they are hashed and compressed once.

use std::{
    collections::HashSet,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use imprint_content::{ChunkId, Extent, NodeId, ObjectId, Payload, tree::TreeBuilder};

use super::random::Random;
use crate::pack::Purpose;

/// Distinct chunks there are; few enough that images meet each other's, and those of what was given up.
const CHUNKS: u64 = 3000;
const MAX_CHUNK_BYTES: u64 = 16 << 10;
const ZERO_BYTES: u64 = 64 << 10;
/// Most pieces of an image: some 2 MiB.
const MAX_PIECES: usize = 240;

struct Chunk {
    id: ChunkId,
    raw: Bytes,
    payload: Payload,
}

fn chunks() -> &'static [Chunk] {
    static CHUNK_POOL: OnceLock<Vec<Chunk>> = OnceLock::new();
    CHUNK_POOL.get_or_init(|| (0..CHUNKS).map(chunk).collect())
}

/// Half of them compress.
fn chunk(number: u64) -> Chunk {
    let mut random = Random::new(number);
    let length = 1 + random.below(MAX_CHUNK_BYTES) as usize;
    let mut raw = vec![0; length];
    let period = if number.is_multiple_of(2) { 64 } else { length };
    for at in 0..length {
        raw[at] = if at < period { random.below(256) as u8 } else { raw[at - period] };
    }
    // No two alike, however short.
    raw.extend_from_slice(&number.to_le_bytes());
    let raw = Bytes::from(raw);
    Chunk { id: ChunkId::of(&raw), payload: Payload::compress(&raw), raw }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Chunk(u16),
    Zeros,
}

/// An image, and all that a client derives from it.
#[derive(Debug)]
pub(super) struct Content {
    pieces: Vec<Piece>,
    pub(super) root: NodeId,
    pub(super) length: u64,
    /// Each once, in the order in which a client sends them: chunks in image order, then nodes.
    pub(super) objects: Vec<(Purpose, ObjectId, Payload)>,
}

impl Content {
    /// An image that has much in common with another one, if there is one.
    pub(super) fn random(seed: u64, like: Option<&Self>) -> Arc<Self> {
        let mut random = Random::new(seed);
        let mut pieces = like.map_or_else(Vec::new, |like| like.pieces.clone());
        let edits = if pieces.is_empty() { 1 + random.below(6) } else { random.below(4) };
        for _ in 0..edits {
            let at = random.below(pieces.len() as u64 + 1) as usize;
            let removed = random.below(40).min((pieces.len() - at) as u64) as usize;
            let added = random.below(45) as usize;
            // A run of neighbours: what belongs together is met together.
            let start = random.below(CHUNKS);
            let run = (0..added as u64).map(|n| match random.below(16) {
                0 => Piece::Zeros,
                _ => Piece::Chunk(((start + n) % CHUNKS) as u16),
            });
            let run: Vec<_> = run.collect();
            pieces.splice(at..at + removed, run);
        }
        pieces.truncate(MAX_PIECES);
        Arc::new(Self::of(pieces))
    }

    fn of(pieces: Vec<Piece>) -> Self {
        let (mut builder, mut nodes) = (TreeBuilder::new(), Vec::new());
        let (mut length, mut objects, mut seen) = (0, Vec::new(), HashSet::new());
        for extent in extents(&pieces) {
            length += extent.length;
            builder.push(extent, &mut nodes);
        }
        for piece in &pieces {
            if let Piece::Chunk(number) = piece {
                let chunk = &chunks()[*number as usize];
                if seen.insert(ObjectId::from(chunk.id)) {
                    objects.push((Purpose::Chunks, chunk.id.into(), chunk.payload.clone()));
                }
            }
        }
        let root = builder.finish(&mut nodes).id;
        for node in nodes {
            if seen.insert(node.id.into()) {
                objects.push((Purpose::Nodes, node.id.into(), Payload::compress(&node.encoded.into())));
            }
        }
        Self { pieces, root, length, objects }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.length as usize);
        for piece in &self.pieces {
            match piece {
                Piece::Chunk(number) => bytes.extend_from_slice(&chunks()[*number as usize].raw),
                Piece::Zeros => bytes.resize(bytes.len() + ZERO_BYTES as usize, 0),
            }
        }
        bytes
    }
}

fn extents(pieces: &[Piece]) -> Vec<Extent> {
    let mut extents: Vec<Extent> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let next = match piece {
            Piece::Chunk(number) => {
                let chunk = &chunks()[*number as usize];
                Extent::data(chunk.id, chunk.raw.len() as u64)
            }
            Piece::Zeros => Extent::zero(ZERO_BYTES),
        };
        match extents.last_mut() {
            Some(last) if last.merges_with(&next) => last.length += next.length,
            _ => extents.push(next),
        }
    }
    extents
}
