use std::{collections::HashSet, fs};

use super::*;
use crate::{
    catalog::{Refusal, laws::sample},
    pack::Purpose,
};

pub(super) fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Puts an older index in the place of the present one.
pub(super) fn replace_index(dir: &Path, older: &Path) {
    fs::remove_dir_all(directory::index(dir)).unwrap();
    copy_dir(older, &directory::index(dir));
}

#[tokio::test]
async fn reopening_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = create(dir.path());
    decide_things(&catalog).await;
    let pack = sample::pack(1, Purpose::Chunks);
    catalog.open_upload(upload(50, "a", Some(key("a", 1)))).await.unwrap();
    catalog.add_pack(pack.clone(), objects(&pack, &[1, 2]), Some(upload_id(50))).await.unwrap();
    let asked = vec![object(1), object(2), object(3)];
    let found = catalog.locate_and_hold(upload_id(50), Purpose::Chunks, asked.clone()).await.unwrap();
    let before = (decided(&catalog).await, catalog.packs().await.unwrap(), catalog.totals().await.unwrap());
    drop(catalog);

    let catalog = open(dir.path());
    let after = (decided(&catalog).await, catalog.packs().await.unwrap(), catalog.totals().await.unwrap());
    assert_eq!(after, before);
    assert_eq!(catalog.locate(Purpose::Chunks, asked).await.unwrap(), found);
    assert_eq!(catalog.inner.read().holds(upload_id(50)).unwrap(), [pack.id]);
    assert_eq!(catalog.commit(new_version(50, "a")).await.unwrap().number, 4);
    expect_still_known(&catalog).await;
}

async fn expect_still_known(catalog: &dyn Catalog) {
    assert_eq!(catalog.commit(new_version(2, "a")).await.unwrap().number, 2);
    assert_eq!(catalog.set_tag(key("a", 1), tag("stable"), Some(2)).await.unwrap().counter, 3);
}

#[tokio::test]
async fn holds_end_with_their_upload() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = create(dir.path());
    let pack = sample::pack(1, Purpose::Chunks);
    catalog.add_pack(pack.clone(), objects(&pack, &[1]), None).await.unwrap();
    for (seed, commits) in [(1, true), (2, false)] {
        catalog.open_upload(upload(seed, "a", None)).await.unwrap();
        catalog.locate_and_hold(upload_id(seed), Purpose::Chunks, vec![object(1)]).await.unwrap();
        assert_eq!(catalog.inner.read().holds(upload_id(seed)).unwrap(), [pack.id]);
        if commits {
            catalog.commit(new_version(seed, "a")).await.unwrap();
        } else {
            catalog.close_upload(upload_id(seed)).await.unwrap();
        }
        assert_eq!(catalog.inner.read().holds(upload_id(seed)).unwrap(), []);
    }
}

/// An upload that was used is not closed as idle, whatever it was used for.
#[tokio::test]
async fn asking_and_sending_count_as_use() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = create(dir.path());
    let long_ago = crate::clock::now_unix_ms() - 24 * 3600 * 1000;
    for seed in [1, 2, 3] {
        catalog.open_upload(upload(seed, "a", None)).await.unwrap();
        let open = catalog.inner.read().open_upload(upload_id(seed)).unwrap().unwrap();
        let mut batch = Batch::default();
        let open = crate::catalog::values::OpenUpload { used_unix_ms: long_ago, ..open };
        batch.put(&keys::open_upload(upload_id(seed)), &crate::catalog::values::encode_upload(&open));
        catalog.inner.index.write(batch).unwrap();
    }
    catalog.locate_and_hold(upload_id(1), Purpose::Chunks, vec![object(1)]).await.unwrap();
    add_chunks(&catalog, 1, &[1], Some(2)).await;
    assert_eq!(catalog.expire_uploads(long_ago + 3600 * 1000).await.unwrap(), [upload_id(3)]);
}

