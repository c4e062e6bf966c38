//! The store's rules over the in-memory engines: closure, walks that leave out what is shared, reads by position.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use imprint_content::{
    ChunkId, ContentRecord, Extent, NodeId, ObjectId, Payload, Profile,
    tree::{BuiltNode, TreeBuilder},
};
use proptest::prelude::*;

use super::{CommitRequest, Store, TreePiece, Upload, UploadOutcome};
use crate::{
    Error, RepositoryId, UploadId,
    blocking::Blocking,
    catalog::{MemoryCatalog, UploadRecord, VersionKey, VersionRecord},
    pack::Purpose,
    storage::MemoryPacks,
};

fn memory_store() -> Store {
    let (packs, catalog) = (Arc::new(MemoryPacks::default()), Arc::new(MemoryCatalog::new()));
    Store::new(RepositoryId::random(), packs, catalog, Blocking::for_this_machine())
}

/// Content of chunk `n`: 4 bytes.
fn content(n: u32) -> Bytes {
    Bytes::copy_from_slice(&n.to_le_bytes())
}

fn chunk(n: u32) -> Extent {
    Extent::data(ChunkId::of(&content(n)), 4)
}

fn nodes_of(extents: &[Extent]) -> (NodeId, Vec<BuiltNode>) {
    let (mut builder, mut nodes) = (TreeBuilder::new(), Vec::new());
    for extent in extents {
        builder.push(*extent, &mut nodes);
    }
    let root = builder.finish(&mut nodes);
    (root.id, nodes)
}

async fn open(store: &Store, base: Option<&VersionRecord>) -> Upload {
    let base = base.map(|base| VersionKey { image: base.image.clone(), number: base.number });
    let record = UploadRecord { id: UploadId::random(), image: "lab/ws".parse().unwrap(), base };
    store.open_upload(record, Profile::V1).await.unwrap().unwrap_or_else(|_| panic!("a new upload is open"))
}

/// Sends what the upload asks for.
async fn send(upload: &mut Upload, purpose: Purpose, objects: Vec<(ObjectId, Bytes)>) -> usize {
    let wanted = upload.ask(objects.iter().map(|(id, _)| *id).collect()).await.unwrap();
    let sent: Vec<_> = objects
        .into_iter()
        .zip(wanted)
        .filter(|(_, wanted)| *wanted)
        .map(|((id, raw), _)| (id, Payload::compress(&raw)))
        .collect();
    let count = sent.len();
    upload.store(purpose, sent).await.unwrap();
    count
}

fn node_objects(nodes: &[BuiltNode]) -> Vec<(ObjectId, Bytes)> {
    nodes.iter().map(|node| (node.id.into(), node.encoded.clone().into())).collect()
}

fn request(root: NodeId, extents: &[Extent]) -> CommitRequest {
    let length = extents.iter().map(|extent| extent.length).sum();
    let content_record = ContentRecord::new(root, length, Profile::V1).encode().into();
    CommitRequest { content_record, tags: Vec::new(), who: "test".into() }
}

/// Pushes chunks `0..` named by number, zeros where there is none.
async fn push(store: &Store, image: &[Option<u32>], base: Option<&VersionRecord>) -> VersionRecord {
    let extents = extents_of(image);
    let mut upload = open(store, base).await;
    let chunks = image.iter().flatten().map(|n| (ChunkId::of(&content(*n)).into(), content(*n)));
    for batch in chunks.collect::<Vec<_>>().chunks(500) {
        send(&mut upload, Purpose::Chunks, batch.to_vec()).await;
    }
    let (root, nodes) = nodes_of(&extents);
    send(&mut upload, Purpose::Nodes, node_objects(&nodes)).await;
    match upload.commit(request(root, &extents)).await.unwrap() {
        UploadOutcome::Committed(version) => *version,
        UploadOutcome::Missing(missing) => panic!("missing {missing:?}"),
    }
}

fn extents_of(image: &[Option<u32>]) -> Vec<Extent> {
    let mut extents: Vec<Extent> = Vec::new();
    for next in image.iter().map(|n| n.map_or(Extent::zero(4), chunk)) {
        match extents.last_mut() {
            Some(last) if last.merges_with(&next) => last.length += next.length,
            _ => extents.push(next),
        }
    }
    extents
}

