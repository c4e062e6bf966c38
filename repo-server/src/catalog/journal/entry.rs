//! Decisions, and how an entry's payload spells them.

use imprint_content::{DecodeError, ImageName, TagName};
use prost::{Message, Oneof, encoding};

use crate::catalog::{
    TagRecord, VersionKey, VersionRecord,
    messages::{self, TagMessage, VersionMessage},
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
    /// A version is gone; its number stays used.
    VersionRemoved {
        /// The version.
        version: VersionKey,
        /// The server's clock, milliseconds since 1970.
        removed_unix_ms: i64,
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

#[derive(Clone, PartialEq, Message)]
struct EntryMessage {
    #[prost(oneof = "DecisionMessage", tags = "1, 2, 3, 4")]
    decision: Option<DecisionMessage>,
}

/// The highest field of [`EntryMessage`].
const LAST_KNOWN_DECISION: u32 = 4;

#[derive(Clone, PartialEq, Oneof)]
enum DecisionMessage {
    #[prost(message, tag = "1")]
    Commit(CommitMessage),
    #[prost(message, tag = "2")]
    TagSet(TagMessage),
    #[prost(message, tag = "3")]
    TagRemoved(TagRemovedMessage),
    #[prost(message, tag = "4")]
    VersionRemoved(VersionRemovedMessage),
}

#[derive(Clone, PartialEq, Message)]
struct CommitMessage {
    #[prost(message, optional, tag = "1")]
    version: Option<VersionMessage>,
    #[prost(message, repeated, tag = "2")]
    tags: Vec<CommitTagMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct CommitTagMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint64, tag = "2")]
    counter: u64,
}

#[derive(Clone, PartialEq, Message)]
struct TagRemovedMessage {
    #[prost(string, tag = "1")]
    image: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(uint64, tag = "3")]
    counter: u64,
}

#[derive(Clone, PartialEq, Message)]
struct VersionRemovedMessage {
    #[prost(string, tag = "1")]
    image: String,
    #[prost(uint64, tag = "2")]
    number: u64,
    #[prost(int64, tag = "3")]
    removed_unix_ms: i64,
}

impl Decision {
    /// The payload of this decision's entry.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        EntryMessage { decision: Some(self.into()) }.encode_to_vec()
    }

    /// Parses the payload of an entry.
    ///
    /// # Errors
    /// [`DecodeError::Unknown`] for a kind of decision that a newer Imprint wrote; another one for anything that
    /// is not a whole and valid decision.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        refuse_unknown_kind(payload)?;
        let entry: EntryMessage = messages::decode(payload, "journal entry")?;
        match entry.decision.ok_or(DecodeError::invalid("journal entry", "it decides nothing"))? {
            DecisionMessage::Commit(commit) => Ok(Self::Commit(Box::new(commit.try_into()?))),
            DecisionMessage::TagSet(tag) => Ok(Self::TagSet(tag.try_into()?)),
            DecisionMessage::TagRemoved(removed) => Ok(Self::TagRemoved {
                image: messages::parse(&removed.image, "image name")?,
                name: messages::parse(&removed.name, "tag")?,
                counter: messages::from_one(removed.counter, "tag counter")?,
            }),
            DecisionMessage::VersionRemoved(removed) => Ok(Self::VersionRemoved {
                version: VersionKey {
                    image: messages::parse(&removed.image, "image name")?,
                    number: messages::from_one(removed.number, "version number")?,
                },
                removed_unix_ms: removed.removed_unix_ms,
            }),
        }
    }
}

/// prost skips fields it does not know; a decision must never be skipped.
fn refuse_unknown_kind(mut payload: &[u8]) -> Result<(), DecodeError> {
    let what = "journal entry";
    let (field, _) =
        encoding::decode_key(&mut payload).map_err(|_| DecodeError::invalid(what, "not a message of its kind"))?;
    if field > LAST_KNOWN_DECISION { Err(DecodeError::Unknown { what, found: field.into() }) } else { Ok(()) }
}

impl From<&Decision> for DecisionMessage {
    fn from(decision: &Decision) -> Self {
        match decision {
            Decision::Commit(commit) => Self::Commit(commit.as_ref().into()),
            Decision::TagSet(tag) => Self::TagSet(tag.into()),
            Decision::TagRemoved { image, name, counter } => Self::TagRemoved(TagRemovedMessage {
                image: image.to_string(),
                name: name.to_string(),
                counter: *counter,
            }),
            Decision::VersionRemoved { version, removed_unix_ms } => Self::VersionRemoved(VersionRemovedMessage {
                image: version.image.to_string(),
                number: version.number,
                removed_unix_ms: *removed_unix_ms,
            }),
        }
    }
}

impl From<&Commit> for CommitMessage {
    fn from(commit: &Commit) -> Self {
        let tag = |tag: &TagRecord| CommitTagMessage { name: tag.name.to_string(), counter: tag.counter };
        Self { version: Some((&commit.version).into()), tags: commit.tags.iter().map(tag).collect() }
    }
}

impl TryFrom<CommitMessage> for Commit {
    type Error = DecodeError;

    fn try_from(message: CommitMessage) -> Result<Self, DecodeError> {
        let version = message.version.ok_or(DecodeError::invalid("commit", "it has no version"))?;
        let version = VersionRecord::try_from(version)?;
        let tag = |tag: CommitTagMessage| {
            Ok(TagRecord {
                image: version.image.clone(),
                name: messages::parse(&tag.name, "tag")?,
                number: version.number,
                counter: messages::from_one(tag.counter, "tag counter")?,
            })
        };
        let tags = message.tags.into_iter().map(tag).collect::<Result<_, DecodeError>>()?;
        Ok(Self { version, tags })
    }
}
