use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::sample::*;
use crate::{
    catalog::{Catalog, Condemnation, MarkEnd, PackRecord, Refusal},
    pack::Purpose,
};

pub(crate) async fn what_was_added_is_located(catalog: &dyn Catalog) {
    let pack = pack(1, Purpose::Chunks);
    let added = objects(&pack, &[1, 2, 3]);
    catalog.add_pack(pack, added.clone(), None).await.unwrap();

    let asked = vec![object(3), object(9), object(1), object(3)];
    let (first, last) = (Some(added[0].1), Some(added[2].1));
    assert_eq!(catalog.locate(Purpose::Chunks, asked).await.unwrap(), [last, None, first, last]);
    assert_eq!(catalog.locate(Purpose::Chunks, vec![]).await.unwrap(), []);
}

pub(crate) async fn holding_does_not_change_answers(catalog: &dyn Catalog) {
    let pack = pack(1, Purpose::Chunks);
    catalog.open_upload(upload(1, "a", None)).await.unwrap();
    catalog.add_pack(pack.clone(), objects(&pack, &[1, 2]), Some(upload_id(1))).await.unwrap();

    let asked = vec![object(1), object(7), object(2)];
    let found = catalog.locate(Purpose::Chunks, asked.clone()).await.unwrap();
    for _ in 0..2 {
        assert_eq!(catalog.locate_and_hold(upload_id(1), Purpose::Chunks, asked.clone()).await.unwrap(), found);
    }
    assert_eq!(catalog.locate(Purpose::Chunks, asked).await.unwrap(), found);
    let nothing = catalog.locate_and_hold(upload_id(1), Purpose::Chunks, vec![object(8)]).await.unwrap();
    assert_eq!(nothing, [None]);
}

pub(crate) async fn only_open_uploads_hold(catalog: &dyn Catalog) {
    let pack = pack(1, Purpose::Chunks);
    let added = objects(&pack, &[1]);
    // A pack that was sealed while its upload was closed is a pack all the same.
    catalog.add_pack(pack, added.clone(), Some(upload_id(1))).await.unwrap();
    assert_eq!(catalog.locate(Purpose::Chunks, vec![object(1)]).await.unwrap(), [Some(added[0].1)]);
    assert_eq!(
        reason(catalog.locate_and_hold(upload_id(1), Purpose::Chunks, vec![object(1)]).await),
        "UPLOAD_NOT_OPEN"
    );

    push(catalog, 2, "a").await;
    assert_eq!(
        reason(catalog.locate_and_hold(upload_id(2), Purpose::Chunks, vec![object(1)]).await),
        "UPLOAD_NOT_OPEN"
    );
}

pub(crate) async fn adding_a_pack_twice_changes_nothing(catalog: &dyn Catalog) {
    let (old, new) = (pack(1, Purpose::Chunks), pack(2, Purpose::Chunks));
    for pack in [&old, &new, &old] {
        catalog.add_pack(pack.clone(), objects(pack, &[1]), None).await.unwrap();
    }
    let found = catalog.locate(Purpose::Chunks, vec![object(1)]).await.unwrap();
    assert_eq!(found[0].unwrap().pack, new.id, "the old pack, added again, must not take its objects back");
    assert_eq!(catalog.packs().await.unwrap().len(), 2);
    assert_eq!(catalog.totals().await.unwrap().chunks, 3);
}

pub(crate) async fn the_newer_location_wins(catalog: &dyn Catalog) {
    let (old, new) = (pack(9, Purpose::Chunks), pack(2, Purpose::Chunks));
    for pack in [&old, &new] {
        catalog.add_pack(pack.clone(), objects(pack, &[1, u64::from(pack.records)]), None).await.unwrap();
    }
    let found = catalog.locate(Purpose::Chunks, vec![object(1), object(9), object(2)]).await.unwrap();
    let packs: Vec<_> = found.iter().map(|location| location.unwrap().pack).collect();
    assert_eq!(packs, [new.id, old.id, new.id]);
}

pub(crate) async fn packs_are_listed_in_order(catalog: &dyn Catalog) {
    let (first, second) = (pack(1, Purpose::Nodes), pack(200, Purpose::Chunks));
    for pack in [&second, &first] {
        catalog.add_pack(pack.clone(), vec![], None).await.unwrap();
    }
    assert_eq!(catalog.packs().await.unwrap(), [first, second]);
}