/// The extents of a version as a walk tells them, and how many leaves it sent.
async fn walk(
    store: &Store,
    version: &VersionRecord,
    have: Option<(&VersionRecord, &[Extent])>,
) -> (Vec<Extent>, usize) {
    let mut walk = store.walk_tree(version, have.map(|(version, _)| version)).await.unwrap();
    let (mut extents, mut at, mut leaves) = (Vec::new(), 0, 0);
    while let Some(piece) = walk.next().await.unwrap() {
        let found = match piece {
            TreePiece::Leaf(found) => {
                leaves += 1;
                found
            }
            TreePiece::Shared(length) => between(have.unwrap().1, at, at + length),
        };
        at += found.iter().map(|extent| extent.length).sum::<u64>();
        extents.extend(found);
    }
    (extents, leaves)
}

fn between(extents: &[Extent], start: u64, end: u64) -> Vec<Extent> {
    let mut at = 0;
    let starts = extents.iter().map(|extent| {
        at += extent.length;
        (at - extent.length, *extent)
    });
    starts.filter(|(offset, _)| (start..end).contains(offset)).map(|(_, extent)| extent).collect()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn any_image() -> impl Strategy<Value = Vec<Option<u32>>> {
    let run = prop_oneof![
        (0u32..3000, 1u32..400).prop_map(|(start, count)| (start..start + count).map(Some).collect::<Vec<_>>()),
        (1usize..20).prop_map(|count| vec![None; count]),
    ];
    prop::collection::vec(run, 0..12).prop_map(|runs| runs.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn walking_a_tree_gives_its_extents_whatever_is_shared(before in any_image(), after in any_image()) {
        runtime().block_on(async {
            let store = memory_store();
            let first = push(&store, &before, None).await;
            let second = push(&store, &after, Some(&first)).await;
            let (before, after) = (extents_of(&before), extents_of(&after));
            assert_eq!(walk(&store, &second, None).await.0, after);
            assert_eq!(walk(&store, &second, Some((&first, &before))).await.0, after);
            assert_eq!(walk(&store, &first, Some((&second, &after))).await.0, before);
        });
    }

    #[test]
    fn chunks_are_found_where_they_start_and_nowhere_else(image in any_image()) {
        runtime().block_on(async {
            let store = memory_store();
            let version = push(&store, &image, None).await;
            let starts: Vec<u64> = (0..).step_by(4).zip(&image).filter(|(_, n)| n.is_some()).map(|(at, _)| at).collect();
            let mut reader = store.read_chunks(&version).await.unwrap();
            for some in starts.chunks(300) {
                let groups: Vec<_> = futures::StreamExt::collect(reader.read(some).await.unwrap()).await;
                let chunks: Vec<_> = groups.into_iter().flat_map(Result::unwrap).collect();
                assert_eq!(chunks.iter().map(|chunk| chunk.offset).collect::<HashSet<_>>(), some.iter().copied().collect());
                for found in chunks {
                    let payload = Payload { codec: found.codec, raw_length: found.raw_length, stored: found.stored };
                    let n = image[found.offset as usize / 4].unwrap();
                    assert_eq!(payload.decode().unwrap(), content(n));
                }
            }
            let end = image.len() as u64 * 4;
            let zeros = (0..).step_by(4).zip(&image).filter(|(_, n)| n.is_none()).map(|(at, _)| at);
            for wrong in zeros.take(3).chain([1, end, u64::MAX]) {
                assert!(matches!(reader.read(&[wrong]).await.err(), Some(Error::BadRequest(_))), "offset {wrong}");
            }
        });
    }
}

#[tokio::test]
async fn a_walk_costs_what_changed() {
    let store = memory_store();
    let before: Vec<Option<u32>> = (0..20_000).map(Some).collect();
    let mut after = before.clone();
    after[7_000] = Some(99_999);
    let first = push(&store, &before, None).await;
    let second = push(&store, &after, Some(&first)).await;
    let (_, leaves) = walk(&store, &second, Some((&first, &extents_of(&before)))).await;
    assert!((1..=3).contains(&leaves), "{leaves} leaves");
    assert!(walk(&store, &second, None).await.1 > 100);
}

#[tokio::test]
async fn a_commit_lists_the_chunks_that_are_missing() {
    let store = memory_store();
    let extents = extents_of(&[Some(1), Some(2), Some(3)]);
    let (root, nodes) = nodes_of(&extents);
    let mut upload = open(&store, None).await;
    send(&mut upload, Purpose::Chunks, vec![(ChunkId::of(&content(2)).into(), content(2))]).await;
    send(&mut upload, Purpose::Nodes, node_objects(&nodes)).await;
    let UploadOutcome::Missing(missing) = upload.commit(request(root, &extents)).await.unwrap() else {
        panic!("two chunks are missing");
    };
    assert_eq!(missing.chunks, [ChunkId::of(&content(1)), ChunkId::of(&content(3))]);
    assert!(store.catalog().version("lab/ws".parse().unwrap(), imprint_content::Selector::Latest).await.is_err());

    for n in [1, 3] {
        let object = (ChunkId::of(&content(n)).into(), Payload::compress(&content(n)));
        upload.store(Purpose::Chunks, vec![object]).await.unwrap();
    }
    assert!(matches!(upload.commit(request(root, &extents)).await.unwrap(), UploadOutcome::Committed(_)));
}

/// A node's bytes say nothing about its children: they were left behind, or somebody sent them alone.
#[tokio::test]
async fn a_node_without_its_children_is_walked_and_found_out() {
    let store = memory_store();
    let image: Vec<Option<u32>> = (0..2_000).map(Some).collect();
    let extents = extents_of(&image);
    let (root, nodes) = nodes_of(&extents);
    let (leaves, inner): (Vec<_>, Vec<_>) = nodes.into_iter().partition(|node| node.level == 0);
    let mut upload = open(&store, None).await;
    send(&mut upload, Purpose::Nodes, node_objects(&inner)).await;
    let UploadOutcome::Missing(missing) = upload.commit(request(root, &extents)).await.unwrap() else {
        panic!("all leaves are missing");
    };
    let expected: HashSet<NodeId> = leaves.iter().map(|leaf| leaf.id).collect();
    assert_eq!(missing.nodes.into_iter().collect::<HashSet<_>>(), expected);

    send(&mut upload, Purpose::Nodes, node_objects(&leaves)).await;
    let UploadOutcome::Missing(missing) = upload.commit(request(root, &extents)).await.unwrap() else {
        panic!("all chunks are missing");
    };
    assert_eq!(missing.chunks.len(), image.len());
}

#[tokio::test]
async fn a_tree_that_contradicts_itself_is_refused() {
    let store = memory_store();
    let wrong_length = [Extent::data(ChunkId::of(&content(1)), 5)];
    let (root, nodes) = nodes_of(&wrong_length);
    let mut upload = open(&store, None).await;
    send(&mut upload, Purpose::Chunks, vec![(ChunkId::of(&content(1)).into(), content(1))]).await;
    send(&mut upload, Purpose::Nodes, node_objects(&nodes)).await;
    assert!(matches!(upload.commit(request(root, &wrong_length)).await, Err(Error::BadRequest(_))));

    let right = [chunk(1)];
    let (root, nodes) = nodes_of(&right);
    send(&mut upload, Purpose::Nodes, node_objects(&nodes)).await;
    let longer = [chunk(1), Extent::zero(1)];
    assert!(matches!(upload.commit(request(root, &longer)).await, Err(Error::BadRequest(_))));
    assert!(matches!(upload.commit(request(root, &right)).await, Ok(UploadOutcome::Committed(_))));
}

#[tokio::test]
async fn what_is_known_is_not_asked_for() {
    let store = memory_store();
    let image: Vec<Option<u32>> = (0..3_000).map(Some).collect();
    let first = push(&store, &image, None).await;
    let packs = store.catalog().packs().await.unwrap();
    let again = push(&store, &image, Some(&first)).await;
    let elsewhere = push(&store, &image, None).await;
    assert_eq!((again.new_chunks, elsewhere.new_chunks), (0, 0));
    assert_eq!(store.catalog().packs().await.unwrap(), packs, "no pack was written");
}

/// rustic#392: one chunk twice in one upload.
#[tokio::test]
async fn a_chunk_that_occurs_twice_is_stored_once_and_found_in_both_places() {
    let store = memory_store();
    let version = push(&store, &[Some(5), Some(6), Some(5), Some(5)], None).await;
    assert_eq!(version.new_chunks, 2);
    let mut reader = store.read_chunks(&version).await.unwrap();
    let groups: Vec<_> = futures::StreamExt::collect(reader.read(&[0, 8, 12]).await.unwrap()).await;
    assert_eq!(groups.into_iter().map(|group| group.unwrap().len()).sum::<usize>(), 3);
}
