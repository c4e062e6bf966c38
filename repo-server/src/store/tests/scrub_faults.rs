//! Scrubs of a real catalog on a disk that fails between two steps.

use std::{io::ErrorKind, path::Path};

use super::{reclaim::image_of, scrub::scrub, *};
use crate::{
    files::{
        Files,
        simulated::{Call, Simulated},
    },
    pack::RECORD_HEADER_BYTES,
    store::scrub::{ScrubControl, ScrubOptions, ScrubScope},
};

async fn store_on(disk: &Simulated, path: &Path) -> Directory {
    let options = StoreOptions { catalog_cache_bytes: 1 << 20, reserve_bytes: 0, ..StoreOptions::default() };
    Directory::open_on(Files::on(Arc::new(disk.clone())), path, OpenMode::OrCreate, options).await.unwrap()
}

/// A pack that counted as verified before its damage is in the journal would not be looked at again in this round, and a push
/// would be told not to send what is lost.
#[tokio::test]
async fn damage_that_could_not_be_noted_is_found_by_the_next_scrub() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Simulated::with_root(dir.path());
    let Directory { store, lock } = store_on(&disk, dir.path()).await;
    push(&store, &image_of(0..1000), None).await;
    let id: ObjectId = ChunkId::of(&content(7)).into();
    let at = store.catalog().locate(Purpose::Chunks, vec![id]).await.unwrap()[0].unwrap();
    let name = at.pack.to_string();
    let file = dir.path().join("packs").join(&name[..2]).join(format!("{name}.pack"));
    assert!(disk.alter(&file, |bytes| bytes[at.offset as usize + RECORD_HEADER_BYTES] ^= 1));

    disk.set_fault(|call| match call {
        Call::Write(path) if path.ends_with("journal") => Some(ErrorKind::StorageFull),
        _ => None,
    });
    let options = ScrubOptions { scope: ScrubScope::Round, bytes_per_second: None };
    let failed = store.scrub(options, &ScrubControl::new(), &|_| {}).await;
    assert!(matches!(failed, Err(Error::Full { .. })), "{failed:?}");
    let verified = store.catalog().verifications().await.unwrap();
    assert!(verified.iter().all(|(pack, _)| *pack != at.pack), "it counts as verified");
    drop((store, lock));

    disk.clear_fault();
    let Directory { store, .. } = store_on(&disk, dir.path()).await;
    let (report, found) = scrub(&store).await;
    assert_eq!((report.damaged_packs, report.new_objects, found.numbers()), (1, 1, vec![1]));
    assert_eq!(store.catalog().unhealed_damage(10).await.unwrap().len(), 1);
    let mut upload = open(&store, None).await;
    assert_eq!(upload.ask(Purpose::Chunks, vec![id]).await.unwrap(), [true], "it is asked for");
}
