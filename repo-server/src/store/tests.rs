//! The store's rules over the in-memory engines: closure, walks that leave out what is shared, reads by position.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use imprint_content::{
    ChunkId, ContentRecord, Extent, ExtentKind, NodeId, ObjectId, Payload, Profile,
    tree::{BuiltNode, Child, Node, Summary, TreeBuilder},
};
use proptest::prelude::*;

use super::{CommitRequest, Directory, OpenMode, Store, StoreOptions, TreePiece, Upload, UploadOutcome};
use crate::{
    Error, RepositoryId, UploadId,
    blocking::Blocking,
    catalog::{MemoryCatalog, UploadRecord, VersionKey, VersionRecord},
    pack::Purpose,
    storage::MemoryPacks,
};

mod damage;
mod interposed;
mod put_back;
mod reclaim;
mod scrub;
mod scrub_faults;
mod unreadable;

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
    let wanted = upload.ask(purpose, objects.iter().map(|(id, _)| *id).collect()).await.unwrap();
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

#[tokio::test]
async fn what_was_sent_twice_counts_once() {
    let store = memory_store();
    let extents = extents_of(&[Some(1)]);
    let (root, nodes) = nodes_of(&extents);
    let mut upload = open(&store, None).await;
    for _ in 0..3 {
        let object = (ChunkId::of(&content(1)).into(), Payload::compress(&content(1)));
        upload.store(Purpose::Chunks, vec![object.clone(), object]).await.unwrap();
    }
    send(&mut upload, Purpose::Nodes, node_objects(&nodes)).await;
    let UploadOutcome::Committed(version) = upload.commit(request(root, &extents)).await.unwrap() else {
        panic!("everything was sent");
    };
    assert_eq!(version.new_chunks, 1);
}

#[tokio::test]
async fn many_small_objects_are_sealed_early_and_asks_without_data_end() {
    let store = memory_store();
    let mut upload = open(&store, None).await;
    upload.limit_unsealed(10);
    let object = |n: u32| -> (ObjectId, Bytes) { (ChunkId::of(&content(n)).into(), content(n)) };
    let objects = (0..25).map(|n| (object(n).0, Payload::compress(&object(n).1)));
    upload.store(Purpose::Chunks, objects.collect()).await.unwrap();
    assert_eq!(store.catalog().packs().await.unwrap().len(), 2);
    for batch in [26..31, 31..35] {
        send_nothing(&mut upload, batch.map(|n| object(n).0).collect()).await.unwrap();
    }
    assert_eq!(store.catalog().packs().await.unwrap().len(), 3);
    assert!(matches!(send_nothing(&mut upload, vec![object(50).0, object(51).0]).await, Err(Error::BadRequest(_))));
}

async fn send_nothing(upload: &mut Upload, ids: Vec<ObjectId>) -> Result<(), Error> {
    upload.ask(Purpose::Chunks, ids).await.map(drop)
}

/// Commits a tree whose nodes are given, after sending them.
async fn commit_nodes(store: &Store, base: Option<&VersionRecord>, nodes: &[Node], length: u64) -> Result<(), Error> {
    let mut upload = open(store, base).await;
    let encoded: Vec<Bytes> = nodes.iter().map(|node| node.encode().into()).collect();
    let objects = encoded.iter().map(|node| (NodeId::of(node).into(), Payload::compress(node)));
    upload.store(Purpose::Nodes, objects.collect()).await.unwrap();
    let root = NodeId::of(encoded.last().unwrap());
    let content_record = ContentRecord::new(root, length, Profile::V1).encode().into();
    let request = CommitRequest { content_record, tags: Vec::new(), who: "test".into() };
    match upload.commit(request).await? {
        UploadOutcome::Committed(_) => Ok(()),
        UploadOutcome::Missing(missing) => panic!("missing {missing:?}"),
    }
}

fn parent_of(children: Vec<Child>) -> Node {
    Node::Inner { level: 1, children }
}

fn child_of(node: &Node) -> Child {
    Child { id: NodeId::of(&node.encode()), summary: node.summary() }
}

