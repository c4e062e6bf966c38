//! Objects that move to another pack while somebody looks for them without a lock.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::*;
use crate::pack::Purpose;

/// Moves chunk 1 from pack `from` to a new pack, as a collection does.
async fn move_chunk(catalog: &EmbeddedCatalog, from: u8, to: u8) {
    let mark = catalog.begin_mark().await.unwrap();
    add_chunks(catalog, to, &[1], None).await;
    assert_eq!(condemn(catalog, mark.id, from, &[1], &[]).await, Condemnation::Condemned);
    catalog.end_mark(mark.id, MarkEnd::Abandoned).await.unwrap();
}

/// A read of the index that takes long: meanwhile a collection has moved the object, even twice.
#[tokio::test]
async fn a_place_that_was_read_before_its_object_moved_is_looked_up_again() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = create(dir.path());
    add_chunks(&catalog, 1, &[1, 2], None).await;
    add_chunks(&catalog, 2, &[1], None).await;
    let ids = [object(1), object(2), object(3)];
    let read = catalog.inner.places_of(Purpose::Chunks, &ids).unwrap();
    for (from, to) in [(2, 3), (3, 4)] {
        move_chunk(&catalog, from, to).await;
        let settled = catalog.inner.settled(Purpose::Chunks, &ids, read.clone()).unwrap();
        let packs: Vec<_> = settled.iter().map(|place| place.map(|place| place.pack)).collect();
        assert_eq!(packs, [Some(pack_id(to)), Some(pack_id(1)), None]);
    }
    let mark = catalog.begin_mark().await.unwrap();
    assert_eq!(condemn(&catalog, mark.id, 4, &[1], &[]).await, Condemnation::Condemned);
    assert_eq!(catalog.inner.settled(Purpose::Chunks, &ids, read).unwrap()[0], None, "nothing has it any more");
}

/// Who reads the index between the two would find the object in a pack that does not count.
#[tokio::test]
async fn a_pack_is_live_before_anything_is_placed_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = create(dir.path());
    let was_live = Arc::new(AtomicBool::new(false));
    let fail = || {
        let (inner, was_live) = (Arc::downgrade(&catalog.inner), Arc::clone(&was_live));
        let fault = move || {
            let is_live = inner.upgrade().unwrap().live_packs().contains(&pack_id(1));
            was_live.store(is_live, Relaxed);
            Error::Full { what: "a test".into() }
        };
        *catalog.inner.index.write_fault.lock().unwrap() = Some(Arc::new(fault));
    };
    let record = PackRecord { records: 1, ..pack(1, Purpose::Chunks) };
    let contents = (record.clone(), objects(&record, &[1]));
    for together in [false, true] {
        fail();
        was_live.store(false, Relaxed);
        let added = match together {
            true => catalog.add_packs(vec![contents.clone()]).await,
            false => catalog.add_pack(contents.0.clone(), contents.1.clone(), None).await,
        };
        assert_eq!(reason(added), "DISK_FULL");
        assert!(was_live.load(Relaxed));
        assert!(!catalog.inner.live_packs().contains(&pack_id(1)), "it was not added");
    }
    *catalog.inner.index.write_fault.lock().unwrap() = None;
    add_chunks(&catalog, 1, &[1], None).await;

    // A pack that was known stays live, whatever becomes of its addition.
    fail();
    assert_eq!(reason(catalog.add_pack(contents.0, contents.1, None).await), "DISK_FULL");
    assert_eq!(packs_of(&catalog, &[1]).await, [Some(1)]);
}