#[tokio::test]
async fn a_rebuild_gives_the_same_answers() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = create(dir.path());
    decide_things(&catalog).await;
    let pack = sample::pack(1, Purpose::Nodes);
    catalog.add_pack(pack.clone(), objects(&pack, &[1]), None).await.unwrap();
    let before = (decided(&catalog).await, catalog.totals().await.unwrap());
    drop(catalog);

    fs::remove_dir_all(directory::index(dir.path())).unwrap();
    let catalog = rebuild(dir.path());
    assert_eq!(catalog.packs().await.unwrap(), [], "packs come from storage");
    catalog.add_pack(pack.clone(), objects(&pack, &[1]), None).await.unwrap();
    // One of these was condemned, another has a quarantined record, the last one that was quarantined for a time.
    let contents = |seed: u8| {
        let pack = PackRecord { records: 1, ..sample::pack(seed, Purpose::Chunks) };
        let objects = objects(&pack, &[seed.into()]);
        (pack, objects)
    };
    catalog.add_packs([71, 72, 73].map(contents).into()).await.unwrap();
    assert_eq!(packs_of(&catalog, &[71, 72, 73]).await, [None, None, Some(73)]);
    assert_eq!((decided(&catalog).await, catalog.totals().await.unwrap()), before);
    expect_high_water_marks(&catalog).await;
}