#[tokio::test]
async fn a_node_that_is_met_again_must_have_the_same_totals() {
    let store = memory_store();
    let leaf = Node::Leaf(vec![Extent::zero(8)]);
    let good = child_of(&leaf);
    let false_totals = Child { summary: Summary { length: u64::MAX - 8, ..good.summary }, ..good };
    let root = parent_of(vec![good, false_totals]);
    let outcome = commit_nodes(&store, None, &[leaf.clone(), root], u64::MAX).await;
    assert!(matches!(outcome, Err(Error::BadRequest(_))));
    commit_nodes(&store, None, &[leaf, parent_of(vec![good, good])], 16).await.unwrap();
}

#[tokio::test]
async fn a_leaf_is_not_two_levels_below_its_parent() {
    let store = memory_store();
    let leaf = Node::Leaf(vec![Extent::zero(8)]);
    let top = |level| Node::Inner { level, children: vec![child_of(&leaf)] };
    let outcome = commit_nodes(&store, None, &[leaf.clone(), top(2)], 8).await;
    assert!(matches!(outcome, Err(Error::BadRequest(_))));
    commit_nodes(&store, None, &[leaf.clone(), top(1)], 8).await.unwrap();
}

#[tokio::test]
async fn a_node_of_the_base_with_other_totals_is_looked_at() {
    let store = memory_store();
    let (leaf, other) =
        (Node::Leaf(vec![Extent::zero(8)]), Node::Leaf(vec![Extent { kind: ExtentKind::Free, length: 8 }]));
    commit_nodes(&store, None, &[leaf.clone(), other.clone(), parent_of(vec![child_of(&leaf), child_of(&other)])], 16)
        .await
        .unwrap();
    let base = store.catalog().version("lab/ws".parse().unwrap(), imprint_content::Selector::Latest).await.unwrap();
    let good = child_of(&leaf);
    let false_totals = Child { summary: Summary { length: u64::MAX - 8, ..good.summary }, ..good };
    let root = parent_of(vec![false_totals, child_of(&other)]);
    let outcome = commit_nodes(&store, Some(&base), &[root], u64::MAX).await;
    assert!(matches!(outcome, Err(Error::BadRequest(_))));
}

/// Versions that were committed before totals were compared may be in a repository.
#[tokio::test]
async fn totals_that_overflow_are_no_panic() {
    let store = memory_store();
    let leaf = Node::Leaf(vec![Extent::zero(u64::MAX)]);
    let child = child_of(&leaf);
    let half = Child { summary: Summary { length: u64::MAX / 2 + 1, ..child.summary }, ..child };
    let inner = Node::Inner { level: 1, children: vec![half] };
    let upper = Node::Inner {
        level: 2,
        children: vec![Child { summary: Summary { length: 9, ..half.summary }, id: child_of(&inner).id }, half],
    };
    let mut upload = open(&store, None).await;
    let encoded: Vec<Bytes> = [&leaf, &inner, &upper].map(|node| node.encode().into()).into();
    let objects = encoded.iter().map(|node| (NodeId::of(node).into(), Payload::compress(node)));
    upload.store(Purpose::Nodes, objects.collect()).await.unwrap();
    upload.seal().await.unwrap();

    let root = NodeId::of(&encoded[2]);
    let mut walk = super::TreeWalk::start(&store.nodes, root, Some(NodeId::of(&encoded[1]))).await.unwrap();
    while let Ok(Some(_)) = walk.next().await {}
    let mut reader = super::ChunkReader::open(&store, root).await.unwrap();
    for offset in [0, 9, u64::MAX / 2 + 8, u64::MAX - 1, u64::MAX] {
        assert!(reader.read(&[offset]).await.is_err());
    }
}

