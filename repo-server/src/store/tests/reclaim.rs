//! Collections over the in-memory engines: what stays, what goes, and what others do at every one of their steps.

use std::time::Duration;

use futures::StreamExt as _;

use super::{
    interposed::{Event, Interposed},
    *,
};
use crate::{
    catalog::{Catalog as _, Location},
    storage::PackStorage as _,
    store::reclaim::{CollectControl, CollectMode, CollectOptions, CollectReport},
};

pub(super) fn interposed() -> (Store, Interposed) {
    let packs = Interposed::default();
    (store_on(&packs), packs)
}

/// A store with an empty node cache.
fn store_on(packs: &Interposed) -> Store {
    let catalog = Arc::new(MemoryCatalog::new());
    Store::new(RepositoryId::random(), Arc::new(packs.clone()), catalog, Blocking::for_this_machine())
}

/// The same repository as after a restart: nothing is remembered.
pub(super) fn reopened(store: &Store) -> Store {
    let (packs, catalog) = (Arc::clone(&store.packs), Arc::clone(&store.catalog));
    Store::new(store.repository, packs, catalog, Blocking::for_this_machine())
}

const NO_GRACE: Duration = Duration::ZERO;

fn options(mode: CollectMode) -> CollectOptions {
    CollectOptions::with_grace(mode, NO_GRACE)
}

async fn try_collect(store: &Store) -> Result<CollectReport, Error> {
    store.collect(options(CollectMode::Collect), &CollectControl::new()).await
}

pub(super) async fn collect(store: &Store) -> CollectReport {
    try_collect(store).await.unwrap()
}

pub(super) fn image_of(chunks: std::ops::Range<u32>) -> Vec<Option<u32>> {
    chunks.map(Some).collect()
}

pub(super) fn key_of(version: &VersionRecord) -> VersionKey {
    VersionKey { image: version.image.clone(), number: version.number }
}

pub(super) async fn remove(store: &Store, version: &VersionRecord) {
    store.catalog().remove_version(key_of(version), 5).await.unwrap();
}

pub(super) async fn purge(store: &Store, version: &VersionRecord) {
    remove(store, version).await;
    store.catalog().purge_version(key_of(version), 5, 6).await.unwrap();
}

async fn locate(store: &Store, n: u32) -> Option<Location> {
    store.catalog().locate(Purpose::Chunks, vec![ChunkId::of(&content(n)).into()]).await.unwrap()[0]
}

/// Reads every byte of a version with nothing in caches.
pub(super) async fn try_read(store: &Store, version: &VersionRecord) -> Result<Vec<u8>, Error> {
    let store = reopened(store);
    let mut walk = store.walk_tree(version, None).await?;
    let (mut bytes, mut starts) = (Vec::new(), Vec::new());
    while let Some(piece) = walk.next().await? {
        let TreePiece::Leaf(extents) = piece else { panic!("nothing is shared") };
        for extent in extents {
            if extent.chunk().is_some() {
                starts.push(bytes.len() as u64);
            }
            bytes.resize(bytes.len() + extent.length as usize, 0);
        }
    }
    let mut reader = store.read_chunks(version).await?;
    for starts in starts.chunks(1000) {
        let mut groups = std::pin::pin!(reader.read(starts).await?);
        while let Some(group) = groups.next().await {
            for chunk in group? {
                let payload = Payload { codec: chunk.codec, raw_length: chunk.raw_length, stored: chunk.stored };
                let raw = payload.decode().unwrap();
                bytes[chunk.offset as usize..][..raw.len()].copy_from_slice(&raw);
            }
        }
    }
    Ok(bytes)
}

pub(super) async fn assert_whole(store: &Store, version: &VersionRecord, image: &[Option<u32>]) {
    let expected: Vec<u8> = image.iter().flat_map(|n| n.map_or([0; 4], u32::to_le_bytes)).collect();
    assert_eq!(try_read(store, version).await.unwrap(), expected);
}

async fn pack_count(store: &Store) -> usize {
    let known = store.catalog().packs().await.unwrap().len();
    assert_eq!(store.packs.list().await.unwrap().len(), known, "files and catalog agree");
    known
}

