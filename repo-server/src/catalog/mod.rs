//! What is known: where objects are, which versions and tags exist, which uploads are open.
//!
//! The seam's methods are whole transactions of the domain. An engine makes each *decision* (commit, tag,
//! removal) durable in its journal before it answers; the rest can be derived from journal and packs.
//! Every engine passes the same `laws`.

use async_trait::async_trait;
use imprint_content::{Codec, ContentRecord, ImageName, ObjectId, Selector, TagName, VersionId};

use crate::{Error, PackId, UploadId, pack::Purpose};

pub mod journal;

mod embedded;
mod keys;
#[cfg(test)]
mod laws;
mod memory;
mod messages;
mod rocks;
mod values;

pub use embedded::EmbeddedCatalog;
pub use memory::MemoryCatalog;

/// Where a record is, and what a reader must know to decode it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The pack.
    pub pack: PackId,
    /// Where the record starts in the pack, in bytes; it ends [`record_length`](crate::pack::record_length) later.
    pub offset: u32,
    /// Length of the payload as stored, in bytes.
    pub stored_length: u32,
    /// Length after decoding, in bytes.
    pub raw_length: u32,
    /// How the payload is encoded.
    pub codec: Codec,
}

/// A sealed pack as the catalog knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackRecord {
    /// Its id.
    pub id: PackId,
    /// Chunks or nodes.
    pub purpose: Purpose,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Records in it.
    pub records: u32,
}

/// A committed version: what the client wrote and what the server adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRecord {
    /// The image.
    pub image: ImageName,
    /// Given at commit, from 1, never reused.
    pub number: u64,
    /// Hash of the content record.
    pub id: VersionId,
    /// What the client wrote.
    pub content: ContentRecord,
    /// The server's clock at commit, milliseconds since 1970.
    pub committed_unix_ms: i64,
    /// Who pushed, as the client says.
    pub who: String,
    /// The upload that made it.
    pub upload: UploadId,
    /// Bytes in data extents.
    pub data_bytes: u64,
    /// Chunks that this push stored.
    pub new_chunks: u64,
    /// Bytes by which packs grew.
    pub new_stored_bytes: u64,
}

/// A movable name for a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagRecord {
    /// The image.
    pub image: ImageName,
    /// The tag.
    pub name: TagName,
    /// The version's number.
    pub number: u64,
    /// Grows with every change of this tag, removal included; never reused.
    pub counter: u64,
}

/// An image and how many versions of it are live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRecord {
    /// The name.
    pub name: ImageName,
    /// Live versions.
    pub versions: u64,
    /// Highest number ever given.
    pub highest_number: u64,
}

/// Names a version for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionKey {
    /// The image.
    pub image: ImageName,
    /// The version's number.
    pub number: u64,
}

/// An upload as it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadRecord {
    /// Chosen by the client.
    pub id: UploadId,
    /// The image it will become a version of.
    pub image: ImageName,
    /// The version whose objects the client need not ask about. Live when the upload is opened. Nothing keeps it from
    /// being removed afterwards: reclamation will have to spare what it needs.
    pub base: Option<VersionKey>,
}

/// What opening an upload found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadState {
    /// It is open, newly or still.
    Open,
    /// It was committed before.
    Committed(Box<VersionRecord>),
}

/// A version to be committed; its closure was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVersion {
    /// The upload, which must be open.
    pub upload: UploadId,
    /// The image.
    pub image: ImageName,
    /// What the client wrote.
    pub content: ContentRecord,
    /// Tags to set to it in the same step.
    pub tags: Vec<TagName>,
    /// The server's clock, milliseconds since 1970.
    pub committed_unix_ms: i64,
    /// Who pushed, as the client says.
    pub who: String,
    /// Bytes in data extents.
    pub data_bytes: u64,
    /// Chunks that this push stored.
    pub new_chunks: u64,
    /// Bytes by which packs grew.
    pub new_stored_bytes: u64,
}

impl NewVersion {
    /// The version it becomes under this number.
    fn numbered(self, number: u64) -> VersionRecord {
        VersionRecord {
            image: self.image,
            number,
            id: self.content.id(),
            content: self.content,
            committed_unix_ms: self.committed_unix_ms,
            who: self.who,
            upload: self.upload,
            data_bytes: self.data_bytes,
            new_chunks: self.new_chunks,
            new_stored_bytes: self.new_stored_bytes,
        }
    }
}

