//! How an entry's payload spells a decision: a protobuf message. Fields are added, never renumbered.

use imprint_content::{Codec, DecodeError, ObjectId};
use prost::{Message, Oneof, encoding};

use super::decision::{Commit, Decision};
use crate::{
    PackId,
    catalog::{
        Damage, FinishedMark, IntactRecords, Location, TagRecord, VersionCounts, VersionKey, VersionRecord,
        messages::{self, TagMessage, VersionMessage},
    },
    pack::Purpose,
};

#[derive(Clone, PartialEq, Message)]
struct EntryMessage {
    #[prost(oneof = "DecisionMessage", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13")]
    decision: Option<DecisionMessage>,
}

/// The highest field of [`EntryMessage`].
const LAST_KNOWN_DECISION: u32 = 13;

#[derive(Clone, PartialEq, Oneof)]
enum DecisionMessage {
    #[prost(message, tag = "1")]
    Commit(CommitMessage),
    #[prost(message, tag = "2")]
    TagSet(TagMessage),
    #[prost(message, tag = "3")]
    TagRemoved(TagRemovedMessage),
    #[prost(message, tag = "4")]
    VersionRemoved(VersionTimeMessage),
    #[prost(message, tag = "5")]
    VersionUndeleted(VersionTimeMessage),
    #[prost(message, tag = "6")]
    VersionPurged(VersionTimeMessage),
    #[prost(message, tag = "7")]
    VersionPinned(VersionTimeMessage),
    #[prost(message, tag = "8")]
    VersionUnpinned(VersionTimeMessage),
    #[prost(message, tag = "9")]
    PacksCondemned(PacksCondemnedMessage),
    #[prost(message, tag = "10")]
    Quarantined(QuarantinedMessage),
    #[prost(message, tag = "11")]
    MarkFinished(MarkFinishedMessage),
    #[prost(message, tag = "12")]
    GraceSet(GraceSetMessage),
    #[prost(message, tag = "13")]
    Readmitted(ReadmittedMessage),
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

/// Something that happened to a version, and when by the server's clock.
#[derive(Clone, PartialEq, Message)]
struct VersionTimeMessage {
    #[prost(string, tag = "1")]
    image: String,
    #[prost(uint64, tag = "2")]
    number: u64,
    #[prost(int64, tag = "3")]
    unix_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct PacksCondemnedMessage {
    /// 16 bytes each.
    #[prost(bytes = "vec", tag = "1")]
    packs: Vec<u8>,
    #[prost(int64, tag = "2")]
    condemned_unix_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct QuarantinedMessage {
    #[prost(bytes = "vec", tag = "1")]
    pack: Vec<u8>,
    #[prost(uint32, tag = "2")]
    kind: u32,
    /// 32 bytes each.
    #[prost(bytes = "vec", tag = "3")]
    objects: Vec<u8>,
    #[prost(string, tag = "4")]
    why: String,
    #[prost(int64, tag = "5")]
    found_unix_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ReadmittedMessage {
    #[prost(bytes = "vec", tag = "1")]
    pack: Vec<u8>,
    #[prost(uint32, tag = "2")]
    kind: u32,
    /// 32 bytes each.
    #[prost(bytes = "vec", tag = "3")]
    objects: Vec<u8>,
    #[prost(int64, tag = "4")]
    read_unix_ms: i64,
    /// Entries of the pack.
    #[prost(uint32, tag = "5")]
    entries: u32,
    /// Of each object, as the following: where its record starts.
    #[prost(uint32, repeated, tag = "6")]
    offsets: Vec<u32>,
    #[prost(uint32, repeated, tag = "7")]
    stored_lengths: Vec<u32>,
    #[prost(uint32, repeated, tag = "8")]
    raw_lengths: Vec<u32>,
    #[prost(bytes = "vec", tag = "9")]
    codecs: Vec<u8>,
    #[prost(uint32, repeated, tag = "10")]
    ordinals: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct MarkFinishedMessage {
    #[prost(int64, tag = "1")]
    finished_unix_ms: i64,
    #[prost(uint64, tag = "2")]
    versions: u64,
    #[prost(uint64, tag = "3")]
    purged: u64,
}

#[derive(Clone, PartialEq, Message)]
struct GraceSetMessage {
    #[prost(uint64, tag = "1")]
    grace_ms: u64,
    #[prost(int64, tag = "2")]
    set_unix_ms: i64,
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
        entry.decision.ok_or(DecodeError::invalid("journal entry", "it decides nothing"))?.try_into()
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
        let at = VersionTimeMessage::new;
        match decision {
            Decision::Commit(commit) => Self::Commit(commit.as_ref().into()),
            Decision::TagSet(tag) => Self::TagSet(tag.into()),
            Decision::TagRemoved { image, name, counter } => Self::TagRemoved(TagRemovedMessage {
                image: image.to_string(),
                name: name.to_string(),
                counter: *counter,
            }),
            Decision::VersionRemoved { version, removed_unix_ms } => {
                Self::VersionRemoved(at(version, *removed_unix_ms))
            }
            Decision::VersionUndeleted { version, undeleted_unix_ms } => {
                Self::VersionUndeleted(at(version, *undeleted_unix_ms))
            }
            Decision::VersionPurged { version, purged_unix_ms } => Self::VersionPurged(at(version, *purged_unix_ms)),
            Decision::VersionPinned { version, pinned_unix_ms } => Self::VersionPinned(at(version, *pinned_unix_ms)),
            Decision::VersionUnpinned { version, unpinned_unix_ms } => {
                Self::VersionUnpinned(at(version, *unpinned_unix_ms))
            }
            Decision::PacksCondemned { packs, condemned_unix_ms } => Self::PacksCondemned(PacksCondemnedMessage {
                packs: packs.iter().flat_map(PackId::as_bytes).copied().collect(),
                condemned_unix_ms: *condemned_unix_ms,
            }),
            Decision::Quarantined(damage) => Self::Quarantined(damage.into()),
            Decision::Readmitted(records) => Self::Readmitted(records.into()),
            Decision::MarkFinished(mark) => Self::MarkFinished(MarkFinishedMessage {
                finished_unix_ms: mark.finished_unix_ms,
                versions: mark.counts.versions,
                purged: mark.counts.purged,
            }),
            Decision::GraceSet { grace_ms, set_unix_ms } => {
                Self::GraceSet(GraceSetMessage { grace_ms: *grace_ms, set_unix_ms: *set_unix_ms })
            }
        }
    }
}

impl TryFrom<DecisionMessage> for Decision {
    type Error = DecodeError;

    fn try_from(message: DecisionMessage) -> Result<Self, DecodeError> {
        Ok(match message {
            DecisionMessage::Commit(commit) => Self::Commit(Box::new(commit.try_into()?)),
            DecisionMessage::TagSet(tag) => Self::TagSet(tag.try_into()?),
            DecisionMessage::TagRemoved(removed) => Self::TagRemoved {
                image: messages::parse(&removed.image, "image name")?,
                name: messages::parse(&removed.name, "tag")?,
                counter: messages::from_one(removed.counter, "tag counter")?,
            },
            DecisionMessage::VersionRemoved(at) => {
                Self::VersionRemoved { version: at.version()?, removed_unix_ms: at.unix_ms }
            }
            DecisionMessage::VersionUndeleted(at) => {
                Self::VersionUndeleted { version: at.version()?, undeleted_unix_ms: at.unix_ms }
            }
            DecisionMessage::VersionPurged(at) => {
                Self::VersionPurged { version: at.version()?, purged_unix_ms: at.unix_ms }
            }
            DecisionMessage::VersionPinned(at) => {
                Self::VersionPinned { version: at.version()?, pinned_unix_ms: at.unix_ms }
            }
            DecisionMessage::VersionUnpinned(at) => {
                Self::VersionUnpinned { version: at.version()?, unpinned_unix_ms: at.unix_ms }
            }
            DecisionMessage::PacksCondemned(condemned) => Self::PacksCondemned {
                packs: split(&condemned.packs, "condemned packs")?.into_iter().map(PackId::from_bytes).collect(),
                condemned_unix_ms: condemned.condemned_unix_ms,
            },
            DecisionMessage::Quarantined(damage) => Self::Quarantined(damage.try_into()?),
            DecisionMessage::Readmitted(records) => Self::Readmitted(records.try_into()?),
            DecisionMessage::MarkFinished(mark) => Self::MarkFinished(FinishedMark {
                finished_unix_ms: mark.finished_unix_ms,
                counts: VersionCounts { versions: mark.versions, purged: mark.purged },
            }),
            DecisionMessage::GraceSet(set) => Self::GraceSet { grace_ms: set.grace_ms, set_unix_ms: set.set_unix_ms },
        })
    }
}

impl VersionTimeMessage {
    fn new(version: &VersionKey, unix_ms: i64) -> Self {
        Self { image: version.image.to_string(), number: version.number, unix_ms }
    }

    fn version(&self) -> Result<VersionKey, DecodeError> {
        Ok(VersionKey {
            image: messages::parse(&self.image, "image name")?,
            number: messages::from_one(self.number, "version number")?,
        })
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

impl From<&Damage> for QuarantinedMessage {
    fn from(damage: &Damage) -> Self {
        Self {
            pack: damage.pack.as_bytes().to_vec(),
            kind: damage.kind.number().into(),
            objects: join(&damage.objects),
            why: damage.why.clone(),
            found_unix_ms: damage.found_unix_ms,
        }
    }
}

impl TryFrom<QuarantinedMessage> for Damage {
    type Error = DecodeError;

    fn try_from(message: QuarantinedMessage) -> Result<Self, DecodeError> {
        let (pack, kind, objects) = split_records(&message.pack, message.kind, &message.objects)?;
        Ok(Self { pack, kind, objects, why: message.why, found_unix_ms: message.found_unix_ms })
    }
}

impl From<&IntactRecords> for ReadmittedMessage {
    fn from(records: &IntactRecords) -> Self {
        let ids: Vec<ObjectId> = records.objects.iter().map(|(id, _)| *id).collect();
        let each = |field: fn(&Location) -> u32| records.objects.iter().map(|(_, at)| field(at)).collect();
        Self {
            pack: records.pack.as_bytes().to_vec(),
            kind: records.kind.number().into(),
            objects: join(&ids),
            read_unix_ms: records.read_unix_ms,
            entries: records.entries,
            offsets: each(|at| at.offset),
            stored_lengths: each(|at| at.stored_length),
            raw_lengths: each(|at| at.raw_length),
            codecs: records.objects.iter().map(|(_, at)| at.codec.number()).collect(),
            ordinals: each(|at| at.ordinal),
        }
    }
}

impl TryFrom<ReadmittedMessage> for IntactRecords {
    type Error = DecodeError;

    fn try_from(message: ReadmittedMessage) -> Result<Self, DecodeError> {
        let (pack, kind, ids) = split_records(&message.pack, message.kind, &message.objects)?;
        let ReadmittedMessage { offsets, stored_lengths, raw_lengths, codecs, ordinals, .. } = message;
        let lengths = [offsets.len(), stored_lengths.len(), raw_lengths.len(), codecs.len(), ordinals.len()];
        if lengths != [ids.len(); 5] {
            return Err(DecodeError::invalid("readmitted records", "not a place for each"));
        }
        let place = |(n, id): (usize, ObjectId)| {
            let (offset, stored_length, raw_length) = (offsets[n], stored_lengths[n], raw_lengths[n]);
            let codec = Codec::from_number(codecs[n].into())?;
            Ok((id, Location { pack, offset, stored_length, raw_length, codec, ordinal: ordinals[n] }))
        };
        let objects = ids.into_iter().enumerate().map(place).collect::<Result<_, DecodeError>>()?;
        Ok(Self { pack, kind, entries: message.entries, objects, read_unix_ms: message.read_unix_ms })
    }
}

/// Records of one pack.
fn split_records(pack: &[u8], kind: u32, objects: &[u8]) -> Result<(PackId, Purpose, Vec<ObjectId>), DecodeError> {
    let what = "quarantined records";
    let pack = PackId::from_slice(pack).ok_or(DecodeError::invalid("pack id", "not 16 bytes long"))?;
    let kind = u8::try_from(kind).map_err(|_| DecodeError::invalid(what, "no kind of object"))?;
    let objects = split(objects, what)?.into_iter().map(ObjectId::from_bytes).collect();
    Ok((pack, Purpose::from_number(kind)?, objects))
}

fn join(objects: &[ObjectId]) -> Vec<u8> {
    objects.iter().flat_map(ObjectId::as_bytes).copied().collect()
}

/// Ids that stand back to back.
fn split<const N: usize>(joined: &[u8], what: &'static str) -> Result<Vec<[u8; N]>, DecodeError> {
    match joined.as_chunks() {
        (ids, []) => Ok(ids.to_vec()),
        _ => Err(DecodeError::invalid(what, "not whole ids")),
    }
}
