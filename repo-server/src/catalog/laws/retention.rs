use std::time::Duration;

use imprint_content::Selector;

use super::sample::*;
use crate::catalog::{Catalog, DEFAULT_GRACE, RemovedVersion};

async fn removed(catalog: &dyn Catalog) -> Vec<(String, u64, i64)> {
    let all = catalog.removed_versions(None, None, usize::MAX).await.unwrap();
    all.into_iter().map(|it| (it.version.image.to_string(), it.version.number, it.removed_unix_ms)).collect()
}

pub(crate) async fn a_removed_version_comes_back_as_it_was(catalog: &dyn Catalog) {
    let version = push(catalog, 1, "a").await;
    push(catalog, 2, "a").await;
    catalog.set_tag(key("a", 1), tag("t"), None).await.unwrap();
    catalog.remove_tag(image("a"), tag("t"), None).await.unwrap();
    catalog.remove_version(key("a", 1), 7).await.unwrap();
    let expected = RemovedVersion { version: version.clone(), removed_unix_ms: 7 };
    assert_eq!(catalog.removed_versions(Some(image("a")), None, 9).await.unwrap(), [expected]);
    assert_eq!(reason(catalog.version(image("a"), Selector::Number(1)).await), "VERSION_NOT_FOUND");

    for _ in 0..2 {
        assert_eq!(catalog.undelete_version(key("a", 1), 8).await.unwrap(), version);
    }
    assert_eq!(catalog.version(image("a"), Selector::Number(1)).await.unwrap(), version);
    assert_eq!(catalog.images(None, 9).await.unwrap()[0].versions, 2);
    assert_eq!(catalog.tags(image("a")).await.unwrap(), [], "tags do not come back");
    assert_eq!(removed(catalog).await, []);
    assert_eq!(catalog.commit(new_version(1, "a")).await.unwrap(), version, "its upload is known again");
    assert_eq!(push(catalog, 3, "a").await.number, 3);
}

pub(crate) async fn a_purged_version_does_not_come_back(catalog: &dyn Catalog) {
    push(catalog, 1, "a").await;
    assert_eq!(reason(catalog.purge_version(key("a", 1), 7, 9).await), "VERSION_NOT_FOUND", "it is live");
    catalog.remove_version(key("a", 1), 7).await.unwrap();
    catalog.purge_version(key("a", 1), 7, 9).await.unwrap();
    assert_eq!(removed(catalog).await, []);
    assert_eq!(reason(catalog.undelete_version(key("a", 1), 9).await), "VERSION_NOT_FOUND");
    assert_eq!(reason(catalog.undelete_version(key("a", 2), 9).await), "VERSION_NOT_FOUND");
    assert_eq!(reason(catalog.undelete_version(key("b", 1), 9).await), "IMAGE_NOT_FOUND");
    assert_eq!(reason(catalog.purge_version(key("a", 1), 7, 9).await), "VERSION_NOT_FOUND");
    assert_eq!(push(catalog, 2, "a").await.number, 2, "its number stays used");
}

/// The grace of a version that was brought back in between starts anew.
pub(crate) async fn only_the_removal_that_was_looked_at_is_purged(catalog: &dyn Catalog) {
    push(catalog, 1, "a").await;
    catalog.remove_version(key("a", 1), 7).await.unwrap();
    catalog.undelete_version(key("a", 1), 8).await.unwrap();
    catalog.remove_version(key("a", 1), 9).await.unwrap();
    assert_eq!(reason(catalog.purge_version(key("a", 1), 7, 10).await), "VERSION_NOT_FOUND");
    assert_eq!(removed(catalog).await, [("a".into(), 1, 9)]);
    catalog.purge_version(key("a", 1), 9, 10).await.unwrap();
}

pub(crate) async fn removed_versions_come_in_pages(catalog: &dyn Catalog) {
    for (seed, name) in [(1, "a"), (2, "a"), (3, "a/b"), (4, "b"), (5, "b")] {
        push(catalog, seed, name).await;
    }
    for (name, number) in [("b", 2), ("a", 2), ("a/b", 1), ("a", 1)] {
        catalog.remove_version(key(name, number), NOW).await.unwrap();
    }
    let page = async |image, after, limit| {
        let page = catalog.removed_versions(image, after, limit).await.unwrap();
        page.into_iter().map(|it| format!("{}@{}", it.version.image, it.version.number)).collect::<Vec<_>>()
    };
    assert_eq!(page(None, None, 2).await, ["a@1", "a@2"]);
    assert_eq!(page(None, Some(key("a", 2)), 2).await, ["a/b@1", "b@2"]);
    assert_eq!(page(None, Some(key("b", 2)), 2).await, [""; 0]);
    assert_eq!(page(Some(image("a")), None, 9).await, ["a@1", "a@2"]);
    assert_eq!(page(Some(image("a")), Some(key("a", 1)), 9).await, ["a@2"]);
    assert_eq!(page(Some(image("b")), Some(key("a", 1)), 9).await, ["b@2"]);
    assert_eq!(page(Some(image("a")), Some(key("b", 1)), 9).await, [""; 0]);
    assert_eq!(reason(catalog.removed_versions(Some(image("c")), None, 9).await), "IMAGE_NOT_FOUND");
}

pub(crate) async fn the_grace_is_remembered(catalog: &dyn Catalog) {
    assert_eq!(catalog.grace().await.unwrap(), DEFAULT_GRACE);
    for grace in [Duration::ZERO, Duration::from_millis(90), Duration::MAX] {
        catalog.set_grace(grace, NOW).await.unwrap();
        catalog.set_grace(grace, NOW).await.unwrap();
        let whole = Duration::from_millis(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
        assert_eq!(catalog.grace().await.unwrap(), whole);
    }
}

pub(crate) async fn a_pinned_version_is_not_removed(catalog: &dyn Catalog) {
    push(catalog, 1, "a").await;
    push(catalog, 2, "a").await;
    assert!(catalog.pin_version(key("a", 1), NOW).await.unwrap());
    assert!(!catalog.pin_version(key("a", 1), NOW).await.unwrap());
    assert_eq!(catalog.pins(image("a")).await.unwrap(), [1]);
    let refused = catalog.remove_version(key("a", 1), NOW).await.unwrap_err();
    assert_eq!((refused.reason(), refused.to_string().as_str()), ("VERSION_PINNED", "a@1 is pinned"));
    assert!(catalog.unpin_version(key("a", 1), NOW).await.unwrap());
    assert!(!catalog.unpin_version(key("a", 1), NOW).await.unwrap());
    assert_eq!(catalog.pins(image("a")).await.unwrap(), [0; 0]);
    catalog.remove_version(key("a", 1), NOW).await.unwrap();
}

pub(crate) async fn pins_are_for_live_versions(catalog: &dyn Catalog) {
    assert_eq!(reason(catalog.pin_version(key("a", 1), NOW).await), "IMAGE_NOT_FOUND");
    assert_eq!(reason(catalog.pins(image("a")).await), "IMAGE_NOT_FOUND");
    push(catalog, 1, "a").await;
    push(catalog, 2, "a/b").await;
    catalog.remove_version(key("a", 1), NOW).await.unwrap();
    assert_eq!(reason(catalog.pin_version(key("a", 1), NOW).await), "VERSION_NOT_FOUND");
    assert_eq!(reason(catalog.unpin_version(key("a", 1), NOW).await), "VERSION_NOT_FOUND");
    catalog.pin_version(key("a/b", 1), NOW).await.unwrap();
    assert_eq!(catalog.pins(image("a")).await.unwrap(), [0; 0], "images do not mix");
}
