//! What is known: where objects are, which versions and tags exist, which uploads are open.
//!
//! The seam's methods are whole transactions of the domain. An engine makes each *decision* (commit, tag,
//! removal) durable in its journal before it answers; the rest can be derived from journal and packs.
//! Every engine passes the same `laws`.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use async_trait::async_trait;
use imprint_content::{Codec, ContentRecord, ImageName, NodeId, ObjectId, Selector, TagName, VersionId};

use crate::{Error, PackId, UploadId, pack::Purpose};

pub mod journal;

mod active_marks;
mod embedded;
#[cfg(test)]
mod fuzz;
mod keys;
#[cfg(test)]
mod laws;
mod memory;
mod messages;
mod reclamation;
mod rocks;
mod scrub;
mod uses;
mod values;

pub use embedded::{EmbeddedCatalog, InDoubt};
pub use memory::MemoryCatalog;
pub use reclamation::{
    Candidate, Condemnation, Damage, DamagedObject, FinishedMark, IntactRecords, MAX_DAMAGE_OBJECTS, Mark, MarkEnd,
    MarkId, RecordSet, Refusal, Root, RootKind, VersionCounts,
};
pub use scrub::ScrubState;
pub use uses::UploadUse;

/// The grace of a repository for which none was set.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

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
    /// Position of the record among those of its pack, in ascending order of their ids, from 0, as the pack was read when
    /// it was added: the index in [`PackIndex::objects`](crate::pack::PackIndex). No two objects that are located in one
    /// pack have the same, so that one bit a record is enough to mark them.
    pub ordinal: u32,
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

/// A sealed pack, its records' ids and where they are.
pub type PackContents = (PackRecord, Vec<(ObjectId, Location)>);

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
    /// The version whose objects the client need not ask about. Live when the upload is opened. It may be removed, and
    /// purged, afterwards: its tree stays as long as the upload is open.
    pub base: Option<VersionKey>,
}

/// The base of an open upload, as it was when the upload was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseRecord {
    /// Which version it is.
    pub version: VersionKey,
    /// Hash of its content record.
    pub id: VersionId,
    /// The top of its tree.
    pub root: NodeId,
}

/// A version that was removed and can be brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedVersion {
    /// The version.
    pub version: VersionRecord,
    /// The server's clock at its removal, milliseconds since 1970.
    pub removed_unix_ms: i64,
}

