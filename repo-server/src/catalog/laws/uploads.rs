use super::sample::*;
use crate::{
    catalog::{Catalog, UploadState},
    pack::Purpose,
};

pub(crate) async fn an_upload_is_for_one_image_base_and_content(catalog: &dyn Catalog) {
    let first = push(catalog, 1, "a").await;
    for _ in 0..2 {
        let state = catalog.open_upload(upload(2, "a", Some(key("a", 1)))).await.unwrap();
        assert_eq!(state, UploadState::Open { base: Some(Box::new(base_of(&first))) });
    }
    assert_eq!(reason(catalog.open_upload(upload(2, "b", Some(key("a", 1)))).await), "UPLOAD_MISMATCH");
    assert_eq!(reason(catalog.open_upload(upload(2, "a", None)).await), "UPLOAD_MISMATCH");
    assert_eq!(reason(catalog.commit(new_version(2, "b")).await), "UPLOAD_MISMATCH");

    assert_eq!(reason(catalog.open_upload(upload(1, "b", None)).await), "UPLOAD_MISMATCH");
    assert_eq!(reason(catalog.commit(new_version(1, "b")).await), "UPLOAD_MISMATCH");
    let mut other = new_version(1, "a");
    other.content = content(99);
    assert_eq!(reason(catalog.commit(other).await), "UPLOAD_MISMATCH");
    assert_eq!(catalog.versions(first.image.clone(), 0, 9).await.unwrap(), [first]);
}

pub(crate) async fn a_closed_upload_is_forgotten(catalog: &dyn Catalog) {
    let pack = pack(1, Purpose::Chunks);
    catalog.open_upload(upload(1, "a", None)).await.unwrap();
    catalog.add_pack(pack.clone(), objects(&pack, &[1]), Some(upload_id(1))).await.unwrap();
    for _ in 0..2 {
        catalog.close_upload(upload_id(1)).await.unwrap();
    }
    assert_eq!(reason(catalog.commit(new_version(1, "a")).await), "UPLOAD_NOT_OPEN");
    assert_eq!(catalog.packs().await.unwrap(), [pack]);
    assert_eq!(catalog.open_upload(upload(1, "b", None)).await.unwrap(), UploadState::Open { base: None });

    let committed = push(catalog, 2, "a").await;
    catalog.close_upload(upload_id(2)).await.unwrap();
    assert_eq!(catalog.commit(new_version(2, "a")).await.unwrap(), committed);
}

pub(crate) async fn the_base_must_exist(catalog: &dyn Catalog) {
    assert_eq!(reason(catalog.open_upload(upload(1, "a", Some(key("a", 1)))).await), "VERSION_NOT_FOUND");
    let base = push(catalog, 2, "b").await;
    catalog.open_upload(upload(3, "a", Some(key("b", 1)))).await.unwrap();
    catalog.remove_version(key("b", 1), NOW).await.unwrap();
    assert_eq!(reason(catalog.open_upload(upload(4, "a", Some(key("b", 1)))).await), "VERSION_NOT_FOUND");
    catalog.purge_version(key("b", 1), NOW, NOW).await.unwrap();
    let still = catalog.open_upload(upload(3, "a", Some(key("b", 1)))).await.unwrap();
    assert_eq!(still, UploadState::Open { base: Some(Box::new(base_of(&base))) }, "who has it keeps it");
}

/// restic#3486: a push that slept longer than its hold may not rely on it any more, and learns so. borg#9870, where a clock decided
/// who is alive: while somebody uses an upload, no time ends it.
pub(crate) async fn idle_uploads_expire_and_those_in_use_do_not(catalog: &dyn Catalog) {
    let pack = pack(1, Purpose::Chunks);
    catalog.add_pack(pack.clone(), objects(&pack, &[1]), None).await.unwrap();
    for seed in 1..=3 {
        catalog.open_upload(upload(seed, "a", None)).await.unwrap();
    }
    assert_eq!(catalog.expire_uploads(0).await.unwrap(), [], "all were used since 1970");
    let (first, again, other) =
        (catalog.use_upload(upload_id(1)), catalog.use_upload(upload_id(1)), catalog.use_upload(upload_id(3)));
    drop(first);
    assert_eq!(catalog.expire_uploads(i64::MAX).await.unwrap(), [upload_id(2)]);
    assert_eq!(reason(catalog.commit(new_version(2, "a")).await), "UPLOAD_NOT_OPEN");
    let asked = catalog.locate_and_hold(upload_id(2), Purpose::Chunks, vec![object(1)]).await;
    assert_eq!(reason(asked), "UPLOAD_NOT_OPEN");
    assert_eq!(catalog.commit(new_version(3, "a")).await.unwrap().number, 1);
    drop((again, other));
    assert_eq!(catalog.expire_uploads(i64::MAX).await.unwrap(), [upload_id(1)]);
    assert_eq!(catalog.expire_uploads(i64::MAX).await.unwrap(), []);
}

pub(crate) async fn an_upload_of_a_removed_version_is_not_committed_again(catalog: &dyn Catalog) {
    push(catalog, 1, "a").await;
    catalog.remove_version(key("a", 1), NOW).await.unwrap();
    assert_eq!(reason(catalog.commit(new_version(1, "a")).await), "VERSION_NOT_FOUND");
    assert_eq!(reason(catalog.open_upload(upload(1, "a", None)).await), "VERSION_NOT_FOUND");
}
