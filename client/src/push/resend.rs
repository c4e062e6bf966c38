//! Commits, and sends once more what the repository misses: what the base vouched for and is damaged or gone.

use std::collections::HashSet;

use bytes::Bytes;
use imprint_content::{
    ChunkId, NodeId, ObjectId,
    tree::{BuiltNode, TreeBuilder},
};
use imprint_proto::v1::ObjectKind;

use crate::{Error, Version, extents::ExtentMap, source::Source};

use super::session::{Commit, Committed, Session};

/// Each attempt can uncover what lies below the nodes it sent: one for each level of the tree, and lists are cut.
const MAX_ATTEMPTS: usize = 64;
/// Bytes sent between two looks at the source.
const PART_BYTES: usize = 8 << 20;

pub(super) async fn commit(
    session: &mut Session<'_>,
    commit: Commit<'_>,
    source: &Source,
    extents: &ExtentMap,
) -> Result<Version, Error> {
    for _ in 0..MAX_ATTEMPTS {
        match session.commit(commit).await? {
            Committed::Version(version) => return Ok(*version),
            Committed::Missing { chunks, nodes } => {
                send_chunks(session, chunks.into_iter().collect(), source, extents).await?;
                send_nodes(session, nodes.into_iter().collect(), extents).await?;
            }
        }
    }
    Err(Error::NeverComplete(MAX_ATTEMPTS))
}

async fn send_chunks(
    session: &mut Session<'_>,
    mut missing: HashSet<ChunkId>,
    source: &Source,
    extents: &ExtentMap,
) -> Result<(), Error> {
    if !missing.is_empty() && source.length().is_none() {
        return Err(Error::CannotResend);
    }
    let mut part: Vec<(ObjectId, Bytes)> = Vec::new();
    let mut bytes = 0;
    let mut cursor = extents.cursor_at(0)?;
    while let Some(placed) = cursor.read()? {
        let Some(id) = placed.extent.chunk().filter(|id| missing.remove(id)) else { continue };
        let mut raw = vec![0; placed.extent.length as usize];
        source.read_at(&mut raw, placed.offset)?;
        if ChunkId::of(&raw) != id {
            return Err(Error::SourceChanged { offset: placed.offset });
        }
        bytes += raw.len();
        part.push((id.into(), raw.into()));
        if bytes >= PART_BYTES {
            bytes = 0;
            session.send_missing(ObjectKind::Chunk, std::mem::take(&mut part)).await?;
        }
    }
    if !missing.is_empty() {
        return Err(Error::Protocol("the repository misses chunks that the image does not have".into()));
    }
    session.send_missing(ObjectKind::Chunk, part).await
}

async fn send_nodes(session: &mut Session<'_>, mut missing: HashSet<NodeId>, extents: &ExtentMap) -> Result<(), Error> {
    let (mut tree, mut finished, mut found) = (TreeBuilder::new(), Vec::new(), Vec::new());
    let mut cursor = extents.cursor_at(0)?;
    while let Some(placed) = cursor.read()? {
        tree.push(placed.extent, &mut finished);
        keep_missing(&mut missing, &mut finished, &mut found);
    }
    let _ = tree.finish(&mut finished);
    keep_missing(&mut missing, &mut finished, &mut found);
    if !missing.is_empty() {
        return Err(Error::Protocol("the repository misses nodes that the tree does not have".into()));
    }
    session.send_missing(ObjectKind::Node, found).await
}

fn keep_missing(missing: &mut HashSet<NodeId>, finished: &mut Vec<BuiltNode>, found: &mut Vec<(ObjectId, Bytes)>) {
    for node in finished.drain(..) {
        if missing.remove(&node.id) {
            found.push((node.id.into(), node.encoded.into()));
        }
    }
}