/// What opening an upload found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadState {
    /// It is open, newly or still.
    Open {
        /// What it relies on.
        base: Option<Box<BaseRecord>>,
    },
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

    /// Makes a sealed pack's records known as what the pack is for, in one write; `holder` holds it, and it is stamped for
    /// every mark that is active.
    ///
    /// Where another pack has a record of the same object, the newer location wins, and whoever held the other pack holds
    /// this one too: a hold follows its object. Quarantined records are passed over. A pack that is added again gives
    /// places only to those of its objects that are located nowhere; one that was condemned is not added again.
    async fn add_pack(
        &self,
        pack: PackRecord,
        objects: Vec<(ObjectId, Location)>,
        holder: Option<UploadId>,
    ) -> Result<(), Error>;

    /// Adds packs, one after the other, that were sealed long ago and that no upload waits for: all of a repository when
    /// its catalog is derived anew. An engine may take them in one write; where that fails, none, some or all were added.
    async fn add_packs(&self, packs: Vec<PackContents>) -> Result<(), Error> {
        for (pack, objects) in packs {
            self.add_pack(pack, objects, None).await?;
        }
        Ok(())
    }

    /// All live packs, in order of their ids; condemned ones are not among them.
    async fn packs(&self) -> Result<Vec<PackRecord>, Error>;

    /// Says that a stream works on this upload, which then does not expire. Begun before it is opened.
    fn use_upload(&self, upload: UploadId) -> UploadUse;

    /// Opens an upload, or opens it again.
    ///
    /// From here until the upload ends, the base's tree is a root of every mark.
    ///
    /// # Errors
    /// [`Error::UploadMismatch`] when the id was opened with another image or base; [`Error::VersionNotFound`] when
    /// the base does not exist.
    async fn open_upload(&self, upload: UploadRecord) -> Result<UploadState, Error>;

    /// Forgets an upload and its holds, also one that is in use: what an expiry on another server would do. Forgetting an
    /// unknown or committed one changes nothing.
    #[cfg(test)]
    async fn close_upload(&self, upload: UploadId) -> Result<(), Error>;

    /// Closes the uploads that no stream uses, and that were last used before this time (the server's clock,
    /// milliseconds since 1970). What they sent stays until it is collected; what they rely on no longer does.
    ///
    /// An upload counts as used when it is opened, and, to some ten minutes, when it asks or a pack of its own is added.
    async fn expire_uploads(&self, unused_since_unix_ms: i64) -> Result<Vec<UploadId>, Error>;

    /// Commits: gives the next number, sets the tags, ends the upload. Durable on return; the same upload again
    /// returns the same version. The packs that
    /// the upload holds are stamped for every mark that is active.
    ///
    /// # Errors
    /// [`Error::UploadNotOpen`] when it was closed, or expired, meanwhile.
    async fn commit(&self, version: NewVersion) -> Result<VersionRecord, Error>;

    /// Sets a tag to a live version. `expected` is the tag's counter as the caller knows it, 0 for "does not exist
    /// yet", `None` for "whatever it is". Durable on return.
    async fn set_tag(&self, to: VersionKey, tag: TagName, expected: Option<u64>) -> Result<TagRecord, Error>;

    /// Removes a tag. Durable on return.
    async fn remove_tag(&self, image: ImageName, tag: TagName, expected: Option<u64>) -> Result<(), Error>;

    /// Removes a version that no tag names and that is not pinned. Durable on return. It can be brought back until it is
    /// purged; its number is never given again.
    async fn remove_version(&self, version: VersionKey, removed_unix_ms: i64) -> Result<(), Error>;

    /// Brings a removed version back, with its number and without the tags that it once had. Durable on return. A live
    /// one is returned as it is.
    ///
    /// # Errors
    /// [`Error::VersionNotFound`] when it was purged, or never existed.
    async fn undelete_version(&self, version: VersionKey, undeleted_unix_ms: i64) -> Result<VersionRecord, Error>;

    /// Gives up a version that was removed at this very time: it cannot be brought back, and its tree is no root any more.
    /// Durable on return.
    ///
    /// # Errors
    /// [`Error::VersionNotFound`] when it is not a removed version, or was removed at another time.
    async fn purge_version(&self, version: VersionKey, removed_unix_ms: i64, purged_unix_ms: i64) -> Result<(), Error>;

    /// Up to `limit` removed versions that are not purged, of one image or of all, ascending by image and number, from
    /// behind `after` on.
    ///
    /// # Errors
    /// [`Error::ImageNotFound`] when the image never had a version.
    async fn removed_versions(
        &self,
        image: Option<ImageName>,
        after: Option<VersionKey>,
        limit: usize,
    ) -> Result<Vec<RemovedVersion>, Error>;

    /// How long a removed version can be brought back before a collection may purge it: [`DEFAULT_GRACE`] until it was set.
    async fn grace(&self) -> Result<Duration, Error>;

    /// Sets the grace of the repository, in whole milliseconds, also for what was removed before. Durable on return.
    async fn set_grace(&self, grace: Duration, set_unix_ms: i64) -> Result<(), Error>;

    /// Pins a live version: it cannot be removed. Durable on return. Whether it was not pinned before.
    async fn pin_version(&self, version: VersionKey, pinned_unix_ms: i64) -> Result<bool, Error>;

    /// Takes the pin from a live version. Durable on return. Whether it was pinned.
    async fn unpin_version(&self, version: VersionKey, unpinned_unix_ms: i64) -> Result<bool, Error>;

    /// The numbers of an image's pinned versions, ascending.
    async fn pins(&self, image: ImageName) -> Result<Vec<u64>, Error>;

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

    /// Begins a mark: lists the roots, and from the same moment on stamps what comes to be needed.
    ///
    /// Several may be active. Each must be ended, or it is kept in memory until the catalog is closed.
    async fn begin_mark(&self) -> Result<Mark, Error>;

    /// Packs that open uploads hold at this moment, in order of their ids: they would not be condemned.
    async fn held_packs(&self) -> Result<BTreeSet<PackId>, Error>;

    /// Condemns those of these packs on which nothing rests, in one decision. Durable on return; one answer for each, in
    /// order.
    ///
    /// Nothing rests on a pack that no open upload holds, that is not stamped for `mark`, and in which no object is
    /// located that was marked. It is no longer live then, and no object is located in it. Its file may be deleted, and
    /// after that [`forget_condemned`](Self::forget_condemned) ends it.
    async fn condemn(
        &self,
        mark: MarkId,
        candidates: Vec<Candidate>,
        condemned_unix_ms: i64,
    ) -> Result<Vec<Condemnation>, Error>;

    /// Ends a mark. Ending one that has ended changes nothing.
    async fn end_mark(&self, mark: MarkId, end: MarkEnd) -> Result<(), Error>;

    /// Packs that were condemned and whose files may still exist, in order of their ids.
    async fn condemned_packs(&self) -> Result<Vec<PackId>, Error>;

    /// Forgets condemned packs. Their files must be gone, durably.
    async fn forget_condemned(&self, packs: Vec<PackId>) -> Result<(), Error>;

    /// Those of these packs that were ever condemned, forgotten or not. Reads the whole journal.
    async fn ever_condemned(&self, packs: Vec<PackId>) -> Result<Vec<PackId>, Error>;

    /// Quarantines records of a live pack: objects that are located there are located nowhere until another pack brings
    /// them, and no rebuild locates them there again. Durable on return. How many records were not quarantined before;
    /// 0 for a pack that is not live.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for more than [`MAX_DAMAGE_OBJECTS`].
    async fn quarantine(&self, damage: Damage) -> Result<u64, Error>;

    /// The quarantined records of a pack.
    async fn quarantined_in(&self, pack: PackId) -> Result<HashSet<(Purpose, ObjectId)>, Error>;

    /// Uses records of a live pack again, of objects that are located nowhere, or whose record there was quarantined: it is so no
    /// longer, and what is located nowhere is located there from now on. Durable on return. Nobody knows who relied on the object where it was before, so
    /// every open upload holds the pack, and no mark that is active lets it be condemned. How many were quarantined.
    ///
    /// Nothing is done with a pack that is not live, nor with one that the catalog knows with another number of records: places in
    /// it have other ordinals.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for more than [`MAX_DAMAGE_OBJECTS`].
    async fn readmit(&self, records: IntactRecords) -> Result<u64, Error>;

    /// Up to `limit` quarantined records whose objects are located nowhere, one for each record, by pack.
    async fn unhealed_damage(&self, limit: usize) -> Result<Vec<DamagedObject>, Error>;

    /// Up to `limit` objects of one kind and where they are, ascending by id, from behind `after` on; none behind the last.
    /// Only places in live packs.
    async fn places(
        &self,
        kind: Purpose,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<(ObjectId, Location)>, Error>;

    /// Notes that these live packs were looked at, every byte of them, whatever that found. Not a decision: a crash may
    /// take it back and a rebuild does not know it; then they are looked at once more.
    async fn note_verified(&self, packs: Vec<PackId>, verified_unix_ms: i64) -> Result<(), Error>;

    /// When live packs were last noted as verified, by pack; those that never were are not listed.
    async fn verifications(&self) -> Result<Vec<(PackId, i64)>, Error>;

    /// How far scrubbing is.
    async fn scrub_state(&self) -> Result<ScrubState, Error>;

    /// Notes how far scrubbing is. As little durable as [`note_verified`](Self::note_verified).
    async fn note_scrub_state(&self, state: ScrubState) -> Result<(), Error>;

    /// Whether it is not known that everything is there that versions need, so that no version vouches for what is below its
    /// nodes. So it is since the catalog was derived from what packs were there, and when a scrub found something to be lost.
    async fn are_trees_in_doubt(&self) -> Result<bool, Error>;

    /// Notes what walking all trees came to. As little durable as [`note_verified`](Self::note_verified).
    async fn note_trees(&self, in_doubt: bool) -> Result<(), Error>;

    /// Totals over the repository.
    async fn totals(&self) -> Result<Totals, Error>;
}