#[tokio::test]
async fn a_collection_keeps_what_versions_need_and_deletes_the_rest() {
    let store = memory_store();
    let (old, new) = (image_of(0..3000), image_of(1000..4000));
    let first = push(&store, &old, None).await;
    let second = push(&store, &new, None).await;
    purge(&store, &first).await;
    let report = collect(&store).await;
    assert!(report.deleted.packs >= 2 && report.freed_bytes() > 0, "{report:?}");
    assert_whole(&store, &second, &new).await;
    assert_eq!((locate(&store, 999).await, locate(&store, 1000).await.is_some()), (None, true));
    assert_eq!(pack_count(&store).await, 2, "one of chunks, one of nodes");

    let mut upload = open(&store, None).await;
    let asked = upload.ask(Purpose::Chunks, vec![ChunkId::of(&content(999)).into()]).await.unwrap();
    assert_eq!(asked, [true], "what was deleted is asked for");
}

#[tokio::test]
async fn a_collection_with_nothing_to_do_writes_and_deletes_nothing() {
    let store = memory_store();
    push(&store, &image_of(0..3000), None).await;
    collect(&store).await;
    let before = store.catalog().packs().await.unwrap();
    let report = collect(&store).await;
    assert_eq!((report.deleted.packs, report.written_bytes, report.reclaimable_bytes()), (0, 0, 0));
    assert_eq!(store.catalog().packs().await.unwrap(), before);
}

#[tokio::test]
async fn a_removed_version_stays_until_its_grace_is_over() {
    let store = memory_store();
    let image = image_of(0..3000);
    let version = push(&store, &image, None).await;
    store.remove_version(key_of(&version)).await.unwrap();
    let a_day = CollectOptions::with_grace(CollectMode::Collect, Duration::from_secs(24 * 3600));
    let report = store.collect(a_day, &CollectControl::new()).await.unwrap();
    assert_eq!((report.versions, report.purged_versions, report.deleted.packs), (1, 0, 0));
    store.catalog().undelete_version(key_of(&version), 7).await.unwrap();
    assert_whole(&store, &version, &image).await;

    store.remove_version(key_of(&version)).await.unwrap();
    let report = collect(&store).await;
    assert_eq!((report.versions, report.purged_versions), (0, 1));
    assert_eq!(pack_count(&store).await, 0);
    assert!(store.catalog().undelete_version(key_of(&version), 7).await.is_err(), "it was given up first");
}

/// They would not be condemned: a dry run does not promise them, and a collection does not copy what is in them.
#[tokio::test]
async fn packs_that_an_upload_holds_are_left_alone() {
    let store = memory_store();
    let first = push(&store, &image_of(0..3000), None).await;
    let mut upload = open(&store, None).await;
    // One of the first version's chunks is needed on, and one that nothing else needs is asked for.
    push(&store, &image_of(0..10), None).await;
    remove(&store, &first).await;
    upload.ask(Purpose::Chunks, vec![ChunkId::of(&content(2000)).into()]).await.unwrap();
    let dry = store.collect(options(CollectMode::DryRun), &CollectControl::new()).await.unwrap();
    let report = collect(&store).await;
    assert_eq!(report.busy_packs, 1, "{report:?}");
    assert_eq!((dry.busy_packs, dry.dead, dry.rewritten), (1, report.dead, report.rewritten));
    assert_eq!((report.rewritten.packs, report.written_bytes, report.deleted), (0, 0, report.dead));
    assert!(locate(&store, 2999).await.is_some());

    drop(upload);
    assert_eq!(store.catalog().expire_uploads(i64::MAX).await.unwrap().len(), 1);
    assert_eq!(collect(&store).await.busy_packs, 0);
    assert_eq!((locate(&store, 2999).await, locate(&store, 5).await.is_some()), (None, true));
}

