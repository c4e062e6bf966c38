//! The tree of a version. It is believed only when it gives the version's root.

use imprint_content::tree::Node;
use imprint_proto::v1::{self, tree_piece::Piece};

use crate::{
    Error, Phase, Progress, Repository, Version,
    extents::{ExtentMap, ExtentWriter},
};

impl Repository {
    /// The extents of a version: from the cache, or fetched without what `have` shares with it.
    pub(crate) async fn tree(
        &self,
        version: &Version,
        have: Option<(&Version, &ExtentMap)>,
        progress: &Progress,
    ) -> Result<ExtentMap, Error> {
        if let Some(extents) = self.trees().load(version.content.root) {
            return Ok(extents);
        }
        progress.enter(Phase::ReadingTree);
        let extents = self.retrying(progress, || fetch_tree(self, version, have)).await?;
        self.trees().store(&extents);
        Ok(extents)
    }

    /// The extents of a version as the repository has them now: proof that its tree is intact.
    pub(crate) async fn tree_from_repository(
        &self,
        version: &Version,
        progress: &Progress,
    ) -> Result<ExtentMap, Error> {
        progress.enter(Phase::ReadingTree);
        fetch_tree(self, version, None).await
    }
}

async fn fetch_tree(
    repository: &Repository,
    version: &Version,
    have: Option<(&Version, &ExtentMap)>,
) -> Result<ExtentMap, Error> {
    let request = v1::FetchTreeRequest {
        version: Some(version.key()),
        have: have.map(|(version, _)| version.key()),
        with_stored_lengths: false,
    };
    let mut messages = repository.client().fetch_tree(request).await?.into_inner();
    let mut writer = ExtentWriter::create(repository.trees().spool_directory())?;
    let (mut nodes, mut at) = (Vec::new(), 0u64);
    while let Some(message) = messages.message().await? {
        for piece in message.pieces {
            at = match piece.piece {
                Some(Piece::Leaf(encoded)) => add_leaf(&encoded, at, &mut writer)?,
                Some(Piece::Shared(length)) => add_shared(have.map(|(_, map)| map), at, length, &mut writer)?,
                None => return Err(Error::Protocol("a piece of a tree is empty".into())),
            };
            nodes.clear();
        }
    }
    let (extents, root) = writer.finish(&mut nodes)?;
    if root.id != version.content.root {
        return Err(Error::WrongTree { expected: version.content.root, actual: root.id });
    }
    Ok(extents)
}

fn add_leaf(encoded: &[u8], at: u64, writer: &mut ExtentWriter) -> Result<u64, Error> {
    let Node::Leaf(extents) = Node::decode(encoded)? else {
        return Err(Error::Protocol("a leaf of a tree is no leaf".into()));
    };
    let mut end = at;
    for extent in extents {
        end = end.checked_add(extent.length).ok_or_else(too_long)?;
        writer.push(extent, &mut Vec::new())?;
    }
    Ok(end)
}

fn add_shared(have: Option<&ExtentMap>, at: u64, length: u64, writer: &mut ExtentWriter) -> Result<u64, Error> {
    let end = at.checked_add(length).ok_or_else(too_long)?;
    let mut cursor = match have {
        Some(map) if end <= map.length() => map.cursor_at(at)?,
        _ => return Err(Error::Protocol("the tree shares what we did not say we have".into())),
    };
    // A merged run may reach over the border of the shared part; the rest of it comes with the neighbours.
    let mut position = at;
    while position < end {
        let Some(placed) = cursor.read()? else { break };
        let mut extent = placed.extent;
        extent.length = placed.end().min(end) - position;
        position += extent.length;
        writer.push(extent, &mut Vec::new())?;
    }
    Ok(end)
}

fn too_long() -> Error {
    Error::Protocol("a tree is longer than 2^64 bytes".into())
}
