use imprint_content::Selector;

use super::sample::*;
use crate::catalog::{Catalog, TagRecord};

pub(crate) async fn tags_compare_and_set(catalog: &dyn Catalog) {
    push(catalog, 1, "a").await;
    push(catalog, 2, "a").await;
    let set = |number, expected| catalog.set_tag(key("a", number), tag("t"), expected);
    assert_eq!(reason(set(1, Some(1)).await), "TAG_MOVED");

    let record = |number, counter| TagRecord { image: image("a"), name: tag("t"), number, counter };
    assert_eq!(set(1, Some(0)).await.unwrap(), record(1, 1));
    assert_eq!(reason(set(2, Some(0)).await), "TAG_MOVED");
    assert_eq!(set(2, Some(1)).await.unwrap(), record(2, 2));
    assert_eq!(set(1, None).await.unwrap(), record(1, 3));
    let moved = set(2, Some(2)).await.unwrap_err();
    assert_eq!(moved.to_string(), "a:t was moved by somebody else (counter 3, expected 2)");

    assert_eq!(reason(catalog.remove_tag(image("a"), tag("t"), Some(2)).await), "TAG_MOVED");
    assert_eq!(catalog.tags(image("a")).await.unwrap(), [record(1, 3)]);
    catalog.remove_tag(image("a"), tag("t"), Some(3)).await.unwrap();
    assert_eq!(catalog.tags(image("a")).await.unwrap(), []);
}

pub(crate) async fn counters_never_repeat(catalog: &dyn Catalog) {
    push(catalog, 1, "a").await;
    let set = |expected| catalog.set_tag(key("a", 1), tag("t"), expected);
    assert_eq!(set(Some(0)).await.unwrap().counter, 1);
    catalog.remove_tag(image("a"), tag("t"), None).await.unwrap();
    assert_eq!(reason(set(Some(1)).await), "TAG_MOVED");
    assert_eq!(set(Some(0)).await.unwrap().counter, 3, "the removal counted");
    catalog.remove_tag(image("a"), tag("t"), Some(3)).await.unwrap();
    assert_eq!(set(None).await.unwrap().counter, 5);
    catalog.remove_tag(image("a"), tag("t"), None).await.unwrap();

    let mut new = new_version(2, "a");
    new.tags = vec![tag("t")];
    catalog.open_upload(upload(2, "a", None)).await.unwrap();
    catalog.commit(new).await.unwrap();
    assert_eq!(catalog.tags(image("a")).await.unwrap()[0].counter, 7);
}

pub(crate) async fn tags_name_live_versions_only(catalog: &dyn Catalog) {
    assert_eq!(reason(catalog.set_tag(key("a", 1), tag("t"), None).await), "IMAGE_NOT_FOUND");
    assert_eq!(reason(catalog.remove_tag(image("a"), tag("t"), None).await), "IMAGE_NOT_FOUND");
    push(catalog, 1, "a").await;
    assert_eq!(reason(catalog.set_tag(key("a", 2), tag("t"), None).await), "VERSION_NOT_FOUND");
    assert_eq!(reason(catalog.remove_tag(image("a"), tag("t"), Some(0)).await), "TAG_NOT_FOUND");
    catalog.set_tag(key("a", 1), tag("t"), None).await.unwrap();
    catalog.remove_tag(image("a"), tag("t"), None).await.unwrap();
    assert_eq!(reason(catalog.remove_tag(image("a"), tag("t"), None).await), "TAG_NOT_FOUND");
    catalog.remove_version(key("a", 1), NOW).await.unwrap();
    assert_eq!(reason(catalog.set_tag(key("a", 1), tag("t"), None).await), "VERSION_NOT_FOUND");
}

pub(crate) async fn tags_are_listed_by_name(catalog: &dyn Catalog) {
    push(catalog, 1, "a").await;
    push(catalog, 2, "ab").await;
    for name in ["z", "stable", "beta"] {
        catalog.set_tag(key("a", 1), tag(name), None).await.unwrap();
    }
    catalog.set_tag(key("ab", 1), tag("other"), None).await.unwrap();
    let tags = catalog.tags(image("a")).await.unwrap();
    let names: Vec<_> = tags.iter().map(|tag| tag.name.as_str()).collect();
    assert_eq!(names, ["beta", "stable", "z"]);
}

pub(crate) async fn a_tagged_version_is_not_removed(catalog: &dyn Catalog) {
    push(catalog, 1, "a").await;
    push(catalog, 2, "a").await;
    for (name, number) in [("x", 1), ("y", 1), ("z", 2)] {
        catalog.set_tag(key("a", number), tag(name), None).await.unwrap();
    }
    let refused = catalog.remove_version(key("a", 1), NOW).await.unwrap_err();
    assert_eq!(refused.to_string(), "a@1 is tagged x, y");
    catalog.version(image("a"), Selector::Number(1)).await.unwrap();

    catalog.remove_tag(image("a"), tag("x"), None).await.unwrap();
    catalog.set_tag(key("a", 2), tag("y"), None).await.unwrap();
    catalog.remove_version(key("a", 1), NOW).await.unwrap();
    assert_eq!(reason(catalog.version(image("a"), Selector::Number(1)).await), "VERSION_NOT_FOUND");
    assert_eq!(reason(catalog.remove_version(key("a", 1), NOW).await), "VERSION_NOT_FOUND");
}