#[tokio::test]
async fn a_dry_run_says_what_a_collection_does_and_changes_nothing() {
    let store = memory_store();
    let first = push(&store, &image_of(0..3000), None).await;
    let second = push(&store, &image_of(2000..5000), None).await;
    push(&store, &image_of(2500..5000), None).await;
    remove(&store, &first).await;
    remove(&store, &second).await;
    let before = (store.catalog().packs().await.unwrap(), store.catalog().totals().await.unwrap());
    let dry = store.collect(options(CollectMode::DryRun), &CollectControl::new()).await.unwrap();
    assert_eq!((store.catalog().packs().await.unwrap(), store.catalog().totals().await.unwrap()), before);
    assert_eq!(store.catalog().removed_versions(None, None, 9).await.unwrap().len(), 2, "nothing was purged");
    assert_eq!(store.catalog().begin_mark().await.unwrap().last_finished, None);

    let real = collect(&store).await;
    assert!(dry.reclaimable_bytes() > 0);
    assert_eq!((dry.purged_versions, dry.versions), (2, 1));
    assert_eq!((real.dead, real.rewritten, real.copied_bytes), (dry.dead, dry.rewritten, dry.copied_bytes));
    assert_eq!(real.deleted.packs, dry.dead.packs + dry.rewritten.packs);
    assert_eq!(dry.deleted.packs, 0);
}

/// PBS PSA-2025-00019-1, at every step of the collection at which it touches a pack: a version is pushed on an old base,
/// and the base is removed and purged.
#[tokio::test]
async fn a_version_pushed_on_a_base_that_is_removed_during_collection_keeps_its_chunks() {
    for call in 0.. {
        let (store, packs) = interposed();
        let (old, new) = (image_of(0..3000), image_of(500..3500));
        let garbage = push(&store, &image_of(9000..9500), None).await;
        let base = push(&store, &old, None).await;
        purge(&store, &garbage).await;
        let mut upload = open(&store, Some(&base)).await;
        let (root, nodes) = nodes_of(&extents_of(&new));
        let chunks = (3000..3500).map(|n| (ChunkId::of(&content(n)).into(), content(n))).collect();
        send(&mut upload, Purpose::Chunks, chunks).await;
        let committed = Arc::new(std::sync::Mutex::new(None));
        let event = {
            let (store, new, committed) = (store.clone(), new.clone(), Arc::clone(&committed));
            async move {
                send(&mut upload, Purpose::Nodes, node_objects(&nodes)).await;
                let outcome = upload.commit(request(root, &extents_of(&new))).await.unwrap();
                let UploadOutcome::Committed(version) = outcome else { panic!("the base has the rest") };
                purge(&store, &base).await;
                *committed.lock().unwrap() = Some(version);
            }
        };
        packs.at(call, Event::Happens(Box::pin(event)));
        collect(&reopened(&store)).await;
        let has_happened = packs.has_happened();
        let Some(version) = committed.lock().unwrap().take() else {
            assert!(!has_happened && call > 10, "{call} calls");
            println!("{call} calls of a collection, and a push at each");
            break;
        };
        assert_whole(&store, &version, &new).await;
        collect(&store).await;
        assert_whole(&store, &version, &new).await;
    }
}

/// It is purged by the very collection whose roots it must be among.
#[tokio::test]
async fn the_base_of_an_open_upload_stays_when_the_collection_purges_its_version() {
    let store = memory_store();
    let new = image_of(500..3500);
    let base = push(&store, &image_of(0..3000), None).await;
    let mut upload = open(&store, Some(&base)).await;
    store.remove_version(key_of(&base)).await.unwrap();
    assert_eq!(collect(&store).await.purged_versions, 1);

    let (root, nodes) = nodes_of(&extents_of(&new));
    let chunks = (3000..3500).map(|n| (ChunkId::of(&content(n)).into(), content(n))).collect();
    send(&mut upload, Purpose::Chunks, chunks).await;
    send(&mut upload, Purpose::Nodes, node_objects(&nodes)).await;
    let outcome = upload.commit(request(root, &extents_of(&new))).await.unwrap();
    let UploadOutcome::Committed(version) = outcome else { panic!("the base has the rest") };
    assert_whole(&store, &version, &new).await;
}

