use super::*;
use crate::{catalog::RecordSet, pack::Purpose};

fn fail_index_writes(catalog: &EmbeddedCatalog, fault: Option<fn() -> Error>) {
    *catalog.inner.index.write_fault.lock().unwrap() = fault.map(|fault| Arc::new(fault) as _);
}

const FAILED: Option<fn() -> Error> = Some(|| Error::Catalog("a test".into()));
const FULL: Option<fn() -> Error> = Some(|| Error::Full { what: "a test".into() });

#[tokio::test]
async fn a_decision_stands_even_if_the_index_could_not_take_it() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = create(dir.path());
    push(&catalog, 1, "a").await;
    catalog.open_upload(upload(2, "a", None)).await.unwrap();
    fail_index_writes(&catalog, FAILED);
    assert_eq!(reason(catalog.commit(new_version(2, "a")).await), "CATALOG");

    // The index works again, but it lacks a decision: nothing may be decided from what it says.
    fail_index_writes(&catalog, None);
    assert_eq!(reason(catalog.commit(new_version(2, "a")).await), "WRITES_STOPPED");
    assert_eq!(reason(catalog.set_tag(key("a", 1), tag("t"), None).await), "WRITES_STOPPED");
    assert_eq!(reason(catalog.open_upload(upload(3, "a", None)).await), "WRITES_STOPPED");
    let stopped = catalog.inner.gate.check().unwrap_err().to_string();
    assert!(stopped.contains("a decision is in the journal"), "{stopped}");
    assert_eq!(decided(&catalog).await.versions.len(), 1, "reads go on");
    drop(catalog);

    let catalog = open(dir.path());
    assert_eq!(decided(&catalog).await.versions.len(), 2);
    assert_eq!(catalog.commit(new_version(2, "a")).await.unwrap().number, 2);
    assert_eq!(push(&catalog, 3, "a").await.number, 3);
}

#[tokio::test]
async fn a_full_disk_delays_decisions_and_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = create(dir.path());
    push(&catalog, 1, "a").await;
    catalog.open_upload(upload(2, "a", None)).await.unwrap();
    let decided_so_far = || lock(&catalog.inner.journal).unwrap().end().sequence;
    fail_index_writes(&catalog, FULL);
    assert_eq!(reason(catalog.add_pack(pack(1, Purpose::Chunks), vec![], None).await), "DISK_FULL");
    // The first is in the journal already; as long as the index lacks it, no other follows.
    for _ in 0..2 {
        assert_eq!(reason(catalog.commit(new_version(2, "a")).await), "DISK_FULL");
        assert_eq!(reason(catalog.set_tag(key("a", 1), tag("t"), None).await), "DISK_FULL");
        assert_eq!(reason(catalog.open_upload(upload(3, "a", None)).await), "DISK_FULL");
        assert_eq!(decided_so_far(), 2);
    }
    assert_eq!(decided(&catalog).await.versions.len(), 1, "reads go on");

    fail_index_writes(&catalog, None);
    catalog.open_upload(upload(3, "a", Some(key("a", 2)))).await.unwrap();
    assert_eq!(catalog.commit(new_version(2, "a")).await.unwrap().number, 2);
    assert_eq!(decided_so_far(), 2, "the repetition is the same decision");
    assert_eq!(push(&catalog, 4, "a").await.number, 3);
    let before = decided(&catalog).await;
    drop(catalog);
    assert_eq!(decided(&open(dir.path())).await, before);
}

/// The decision is in the journal, so the pack is gone; the next decision tells the index.
#[tokio::test]
async fn a_condemnation_stands_even_if_the_index_could_not_take_it() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = create(dir.path());
    add_chunks(&catalog, 1, &[1], None).await;
    let mark = catalog.begin_mark().await.unwrap();
    fail_index_writes(&catalog, FULL);
    let candidate = Candidate { pack: pack_id(1), objects: vec![object(1)], marked: RecordSet::default() };
    assert_eq!(reason(catalog.condemn(mark.id, vec![candidate], NOW).await), "DISK_FULL");
    assert_eq!(packs_of(&catalog, &[1]).await, [None]);
    fail_index_writes(&catalog, None);
    add_chunks(&catalog, 1, &[1], None).await;
    assert_eq!(packs_of(&catalog, &[1]).await, [None], "it is not taken for a new pack");
    push(&catalog, 1, "a").await;
    assert_eq!(catalog.condemned_packs().await.unwrap(), [pack_id(1)]);
    assert_eq!(catalog.packs().await.unwrap(), []);
}

/// Not in the journal, so not decided: what the pack has is read as before.
#[tokio::test]
async fn what_could_not_be_condemned_stays_live() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = create(dir.path());
    add_chunks(&catalog, 1, &[1], None).await;
    let mark = catalog.begin_mark().await.unwrap();
    catalog.inner.gate.stop("a test");
    let candidate = Candidate { pack: pack_id(1), objects: vec![object(1)], marked: RecordSet::default() };
    assert_eq!(reason(catalog.condemn(mark.id, vec![candidate], NOW).await), "WRITES_STOPPED");
    assert_eq!(packs_of(&catalog, &[1]).await, [Some(1)]);
}

#[tokio::test]
async fn a_failed_write_of_the_index_is_final() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = create(dir.path());
    fail_index_writes(&catalog, FAILED);
    assert_eq!(reason(catalog.add_pack(pack(1, Purpose::Chunks), vec![], None).await), "CATALOG");
    fail_index_writes(&catalog, None);
    assert_eq!(reason(catalog.add_pack(pack(1, Purpose::Chunks), vec![], None).await), "WRITES_STOPPED");
    assert_eq!(catalog.packs().await.unwrap(), []);
}

#[tokio::test]
async fn once_writing_stopped_what_was_decided_is_still_answered() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = create(dir.path());
    let version = push(&catalog, 1, "a").await;
    catalog.inner.gate.stop("a test");
    assert_eq!(catalog.commit(new_version(1, "a")).await.unwrap(), version);
    assert_eq!(reason(catalog.remove_version(key("a", 1), NOW).await), "WRITES_STOPPED");
    assert_eq!(decided(&catalog).await.versions, [version]);
}
