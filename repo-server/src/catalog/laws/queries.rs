use imprint_content::Selector;

use super::sample::*;
use crate::{
    catalog::{Catalog, ImageRecord, Totals},
    pack::Purpose,
};

pub(crate) async fn latest_is_the_highest_live_number(catalog: &dyn Catalog) {
    for seed in 1..=3 {
        push(catalog, seed, "a").await;
    }
    for number in [3, 2, 1] {
        assert_eq!(catalog.version(image("a"), Selector::Latest).await.unwrap().number, number);
        catalog.remove_version(key("a", number), NOW).await.unwrap();
    }
    let none = catalog.version(image("a"), Selector::Latest).await.unwrap_err();
    assert_eq!(none.to_string(), "a has no version latest");
}

pub(crate) async fn selectors_choose(catalog: &dyn Catalog) {
    let first = push(catalog, 1, "a").await;
    let second = push(catalog, 2, "a").await;
    catalog.set_tag(key("a", 1), tag("t"), None).await.unwrap();
    let version = |selector| catalog.version(image("a"), selector);
    assert_eq!(version(Selector::Tag(tag("t"))).await.unwrap(), first);
    assert_eq!(version(Selector::Number(2)).await.unwrap(), second);
    assert_eq!(version(Selector::IdPrefix(first.id.to_string()[..8].into())).await.unwrap(), first);
    assert_eq!(version(Selector::IdPrefix(second.id.to_string())).await.unwrap(), second);

    assert_eq!(reason(version(Selector::Tag(tag("u"))).await), "TAG_NOT_FOUND");
    assert_eq!(reason(version(Selector::Number(3)).await), "VERSION_NOT_FOUND");
    assert_eq!(reason(version(Selector::Number(0)).await), "VERSION_NOT_FOUND");
    assert_eq!(reason(version(Selector::IdPrefix("00000000000000000a".into())).await), "VERSION_NOT_FOUND");
    catalog.remove_tag(image("a"), tag("t"), None).await.unwrap();
    assert_eq!(reason(version(Selector::Tag(tag("t"))).await), "TAG_NOT_FOUND");
}

pub(crate) async fn the_start_of_an_id_must_be_unambiguous(catalog: &dyn Catalog) {
    let first = push(catalog, 1, "a").await;
    let again = push_again(catalog, 2, &first).await;
    assert_eq!((again.number, again.id), (2, first.id));
    let by_id = |digits: &str| catalog.version(image("a"), Selector::IdPrefix(digits.into()));
    assert_eq!(by_id(&first.id.to_string()).await.unwrap(), again, "one id: the newest");

    // With no digits at all, every id matches.
    push(catalog, 3, "a").await;
    let ambiguous = by_id("").await.unwrap_err();
    assert_eq!(ambiguous.reason(), "AMBIGUOUS_ID");
    assert!(ambiguous.to_string().starts_with("3 versions"), "{ambiguous}");
    catalog.remove_version(key("a", 3), NOW).await.unwrap();
    assert_eq!(by_id("").await.unwrap(), again);
}

pub(crate) async fn versions_come_in_pages(catalog: &dyn Catalog) {
    for seed in 1..=5 {
        push(catalog, seed, "a").await;
    }
    catalog.remove_version(key("a", 3), NOW).await.unwrap();
    let numbers = async |after, limit| {
        let page = catalog.versions(image("a"), after, limit).await.unwrap();
        page.iter().map(|version| version.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(0, 2).await, [1, 2]);
    assert_eq!(numbers(2, 2).await, [4, 5]);
    assert_eq!(numbers(3, 1).await, [4]);
    assert_eq!(numbers(5, 2).await, [0u64; 0]);
    assert_eq!(numbers(u64::MAX, 2).await, [0u64; 0]);
    assert_eq!(numbers(0, 0).await, [0u64; 0]);
    assert_eq!(numbers(0, usize::MAX).await, [1, 2, 4, 5]);
}

pub(crate) async fn images_come_in_pages(catalog: &dyn Catalog) {
    for (seed, name) in [(1, "b"), (2, "a/x"), (3, "c"), (4, "b")] {
        push(catalog, seed, name).await;
    }
    catalog.remove_version(key("c", 1), NOW).await.unwrap();
    catalog.remove_version(key("b", 1), NOW).await.unwrap();
    let record = |name, versions, highest_number| ImageRecord { name: image(name), versions, highest_number };
    let page = catalog.images(None, 2).await.unwrap();
    assert_eq!(page, [record("a/x", 1, 1), record("b", 1, 2)]);
    let rest = catalog.images(Some(image("b")), 2).await.unwrap();
    assert_eq!(rest, [record("c", 0, 1)], "known still, though nothing of it is live");
    assert_eq!(catalog.images(Some(image("a")), 1).await.unwrap(), [record("a/x", 1, 1)]);
    assert_eq!(catalog.images(Some(image("c")), 2).await.unwrap(), []);
}

pub(crate) async fn neighbouring_names_are_not_mixed_up(catalog: &dyn Catalog) {
    let names = ["lab", "lab-1", "lab/a", "lab0", "labs"];
    for (seed, name) in (1..).zip(names) {
        push(catalog, seed, name).await;
        catalog.set_tag(key(name, 1), tag(name.get(..3).unwrap()), None).await.unwrap();
    }
    for name in names {
        assert_eq!(catalog.versions(image(name), 0, 9).await.unwrap().len(), 1, "{name}");
        assert_eq!(catalog.tags(image(name)).await.unwrap().len(), 1, "{name}");
        assert_eq!(catalog.version(image(name), Selector::Latest).await.unwrap().image, image(name));
    }
}

pub(crate) async fn unknown_images_are_not_found(catalog: &dyn Catalog) {
    push(catalog, 1, "known").await;
    assert_eq!(reason(catalog.version(image("a"), Selector::Number(1)).await), "IMAGE_NOT_FOUND");
    assert_eq!(reason(catalog.versions(image("a"), 0, 9).await), "IMAGE_NOT_FOUND");
    assert_eq!(reason(catalog.tags(image("a")).await), "IMAGE_NOT_FOUND");
    assert_eq!(reason(catalog.remove_version(key("a", 1), NOW).await), "IMAGE_NOT_FOUND");
}

pub(crate) async fn totals_count_what_is_live(catalog: &dyn Catalog) {
    assert_eq!(catalog.totals().await.unwrap(), Totals::default());
    for (seed, name) in [(1, "a"), (2, "a"), (3, "b"), (4, "c")] {
        push(catalog, seed, name).await;
    }
    catalog.remove_version(key("a", 1), NOW).await.unwrap();
    catalog.remove_version(key("c", 1), NOW).await.unwrap();
    for (seed, purpose) in [(5, Purpose::Chunks), (6, Purpose::Nodes), (7, Purpose::Chunks)] {
        catalog.add_pack(pack(seed, purpose), vec![], None).await.unwrap();
    }
    let expected = Totals {
        images: 2,
        versions: 2,
        image_bytes: 1002 + 1003,
        data_bytes: 102 + 103,
        packs: 3,
        pack_bytes: 18_000,
        chunks: 12,
        nodes: 6,
    };
    assert_eq!(catalog.totals().await.unwrap(), expected);
}
