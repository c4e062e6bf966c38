use super::sample::*;
use crate::{
    catalog::{Catalog, Condemnation, Damage, IntactRecords, MAX_DAMAGE_OBJECTS, Refusal},
    pack::Purpose,
};

async fn quarantine(catalog: &dyn Catalog, seed: u8, chunks: &[u64]) -> u64 {
    let objects = chunks.iter().map(|seed| object(*seed)).collect();
    let why = format!("a test of pack {seed}");
    let damage = Damage { pack: pack_id(seed), kind: Purpose::Chunks, objects, why, found_unix_ms: NOW };
    catalog.quarantine(damage).await.unwrap()
}

async fn unhealed(catalog: &dyn Catalog) -> usize {
    catalog.unhealed_damage(usize::MAX).await.unwrap().len()
}

pub(crate) async fn a_quarantined_object_is_sent_again_and_healed(catalog: &dyn Catalog) {
    add_chunks(catalog, 1, &[1, 2], None).await;
    catalog.open_upload(upload(1, "a", None)).await.unwrap();
    assert_eq!(quarantine(catalog, 1, &[1, 1]).await, 1);
    assert_eq!(quarantine(catalog, 1, &[1]).await, 0, "known");
    assert_eq!(packs_of(catalog, &[1, 2]).await, [None, Some(1)]);
    let asked = catalog.locate_and_hold(upload_id(1), Purpose::Chunks, vec![object(1)]).await.unwrap();
    assert_eq!(asked, [None]);
    let damage = catalog.unhealed_damage(9).await.unwrap();
    assert_eq!((damage.len(), damage[0].id, damage[0].kind), (1, object(1), Purpose::Chunks));
    assert_eq!((damage[0].pack, damage[0].why.as_str()), (pack_id(1), "a test of pack 1"));

    add_chunks(catalog, 2, &[1], Some(1)).await;
    assert_eq!(packs_of(catalog, &[1]).await, [Some(2)]);
    assert_eq!(unhealed(catalog).await, 0);
    // The healed one is damaged too.
    assert_eq!(quarantine(catalog, 2, &[1]).await, 1);
    assert_eq!(packs_of(catalog, &[1]).await, [None]);
    assert_eq!(unhealed(catalog).await, 2, "one for each record");
    assert_eq!(catalog.unhealed_damage(1).await.unwrap().len(), 1);
}

pub(crate) async fn a_record_that_is_not_used_is_quarantined_without_a_trace(catalog: &dyn Catalog) {
    add_chunks(catalog, 1, &[1], None).await;
    add_chunks(catalog, 2, &[1], None).await;
    assert_eq!(quarantine(catalog, 1, &[1]).await, 1);
    assert_eq!(packs_of(catalog, &[1]).await, [Some(2)]);
    assert_eq!(unhealed(catalog).await, 0);
    assert_eq!(quarantine(catalog, 9, &[1]).await, 0, "no such pack");
}

/// In a rebuild packs come in any order; and a scrub may offer a pack again because it has a good copy.
pub(crate) async fn a_quarantined_record_is_never_used_again(catalog: &dyn Catalog) {
    add_chunks(catalog, 1, &[1, 2], None).await;
    add_chunks(catalog, 2, &[1], None).await;
    quarantine(catalog, 2, &[1]).await;
    assert_eq!(packs_of(catalog, &[1]).await, [None], "nobody knows whether the other copy is good");
    add_chunks(catalog, 2, &[1], None).await;
    assert_eq!(packs_of(catalog, &[1]).await, [None]);
    add_chunks(catalog, 1, &[1, 2], None).await;
    assert_eq!(packs_of(catalog, &[1, 2]).await, [Some(1), Some(1)], "a copy that is offered again heals it");
    assert_eq!(unhealed(catalog).await, 0);
}

pub(crate) async fn a_pack_with_unhealed_damage_is_not_condemned(catalog: &dyn Catalog) {
    add_chunks(catalog, 1, &[1], None).await;
    add_chunks(catalog, 2, &[1, 2], None).await;
    quarantine(catalog, 2, &[1]).await;
    let mark = catalog.begin_mark().await.unwrap();
    let refused = Condemnation::Refused(Refusal::Damaged);
    assert_eq!(condemn(catalog, mark.id, 1, &[1], &[]).await, refused, "it may heal the other");
    assert_eq!(condemn(catalog, mark.id, 2, &[1, 2], &[]).await, refused, "it is evidence");
    add_chunks(catalog, 3, &[1], None).await;
    for (seed, chunks) in [(1, &[1][..]), (2, &[1, 2])] {
        assert_eq!(condemn(catalog, mark.id, seed, chunks, &[]).await, Condemnation::Condemned);
    }
    assert_eq!(packs_of(catalog, &[1, 2]).await, [Some(3), None]);
    quarantine(catalog, 3, &[1]).await;
    assert_eq!(unhealed(catalog).await, 1, "the damage of a condemned pack is forgotten with it");
}

/// As after a scrub has read the whole pack, and found these chunks intact.
async fn readmit(catalog: &dyn Catalog, seed: u8, all: &[u64], intact: &[u64]) -> u64 {
    let pack = pack(seed, Purpose::Chunks);
    let mut objects = objects(&pack, all);
    objects.retain(|(id, _)| intact.iter().any(|chunk| object(*chunk) == *id));
    let entries = all.len() as u32;
    let records = IntactRecords { pack: pack.id, kind: Purpose::Chunks, entries, objects, read_unix_ms: NOW };
    catalog.readmit(records).await.unwrap()
}