#[tokio::test]
async fn a_node_is_no_chunk_and_a_chunk_is_no_node() {
    let store = memory_store();
    let extents = [chunk(1)];
    let (node_id, nodes) = nodes_of(&extents);
    let node = Node::decode(&nodes[0].encoded).unwrap();
    let as_chunk = Extent::data(ChunkId::from_bytes(*node_id.as_bytes()), nodes[0].encoded.len() as u64);
    let bad_leaf = Node::Leaf(vec![as_chunk]);

    let mut upload = open(&store, None).await;
    send(&mut upload, Purpose::Chunks, vec![(ChunkId::of(&content(1)).into(), content(1))]).await;
    let encoded: Bytes = bad_leaf.encode().into();
    let leaf = (NodeId::of(&encoded).into(), encoded.clone());
    send(&mut upload, Purpose::Nodes, vec![(node_id.into(), node.encode().into()), leaf]).await;
    let outcome = upload.commit(request(NodeId::of(&encoded), &[as_chunk])).await.unwrap();
    let UploadOutcome::Missing(missing) = outcome else { panic!("there is no such chunk") };
    assert_eq!(missing.chunks, [ChunkId::from_bytes(*node_id.as_bytes())]);

    // The same bytes, pushed as a chunk, have another id; as a node's they are not found.
    let raw: Bytes = node.encode().into();
    let chunk_id = ChunkId::of(&raw);
    send(&mut upload, Purpose::Chunks, vec![(chunk_id.into(), raw)]).await;
    let root = parent_of(vec![Child { id: NodeId::from_bytes(*chunk_id.as_bytes()), summary: node.summary() }]);
    let encoded: Bytes = root.encode().into();
    send(&mut upload, Purpose::Nodes, vec![(NodeId::of(&encoded).into(), encoded.clone())]).await;
    let outcome = upload.commit(request(NodeId::of(&encoded), &extents)).await.unwrap();
    let UploadOutcome::Missing(missing) = outcome else { panic!("there is no such node") };
    assert_eq!(missing.nodes, [NodeId::from_bytes(*chunk_id.as_bytes())]);
}

/// The same packs and catalog, read by a store that remembers nothing, after packs of nodes went.
async fn without_node_packs(store: &Store, up_to: usize) -> Store {
    let packs = store.catalog().packs().await.unwrap();
    let of_nodes = packs.iter().filter(|pack| pack.purpose == Purpose::Nodes).take(up_to);
    for pack in of_nodes {
        store.packs.delete(pack.id).await.unwrap();
    }
    Store::new(store.repository(), store.packs.clone(), store.catalog.clone(), Blocking::for_this_machine())
}

#[tokio::test]
async fn a_damaged_base_is_in_nobodys_way() {
    let store = memory_store();
    let before: Vec<Option<u32>> = (0..2_000).map(Some).collect();
    let first = push(&store, &before, None).await;
    let store = without_node_packs(&store, 1).await;
    let mut upload = open(&store, Some(&first)).await;
    // The client relies on the base; what is missing is listed, level by level.
    let extents = extents_of(&before);
    let (root, nodes) = nodes_of(&extents);
    let version = loop {
        match upload.commit(request(root, &extents)).await.unwrap() {
            UploadOutcome::Committed(version) => break *version,
            UploadOutcome::Missing(missing) => {
                assert!(missing.chunks.is_empty() && !missing.nodes.is_empty());
                let wanted = nodes.iter().filter(|node| missing.nodes.contains(&node.id));
                let objects = wanted.map(|node| (node.id.into(), Payload::compress(&node.encoded.clone().into())));
                upload.store(Purpose::Nodes, objects.collect()).await.unwrap();
            }
        }
    };
    assert_eq!(walk(&store, &version, None).await.0, extents);
}

#[tokio::test]
async fn a_version_can_be_walked_beside_a_damaged_one() {
    let store = memory_store();
    let first = push(&store, &[Some(1), Some(2)], None).await;
    let node_packs = store.catalog().packs().await.unwrap();
    let second = push(&store, &(5..900).map(Some).collect::<Vec<_>>(), None).await;
    for pack in node_packs.iter().filter(|pack| pack.purpose == Purpose::Nodes) {
        store.packs.delete(pack.id).await.unwrap();
    }
    let store = without_node_packs(&store, 0).await;
    let extents = extents_of(&(5..900).map(Some).collect::<Vec<_>>());
    assert_eq!(walk(&store, &second, Some((&first, &extents))).await.0, extents);
}

#[tokio::test]
async fn a_directory_stays_locked_until_the_last_user_is_gone_and_opens_again_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Directory::open(dir.path(), OpenMode::OrCreate, StoreOptions::default());
    let Directory { store, lock } = open().await.unwrap();
    lock.announce("http://somewhere").unwrap();
    drop(lock);
    let upload = super::tests::open(&store, None).await;
    drop(store);
    match open().await.map(drop) {
        Err(Error::Locked { url, .. }) => assert_eq!(url, "http://somewhere"),
        other => panic!("an upload still uses it: {other:?}"),
    }
    // It ends while somebody opens the repository again.
    let (opened, ()) = tokio::join!(open(), async {
        tokio::task::yield_now().await;
        drop(upload);
    });
    drop(opened.unwrap());
    drop(open().await.unwrap());
}
