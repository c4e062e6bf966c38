//! What a commit relies on when packs are condemned and records damaged.

use super::{
    reclaim::{reopened, try_read},
    *,
};
use crate::{
    PackId,
    catalog::{Candidate, Condemnation, Damage, Location, RecordSet, Refusal},
    pack::read_index,
    store::pack_writer::PackWriter,
};

/// Asks to condemn every pack, as a collection that marked nothing would.
async fn condemn_everything(store: &Store) -> Vec<Condemnation> {
    let mark = store.catalog().begin_mark().await.unwrap();
    let candidates = candidates(store).await;
    store.catalog().condemn(mark.id, candidates, 0).await.unwrap()
}

pub(super) async fn candidates(store: &Store) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for pack in store.catalog().packs().await.unwrap() {
        let index = read_index(&*store.packs, store.repository, pack.id).await.unwrap();
        let objects = index.objects.into_iter().map(|(id, _)| id).collect();
        candidates.push(Candidate { pack: pack.id, objects, marked: RecordSet::default() });
    }
    candidates
}

async fn locate(store: &Store, id: ObjectId) -> Option<Location> {
    store.catalog().locate(Purpose::Chunks, vec![id]).await.unwrap()[0]
}

async fn quarantine(store: &Store, pack: PackId, id: ObjectId) {
    let damage = Damage { pack, kind: Purpose::Chunks, objects: vec![id], why: "a test".into(), found_unix_ms: 0 };
    assert_eq!(store.catalog().quarantine(damage).await.unwrap(), 1);
}

#[tokio::test]
async fn a_node_that_is_read_no_more_but_remembered_is_missing() {
    let store = memory_store();
    let image: Vec<Option<u32>> = (0..2000).map(Some).collect();
    let version = push(&store, &image, None).await;
    let key = VersionKey { image: version.image.clone(), number: version.number };
    walk(&store, &version, None).await;
    store.catalog().remove_version(key.clone(), 5).await.unwrap();
    store.catalog().purge_version(key, 5, 6).await.unwrap();
    assert!(condemn_everything(&store).await.iter().all(|answer| *answer == Condemnation::Condemned));

    let extents = extents_of(&image);
    let (root, nodes) = nodes_of(&extents);
    let mut upload = open(&store, None).await;
    let UploadOutcome::Missing(missing) = upload.commit(request(root, &extents)).await.unwrap() else {
        panic!("nothing of it is there")
    };
    assert_eq!(missing.nodes, [root], "its children are not looked at before it is there");
    assert_eq!(send(&mut upload, Purpose::Nodes, node_objects(&nodes)).await, nodes.len());
}

/// A client that never asked is told nothing, and still what it relies on must stay.
#[tokio::test]
async fn what_a_commit_relies_on_is_held_even_if_nobody_asked() {
    let store = memory_store();
    let image: Vec<Option<u32>> = (0..500).map(Some).collect();
    push(&store, &image, None).await;
    let extents = extents_of(&image);
    let (root, _) = nodes_of(&extents);
    let mut upload = open(&store, None).await;
    let mark = store.catalog().begin_mark().await.unwrap();
    let outcome = upload.commit(request(root, &extents)).await.unwrap();
    assert!(matches!(outcome, UploadOutcome::Committed(_)));
    let candidates = candidates(&store).await;
    let answers = store.catalog().condemn(mark.id, candidates, 0).await.unwrap();
    assert_eq!(answers, [Condemnation::Refused(Refusal::Stamped); 2], "the chunks and the nodes");
}

/// PBS S3, where a chunk was deleted between the look at it and its marker. "Do not send it" is a promise: what it rests on
/// stays, however long the client takes to commit.
#[tokio::test]
async fn what_need_not_be_sent_is_not_condemned() {
    let store = memory_store();
    let image: Vec<Option<u32>> = (0..500).map(Some).collect();
    let version = push(&store, &image, None).await;
    let (_, nodes) = nodes_of(&extents_of(&image));
    let mut upload = open(&store, None).await;
    let chunks = (0..500).map(|n| ChunkId::of(&content(n)).into()).collect();
    let nodes = node_objects(&nodes).into_iter().map(|(id, _)| id).collect();
    for (kind, ids) in [(Purpose::Chunks, chunks), (Purpose::Nodes, nodes)] {
        assert!(upload.ask(kind, ids).await.unwrap().iter().all(|send| !send));
    }
    let key = VersionKey { image: version.image.clone(), number: version.number };
    store.catalog().remove_version(key.clone(), 5).await.unwrap();
    store.catalog().purge_version(key, 5, 6).await.unwrap();
    assert_eq!(condemn_everything(&store).await, [Condemnation::Refused(Refusal::Held); 2]);
    store.catalog().close_upload(upload.record.id).await.unwrap();
    assert_eq!(condemn_everything(&store).await, [Condemnation::Condemned; 2]);
}