/// borg#9748, kopia#1087: a collection that ends at any point leaves nothing that misses anything, and the next
/// one does the rest.
#[tokio::test]
async fn a_collection_may_be_cut_off_at_every_call() {
    for call in 0.. {
        let (store, packs) = interposed();
        let images = [image_of(0..3000), image_of(1000..4000), image_of(1500..4000)];
        let mut versions = Vec::new();
        for image in &images {
            versions.push(push(&store, image, None).await);
        }
        purge(&store, &versions[0]).await;
        packs.at(call, Event::Fails(Error::Stopping));
        let result = try_collect(&reopened(&store)).await;
        if !packs.has_happened() {
            println!("{call} calls of a collection, cut off at each");
            assert!(result.is_ok() && call > 10);
            break;
        }
        assert!(result.is_err(), "call {call}");
        for (version, image) in versions.iter().zip(&images).skip(1) {
            assert_whole(&store, version, image).await;
        }
        crate::store::recover::index_unknown_packs(&store).await.unwrap();
        collect(&store).await;
        for (version, image) in versions.iter().zip(&images).skip(1) {
            assert_whole(&store, version, image).await;
        }
        assert_eq!(pack_count(&store).await, 2, "call {call}");
        assert_eq!(locate(&store, 999).await, None);
    }
}

/// A file whose pack nobody knows is taken for one that a crash kept from the catalog, with whatever was damaged in it.
#[tokio::test]
async fn a_condemned_pack_is_forgotten_only_when_its_file_is_gone() {
    for is_restarted in [false, true] {
        let (store, packs) = interposed();
        let version = push(&store, &image_of(0..3000), None).await;
        purge(&store, &version).await;
        let mark = store.catalog().begin_mark().await.unwrap();
        let candidates = super::damage::candidates(&store).await;
        store.catalog().condemn(mark.id, candidates, 0).await.unwrap();
        let condemned = store.catalog().condemned_packs().await.unwrap();
        assert_eq!(condemned.len(), 2);
        packs.at(1, Event::Fails(Error::Stopping));
        assert!(crate::store::reclaim::delete_condemned(&store).await.is_err());
        assert_eq!(packs.list().await.unwrap().len(), 1, "the second file is still there");
        assert_eq!(store.catalog().condemned_packs().await.unwrap(), condemned);

        match is_restarted {
            true => _ = crate::store::recover::index_unknown_packs(&store).await.unwrap(),
            false => _ = collect(&store).await,
        }
        assert_eq!(pack_count(&store).await, 0);
        assert_eq!(store.catalog().condemned_packs().await.unwrap(), []);
    }
}

#[tokio::test]
async fn without_room_to_rewrite_what_is_dead_goes_and_the_collection_is_not_finished() {
    let mut incomplete = 0;
    for call in 0.. {
        let (store, packs) = interposed();
        let kept = image_of(1000..4000);
        let garbage = push(&store, &image_of(9000..9500), None).await;
        let first = push(&store, &image_of(0..3000), None).await;
        let second = push(&store, &kept, None).await;
        for version in [&garbage, &first] {
            purge(&store, version).await;
        }
        packs.at(call, Event::Fails(Error::Full { what: "a test".into() }));
        let result = try_collect(&reopened(&store)).await;
        if !packs.has_happened() {
            break;
        }
        assert_whole(&store, &second, &kept).await;
        if let Ok(report) = result.inspect_err(|error| assert!(matches!(error, Error::Full { .. }), "{error}")) {
            incomplete += 1;
            assert!(report.incomplete.is_some() && report.deleted.packs > 0, "call {call}: {report:?}");
            assert_eq!(store.catalog().begin_mark().await.unwrap().last_finished, None);
        }
    }
    assert!(incomplete > 0);
}

