//! What is kept, and what can be brought back.

use futures::{StreamExt, TryStreamExt, stream};
use imprint_proto::{limits::MAX_KEEP_TAGS, v1};
use tonic::Status;

use crate::{
    Error,
    catalog::{RemovedVersion, VersionKey},
    store::{KeepRules, Store, VersionFate},
};

use super::{Answers, convert, queries};

pub(super) async fn remove(
    store: &Store,
    request: v1::RemoveVersionRequest,
) -> Result<v1::RemoveVersionResponse, Error> {
    let grace_end_unix_ms = store.remove_version(convert::version_key(request.version)?).await?;
    Ok(v1::RemoveVersionResponse { grace_end_unix_ms })
}

/// Plans at once, so that a bad request fails as a call; removes as the answers are taken.
pub(super) async fn forget(
    store: &Store,
    request: v1::ForgetVersionsRequest,
) -> Result<Answers<v1::VersionFate>, Error> {
    let image = convert::image(&request.image)?;
    let fates = store.plan_forget(&image, &keep_rules(request.keep.unwrap_or_default())?).await?;
    let fates = stream::iter(fates.into_iter().map(Ok::<_, Error>));
    if request.dry_run {
        return Ok(fates.map_ok(fate_message).map_err(Status::from).boxed());
    }
    let store = store.clone();
    let done = fates.and_then(move |fate| {
        let (store, image) = (store.clone(), image.clone());
        async move { store.forget_version(&image, fate).await }
    });
    Ok(done.map_ok(fate_message).map_err(Status::from).boxed())
}

fn keep_rules(wire: v1::KeepRules) -> Result<KeepRules, Error> {
    let v1::KeepRules { last, hourly, daily, weekly, monthly, yearly, tags } = wire;
    if tags.len() > MAX_KEEP_TAGS {
        return Err(convert::bad(format!("more than {MAX_KEEP_TAGS} tags in the rules")));
    }
    let tags = tags.iter().map(|tag| convert::tag(tag)).collect::<Result<_, _>>()?;
    Ok(KeepRules { last, hourly, daily, weekly, monthly, yearly, tags })
}

fn fate_message(fate: VersionFate) -> v1::VersionFate {
    v1::VersionFate {
        number: fate.version.number,
        committed_unix_ms: fate.version.committed_unix_ms,
        kept_because: fate.kept_because,
    }
}

pub(super) async fn removed(
    store: &Store,
    request: v1::ListRemovedRequest,
) -> Result<Answers<v1::RemovedVersion>, Error> {
    let image = match request.image.as_str() {
        "" => None,
        name => Some(convert::image(name)?),
    };
    // An unknown image is an error of the call, not of its first answer.
    if let Some(image) = &image {
        store.catalog().pins(image.clone()).await?;
    }
    let removed = queries::pages(store.clone(), None::<VersionKey>, move |store, after| {
        let image = image.clone();
        async move {
            let page = store.removed_after(image, after).await?;
            let next = page.last().map(|(last, _)| Some(key(last)));
            Ok((page, next))
        }
    });
    Ok(removed.map_ok(removed_message).map_err(Status::from).boxed())
}

fn key(removed: &RemovedVersion) -> VersionKey {
    VersionKey { image: removed.version.image.clone(), number: removed.version.number }
}

fn removed_message((removed, grace_end_unix_ms): (RemovedVersion, i64)) -> v1::RemovedVersion {
    v1::RemovedVersion {
        version: Some(convert::version(&removed.version, &[], &[])),
        removed_unix_ms: removed.removed_unix_ms,
        grace_end_unix_ms,
    }
}

pub(super) async fn undelete(store: &Store, request: v1::UndeleteVersionRequest) -> Result<v1::Version, Error> {
    let version = store.undelete_version(convert::version_key(request.version)?).await?;
    // A live one is returned as it is, with what it has.
    queries::describe_version(store, &version).await
}

pub(super) async fn pin(store: &Store, request: v1::PinVersionRequest) -> Result<v1::PinVersionResponse, Error> {
    let changed = store.set_pin(convert::version_key(request.version)?, true).await?;
    Ok(v1::PinVersionResponse { changed })
}

pub(super) async fn unpin(store: &Store, request: v1::UnpinVersionRequest) -> Result<v1::UnpinVersionResponse, Error> {
    let changed = store.set_pin(convert::version_key(request.version)?, false).await?;
    Ok(v1::UnpinVersionResponse { changed })
}
