use futures::future::join_all;
use imprint_content::Selector;

use super::sample::*;
use crate::catalog::{Catalog, UploadState, VersionRecord};

pub(crate) async fn numbers_start_at_one_and_are_never_reused(catalog: &dyn Catalog) {
    for number in 1..=3 {
        assert_eq!(push(catalog, number, "a").await.number, u64::from(number));
    }
    assert_eq!(push(catalog, 10, "b").await.number, 1, "images count on their own");
    catalog.remove_version(key("a", 3), NOW).await.unwrap();
    catalog.remove_version(key("a", 1), NOW).await.unwrap();
    assert_eq!(push(catalog, 4, "a").await.number, 4);
    for number in [2, 4] {
        catalog.remove_version(key("a", number), NOW).await.unwrap();
    }
    assert_eq!(push(catalog, 5, "a").await.number, 5, "not even when no version is left");
}

pub(crate) async fn commit_is_idempotent(catalog: &dyn Catalog) {
    let mut new = new_version(1, "a");
    new.tags = vec![tag("t")];
    catalog.open_upload(upload(1, "a", None)).await.unwrap();
    let version = catalog.commit(new.clone()).await.unwrap();
    let expected = VersionRecord {
        image: image("a"),
        number: 1,
        id: new.content.id(),
        content: new.content.clone(),
        committed_unix_ms: new.committed_unix_ms,
        who: new.who.clone(),
        upload: new.upload,
        data_bytes: new.data_bytes,
        new_chunks: new.new_chunks,
        new_stored_bytes: new.new_stored_bytes,
    };
    assert_eq!(version, expected);

    // A repetition may come much later, and with a clock that went on.
    push(catalog, 2, "a").await;
    new.committed_unix_ms += 60_000;
    assert_eq!(catalog.commit(new).await.unwrap(), version);
    let state = catalog.open_upload(upload(1, "a", None)).await.unwrap();
    assert_eq!(state, UploadState::Committed(Box::new(version)));
    assert_eq!(catalog.versions(image("a"), 0, 9).await.unwrap().len(), 2);
    assert_eq!(catalog.tags(image("a")).await.unwrap()[0].counter, 1);
}

pub(crate) async fn commit_needs_an_open_upload(catalog: &dyn Catalog) {
    assert_eq!(reason(catalog.commit(new_version(1, "a")).await), "UPLOAD_NOT_OPEN");
    assert_eq!(reason(catalog.version(image("a"), Selector::Latest).await), "IMAGE_NOT_FOUND");
}

pub(crate) async fn commits_at_once_get_different_numbers(catalog: &dyn Catalog) {
    let commits = join_all((1..=8).map(|seed| push(catalog, seed, "a"))).await;
    let mut numbers: Vec<_> = commits.iter().map(|version| version.number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(catalog.images(None, 9).await.unwrap()[0].versions, 8);
}

pub(crate) async fn commit_sets_tags(catalog: &dyn Catalog) {
    push(catalog, 1, "a").await;
    catalog.set_tag(key("a", 1), tag("stable"), None).await.unwrap();
    let mut new = new_version(2, "a");
    new.tags = vec![tag("stable"), tag("new"), tag("new")];
    catalog.open_upload(upload(2, "a", None)).await.unwrap();
    catalog.commit(new).await.unwrap();

    let tags = catalog.tags(image("a")).await.unwrap();
    let found: Vec<_> = tags.iter().map(|tag| (tag.name.as_str(), tag.number, tag.counter)).collect();
    assert_eq!(found, [("new", 2, 1), ("stable", 2, 2)]);
}