#[tokio::test]
async fn a_restore_goes_on_while_its_packs_are_rewritten() {
    let (store, packs) = interposed();
    let image = image_of(0..3000);
    let first = push(&store, &image_of(0..6000), None).await;
    let version = push(&store, &image, None).await;
    let mut reader = store.read_chunks(&version).await.unwrap();
    // Few enough for one read.
    let starts: Vec<u64> = (0..100).map(|n| n * 4).collect();
    // Located now, read later: meanwhile the packs are rewritten twice, and deleted.
    let mut groups = Box::pin(reader.read(&starts).await.unwrap());
    purge(&store, &first).await;
    let before = locate(&store, 7).await.unwrap().pack;
    collect(&store).await;
    let between = locate(&store, 7).await.unwrap().pack;
    assert_ne!(before, between);
    let second = push(&store, &image_of(5000..5100), None).await;
    collect(&store).await;
    let after = locate(&store, 7).await.unwrap().pack;
    assert_ne!(between, after);
    // And once more when they were located again, before the second read.
    let others = store.clone();
    let third = async move {
        push(&others, &image_of(5100..5200), None).await;
        collect(&others).await;
    };
    packs.at(1, Event::Happens(Box::pin(third)));
    let mut chunks = 0;
    while let Some(group) = groups.next().await {
        for chunk in group.unwrap() {
            let payload = Payload { codec: chunk.codec, raw_length: chunk.raw_length, stored: chunk.stored };
            assert_eq!(payload.decode().unwrap()[..], ((chunk.offset / 4) as u32).to_le_bytes());
            chunks += 1;
        }
    }
    assert_eq!(chunks, 100);
    assert!(packs.has_happened());
    assert_ne!(after, locate(&store, 7).await.unwrap().pack);
    assert_whole(&store, &second, &image_of(5000..5100)).await;
}

/// restic#4612 and its like: what cannot be read is not taken for something that is not there.
#[tokio::test]
async fn a_tree_that_cannot_be_read_stops_the_collection_before_it_deletes() {
    let store = memory_store();
    let first = push(&store, &image_of(0..3000), None).await;
    let second = push(&store, &image_of(9000..9001), None).await;
    purge(&store, &second).await;
    let broken = without_node_packs(&store, usize::MAX).await;
    let before = broken.catalog().packs().await.unwrap();
    let error = try_collect(&broken).await.unwrap_err();
    assert!(matches!(&error, Error::TreeUnreadable { number, .. } if *number == first.number), "{error}");
    assert!(!error.hint().is_empty());
    assert_eq!(broken.catalog().packs().await.unwrap(), before);
    assert_eq!(broken.catalog().begin_mark().await.unwrap().last_finished, None);
}

/// restic#4612: an error while listing reads as "nothing exists".
#[tokio::test]
async fn a_version_that_vanished_stops_the_collection() {
    let (packs, catalog) = (Arc::new(MemoryPacks::default()), Arc::new(MemoryCatalog::new()));
    let store = Store::new(RepositoryId::random(), packs, catalog.clone(), Blocking::for_this_machine());
    let mut versions = Vec::new();
    for start in [0, 2000, 4000] {
        versions.push(push(&store, &image_of(start..start + 1000), None).await);
    }
    assert_eq!(collect(&store).await.versions, 3);
    purge(&store, &versions[2]).await;
    let before = (store.packs.list().await.unwrap(), store.catalog().packs().await.unwrap());
    catalog.lose_version(&key_of(&versions[1]));
    let error = try_collect(&store).await.unwrap_err();
    assert!(matches!(error, Error::VersionsVanished { known: 3, now: 2 }), "{error}");
    assert_eq!((store.packs.list().await.unwrap(), store.catalog().packs().await.unwrap()), before);
    assert!(locate(&store, 2500).await.is_some());
}