/// Of two records of one object the one that nobody found damaged is used, in whatever order packs come; and what
/// is intact beside it in its pack is used too.
#[tokio::test]
async fn a_rebuild_prefers_the_healthy_copy() {
    for (damaged, order) in [(1, [1, 2]), (1, [2, 1]), (2, [1, 2]), (2, [2, 1])] {
        let contents = |seed: u8| {
            let objects = [7, seed.into()];
            let pack = PackRecord { records: 2, ..sample::pack(seed, Purpose::Chunks) };
            (pack.clone(), sample::objects(&pack, &objects))
        };
        let dir = tempfile::tempdir().unwrap();
        let catalog = create(dir.path());
        for seed in [1, 2] {
            add_chunks(&catalog, seed, &[7, seed.into()], None).await;
        }
        let damage = Damage {
            pack: pack_id(damaged),
            kind: Purpose::Chunks,
            objects: vec![object(7)],
            why: "a test".into(),
            found_unix_ms: NOW,
        };
        assert_eq!(catalog.quarantine(damage).await.unwrap(), 1);
        drop(catalog);
        for at_once in [false, true] {
            let catalog = rebuild(dir.path());
            match at_once {
                true => catalog.add_packs(order.map(contents).into()).await.unwrap(),
                false => {
                    for (pack, objects) in order.map(contents) {
                        catalog.add_pack(pack, objects, None).await.unwrap();
                    }
                }
            }
            let expected = [Some(3 - damaged), Some(1), Some(2)];
            assert_eq!(packs_of(&catalog, &[7, 1, 2]).await, expected, "{damaged} is damaged, in the order {order:?}");
            assert!(catalog.unhealed_damage(9).await.unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn a_record_that_is_used_again_is_so_after_a_rebuild_and_when_the_index_lost_it() {
    let dir = tempfile::tempdir().unwrap();
    let older = tempfile::tempdir().unwrap();
    let catalog = create(dir.path());
    let pack = add_chunks(&catalog, 1, &[1, 2, 3], None).await;
    let objects = sample::objects(&pack, &[1, 2, 3]);
    let (damaged, why) = (vec![object(1), object(2)], String::from("a test"));
    let damage = Damage { pack: pack.id, kind: Purpose::Chunks, objects: damaged, why, found_unix_ms: NOW };
    catalog.quarantine(damage).await.unwrap();
    drop(catalog);
    copy_dir(&directory::index(dir.path()), older.path());
    let catalog = open(dir.path());
    let (kind, entries) = (Purpose::Chunks, 3);
    let intact = IntactRecords { pack: pack.id, kind, entries, objects: objects[..1].to_vec(), read_unix_ms: NOW };
    assert_eq!(catalog.readmit(intact).await.unwrap(), 1);
    let places = catalog.locate(Purpose::Chunks, [1, 2, 3].map(object).into()).await.unwrap();
    drop(catalog);

    fs::remove_dir_all(directory::index(dir.path())).unwrap();
    copy_dir(older.path(), &directory::index(dir.path()));
    let catalog = open(dir.path());
    assert_eq!(packs_of(&catalog, &[1, 2, 3]).await, [Some(1), None, Some(1)]);
    assert_eq!(catalog.locate(Purpose::Chunks, [1, 2, 3].map(object).into()).await.unwrap(), places);
    assert_eq!(catalog.unhealed_damage(9).await.unwrap().len(), 1, "the other one");
    drop(catalog);

    let catalog = rebuild(dir.path());
    catalog.add_pack(pack, objects, None).await.unwrap();
    assert_eq!(catalog.locate(Purpose::Chunks, [1, 2, 3].map(object).into()).await.unwrap(), places);
}

/// The journal says which packs are condemned, not what was in them: places that the index still has must not count.
#[tokio::test]
async fn a_condemnation_that_the_index_lost_is_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let older = tempfile::tempdir().unwrap();
    let catalog = create(dir.path());
    for seed in [1, 2] {
        add_chunks(&catalog, seed, &[seed.into(), 7], None).await;
    }
    drop(catalog);
    copy_dir(&directory::index(dir.path()), older.path());
    let catalog = open(dir.path());
    let mark = catalog.begin_mark().await.unwrap();
    assert_eq!(condemn(&catalog, mark.id, 2, &[2, 7], &[]).await, Condemnation::Condemned);
    drop(catalog);

    replace_index(dir.path(), older.path());
    let catalog = open(dir.path());
    assert_eq!(packs_of(&catalog, &[1, 2, 7]).await, [Some(1), None, None]);
    assert_eq!(catalog.condemned_packs().await.unwrap(), [pack_id(2)]);
    catalog.forget_condemned(vec![pack_id(2)]).await.unwrap();
    assert_eq!(packs_of(&catalog, &[1, 2, 7]).await, [Some(1), None, None], "also when the pack is forgotten");
    catalog.open_upload(upload(1, "a", None)).await.unwrap();
    let asked = catalog.locate_and_hold(upload_id(1), Purpose::Chunks, vec![object(7)]).await.unwrap();
    assert_eq!(asked, [None]);
    add_chunks(&catalog, 3, &[7], Some(1)).await;
    assert_eq!(packs_of(&catalog, &[7]).await, [Some(3)]);
}

/// Found by the reference model: an upload had ended, its base was purged and its packs were condemned; then a power cut
/// took the end of the upload back. Its base would have vouched for what was gone.
#[tokio::test]
async fn an_upload_that_ended_before_a_condemnation_is_not_open_again() {
    let dir = tempfile::tempdir().unwrap();
    let older = tempfile::tempdir().unwrap();
    let catalog = create(dir.path());
    push(&catalog, 1, "a").await;
    add_chunks(&catalog, 1, &[7], None).await;
    catalog.open_upload(upload(50, "a", Some(key("a", 1)))).await.unwrap();
    catalog.locate_and_hold(upload_id(50), Purpose::Chunks, vec![object(7)]).await.unwrap();
    drop(catalog);
    copy_dir(&directory::index(dir.path()), older.path());
    let catalog = open(dir.path());
    assert!(catalog.inner.read().open_upload(upload_id(50)).unwrap().is_some(), "nothing was lost");
    catalog.close_upload(upload_id(50)).await.unwrap();
    catalog.remove_version(key("a", 1), NOW).await.unwrap();
    catalog.purge_version(key("a", 1), NOW, NOW).await.unwrap();
    let mark = catalog.begin_mark().await.unwrap();
    assert_eq!(condemn(&catalog, mark.id, 1, &[7], &[]).await, Condemnation::Condemned);
    drop(catalog);

    replace_index(dir.path(), older.path());
    let catalog = open(dir.path());
    assert_eq!(catalog.begin_mark().await.unwrap().roots, [], "its base is no root");
    let again = catalog.open_upload(upload(50, "a", Some(key("a", 1)))).await;
    assert!(matches!(again, Err(Error::VersionNotFound { .. })), "{again:?}");
    let commit = catalog.commit(new_version(50, "a")).await;
    assert!(matches!(commit, Err(Error::UploadNotOpen(_))), "{commit:?}");
}

#[tokio::test]
async fn marks_end_with_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = create(dir.path());
    add_chunks(&catalog, 1, &[1], None).await;
    let mark = catalog.begin_mark().await.unwrap();
    drop(catalog);
    let catalog = open(dir.path());
    let refused = Condemnation::Refused(Refusal::MarkEnded);
    assert_eq!(condemn(&catalog, mark.id, 1, &[1], &[]).await, refused);
}

#[tokio::test]
async fn a_rebuild_keeps_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    drop(create(dir.path()));
    drop(rebuild(dir.path()));
    drop(rebuild(dir.path()));
    for kept in ["catalog", "catalog.old-1", "catalog.old-2"] {
        assert!(dir.path().join(kept).join("CURRENT").exists(), "{kept}");
    }
}

#[tokio::test]
async fn a_rebuild_from_a_damaged_journal_moves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = create(dir.path());
    decide_things(&catalog).await;
    drop(catalog);
    let journal = directory::journal(dir.path());
    let mut bytes = fs::read(&journal).unwrap();
    bytes[60] ^= 1;
    fs::write(&journal, bytes).unwrap();
    for in_doubt in [InDoubt::Refuse, InDoubt::GoOn] {
        assert!(matches!(try_rebuild(dir.path(), in_doubt), Err(Error::FileCorrupt { .. })), "{in_doubt:?}");
    }
    assert!(!dir.path().join("catalog.old-1").exists());
}

