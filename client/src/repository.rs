//! A repository as the client sees it: reached by URL, or served from a directory inside this process.

use std::{fmt, path::PathBuf, str::FromStr};

use futures::TryStreamExt;
use imprint_content::{ContentRecord, ImageName, Ref, Selector, TagName, VersionId};
use imprint_proto::{
    limits::MAX_MESSAGE_BYTES,
    v1::{self, repository_client::RepositoryClient},
};

use crate::{Error, TreeCache, transport::Transport};

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A directory, served inside this process.
    Directory(PathBuf),
    /// A server.
    Url(http::Uri),
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if !text.contains("://") {
            return match text.is_empty() {
                true => Err(Error::Location(text.into())),
                false => Ok(Self::Directory(text.into())),
            };
        }
        let uri: http::Uri = text.parse().map_err(|_| Error::Location(text.into()))?;
        match (uri.scheme_str(), uri.host()) {
            (Some("http"), Some(_)) => Ok(Self::Url(uri)),
            _ => Err(Error::Location(text.into())),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::Url(uri) => uri.fmt(f),
        }
    }
}

/// What a repository is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It must exist.
    Existing,
    /// A directory that is empty or missing becomes a repository.
    OrCreate,
}

/// A version as the repository describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The image.
    pub image: ImageName,
    /// Its number, from 1.
    pub number: u64,
    /// Hash of `content`.
    pub id: VersionId,
    /// What was said when it was pushed.
    pub content: ContentRecord,
    /// The repository's clock at commit, milliseconds since 1970.
    pub committed_unix_ms: i64,
    /// Who pushed.
    pub who: String,
    /// Tags that name it now.
    pub tags: Vec<String>,
    /// Bytes in data extents.
    pub data_bytes: u64,
    /// Chunks that its push stored.
    pub new_chunks: u64,
    /// Bytes by which the repository grew.
    pub new_stored_bytes: u64,
    /// Whether it cannot be removed until its pin is taken away.
    pub is_pinned: bool,
}

impl Version {
    /// `NAME@7`.
    #[must_use]
    pub fn reference(&self) -> Ref {
        Ref { image: self.image.clone(), selector: Selector::Number(self.number) }
    }

    pub(crate) fn key(&self) -> v1::VersionKey {
        v1::VersionKey { image: self.image.to_string(), number: self.number }
    }

    /// Checks that the record is the one its id names.
    pub(crate) fn from_wire(wire: v1::Version) -> Result<Self, Error> {
        let id = VersionId::from_slice(&wire.version_id)
            .ok_or_else(|| Error::Protocol("a version id has not 32 bytes".into()))?;
        if VersionId::of(&wire.content_record) != id {
            return Err(Error::Protocol(format!(
                "the record of {}@{} is not what its id says",
                wire.image, wire.number
            )));
        }
        Ok(Self {
            image: wire.image.parse()?,
            number: wire.number,
            id,
            content: ContentRecord::decode(&wire.content_record)?,
            committed_unix_ms: wire.committed_unix_ms,
            who: wire.who,
            tags: wire.tags,
            data_bytes: wire.data_bytes,
            new_chunks: wire.new_chunks,
            new_stored_bytes: wire.new_stored_bytes,
            is_pinned: wire.pinned,
        })
    }
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its name.
    pub name: ImageName,
    /// Versions it has now.
    pub versions: u64,
    /// The newest of them.
    pub newest: Option<Version>,
    /// Its tags.
    pub tags: Vec<Tag>,
}

/// A movable name for a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// The tag.
    pub name: String,
    /// The version it names.
    pub number: u64,
    /// Grows with every move.
    pub counter: u64,
}

/// Totals of a repository.
pub type Stats = v1::Stats;

/// An open repository. Cheap to clone.
#[derive(Clone)]
pub struct Repository {
    client: RepositoryClient<Transport>,
    description: v1::DescribeResponse,
    directory: Option<PathBuf>,
    trees: TreeCache,
}

