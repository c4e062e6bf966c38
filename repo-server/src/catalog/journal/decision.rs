//! Decisions: what an entry of the journal says. How it is spelled: [`wire`](super::wire).

use imprint_content::{ImageName, TagName};

use crate::{
    PackId,
    catalog::{Damage, FinishedMark, IntactRecords, TagRecord, VersionKey, VersionRecord},
};

/// Something that was decided. The order of decisions is the history of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// A version exists.
    Commit(Box<Commit>),
    /// A tag names a version.
    TagSet(TagRecord),
    /// A tag names nothing.
    TagRemoved {
        /// The image.
        image: ImageName,
        /// The tag.
        name: TagName,
        /// The tag's counter after its removal.
        counter: u64,
    },
    /// A version is gone, until it is brought back; its number stays used.
    VersionRemoved {
        /// The version.
        version: VersionKey,
        /// The server's clock, milliseconds since 1970.
        removed_unix_ms: i64,
    },
    /// A removed version is live again.
    VersionUndeleted {
        /// The version.
        version: VersionKey,
        /// The server's clock, milliseconds since 1970.
        undeleted_unix_ms: i64,
    },
    /// A removed version is gone for good.
    VersionPurged {
        /// The version.
        version: VersionKey,
        /// The server's clock, milliseconds since 1970.
        purged_unix_ms: i64,
    },
    /// A version cannot be removed.
    VersionPinned {
        /// The version.
        version: VersionKey,
        /// The server's clock, milliseconds since 1970.
        pinned_unix_ms: i64,
    },
    /// A version can be removed again.
    VersionUnpinned {
        /// The version.
        version: VersionKey,
        /// The server's clock, milliseconds since 1970.
        unpinned_unix_ms: i64,
    },
    /// Nothing is located in these packs any more; their files may be deleted.
    PacksCondemned {
        /// The packs.
        packs: Vec<PackId>,
        /// The server's clock, milliseconds since 1970.
        condemned_unix_ms: i64,
    },
    /// Records are not read any more.
    Quarantined(Damage),
    /// Records are read again.
    Readmitted(IntactRecords),
    /// A collection came to its end.
    MarkFinished(FinishedMark),
    /// How long removed versions can be brought back, from now on.
    GraceSet {
        /// In milliseconds.
        grace_ms: u64,
        /// The server's clock, milliseconds since 1970.
        set_unix_ms: i64,
    },
}

/// A version and the tags that were set to it in the same step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The version.
    pub version: VersionRecord,
    /// All of them name `version`.
    pub tags: Vec<TagRecord>,
}