/// The crash between the journal and the index: the index is as it was some decisions ago, or not there at all.
#[tokio::test]
async fn decisions_that_the_index_lost_are_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let older = tempfile::tempdir().unwrap();
    let catalog = create(dir.path());
    push(&catalog, 90, "early").await;
    drop(catalog);
    copy_dir(&directory::index(dir.path()), older.path());
    let catalog = open(dir.path());
    decide_things(&catalog).await;
    let before = decided(&catalog).await;
    drop(catalog);

    let nothing = tempfile::tempdir().unwrap();
    for index in [older.path(), nothing.path()] {
        replace_index(dir.path(), index);
        let catalog = open(dir.path());
        assert_eq!(decided(&catalog).await, before);
    }
    expect_high_water_marks(&open(dir.path())).await;
}

#[tokio::test]
async fn a_replayed_commit_ends_its_upload_and_its_holds() {
    let dir = tempfile::tempdir().unwrap();
    let older = tempfile::tempdir().unwrap();
    let catalog = create(dir.path());
    let pack = sample::pack(1, Purpose::Chunks);
    catalog.open_upload(upload(1, "a", None)).await.unwrap();
    catalog.add_pack(pack.clone(), objects(&pack, &[1]), Some(upload_id(1))).await.unwrap();
    drop(catalog);
    copy_dir(&directory::index(dir.path()), older.path());
    let catalog = open(dir.path());
    let version = catalog.commit(new_version(1, "a")).await.unwrap();
    drop(catalog);

    replace_index(dir.path(), older.path());
    let catalog = open(dir.path());
    assert_eq!(catalog.inner.read().holds(upload_id(1)).unwrap(), []);
    assert_eq!(catalog.inner.read().open_upload(upload_id(1)).unwrap(), None);
    assert_eq!(catalog.commit(new_version(1, "a")).await.unwrap(), version);
}

