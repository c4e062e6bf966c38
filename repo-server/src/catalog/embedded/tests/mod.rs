mod model;
mod recovery;
mod stop;

use std::{num::NonZero, path::Path};

use super::*;
use crate::catalog::laws::{every_law, sample::*};

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

fn rebuild(dir: &Path) -> EmbeddedCatalog {
    EmbeddedCatalog::rebuild(dir, REPOSITORY, blocking(), &Files::default(), CACHE_BYTES).unwrap()
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
}

async fn decided(catalog: &dyn Catalog) -> Decided {
    let images = catalog.images(None, usize::MAX).await.unwrap();
    let (mut versions, mut tags) = (Vec::new(), Vec::new());
    for image in &images {
        versions.extend(catalog.versions(image.name.clone(), 0, usize::MAX).await.unwrap());
        tags.extend(catalog.tags(image.name.clone()).await.unwrap());
    }
    Decided { images, versions, tags }
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
    catalog.remove_version(key("a", 4)).await.unwrap_err();
    catalog.remove_version(key("a", 3)).await.unwrap();
    catalog.remove_version(key("b", 1)).await.unwrap();
}

/// What no query shows: numbers and counters go on, and old uploads are still known.
async fn expect_high_water_marks(catalog: &dyn Catalog) {
    assert_eq!(catalog.commit(new_version(1, "a")).await.unwrap().number, 1);
    assert_eq!(push(catalog, 101, "a").await.number, 4);
    assert_eq!(push(catalog, 102, "b").await.number, 2);
    assert_eq!(catalog.set_tag(key("b", 2), tag("gone"), Some(0)).await.unwrap().counter, 3);
    assert_eq!(catalog.set_tag(key("a", 4), tag("stable"), None).await.unwrap().counter, 3);
}
