//! Records as protobuf messages: what journal entries and version values of the catalog are made of.
//!
//! Fields are added, never renumbered. Whatever is read here passes every check of the domain's own types.

use imprint_content::{ContentRecord, DecodeError, VersionId};
use prost::Message;

use super::{TagRecord, VersionRecord};
use crate::UploadId;

#[derive(Clone, PartialEq, Message)]
pub(super) struct VersionMessage {
    #[prost(string, tag = "1")]
    image: String,
    #[prost(uint64, tag = "2")]
    number: u64,
    /// As its writer encoded it: its hash is the version id.
    #[prost(bytes = "vec", tag = "3")]
    content: Vec<u8>,
    #[prost(int64, tag = "4")]
    committed_unix_ms: i64,
    #[prost(string, tag = "5")]
    who: String,
    #[prost(bytes = "vec", tag = "6")]
    upload: Vec<u8>,
    #[prost(uint64, tag = "7")]
    data_bytes: u64,
    #[prost(uint64, tag = "8")]
    new_chunks: u64,
    #[prost(uint64, tag = "9")]
    new_stored_bytes: u64,
}

impl From<&VersionRecord> for VersionMessage {
    fn from(version: &VersionRecord) -> Self {
        Self {
            image: version.image.to_string(),
            number: version.number,
            content: version.content.encode(),
            committed_unix_ms: version.committed_unix_ms,
            who: version.who.clone(),
            upload: version.upload.as_bytes().to_vec(),
            data_bytes: version.data_bytes,
            new_chunks: version.new_chunks,
            new_stored_bytes: version.new_stored_bytes,
        }
    }
}

impl TryFrom<VersionMessage> for VersionRecord {
    type Error = DecodeError;

    fn try_from(message: VersionMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            image: parse(&message.image, "image name")?,
            number: from_one(message.number, "version number")?,
            id: VersionId::of(&message.content),
            content: ContentRecord::decode(&message.content)?,
            committed_unix_ms: message.committed_unix_ms,
            who: message.who,
            upload: UploadId::from_slice(&message.upload)
                .ok_or(DecodeError::invalid("upload id", "not 16 bytes long"))?,
            data_bytes: message.data_bytes,
            new_chunks: message.new_chunks,
            new_stored_bytes: message.new_stored_bytes,
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TagMessage {
    #[prost(string, tag = "1")]
    image: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(uint64, tag = "3")]
    number: u64,
    #[prost(uint64, tag = "4")]
    counter: u64,
}

impl From<&TagRecord> for TagMessage {
    fn from(tag: &TagRecord) -> Self {
        Self { image: tag.image.to_string(), name: tag.name.to_string(), number: tag.number, counter: tag.counter }
    }
}

impl TryFrom<TagMessage> for TagRecord {
    type Error = DecodeError;

    fn try_from(message: TagMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            image: parse(&message.image, "image name")?,
            name: parse(&message.name, "tag")?,
            number: from_one(message.number, "version number")?,
            counter: from_one(message.counter, "tag counter")?,
        })
    }
}

/// Decodes a message of any kind; `what` names it in the error.
pub(super) fn decode<M: Message + Default>(bytes: &[u8], what: &'static str) -> Result<M, DecodeError> {
    M::decode(bytes).map_err(|_| DecodeError::invalid(what, "not a message of its kind"))
}

/// A name that must be a valid one.
pub(super) fn parse<T: std::str::FromStr>(text: &str, what: &'static str) -> Result<T, DecodeError> {
    text.parse().map_err(|_| DecodeError::invalid(what, "not a valid name"))
}

/// Numbers and counters start at 1, so that an absent field is never taken for one.
pub(super) fn from_one(value: u64, what: &'static str) -> Result<u64, DecodeError> {
    if value == 0 { Err(DecodeError::invalid(what, "zero")) } else { Ok(value) }
}
