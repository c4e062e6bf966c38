//! Questions and small decisions: each one call to the catalog.

use futures::{Stream, StreamExt, TryStreamExt, stream};
use imprint_content::{Codec, ImageName, Profile, Selector};
use imprint_proto::v1;
use tonic::Status;

use crate::{
    Error,
    catalog::{ImageRecord, VersionKey, VersionRecord},
    store::{Store, Superblock},
};

use super::{Answers, convert};

pub(super) fn describe(store: &Store) -> v1::DescribeResponse {
    v1::DescribeResponse {
        repository_id: bytes::Bytes::copy_from_slice(store.repository().as_bytes()),
        server: concat!("imprint-server ", env!("CARGO_PKG_VERSION")).into(),
        format_version: Superblock::FORMAT_VERSION.into(),
        default_profile: store.default_profile().into(),
        profiles: Profile::ALL.map(|profile| profile.number.into()).to_vec(),
        codecs: vec![Codec::Raw.number().into(), Codec::Zstd.number().into()],
        features: Vec::new(),
        writes_stopped: store.gate().stopped().unwrap_or_default().into(),
    }
}

pub(super) async fn version(store: &Store, request: v1::GetVersionRequest) -> Result<v1::Version, Error> {
    let image = convert::image(&request.image)?;
    let record = store.catalog().version(image, convert::selector(request.selector)?).await?;
    describe_version(store, &record).await
}

/// A version with the tags and the pin that it has now.
pub(super) async fn describe_version(store: &Store, record: &VersionRecord) -> Result<v1::Version, Error> {
    let tags = store.catalog().tags(record.image.clone()).await?;
    let pins = store.catalog().pins(record.image.clone()).await?;
    Ok(convert::version(record, &tags, &pins))
}

pub(super) async fn versions(store: &Store, request: &v1::ListVersionsRequest) -> Result<Answers<v1::Version>, Error> {
    let image = convert::image(&request.image)?;
    let tags = store.catalog().tags(image.clone()).await?;
    let pins = store.catalog().pins(image.clone()).await?;
    let records = pages(store.clone(), 0, move |store, after| {
        let image = image.clone();
        async move {
            let page = store.versions_after(image, after).await?;
            let next = page.last().map(|last| last.number);
            Ok((page, next))
        }
    });
    // An unknown image is an error of the call, not of its first answer.
    let mut records = Box::pin(records.peekable());
    if let Some(Err(_)) = records.as_mut().peek().await
        && let Some(Err(error)) = records.next().await
    {
        return Err(error);
    }
    Ok(records.map_ok(move |record| convert::version(&record, &tags, &pins)).map_err(Status::from).boxed())
}

pub(super) fn images(store: &Store) -> Answers<v1::Image> {
    let records = pages(store.clone(), None::<ImageName>, |store, after| async move {
        let page = store.images_after(after).await?;
        let next = page.last().map(|last| Some(last.name.clone()));
        Ok((page, next))
    });
    let store = store.clone();
    records.and_then(move |record| image(store.clone(), record)).map_err(Status::from).boxed()
}

pub(super) async fn image(store: Store, record: ImageRecord) -> Result<v1::Image, Error> {
    let tags = store.catalog().tags(record.name.clone()).await?;
    let pins = store.catalog().pins(record.name.clone()).await?;
    let newest = match record.versions {
        0 => None,
        _ => match store.catalog().version(record.name.clone(), Selector::Latest).await {
            // Its last version was removed since the page was read.
            Err(Error::VersionNotFound { .. }) => None,
            newest => Some(newest?),
        },
    };
    Ok(v1::Image {
        name: record.name.to_string(),
        versions: if newest.is_some() { record.versions } else { 0 },
        newest: newest.map(|newest| convert::version(&newest, &tags, &pins)),
        tags: tags.iter().map(convert::tag_message).collect(),
    })
}

pub(super) async fn stats(store: &Store) -> Result<v1::Stats, Error> {
    Ok(convert::stats(store.catalog().totals().await?, store.scrub_health().await?))
}

pub(super) async fn set_tag(store: &Store, request: v1::SetTagRequest) -> Result<v1::Tag, Error> {
    let key = VersionKey { image: convert::image(&request.image)?, number: request.number };
    let tag = store.catalog().set_tag(key, convert::tag(&request.name)?, request.expected_counter).await?;
    Ok(convert::tag_message(&tag))
}

pub(super) async fn remove_tag(store: &Store, request: v1::RemoveTagRequest) -> Result<(), Error> {
    let (image, name) = (convert::image(&request.image)?, convert::tag(&request.name)?);
    store.catalog().remove_tag(image, name, request.expected_counter).await
}

/// All items of a listing that is read a page at a time; `read` returns a page and where the next one starts.
pub(super) fn pages<T, K, F>(
    store: Store,
    start: K,
    read: impl Fn(Store, K) -> F + Clone + Send + 'static,
) -> impl Stream<Item = Result<T, Error>> + Send
where
    T: Send + 'static,
    K: Send + 'static,
    F: Future<Output = Result<(Vec<T>, Option<K>), Error>> + Send,
{
    stream::try_unfold(Some(start), move |start| {
        let (store, read) = (store.clone(), read.clone());
        async move {
            let Some(start) = start else { return Ok(None) };
            let (page, next) = read(store, start).await?;
            Ok(if page.is_empty() { None } else { Some((stream::iter(page.into_iter().map(Ok)), next)) })
        }
    })
    .try_flatten()
}
