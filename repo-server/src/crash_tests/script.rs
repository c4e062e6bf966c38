//! What is done to the repository, and what has to come of it.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use futures::TryStreamExt;
use imprint_content::{
    ChunkId, ContentRecord, Extent, ImageName, ObjectId, Payload, Profile, TagName, tree::TreeBuilder,
};

use crate::{
    Error, UploadId,
    catalog::{UploadRecord, VersionKey},
    pack::Purpose,
    store::{
        CommitRequest, Store, TreePiece, UploadOutcome,
        reclaim::{CollectControl, CollectMode, CollectOptions},
    },
};

/// One step; all but the last are acknowledged by the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Pushes the image with this number, on a base.
    Push {
        version: u64,
        base: Option<u64>,
    },
    /// Moves the tag.
    Tag {
        version: u64,
    },
    Remove {
        version: u64,
    },
    /// Gives up what was removed, and its space.
    Collect,
    /// The process ends and another one opens the repository.
    Reopen,
}

pub(super) const SCRIPT: &[Step] = &[
    Step::Push { version: 1, base: None },
    Step::Tag { version: 1 },
    Step::Push { version: 2, base: Some(1) },
    Step::Tag { version: 2 },
    Step::Remove { version: 1 },
    Step::Reopen,
    Step::Push { version: 3, base: Some(2) },
    Step::Remove { version: 3 },
    // Packs that are dead, and packs that are rewritten.
    Step::Collect,
    Step::Push { version: 4, base: None },
];

/// How far the script came.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// Acknowledged.
    pub(super) done: Vec<Step>,
    /// Under way when the crash came.
    pub(super) doing: Option<Step>,
}

/// What can be seen of a repository.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    live: BTreeMap<u64, Vec<u8>>,
    tagged: Option<u64>,
}

/// What these steps come to.
pub(super) fn expected(steps: &[Step]) -> State {
    let mut state = State::default();
    for step in steps {
        match *step {
            Step::Push { version, .. } => drop(state.live.insert(version, chunks(version).concat())),
            Step::Tag { version } => state.tagged = Some(version),
            Step::Remove { version } => drop(state.live.remove(&version)),
            Step::Collect | Step::Reopen => {}
        }
    }
    state
}

impl State {
    /// Reads everything.
    pub(super) async fn of(store: &Store) -> Result<Self, Error> {
        let mut state = Self::default();
        let versions = match store.catalog().versions(image(), 0, usize::MAX).await {
            Err(Error::ImageNotFound(_)) => return Ok(state),
            versions => versions?,
        };
        for version in versions {
            let mut read = vec![0; version.content.length as usize];
            let mut offsets = Vec::new();
            let mut walk = store.walk_tree(&version, None).await?;
            let mut at = 0;
            while let Some(TreePiece::Leaf(extents)) = walk.next().await? {
                for extent in extents {
                    offsets.extend(extent.chunk().map(|_| at));
                    at += extent.length;
                }
            }
            let mut chunks = store.read_chunks(&version).await?;
            let groups: Vec<_> = chunks.read(&offsets).await?.try_collect().await?;
            for chunk in groups.into_iter().flatten() {
                let payload = Payload { codec: chunk.codec, raw_length: chunk.raw_length, stored: chunk.stored };
                let raw = payload.decode().expect("a chunk decodes");
                read[chunk.offset as usize..][..raw.len()].copy_from_slice(&raw);
            }
            state.live.insert(version.number, read);
        }
        state.tagged = store.catalog().tags(image()).await?.first().map(|tag| tag.number);
        Ok(state)
    }
}

impl Step {
    /// Does it, or finds that it was done before.
    pub(super) async fn perform(self, store: &Store) -> Result<(), Error> {
        match self {
            Self::Push { version, base } => {
                let number = push(store, version, base).await?;
                assert_eq!(number, version, "a number was given twice, or left out");
            }
            Self::Tag { version } => drop(store.catalog().set_tag(key(version), tag(), None).await?),
            Self::Remove { version } => match store.catalog().remove_version(key(version), 0).await {
                Err(Error::VersionNotFound { .. }) => {}
                removed => removed?,
            },
            Self::Collect => {
                let options = CollectOptions::with_grace(CollectMode::Collect, Duration::ZERO);
                let report = store.collect(options, &CollectControl::new()).await?;
                assert_eq!((report.incomplete, report.kept_packs, report.missing_chunks), (None, 0, 0));
                assert_eq!(store.catalog().removed_versions(None, None, 1).await?, [], "what was removed is given up");
            }
            Self::Reopen => {}
        }
        Ok(())
    }
}

/// The image that a version has: some chunks are in all of them, one in none of the others.
fn chunks(version: u64) -> Vec<Vec<u8>> {
    let chunk = |seed: u64| (0..600u64).flat_map(|n| (seed * 1_000_003 + n * n).to_le_bytes()).collect();
    vec![chunk(100), chunk(version), chunk(101), chunk(100)]
}

async fn push(store: &Store, version: u64, base: Option<u64>) -> Result<u64, Error> {
    // The same in each attempt: that is how a client repeats a push.
    let id = UploadId::from_bytes([version as u8; 16]);
    let record = UploadRecord { id, image: image(), base: base.map(key) };
    let mut upload = match store.open_upload(record, Profile::V1).await? {
        Ok(upload) => upload,
        Err(committed) => return Ok(committed.number),
    };
    let chunks = chunks(version);
    let (mut builder, mut nodes, mut objects) = (TreeBuilder::new(), Vec::new(), Vec::new());
    for chunk in &chunks {
        let id = ChunkId::of(chunk);
        builder.push(Extent::data(id, chunk.len() as u64), &mut nodes);
        objects.push((id.into(), Bytes::copy_from_slice(chunk)));
    }
    let root = builder.finish(&mut nodes);
    let nodes: Vec<_> = nodes.iter().map(|node| (node.id.into(), Bytes::copy_from_slice(&node.encoded))).collect();
    for (purpose, objects) in [(Purpose::Chunks, objects), (Purpose::Nodes, nodes)] {
        send(&mut upload, purpose, objects).await?;
    }
    let length = chunks.iter().map(|chunk| chunk.len() as u64).sum();
    let content_record = ContentRecord::new(root.id, length, Profile::V1).encode().into();
    match upload.commit(CommitRequest { content_record, tags: Vec::new(), who: "test".into() }).await? {
        UploadOutcome::Committed(version) => Ok(version.number),
        UploadOutcome::Missing(missing) => panic!("everything was sent, but {missing:?} is missing"),
    }
}

async fn send(
    upload: &mut crate::store::Upload,
    purpose: Purpose,
    objects: Vec<(ObjectId, Bytes)>,
) -> Result<(), Error> {
    let wanted = upload.ask(purpose, objects.iter().map(|(id, _)| *id).collect()).await?;
    let wanted = objects.into_iter().zip(wanted).filter(|(_, wanted)| *wanted);
    upload.store(purpose, wanted.map(|((id, raw), _)| (id, Payload::compress(&raw))).collect()).await
}

fn image() -> ImageName {
    "lab/pc".parse().expect("a name")
}

fn tag() -> TagName {
    "stable".parse().expect("a name")
}

fn key(number: u64) -> VersionKey {
    VersionKey { image: image(), number }
}