/// Totals over the repository.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Images with at least one live version.
    pub images: u64,
    /// Live versions.
    pub versions: u64,
    /// Sum of their lengths in bytes.
    pub image_bytes: u64,
    /// Sum of their data bytes.
    pub data_bytes: u64,
    /// Sealed packs.
    pub packs: u64,
    /// Their length in bytes.
    pub pack_bytes: u64,
    /// Chunk records in them.
    pub chunks: u64,
    /// Node records in them.
    pub nodes: u64,
}

/// Knows where things are and decides what exists.
#[async_trait]
pub trait Catalog: Send + Sync + 'static {
    /// Where these objects of one kind are; `None` for those that no live pack of that kind has. One answer for each
    /// id, in order.
    ///
    /// The kind is the pack's, never the client's word: a tree that names a node as a chunk finds nothing.
    async fn locate(&self, kind: Purpose, ids: Vec<ObjectId>) -> Result<Vec<Option<Location>>, Error>;

    /// Like [`locate`](Self::locate), and in the same transaction the upload takes a hold on the packs found, so
    /// that they stay until it ends.
    async fn locate_and_hold(
        &self,
        upload: UploadId,
        kind: Purpose,
        ids: Vec<ObjectId>,
    ) -> Result<Vec<Option<Location>>, Error>;

    /// Makes a sealed pack's records known as what the pack is for, in one write; `holder` holds it. Adding a pack again changes nothing.
    /// Where another pack has a record of the same object, the newer location wins.
    async fn add_pack(
        &self,
        pack: PackRecord,
        objects: Vec<(ObjectId, Location)>,
        holder: Option<UploadId>,
    ) -> Result<(), Error>;

    /// All packs that are known, in order of their ids.
    async fn packs(&self) -> Result<Vec<PackRecord>, Error>;

    /// Opens an upload, or opens it again.
    ///
    /// # Errors
    /// [`Error::UploadMismatch`] when the id was opened with another image or base; [`Error::VersionNotFound`] when
    /// the base does not exist.
    async fn open_upload(&self, upload: UploadRecord) -> Result<UploadState, Error>;

    /// Forgets an upload and its holds. Forgetting an unknown or committed one changes nothing.
    async fn close_upload(&self, upload: UploadId) -> Result<(), Error>;

    /// Commits: gives the next number, sets the tags, ends the upload. Durable on return; the same upload again
    /// returns the same version.
    async fn commit(&self, version: NewVersion) -> Result<VersionRecord, Error>;

    /// Sets a tag to a live version. `expected` is the tag's counter as the caller knows it, 0 for "does not exist
    /// yet", `None` for "whatever it is". Durable on return.
    async fn set_tag(&self, to: VersionKey, tag: TagName, expected: Option<u64>) -> Result<TagRecord, Error>;

    /// Removes a tag. Durable on return.
    async fn remove_tag(&self, image: ImageName, tag: TagName, expected: Option<u64>) -> Result<(), Error>;

    /// Removes a version that no tag names. Durable on return; its number is never given again.
    async fn remove_version(&self, version: VersionKey) -> Result<(), Error>;

    /// The version that a selector means.
    async fn version(&self, image: ImageName, selector: Selector) -> Result<VersionRecord, Error>;

    /// Up to `limit` live versions with numbers above `after`, ascending.
    ///
    /// # Errors
    /// [`Error::ImageNotFound`] when the image never had a version.
    async fn versions(&self, image: ImageName, after: u64, limit: usize) -> Result<Vec<VersionRecord>, Error>;

    /// Up to `limit` images with names above `after`, ascending; those without live versions included.
    async fn images(&self, after: Option<ImageName>, limit: usize) -> Result<Vec<ImageRecord>, Error>;

    /// All tags of an image, by name.
    async fn tags(&self, image: ImageName) -> Result<Vec<TagRecord>, Error>;

    /// Totals over the repository.
    async fn totals(&self) -> Result<Totals, Error>;
}
