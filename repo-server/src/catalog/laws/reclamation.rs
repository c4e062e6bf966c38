use super::sample::*;
use crate::{
    catalog::{
        Candidate, Catalog, Condemnation, FinishedMark, Mark, MarkEnd, RecordSet, Refusal, RootKind, VersionCounts,
    },
    pack::Purpose,
};

const CONDEMNED: Condemnation = Condemnation::Condemned;

const fn refused(why: Refusal) -> Condemnation {
    Condemnation::Refused(why)
}

fn roots(mark: &Mark) -> Vec<String> {
    let text = |root: &crate::catalog::Root| {
        let kind = match root.kind {
            RootKind::Live { .. } => "live",
            RootKind::Removed { .. } => "removed",
            RootKind::Base => "base",
        };
        format!("{kind} {}@{}", root.version.image, root.version.number)
    };
    let mut roots: Vec<_> = mark.roots.iter().map(text).collect();
    roots.sort();
    roots
}

pub(crate) async fn roots_are_what_is_live_in_grace_or_a_base(catalog: &dyn Catalog) {
    for (seed, name) in [(1, "a"), (2, "a"), (3, "b"), (4, "b")] {
        push(catalog, seed, name).await;
    }
    catalog.open_upload(upload(9, "c", Some(key("b", 1)))).await.unwrap();
    for (name, number) in [("a", 1), ("b", 1), ("b", 2)] {
        catalog.remove_version(key(name, number), NOW).await.unwrap();
    }
    for number in [1, 2] {
        catalog.purge_version(key("b", number), NOW, NOW).await.unwrap();
    }
    let mark = catalog.begin_mark().await.unwrap();
    assert_eq!(roots(&mark), ["base b@1", "live a@2", "removed a@1"]);
    let live = mark.roots.iter().find(|root| root.version == key("a", 2)).unwrap();
    assert_eq!(live.node, content(2).root);
    assert_eq!(live.kind, RootKind::Live { committed_unix_ms: new_version(2, "a").committed_unix_ms });
    let base = mark.roots.iter().find(|root| root.kind == RootKind::Base).unwrap();
    assert_eq!(base.node, content(3).root, "the tree of a base stays, even when its version is purged");
    assert_eq!(mark.counts, VersionCounts { versions: 2, purged: 2 });

    catalog.close_upload(upload_id(9)).await.unwrap();
    assert_eq!(roots(&catalog.begin_mark().await.unwrap()), ["live a@2", "removed a@1"]);
}

pub(crate) async fn a_pack_on_which_nothing_rests_is_condemned(catalog: &dyn Catalog) {
    add_chunks(catalog, 1, &[1, 2], None).await;
    add_chunks(catalog, 2, &[3], None).await;
    let mark = catalog.begin_mark().await.unwrap();
    assert_eq!(condemn(catalog, mark.id, 1, &[1, 2], &[]).await, CONDEMNED);
    assert_eq!(packs_of(catalog, &[1, 2, 3]).await, [None, None, Some(2)]);
    assert_eq!(catalog.packs().await.unwrap().len(), 1);
    assert_eq!(catalog.totals().await.unwrap().packs, 1);
    assert_eq!(catalog.condemned_packs().await.unwrap(), [pack_id(1)]);
    assert_eq!(condemn(catalog, mark.id, 1, &[1, 2], &[]).await, refused(Refusal::NotLive));

    // Its file is still there: whoever finds it must not take it for a pack.
    add_chunks(catalog, 1, &[1, 2], None).await;
    assert_eq!(packs_of(catalog, &[1, 2]).await, [None, None]);
    assert_eq!(catalog.packs().await.unwrap().len(), 1);
    catalog.forget_condemned(vec![pack_id(1)]).await.unwrap();
    assert_eq!(catalog.condemned_packs().await.unwrap(), []);
    let ever = catalog.ever_condemned([2, 1, 9].map(pack_id).into()).await.unwrap();
    assert_eq!(ever, [pack_id(1)]);
}