/// attic#211, from the other side: a chunk that the catalog does not know, and that nobody found damaged.
#[tokio::test]
async fn a_chunk_that_is_unaccounted_for_stops_the_collection() {
    let store = memory_store();
    let version = push(&store, &image_of(0..3000), None).await;
    let garbage = push(&store, &image_of(9000..9500), None).await;
    purge(&store, &garbage).await;
    // A catalog that lost the packs of chunks, and their objects with them.
    let catalog = MemoryCatalog::new();
    for pack in store.catalog().packs().await.unwrap().into_iter().filter(|pack| pack.purpose == Purpose::Nodes) {
        let index = crate::pack::read_index(&*store.packs, store.repository, pack.id).await.unwrap();
        catalog.add_pack(pack, index.objects, None).await.unwrap();
    }
    let extents = extents_of(&image_of(0..3000));
    let (upload, root) =
        (UploadRecord { id: UploadId::random(), image: version.image.clone(), base: None }, nodes_of(&extents).0);
    catalog.open_upload(upload.clone()).await.unwrap();
    let new = crate::catalog::NewVersion {
        upload: upload.id,
        image: version.image.clone(),
        content: ContentRecord::new(root, 12000, Profile::V1),
        tags: vec![],
        committed_unix_ms: 0,
        who: String::new(),
        data_bytes: 0,
        new_chunks: 0,
        new_stored_bytes: 0,
    };
    catalog.commit(new).await.unwrap();
    let blocking = Blocking::for_this_machine();
    let broken = Store::new(store.repository, Arc::clone(&store.packs), Arc::new(catalog), blocking);
    let error = try_collect(&broken).await.unwrap_err();
    assert!(matches!(&error, Error::TreeUnreadable { .. }), "{error}");
}

/// The same pack with other bytes, as a failing disk may leave it.
async fn change_pack(packs: &Interposed, pack: crate::PackId, change: impl FnOnce(&mut Vec<u8>)) {
    let whole = 0..packs.packs.length(pack).await.unwrap();
    let mut bytes = packs.packs.read(pack, Vec::from([whole])).await.unwrap()[0].to_vec();
    change(&mut bytes);
    packs.packs.delete(pack).await.unwrap();
    let mut sink = packs.packs.create(pack).await.unwrap();
    sink.append(bytes.into()).await.unwrap();
    sink.seal().await.unwrap();
}

/// Found by the reference model: the rewriting of nodes quarantined one, and the rewriting of chunks failed on it.
#[tokio::test]
async fn a_node_that_a_collection_finds_damaged_does_not_end_it() {
    let (store, packs) = interposed();
    let image = image_of(0..3000);
    let first = push(&store, &image_of(0..8000), None).await;
    let version = push(&store, &image, None).await;
    // Its nodes are remembered, so that the mark does not read them.
    assert_eq!(walk(&store, &version, None).await.0, extents_of(&image));
    purge(&store, &first).await;
    let (_, nodes) = nodes_of(&extents_of(&image));
    let leaf: ObjectId = nodes[1].id.into();
    let at = store.catalog().locate(Purpose::Nodes, vec![leaf]).await.unwrap()[0].unwrap();
    change_pack(&packs, at.pack, |bytes| bytes[at.offset as usize + 57] ^= 1).await;
    let report = collect(&store).await;
    assert_eq!(report.damaged_records, 1, "{report:?}");
    let pushed = push(&store, &image, None).await;
    for version in [&version, &pushed] {
        assert_whole(&store, version, &image).await;
    }
}

/// restic#4523: wrong bytes under right checksums, as a compressor that erred leaves them. A copy would bless them.
#[tokio::test]
async fn what_does_not_hash_to_its_id_is_not_copied() {
    let (store, packs) = interposed();
    let first = push(&store, &image_of(0..8000), None).await;
    push(&store, &image_of(0..3000), None).await;
    purge(&store, &first).await;
    let at = locate(&store, 1234).await.unwrap();
    change_pack(&packs, at.pack, |bytes| {
        let (header, payload) = bytes[at.offset as usize..].split_at_mut(crate::pack::RECORD_HEADER_BYTES);
        payload[0] ^= 1;
        let payload = crc32c::crc32c(&payload[..at.stored_length as usize]);
        header[48..52].copy_from_slice(&payload.to_le_bytes());
        let checksum = crc32c::crc32c(&header[..52]);
        header[52..56].copy_from_slice(&checksum.to_le_bytes());
    })
    .await;
    let report = collect(&store).await;
    assert_eq!((report.damaged_records, report.kept_packs), (1, 1), "{report:?}");
    assert_eq!(locate(&store, 1234).await, None);
}

