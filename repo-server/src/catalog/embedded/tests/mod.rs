mod doubt;
mod model;
mod moving;
mod recovery;
mod stop;

use std::{num::NonZero, path::Path};

use super::*;
use crate::catalog::{
    FinishedMark, IntactRecords, VersionCounts,
    laws::{
        every_law,
        sample::{self, *},
    },
};

const REPOSITORY: RepositoryId = RepositoryId::from_bytes([3; 16]);
const CACHE_BYTES: usize = 1 << 20;

fn blocking() -> Blocking {
    Blocking::new(NonZero::new(4).unwrap())
}

fn create(dir: &Path) -> EmbeddedCatalog {
    EmbeddedCatalog::create(dir, REPOSITORY, blocking(), &Files::default(), CACHE_BYTES).unwrap()
}

fn try_open(dir: &Path) -> Result<EmbeddedCatalog, Error> {
    EmbeddedCatalog::open(dir, REPOSITORY, blocking(), &Files::default(), CACHE_BYTES)
}

fn open(dir: &Path) -> EmbeddedCatalog {
    try_open(dir).unwrap()
}

fn try_rebuild(dir: &Path, in_doubt: InDoubt) -> Result<EmbeddedCatalog, Error> {
    EmbeddedCatalog::rebuild(dir, REPOSITORY, blocking(), &Files::default(), CACHE_BYTES, in_doubt)
}

fn rebuild(dir: &Path) -> EmbeddedCatalog {
    try_rebuild(dir, InDoubt::Refuse).unwrap()
}

every_law!({
    let dir = tempfile::tempdir().unwrap();
    let catalog = create(dir.path());
    (dir, catalog)
});

/// Everything that decisions determine.
#[derive(Debug, PartialEq)]
struct Decided {
    images: Vec<ImageRecord>,
    versions: Vec<VersionRecord>,
    tags: Vec<TagRecord>,
    removed: Vec<RemovedVersion>,
    pins: Vec<(ImageName, Vec<u64>)>,
    condemned: Vec<PackId>,
    counts: VersionCounts,
    last_finished: Option<FinishedMark>,
    grace: Duration,
}

async fn decided(catalog: &dyn Catalog) -> Decided {
    let images = catalog.images(None, usize::MAX).await.unwrap();
    let (mut versions, mut tags, mut pins) = (Vec::new(), Vec::new(), Vec::new());
    for image in &images {
        versions.extend(catalog.versions(image.name.clone(), 0, usize::MAX).await.unwrap());
        tags.extend(catalog.tags(image.name.clone()).await.unwrap());
        pins.push((image.name.clone(), catalog.pins(image.name.clone()).await.unwrap()));
    }
    let removed = catalog.removed_versions(None, None, usize::MAX).await.unwrap();
    let condemned = catalog.condemned_packs().await.unwrap();
    let mark = match catalog.begin_mark().await {
        Ok(mark) => mark,
        // Nothing is written any more: what was counted cannot be asked.
        Err(_) => Mark { id: MarkId(0), roots: vec![], counts: VersionCounts::default(), last_finished: None },
    };
    let _ = catalog.end_mark(mark.id, MarkEnd::Abandoned).await;
    let Mark { counts, last_finished, .. } = mark;
    let grace = catalog.grace().await.unwrap();
    Decided { images, versions, tags, removed, pins, condemned, counts, last_finished, grace }
}

/// Every kind of decision, with something left of each.
async fn decide_things(catalog: &dyn Catalog) {
    for (seed, name) in [(1, "a"), (2, "a"), (3, "b"), (4, "a")] {
        push(catalog, seed, name).await;
    }
    catalog.set_tag(key("a", 1), tag("stable"), None).await.unwrap();
    catalog.set_tag(key("a", 2), tag("stable"), Some(1)).await.unwrap();
    catalog.set_tag(key("b", 1), tag("gone"), None).await.unwrap();
    catalog.remove_tag(image("b"), tag("gone"), None).await.unwrap();
    catalog.remove_version(key("a", 4), NOW).await.unwrap_err();
    catalog.remove_version(key("a", 3), NOW).await.unwrap();
    catalog.remove_version(key("b", 1), NOW).await.unwrap();
    catalog.set_grace(Duration::from_secs(60), NOW).await.unwrap();
    catalog.pin_version(key("a", 1), NOW).await.unwrap();
    catalog.pin_version(key("a", 2), NOW).await.unwrap();
    catalog.unpin_version(key("a", 2), NOW).await.unwrap();
    for seed in [11, 12] {
        push(catalog, seed, "c").await;
    }
    for number in [1, 2] {
        catalog.remove_version(key("c", number), NOW).await.unwrap();
    }
    catalog.undelete_version(key("c", 1), NOW).await.unwrap();
    catalog.purge_version(key("c", 2), NOW, NOW).await.unwrap();
    for (seed, chunk) in [(71, 71), (72, 72)] {
        add_chunks(catalog, seed, &[chunk], None).await;
    }
    let mark = catalog.begin_mark().await.unwrap();
    assert_eq!(condemn(catalog, mark.id, 71, &[71], &[]).await, Condemnation::Condemned);
    catalog.end_mark(mark.id, MarkEnd::Finished(NOW)).await.unwrap();
    let objects = vec![object(72)];
    let why = "a test".into();
    let damage = Damage { pack: pack_id(72), kind: Purpose::Chunks, objects, why, found_unix_ms: NOW };
    assert_eq!(catalog.quarantine(damage).await.unwrap(), 1);
    let again = pack(73, Purpose::Chunks);
    add_chunks(catalog, 73, &[73], None).await;
    let damage = Damage {
        pack: again.id,
        kind: Purpose::Chunks,
        objects: vec![object(73)],
        why: "a test".into(),
        found_unix_ms: NOW,
    };
    assert_eq!(catalog.quarantine(damage).await.unwrap(), 1);
    let objects = sample::objects(&again, &[73]);
    let records = IntactRecords { pack: again.id, kind: Purpose::Chunks, entries: 1, objects, read_unix_ms: NOW };
    assert_eq!(catalog.readmit(records).await.unwrap(), 1);
}

/// What no query shows: numbers and counters go on, and old uploads are still known.
async fn expect_high_water_marks(catalog: &dyn Catalog) {
    assert_eq!(catalog.commit(new_version(1, "a")).await.unwrap().number, 1);
    assert_eq!(push(catalog, 101, "a").await.number, 4);
    assert_eq!(push(catalog, 102, "b").await.number, 2);
    assert_eq!(catalog.set_tag(key("b", 2), tag("gone"), Some(0)).await.unwrap().counter, 3);
    assert_eq!(catalog.set_tag(key("a", 4), tag("stable"), None).await.unwrap().counter, 3);
}