pub(crate) async fn a_held_pack_is_not_condemned(catalog: &dyn Catalog) {
    add_chunks(catalog, 1, &[1, 2], None).await;
    catalog.open_upload(upload(1, "a", None)).await.unwrap();
    let mark = catalog.begin_mark().await.unwrap();
    catalog.locate_and_hold(upload_id(1), Purpose::Chunks, vec![object(2)]).await.unwrap();
    assert_eq!(condemn(catalog, mark.id, 1, &[1, 2], &[]).await, refused(Refusal::Held));
    assert_eq!(packs_of(catalog, &[1, 2]).await, [Some(1), Some(1)], "nothing changed");
    assert_eq!(catalog.held_packs().await.unwrap(), [pack_id(1)].into());
    catalog.close_upload(upload_id(1)).await.unwrap();
    assert_eq!(catalog.held_packs().await.unwrap(), [].into());
    assert_eq!(condemn(catalog, mark.id, 1, &[1, 2], &[]).await, CONDEMNED);
}

/// No mark has seen it, no mark is stamped, and nobody asked about it.
pub(crate) async fn what_an_upload_sent_is_held_by_it(catalog: &dyn Catalog) {
    for seed in [1, 2, 3] {
        catalog.open_upload(upload(seed, "a", None)).await.unwrap();
    }
    add_chunks(catalog, 1, &[1], Some(2)).await;
    let mark = catalog.begin_mark().await.unwrap();
    assert_eq!(condemn(catalog, mark.id, 1, &[1], &[]).await, refused(Refusal::Held), "whichever upload it is");
    catalog.commit(new_version(2, "a")).await.unwrap();
    assert_eq!(condemn(catalog, mark.id, 1, &[1], &[]).await, refused(Refusal::Stamped));
}

/// The upload that held the pack is gone, the version that it became relies on it, and the mark did not see it.
pub(crate) async fn a_pack_that_a_commit_relied_on_is_not_condemned(catalog: &dyn Catalog) {
    add_chunks(catalog, 1, &[1], None).await;
    add_chunks(catalog, 2, &[2], None).await;
    catalog.open_upload(upload(1, "a", None)).await.unwrap();
    let (mark, other) = (catalog.begin_mark().await.unwrap(), catalog.begin_mark().await.unwrap());
    catalog.locate_and_hold(upload_id(1), Purpose::Chunks, vec![object(1)]).await.unwrap();
    catalog.commit(new_version(1, "a")).await.unwrap();
    for mark in [&mark, &other] {
        assert_eq!(condemn(catalog, mark.id, 1, &[1], &[]).await, refused(Refusal::Stamped));
    }
    assert_eq!(condemn(catalog, mark.id, 2, &[2], &[]).await, CONDEMNED);
    let later = catalog.begin_mark().await.unwrap();
    assert_eq!(roots(&later), ["live a@1"]);
    assert_eq!(condemn(catalog, later.id, 1, &[1], &[]).await, CONDEMNED, "had it needed it, it had marked it");
}

pub(crate) async fn a_pack_that_is_newer_than_the_mark_is_not_condemned(catalog: &dyn Catalog) {
    catalog.open_upload(upload(1, "a", None)).await.unwrap();
    let mark = catalog.begin_mark().await.unwrap();
    add_chunks(catalog, 1, &[1], Some(1)).await;
    add_chunks(catalog, 2, &[2], None).await;
    catalog.close_upload(upload_id(1)).await.unwrap();
    for (seed, chunk) in [(1, 1), (2, 2)] {
        assert_eq!(condemn(catalog, mark.id, seed, &[chunk], &[]).await, refused(Refusal::Stamped));
    }
}

pub(crate) async fn a_pack_with_a_marked_object_is_not_condemned(catalog: &dyn Catalog) {
    add_chunks(catalog, 1, &[1, 2, 3], None).await;
    let mark = catalog.begin_mark().await.unwrap();
    assert_eq!(condemn(catalog, mark.id, 1, &[1, 2, 3], &[2]).await, refused(Refusal::Marked));
    // Repacked: what was marked is elsewhere now.
    add_chunks(catalog, 2, &[3], None).await;
    assert_eq!(condemn(catalog, mark.id, 1, &[1, 2, 3], &[2]).await, CONDEMNED);
    assert_eq!(packs_of(catalog, &[1, 2, 3]).await, [None, None, Some(2)]);
}