pub(crate) async fn a_record_that_is_found_intact_is_used_again(catalog: &dyn Catalog) {
    add_chunks(catalog, 1, &[1, 2, 3], None).await;
    add_chunks(catalog, 2, &[3], None).await;
    assert_eq!(quarantine(catalog, 1, &[1, 2, 3]).await, 3);
    assert_eq!(unhealed(catalog).await, 2);
    let before = catalog.locate(Purpose::Chunks, vec![object(3)]).await.unwrap();
    assert_eq!(readmit(catalog, 1, &[1, 2, 3], &[1, 3]).await, 2, "what is located elsewhere stays there");
    assert_eq!(packs_of(catalog, &[1, 2, 3]).await, [Some(1), None, Some(2)]);
    assert_eq!(catalog.locate(Purpose::Chunks, vec![object(3)]).await.unwrap(), before);
    assert_eq!(unhealed(catalog).await, 1);
    let left = catalog.quarantined_in(pack_id(1)).await.unwrap();
    assert_eq!(left.into_iter().collect::<Vec<_>>(), [(Purpose::Chunks, object(2))]);
    assert_eq!(readmit(catalog, 1, &[1, 2, 3], &[1, 3]).await, 0, "a repetition changes nothing");
    assert_eq!(quarantine(catalog, 1, &[1]).await, 1, "it can be damaged again");
    assert_eq!(readmit(catalog, 9, &[1], &[1]).await, 0, "no such pack");
    assert_eq!(packs_of(catalog, &[1]).await, [None]);
}

/// Nobody had found it damaged: only its place was lost.
pub(crate) async fn an_intact_record_of_a_lost_object_is_used(catalog: &dyn Catalog) {
    add_chunks(catalog, 1, &[1, 2], None).await;
    add_chunks(catalog, 2, &[1], None).await;
    quarantine(catalog, 2, &[1]).await;
    assert_eq!(packs_of(catalog, &[1]).await, [None]);
    assert_eq!(readmit(catalog, 1, &[1, 2], &[1, 2]).await, 0, "nothing of this pack was quarantined");
    assert_eq!((packs_of(catalog, &[1]).await, unhealed(catalog).await), (vec![Some(1)], 0));
}

/// The upload was told that the object is where it was.
pub(crate) async fn a_hold_covers_the_pack_in_which_an_object_comes_back(catalog: &dyn Catalog) {
    add_chunks(catalog, 1, &[1], None).await;
    add_chunks(catalog, 2, &[1], None).await;
    catalog.open_upload(upload(1, "a", None)).await.unwrap();
    catalog.locate_and_hold(upload_id(1), Purpose::Chunks, vec![object(1)]).await.unwrap();
    quarantine(catalog, 2, &[1]).await;
    readmit(catalog, 1, &[1], &[1]).await;
    assert_eq!(packs_of(catalog, &[1]).await, [Some(1)]);
    let mark = catalog.begin_mark().await.unwrap();
    assert_eq!(condemn(catalog, mark.id, 1, &[1], &[]).await, Condemnation::Refused(Refusal::Held));
}

/// As of one that was added when its footer was lost: its places have other ordinals.
pub(crate) async fn a_pack_with_another_number_of_records_is_left_alone(catalog: &dyn Catalog) {
    add_chunks(catalog, 1, &[1, 3], None).await;
    quarantine(catalog, 1, &[1, 3]).await;
    assert_eq!(readmit(catalog, 1, &[1, 2, 3], &[1, 2, 3]).await, 0);
    assert_eq!(packs_of(catalog, &[1, 2, 3]).await, [None; 3]);
    assert_eq!(unhealed(catalog).await, 2);
}

/// The mark has met the object nowhere, so that it has not marked it.
pub(crate) async fn a_pack_whose_records_came_back_is_newer_than_the_mark(catalog: &dyn Catalog) {
    add_chunks(catalog, 1, &[1], None).await;
    quarantine(catalog, 1, &[1]).await;
    let mark = catalog.begin_mark().await.unwrap();
    assert_eq!(readmit(catalog, 1, &[1], &[1]).await, 1);
    assert_eq!(condemn(catalog, mark.id, 1, &[1], &[]).await, Condemnation::Refused(Refusal::Stamped));
    let next = catalog.begin_mark().await.unwrap();
    assert_eq!(condemn(catalog, next.id, 1, &[1], &[]).await, Condemnation::Condemned);
    assert_eq!(readmit(catalog, 1, &[1], &[1]).await, 0, "it is gone");
}

pub(crate) async fn damage_comes_in_bounded_pieces(catalog: &dyn Catalog) {
    let objects = vec![object(1); MAX_DAMAGE_OBJECTS + 1];
    let damage = Damage { pack: pack_id(1), kind: Purpose::Nodes, objects, why: "a test".into(), found_unix_ms: NOW };
    assert_eq!(reason(catalog.quarantine(damage).await), "BAD_REQUEST");
    let objects = vec![super::sample::objects(&pack(1, Purpose::Nodes), &[1])[0]; MAX_DAMAGE_OBJECTS + 1];
    let records = IntactRecords { pack: pack_id(1), kind: Purpose::Nodes, entries: 1, objects, read_unix_ms: NOW };
    assert_eq!(reason(catalog.readmit(records).await), "BAD_REQUEST");
}