impl Repository {
    /// Reaches the repository and learns what it speaks.
    ///
    /// # Errors
    /// When it does not exist, cannot be reached, or is in use by another process.
    pub async fn open(location: &Location, access: Access) -> Result<Self, Error> {
        let (transport, directory) = match location {
            Location::Directory(path) => (Transport::embedded(path, access).await?, Some(path.clone())),
            Location::Url(uri) => (Transport::connect(uri).await?, None),
        };
        let mut client = RepositoryClient::new(transport)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let request = v1::DescribeRequest { client: concat!("imprint ", env!("CARGO_PKG_VERSION")).into() };
        let description = client.describe(request).await?.into_inner();
        Ok(Self { client, description, directory, trees: TreeCache::for_this_user() })
    }

    /// The repository's id as 32 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> String {
        self.description.repository_id.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The directory, when the repository is served inside this process.
    #[must_use]
    pub fn directory(&self) -> Option<&std::path::Path> {
        self.directory.as_deref()
    }

    /// Keeps trees elsewhere than in the user's cache directory.
    #[must_use]
    pub fn with_tree_cache(mut self, trees: TreeCache) -> Self {
        self.trees = trees;
        self
    }

    /// The version that a ref means.
    pub async fn version(&self, reference: &Ref) -> Result<Version, Error> {
        use v1::get_version_request::Selector as Wire;
        let selector = match &reference.selector {
            Selector::Latest => None,
            Selector::Tag(tag) => Some(Wire::Tag(tag.to_string())),
            Selector::Number(number) => Some(Wire::Number(*number)),
            Selector::IdPrefix(digits) => Some(Wire::IdPrefix(digits.clone())),
        };
        let request = v1::GetVersionRequest { image: reference.image.to_string(), selector };
        Version::from_wire(self.client().get_version(request).await?.into_inner())
    }

    /// All versions of an image, oldest first.
    pub async fn versions(&self, image: &ImageName) -> Result<Vec<Version>, Error> {
        let request = v1::ListVersionsRequest { image: image.to_string() };
        let versions = self.client().list_versions(request).await?.into_inner();
        versions.map_err(Error::from).and_then(async |wire| Version::from_wire(wire)).try_collect().await
    }

    /// All images, by name.
    pub async fn images(&self) -> Result<Vec<Image>, Error> {
        let images = self.client().list_images(v1::ListImagesRequest {}).await?.into_inner();
        images.map_err(Error::from).and_then(async |wire| image(wire)).try_collect().await
    }

    /// Sets a tag. `expected` is its counter as the caller knows it: 0 for "does not exist", `None` for "whatever".
    pub async fn set_tag(&self, version: &Version, tag: &TagName, expected: Option<u64>) -> Result<Tag, Error> {
        let request = v1::SetTagRequest {
            image: version.image.to_string(),
            name: tag.to_string(),
            number: version.number,
            expected_counter: expected,
        };
        Ok(tag_from_wire(self.client().set_tag(request).await?.into_inner()))
    }

    /// Removes a tag; versions stay.
    pub async fn remove_tag(&self, image: &ImageName, tag: &TagName) -> Result<(), Error> {
        let request = v1::RemoveTagRequest { image: image.to_string(), name: tag.to_string(), expected_counter: None };
        self.client().remove_tag(request).await?;
        Ok(())
    }

    /// Totals.
    pub async fn stats(&self) -> Result<Stats, Error> {
        Ok(self.client().get_stats(v1::GetStatsRequest {}).await?.into_inner())
    }

    pub(crate) fn client(&self) -> RepositoryClient<Transport> {
        self.client.clone()
    }

    pub(crate) const fn trees(&self) -> &TreeCache {
        &self.trees
    }

    pub(crate) const fn description(&self) -> &v1::DescribeResponse {
        &self.description
    }
}

fn image(wire: v1::Image) -> Result<Image, Error> {
    Ok(Image {
        name: wire.name.parse()?,
        versions: wire.versions,
        newest: wire.newest.map(Version::from_wire).transpose()?,
        tags: wire.tags.into_iter().map(tag_from_wire).collect(),
    })
}

fn tag_from_wire(wire: v1::Tag) -> Tag {
    Tag { name: wire.name, number: wire.number, counter: wire.counter }
}