/// An upload was told that it need not send an object. Then another pack brings the object too, and it is located there:
/// the hold goes with it, or that pack, which no root reaches yet, could be condemned before the commit.
pub(crate) async fn a_hold_follows_its_object(catalog: &dyn Catalog) {
    add_chunks(catalog, 1, &[1], None).await;
    for seed in [1, 2] {
        catalog.open_upload(upload(seed, "a", None)).await.unwrap();
    }
    catalog.locate_and_hold(upload_id(1), Purpose::Chunks, vec![object(1)]).await.unwrap();
    add_chunks(catalog, 2, &[1], Some(2)).await;
    catalog.close_upload(upload_id(2)).await.unwrap();

    let mark = catalog.begin_mark().await.unwrap();
    assert_eq!(condemn(catalog, mark.id, 2, &[1], &[]).await, refused(Refusal::Held));
    catalog.commit(new_version(1, "a")).await.unwrap();
    assert_eq!(condemn(catalog, mark.id, 2, &[1], &[]).await, refused(Refusal::Stamped));
    assert_eq!(packs_of(catalog, &[1]).await, [Some(2)]);
}

pub(crate) async fn a_pack_with_other_records_than_known_is_not_condemned(catalog: &dyn Catalog) {
    add_chunks(catalog, 1, &[1, 2], None).await;
    let mark = catalog.begin_mark().await.unwrap();
    for chunks in [&[1][..], &[1, 2, 3], &[1, 1]] {
        assert_eq!(condemn(catalog, mark.id, 1, chunks, &[]).await, refused(Refusal::OtherRecords));
    }
}

pub(crate) async fn only_an_active_mark_condemns(catalog: &dyn Catalog) {
    add_chunks(catalog, 1, &[1], None).await;
    let (mark, other) = (catalog.begin_mark().await.unwrap(), catalog.begin_mark().await.unwrap());
    for _ in 0..2 {
        catalog.end_mark(mark.id, MarkEnd::Abandoned).await.unwrap();
    }
    assert_eq!(condemn(catalog, mark.id, 1, &[1], &[]).await, refused(Refusal::MarkEnded));
    assert_eq!(condemn(catalog, other.id, 9, &[1], &[]).await, refused(Refusal::NotLive));
    assert_eq!(condemn(catalog, other.id, 1, &[1], &[]).await, CONDEMNED);
}

pub(crate) async fn packs_are_condemned_together_and_judged_apart(catalog: &dyn Catalog) {
    for seed in 1..=3 {
        add_chunks(catalog, seed, &[seed.into()], None).await;
    }
    let mark = catalog.begin_mark().await.unwrap();
    let candidate = |seed: u8, marked: &[u32]| {
        let mut set = RecordSet::default();
        marked.iter().for_each(|ordinal| _ = set.insert(*ordinal));
        Candidate { pack: pack_id(seed), objects: vec![object(seed.into())], marked: set }
    };
    let candidates = vec![candidate(1, &[]), candidate(2, &[0]), candidate(3, &[]), candidate(3, &[])];
    let answers = catalog.condemn(mark.id, candidates, NOW).await.unwrap();
    assert_eq!(answers, [CONDEMNED, refused(Refusal::Marked), CONDEMNED, refused(Refusal::NotLive)]);
    assert_eq!(packs_of(catalog, &[1, 2, 3]).await, [None, Some(2), None]);
    assert_eq!(catalog.condemn(mark.id, vec![], NOW).await.unwrap(), []);
}

pub(crate) async fn a_finished_mark_is_remembered(catalog: &dyn Catalog) {
    push(catalog, 1, "a").await;
    let mark = catalog.begin_mark().await.unwrap();
    assert_eq!(mark.last_finished, None);
    push(catalog, 2, "a").await;
    catalog.end_mark(mark.id, MarkEnd::Finished(7)).await.unwrap();
    let abandoned = catalog.begin_mark().await.unwrap();
    let counts = VersionCounts { versions: 1, purged: 0 };
    assert_eq!(abandoned.last_finished, Some(FinishedMark { finished_unix_ms: 7, counts }));
    catalog.end_mark(abandoned.id, MarkEnd::Abandoned).await.unwrap();
    assert_eq!(catalog.begin_mark().await.unwrap().last_finished, abandoned.last_finished);
}
