//! Between wire messages and the store's types. What a peer sends is checked here, before anything else sees it.

use bytes::Bytes;
use imprint_content::{Codec, ImageName, ObjectId, Payload, Selector, TagName};
use imprint_proto::v1;

use crate::{
    Error,
    catalog::{TagRecord, Totals, VersionKey, VersionRecord},
    pack::Purpose,
    store::scrub::ScrubHealth,
};

pub(super) fn bad(why: impl Into<String>) -> Error {
    Error::BadRequest(why.into())
}

pub(super) fn image(name: &str) -> Result<ImageName, Error> {
    name.parse().map_err(|error: imprint_content::NameError| bad(error.to_string()))
}

pub(super) fn tag(name: &str) -> Result<TagName, Error> {
    name.parse().map_err(|error: imprint_content::NameError| bad(error.to_string()))
}

pub(super) fn version_key(key: Option<v1::VersionKey>) -> Result<VersionKey, Error> {
    let key = key.ok_or_else(|| bad("the request names no version"))?;
    Ok(VersionKey { image: image(&key.image)?, number: key.number })
}

pub(super) fn selector(selector: Option<v1::get_version_request::Selector>) -> Result<Selector, Error> {
    use v1::get_version_request::Selector as Wire;
    Ok(match selector {
        None => Selector::Latest,
        Some(Wire::Tag(name)) => Selector::Tag(tag(&name)?),
        Some(Wire::Number(number)) => Selector::Number(number),
        Some(Wire::IdPrefix(digits)) if is_id_prefix(&digits) => Selector::IdPrefix(digits),
        Some(Wire::IdPrefix(_)) => return Err(bad("a version id is 1 to 64 lower-case hexadecimal digits")),
    })
}

fn is_id_prefix(digits: &str) -> bool {
    (1..=64).contains(&digits.len()) && digits.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

pub(super) fn purpose(kind: i32) -> Result<Purpose, Error> {
    match v1::ObjectKind::try_from(kind) {
        Ok(v1::ObjectKind::Chunk) => Ok(Purpose::Chunks),
        Ok(v1::ObjectKind::Node) => Ok(Purpose::Nodes),
        _ => Err(bad(format!("{kind} is no kind of object"))),
    }
}

/// Splits ids that were sent back to back.
pub(super) fn ids(joined: &Bytes, limit: usize) -> Result<Vec<ObjectId>, Error> {
    let (ids, rest) = joined.as_chunks::<32>();
    if !rest.is_empty() || ids.len() > limit {
        return Err(bad(format!("expected at most {limit} ids of 32 bytes, got {} bytes", joined.len())));
    }
    Ok(ids.iter().map(|id| ObjectId::from_bytes(*id)).collect())
}

pub(super) fn object(object: v1::Object) -> Result<(ObjectId, Payload), Error> {
    let id = ObjectId::from_slice(&object.id).ok_or_else(|| bad("an object's id has not 32 bytes"))?;
    let codec = Codec::from_number(object.codec).map_err(Error::BadMessage)?;
    if object.stored.len() > object.raw_length as usize {
        return Err(bad(format!("object {id} is longer as sent than decoded: send it raw")));
    }
    Ok((id, Payload { codec, raw_length: object.raw_length, stored: object.stored }))
}

/// `tags` and `pins` are those of the version's image.
pub(super) fn version(record: &VersionRecord, tags: &[TagRecord], pins: &[u64]) -> v1::Version {
    v1::Version {
        image: record.image.to_string(),
        number: record.number,
        version_id: Bytes::copy_from_slice(record.id.as_bytes()),
        content_record: record.content.encode().into(),
        committed_unix_ms: record.committed_unix_ms,
        who: record.who.clone(),
        tags: tags.iter().filter(|tag| tag.number == record.number).map(|tag| tag.name.to_string()).collect(),
        data_bytes: record.data_bytes,
        new_chunks: record.new_chunks,
        new_stored_bytes: record.new_stored_bytes,
        pinned: pins.contains(&record.number),
    }
}

pub(super) fn tag_message(record: &TagRecord) -> v1::Tag {
    v1::Tag {
        image: record.image.to_string(),
        name: record.name.to_string(),
        number: record.number,
        counter: record.counter,
    }
}

pub(super) fn stats(totals: Totals, health: ScrubHealth) -> v1::Stats {
    v1::Stats {
        images: totals.images,
        versions: totals.versions,
        image_bytes: totals.image_bytes,
        data_bytes: totals.data_bytes,
        packs: totals.packs,
        pack_bytes: totals.pack_bytes,
        chunks: totals.chunks,
        nodes: totals.nodes,
        scrubbed_unix_ms: health.scrubbed_unix_ms.unwrap_or(0),
        verified_unix_ms: health.verified_unix_ms.unwrap_or(0),
        unverified_packs: health.unverified_packs,
        damaged_objects: health.damaged_objects,
    }
}