#[tokio::test]
async fn a_pack_that_lost_its_footer_is_evidence_and_stays() {
    let (store, packs) = interposed();
    let version = push(&store, &image_of(0..3000), None).await;
    purge(&store, &version).await;
    let pack = locate(&store, 1234).await.unwrap().pack;
    change_pack(&packs, pack, |bytes| bytes.truncate(bytes.len() - 1)).await;
    let report = collect(&store).await;
    assert_eq!((report.deleted.packs, report.kept_packs), (1, 1), "only the pack of nodes goes: {report:?}");
    assert_eq!(packs.list().await.unwrap(), [pack]);
}

#[tokio::test]
async fn a_damaged_record_is_not_copied_and_its_pack_stays() {
    let (store, packs) = interposed();
    let image = image_of(0..3000);
    let first = push(&store, &image_of(0..8000), None).await;
    let version = push(&store, &image, None).await;
    purge(&store, &first).await;
    let at = locate(&store, 1234).await.unwrap();
    change_pack(&packs, at.pack, |bytes| bytes[at.offset as usize + 57] ^= 1).await;

    let report = collect(&store).await;
    assert_eq!((report.damaged_records, report.kept_packs), (1, 1), "{report:?}");
    assert_eq!(locate(&store, 1234).await, None, "every push is asked to send it");
    assert!(store.catalog().packs().await.unwrap().iter().any(|pack| pack.id == at.pack), "the evidence stays");
    assert_ne!(locate(&store, 1235).await.unwrap().pack, at.pack, "the others are copied");
    // The next one knows of it and goes on.
    assert_eq!(collect(&store).await.missing_chunks, 1);
    let pushed = push(&store, &image, None).await;
    for version in [&version, &pushed] {
        assert_whole(&store, version, &image).await;
    }
    let report = collect(&store).await;
    assert_eq!((report.missing_chunks, report.kept_packs), (0, 0));
    assert!(store.catalog().packs().await.unwrap().iter().all(|pack| pack.id != at.pack), "healed: it may go");
    assert_whole(&store, &version, &image).await;
}

/// rustic#392: the same chunk twice counted as not needed.
#[tokio::test]
async fn of_two_records_of_one_chunk_one_stays() {
    let store = memory_store();
    let image = image_of(0..3000);
    let (mut one, mut other) = (open(&store, None).await, open(&store, None).await);
    let chunks: Vec<(ObjectId, Bytes)> = (0..3000).map(|n| (ChunkId::of(&content(n)).into(), content(n))).collect();
    for upload in [&mut one, &mut other] {
        assert_eq!(send(upload, Purpose::Chunks, chunks.clone()).await, 3000, "both were asked to send all");
    }
    let extents = extents_of(&image);
    let (root, nodes) = nodes_of(&extents);
    let mut versions = Vec::new();
    for upload in [&mut one, &mut other] {
        send(upload, Purpose::Nodes, node_objects(&nodes)).await;
        collect(&store).await;
        match upload.commit(request(root, &extents)).await.unwrap() {
            UploadOutcome::Committed(version) => versions.push(*version),
            UploadOutcome::Missing(missing) => panic!("missing {missing:?}"),
        }
    }
    drop((one, other));
    collect(&store).await;
    assert_eq!(pack_count(&store).await, 2);
    for version in &versions {
        assert_whole(&store, version, &image).await;
    }
}

#[tokio::test]
async fn the_newest_version_lies_in_image_order() {
    let store = memory_store();
    let old = push(&store, &image_of(0..4000), None).await;
    let shuffled: Vec<Option<u32>> = (0..4000).map(|n| Some(n * 2503 % 4000)).collect();
    let new = push(&store, &shuffled, None).await;
    push(&store, &image_of(4000..4100), None).await;
    let report = collect(&store).await;
    assert!(report.rewritten.packs >= 2, "small packs were merged: {report:?}");
    let mut offsets = Vec::new();
    for n in shuffled.iter().flatten() {
        offsets.push(locate(&store, *n).await.unwrap().offset);
    }
    assert!(offsets.is_sorted(), "the newest version that has them decides");
    assert_whole(&store, &old, &image_of(0..4000)).await;
    assert_whole(&store, &new, &shuffled).await;
}

#[tokio::test]
async fn one_collection_at_a_time() {
    let store = memory_store();
    push(&store, &image_of(0..100), None).await;
    let _running = store.collecting.lock().await;
    assert!(matches!(try_collect(&store).await, Err(Error::Busy { .. })));
}