#[tokio::test]
async fn an_older_copy_of_the_journal_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = create(dir.path());
    push(&catalog, 1, "a").await;
    let journal = directory::journal(dir.path());
    let older = fs::read(&journal).unwrap();
    push(&catalog, 2, "a").await;
    drop(catalog);

    fs::write(&journal, &older).unwrap();
    let Err(error) = try_open(dir.path()) else { panic!("opened") };
    assert!(matches!(error, Error::FileCorrupt { .. }), "{error}");
    assert!(error.to_string().contains("the catalog has entry 2"), "{error}");
    assert_eq!(fs::read(&journal).unwrap(), older);
    assert!(matches!(try_rebuild(dir.path(), InDoubt::Refuse), Err(Error::JournalInDoubt { .. })));
    let rebuilt = try_rebuild(dir.path(), InDoubt::GoOn).unwrap();
    assert_eq!(decided(&rebuilt).await.versions.len(), 1, "it takes what is there");
}

#[tokio::test]
async fn a_damaged_last_entry_that_was_applied_is_not_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = create(dir.path());
    push(&catalog, 1, "a").await;
    drop(catalog);
    let journal = directory::journal(dir.path());
    let mut bytes = fs::read(&journal).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&journal, &bytes).unwrap();
    assert!(matches!(try_open(dir.path()), Err(Error::FileCorrupt { .. })));
    assert_eq!(fs::read(&journal).unwrap(), bytes);
}

/// All that the index has.
fn rows(catalog: &EmbeddedCatalog) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    let row = |key: &[u8], value: &[u8]| {
        rows.push((key.to_vec(), value.to_vec()));
        Ok(())
    };
    catalog.inner.read().view.scan(&[], &[], usize::MAX, row).unwrap();
    rows
}

/// Each entry of a journal with every kind of decision, twice, one after the other.
#[tokio::test]
async fn a_decision_applied_twice_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = create(dir.path());
    decide_things(&catalog).await;
    let before = decided(&catalog).await;
    let entries =
        crate::catalog::journal::read(&Files::default(), &directory::journal(dir.path()), REPOSITORY).unwrap();
    let again = tempfile::tempdir().unwrap();
    let again = create(again.path());
    again.open_upload(upload(1, "a", None)).await.unwrap();
    for (seed, chunk) in [(71, 71), (72, 72), (73, 73)] {
        add_chunks(&again, seed, &[chunk], None).await;
    }
    let mut kinds = HashSet::new();
    for entry in entries {
        let (position, decision) = entry.unwrap();
        let apply = || {
            let mut batch = Batch::default();
            replay::apply(&again.inner.read(), position, &decision, &mut batch).unwrap();
            again.inner.index.write(batch).unwrap();
            rows(&again)
        };
        assert_eq!(apply(), apply(), "{decision:?}");
        kinds.insert(std::mem::discriminant(&decision));
    }
    assert_eq!(kinds.len(), 13, "a kind of decision is left out");
    assert_eq!(decided(&again).await, before);
}

#[test]
fn creating_over_a_repository_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(create(dir.path()));
    let again = EmbeddedCatalog::create(dir.path(), REPOSITORY, blocking(), &Files::default(), CACHE_BYTES);
    assert!(matches!(again, Err(Error::NotEmpty(_))));
}

#[tokio::test]
async fn an_index_of_another_format_is_refused_and_a_rebuild_derives_it_anew() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = create(dir.path());
    decide_things(&catalog).await;
    let before = decided(&catalog).await;
    let mut batch = Batch::default();
    batch.delete(&keys::format());
    catalog.inner.index.write(batch).unwrap();
    drop(catalog);

    assert!(matches!(try_open(dir.path()), Err(Error::FileCorrupt { .. })));
    assert_eq!(decided(&rebuild(dir.path())).await, before);
}