/// A record that is intact in every way, but for holding another node than it is of.
#[tokio::test]
async fn a_node_with_the_bytes_of_another_is_damaged() {
    let store = memory_store();
    let image: Vec<Option<u32>> = (0..2000).map(Some).collect();
    let version = push(&store, &image, None).await;
    let (root, nodes) = nodes_of(&extents_of(&image));
    let [one, other, ..] = &nodes[..] else { panic!("there are several") };
    let (packs, catalog) = (Arc::clone(&store.packs), Arc::clone(&store.catalog));
    let mut writer = PackWriter::new(store.repository, packs, catalog, None, Purpose::Nodes);
    writer.append(one.id.into(), &Payload::compress(&other.encoded.clone().into())).await.unwrap();
    writer.seal_all().await.unwrap();

    let store = reopened(&store);
    let error = store.nodes.node(one.id).await.unwrap_err();
    assert!(matches!(error, Error::RecordCorrupt { .. }), "{error}");
    assert_eq!(store.nodes.node(other.id).await.unwrap().summary(), other.summary);
    assert!(try_read(&store, &version).await.is_err());
    let mut upload = open(&store, None).await;
    let UploadOutcome::Missing(missing) = upload.commit(request(root, &extents_of(&image))).await.unwrap() else {
        panic!("a node is damaged")
    };
    assert_eq!(missing.nodes, [one.id]);
}

#[tokio::test]
async fn while_anything_is_damaged_no_base_vouches() {
    let store = memory_store();
    let image: Vec<Option<u32>> = (0..2000).map(Some).collect();
    let base = push(&store, &image, None).await;
    let damaged: ObjectId = ChunkId::of(&content(1234)).into();
    let extents = extents_of(&image);
    let (root, _) = nodes_of(&extents);
    let mut early = open(&store, Some(&base)).await;
    assert!(early.damaged().is_empty());
    quarantine(&store, locate(&store, damaged).await.unwrap().pack, damaged).await;

    // Also the one that was opened before: what it took for granted is looked at now.
    let mut late = open(&store, Some(&base)).await;
    assert_eq!(late.damaged(), [damaged]);
    assert!(open(&store, None).await.damaged().is_empty(), "without a base there is nothing to say");
    for upload in [&mut early, &mut late] {
        let UploadOutcome::Missing(missing) = upload.commit(request(root, &extents)).await.unwrap() else {
            panic!("a chunk is missing")
        };
        assert_eq!((missing.chunks, missing.nodes), (vec![ChunkId::of(&content(1234))], vec![]));
    }
    assert_eq!(send(&mut early, Purpose::Chunks, vec![(damaged, content(1234))]).await, 1);
    let outcome = early.commit(request(root, &extents)).await.unwrap();
    assert!(matches!(outcome, UploadOutcome::Committed(_)));
    assert_eq!(store.catalog().unhealed_damage(9).await.unwrap(), []);
    assert!(locate(&store, damaged).await.is_some());
}

#[tokio::test]
async fn an_upload_that_expired_is_told_so_and_pushed_again() {
    let store = memory_store();
    let image: Vec<Option<u32>> = (0..10).map(Some).collect();
    let extents = extents_of(&image);
    let (root, _) = nodes_of(&extents);
    push(&store, &image, None).await;
    let mut upload = open(&store, None).await;
    assert_eq!(store.catalog().expire_uploads(i64::MAX).await.unwrap(), [], "a stream uses it");
    store.catalog().close_upload(upload.record.id).await.unwrap();
    let error = upload.commit(request(root, &extents)).await.unwrap_err();
    assert_eq!(error.reason(), "UPLOAD_NOT_OPEN");
    drop(upload);
    push(&store, &image, None).await;
}