#[tokio::test]
async fn a_collection_ends_when_it_is_told_to() {
    let store = memory_store();
    push(&store, &image_of(0..3000), None).await;
    let control = CollectControl::new();
    control.stop();
    let stopped = store.collect(options(CollectMode::Collect), &control).await;
    assert!(matches!(stopped, Err(Error::Stopping)));
    assert!(matches!(
        store.catalog().condemn(store.catalog().begin_mark().await.unwrap().id, vec![], 0).await,
        Ok(answers) if answers.is_empty()
    ));
    collect(&store).await;
}

/// What may happen, in any order, one after the other.
#[derive(Debug, Clone)]
enum Step {
    Push { start: u32, length: u32, with_base: bool },
    Remove(usize),
    Purge(usize),
    Undelete(usize),
    OpenAndLeave(u32),
    Collect,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..6u32, 1..5u32, any::<bool>())
            .prop_map(|(start, length, with_base)| Step::Push { start, length, with_base }),
        2 => any::<usize>().prop_map(Step::Remove),
        1 => any::<usize>().prop_map(Step::Purge),
        1 => any::<usize>().prop_map(Step::Undelete),
        1 => (0..6u32).prop_map(Step::OpenAndLeave),
        2 => Just(Step::Collect),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn whatever_is_done_versions_stay_whole(steps in prop::collection::vec(any_step(), 1..40)) {
        runtime().block_on(async {
            let store = memory_store();
            let mut versions: Vec<(VersionRecord, Vec<Option<u32>>)> = Vec::new();
            let mut open_uploads = Vec::new();
            let mut removed: Vec<usize> = Vec::new();
            let mut gone: Vec<usize> = Vec::new();
            for step in steps {
                let among = |n: usize| (!versions.is_empty()).then(|| n % versions.len());
                match step {
                    Step::Push { start, length, with_base } => {
                        let image = image_of(start * 300..(start + length) * 300);
                        let is_live = |n: &usize| !removed.contains(n) && !gone.contains(n);
                        let base = (0..versions.len()).rev().find(is_live).filter(|_| with_base);
                        let base = base.map(|n| versions[n].0.clone());
                        let version = push(&store, &image, base.as_ref()).await;
                        versions.push((version, image));
                    }
                    Step::Remove(n) => {
                        if let Some(n) = among(n).filter(|n| !removed.contains(n) && !gone.contains(n)) {
                            remove(&store, &versions[n].0).await;
                            removed.push(n);
                        }
                    }
                    Step::Purge(n) => {
                        if let Some(at) = removed.iter().position(|other| Some(*other) == among(n)) {
                            let n = removed.swap_remove(at);
                            store.catalog().purge_version(key_of(&versions[n].0), 5, 6).await.unwrap();
                            gone.push(n);
                        }
                    }
                    Step::Undelete(n) => {
                        if let Some(at) = removed.iter().position(|other| Some(*other) == among(n)) {
                            let n = removed.swap_remove(at);
                            store.catalog().undelete_version(key_of(&versions[n].0), 7).await.unwrap();
                        }
                    }
                    Step::OpenAndLeave(start) => {
                        let mut upload = open(&store, None).await;
                        let ids = (start * 300..start * 300 + 500).map(|n| ChunkId::of(&content(n)).into()).collect();
                        upload.ask(Purpose::Chunks, ids).await.unwrap();
                        open_uploads.push(upload);
                    }
                    Step::Collect => {
                        let grace = Duration::from_secs(1 << 40);
                        let options = CollectOptions::with_grace(CollectMode::Collect, grace);
                        store.collect(options, &CollectControl::new()).await.unwrap();
                    }
                }
            }
            for (n, (version, image)) in versions.iter().enumerate() {
                if removed.contains(&n) {
                    store.catalog().undelete_version(key_of(version), 7).await.unwrap();
                }
                if !gone.contains(&n) {
                    assert_whole(&store, version, image).await;
                }
            }
            drop(open_uploads);
        });
    }
}