/// A tree that names a node as a chunk, or a chunk as a node, finds nothing.
pub(crate) async fn an_object_is_found_as_what_it_is(catalog: &dyn Catalog) {
    let (chunks, nodes) = (pack(1, Purpose::Chunks), pack(2, Purpose::Nodes));
    let (chunk, node) = (objects(&chunks, &[1]), objects(&nodes, &[2]));
    catalog.open_upload(upload(1, "a", None)).await.unwrap();
    catalog.add_pack(chunks, chunk.clone(), None).await.unwrap();
    catalog.add_pack(nodes, node.clone(), None).await.unwrap();

    let asked = vec![object(1), object(2)];
    for (kind, expected) in [(Purpose::Chunks, [Some(chunk[0].1), None]), (Purpose::Nodes, [None, Some(node[0].1)])] {
        assert_eq!(catalog.locate(kind, asked.clone()).await.unwrap(), expected);
        assert_eq!(catalog.locate_and_hold(upload_id(1), kind, asked.clone()).await.unwrap(), expected);
    }
}

pub(crate) async fn packs_that_are_added_together_are_as_if_added_one_by_one(catalog: &dyn Catalog) {
    let contents = |seed, chunks: &[u64]| {
        let pack = PackRecord { records: chunks.len() as u32, ..pack(seed, Purpose::Chunks) };
        (pack.clone(), objects(&pack, chunks))
    };
    catalog.add_packs(vec![]).await.unwrap();
    catalog.add_packs(vec![contents(9, &[1, 2]), contents(3, &[2, 3]), contents(5, &[3, 4])]).await.unwrap();
    assert_eq!(packs_of(catalog, &[1, 2, 3, 4]).await, [Some(9), Some(3), Some(5), Some(5)], "the last one has it");
    assert_eq!(catalog.totals().await.unwrap().chunks, 6);
    // A known pack takes nothing back, and one that was condemned is not added.
    catalog.add_packs(vec![contents(9, &[1, 2]), contents(6, &[6]), contents(6, &[6])]).await.unwrap();
    assert_eq!(packs_of(catalog, &[1, 2, 6]).await, [Some(9), Some(3), Some(6)]);
    let mark = catalog.begin_mark().await.unwrap();
    assert_eq!(condemn(catalog, mark.id, 6, &[6], &[]).await, Condemnation::Condemned);
    catalog.add_packs(vec![contents(6, &[6]), contents(7, &[7])]).await.unwrap();
    assert_eq!(packs_of(catalog, &[6, 7]).await, [None, Some(7)]);
    let refused = condemn(catalog, mark.id, 7, &[7], &[]).await;
    assert_eq!(refused, Condemnation::Refused(Refusal::Stamped), "it was added since the mark began");
    // Holds follow their objects here too.
    catalog.open_upload(upload(1, "a", None)).await.unwrap();
    catalog.locate_and_hold(upload_id(1), Purpose::Chunks, vec![object(1)]).await.unwrap();
    catalog.add_packs(vec![contents(8, &[1])]).await.unwrap();
    assert_eq!(packs_of(catalog, &[1]).await, [Some(8)]);
    let mark = catalog.begin_mark().await.unwrap();
    assert_eq!(condemn(catalog, mark.id, 8, &[1], &[]).await, Condemnation::Refused(Refusal::Held));
}

/// Readers take no lock: what a collection moves must be found in one pack or the other.
pub(crate) async fn an_object_that_moves_is_located_all_the_time(catalog: &dyn Catalog) {
    const MOVES: u8 = 100;
    add_chunks(catalog, 0, &[1], None).await;
    let is_over = AtomicBool::new(false);
    let moves = async {
        for pack in 1..=MOVES {
            let mark = catalog.begin_mark().await.unwrap();
            add_chunks(catalog, pack, &[1], None).await;
            assert_eq!(condemn(catalog, mark.id, pack - 1, &[1], &[]).await, Condemnation::Condemned);
            catalog.end_mark(mark.id, MarkEnd::Abandoned).await.unwrap();
            tokio::task::yield_now().await;
        }
        is_over.store(true, Relaxed);
    };
    let looks = async {
        let mut newest = Some(0);
        while !is_over.load(Relaxed) {
            let found = packs_of(catalog, &[1; 64]).await;
            assert!(found.iter().all(|pack| *pack >= newest), "{found:?} after {newest:?}");
            newest = found[0];
            tokio::task::yield_now().await;
        }
    };
    futures::join!(moves, looks);
}
