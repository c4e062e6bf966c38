//! Keys of the catalog's tables, in the order in which scans meet them.
//!
//! Every key starts with a deduplication domain and the table. There is one domain today; tenants that must not
//! learn of each other's chunks will get their own.

use imprint_content::{DecodeError, ImageName, ObjectId, TagName};

use super::messages;
use crate::{PackId, UploadId, pack::Purpose};

/// The only deduplication domain so far.
const DOMAIN: [u8; 4] = 0u32.to_be_bytes();
/// Changes when keys or values get another meaning. The index is then derived anew, never converted.
pub(super) const FORMAT: u16 = 3;
/// Length of a key's domain and table.
pub(super) const TABLE_PREFIX_BYTES: usize = DOMAIN.len() + 1;
/// Ends an image name in a key; no name contains it.
const END_OF_NAME: u8 = 0;

/// The tables. Numbers are part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    /// Chunk id: where it is.
    Chunks = 1,
    /// Pack id: the pack.
    Packs = 2,
    /// Image, number: the version.
    Versions = 3,
    /// Upload id: the version it became.
    CommittedUploads = 4,
    /// Upload id: the upload.
    OpenUploads = 5,
    /// Upload id, pack id: nothing.
    Holds = 6,
    /// Image: its numbers.
    Images = 7,
    /// Image, tag: what it names, or that it was removed.
    Tags = 8,
    /// Applied position of the journal, format of the index.
    Meta = 9,
    /// Node id: where it is. Apart from chunks, so that a tree cannot name one as the other.
    Nodes = 10,
    /// Image, number: the version that was removed, and when.
    Removed = 11,
    /// Image, number: nothing.
    Pins = 12,
    /// Pack id: nothing.
    Condemned = 13,
    /// Pack id, kind, object id: what is wrong with the record.
    Quarantined = 14,
    /// Pack id: when it was verified.
    Verified = 15,
}

/// What the keys of a whole table start with.
pub(super) fn table(table: Table) -> Vec<u8> {
    key(table, &[])
}

fn key(table: Table, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = Vec::with_capacity(TABLE_PREFIX_BYTES + parts.iter().map(|part| part.len()).sum::<usize>());
    key.extend_from_slice(&DOMAIN);
    key.push(table as u8);
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

pub(super) fn object(kind: Purpose, id: &ObjectId) -> Vec<u8> {
    let table = match kind {
        Purpose::Chunks => Table::Chunks,
        Purpose::Nodes => Table::Nodes,
    };
    key(table, &[id.as_bytes()])
}

pub(super) fn pack(id: PackId) -> Vec<u8> {
    key(Table::Packs, &[id.as_bytes()])
}

pub(super) fn condemned(pack: PackId) -> Vec<u8> {
    key(Table::Condemned, &[pack.as_bytes()])
}

pub(super) fn verified(pack: PackId) -> Vec<u8> {
    key(Table::Verified, &[pack.as_bytes()])
}

/// What the quarantined records of a pack start with; kinds and ids follow.
pub(super) fn quarantined_in(pack: PackId) -> Vec<u8> {
    key(Table::Quarantined, &[pack.as_bytes()])
}

pub(super) fn quarantined(pack: PackId, kind: Purpose, id: &ObjectId) -> Vec<u8> {
    key(Table::Quarantined, &[pack.as_bytes(), &[kind.number()], id.as_bytes()])
}

/// What the live versions of an image start with; numbers follow in their order.
pub(super) fn versions_of(image: &ImageName) -> Vec<u8> {
    numbered_of(Table::Versions, image)
}

pub(super) fn version(image: &ImageName, number: u64) -> Vec<u8> {
    numbered(Table::Versions, image, number)
}

/// What the removed versions of an image start with; numbers follow in their order.
pub(super) fn removed_of(image: &ImageName) -> Vec<u8> {
    numbered_of(Table::Removed, image)
}

pub(super) fn removed(image: &ImageName, number: u64) -> Vec<u8> {
    numbered(Table::Removed, image, number)
}

/// What the pins of an image start with; numbers follow in their order.
pub(super) fn pins_of(image: &ImageName) -> Vec<u8> {
    numbered_of(Table::Pins, image)
}

pub(super) fn pin(image: &ImageName, number: u64) -> Vec<u8> {
    numbered(Table::Pins, image, number)
}

fn numbered_of(table: Table, image: &ImageName) -> Vec<u8> {
    key(table, &[image.as_str().as_bytes(), &[END_OF_NAME]])
}

fn numbered(table: Table, image: &ImageName, number: u64) -> Vec<u8> {
    let mut key = numbered_of(table, image);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

pub(super) fn committed_upload(id: UploadId) -> Vec<u8> {
    key(Table::CommittedUploads, &[id.as_bytes()])
}

pub(super) fn open_upload(id: UploadId) -> Vec<u8> {
    key(Table::OpenUploads, &[id.as_bytes()])
}

/// What the holds of an upload start with; pack ids follow.
pub(super) fn holds_of(upload: UploadId) -> Vec<u8> {
    key(Table::Holds, &[upload.as_bytes()])
}

pub(super) fn hold(upload: UploadId, pack: PackId) -> Vec<u8> {
    key(Table::Holds, &[upload.as_bytes(), pack.as_bytes()])
}

pub(super) fn image(name: &ImageName) -> Vec<u8> {
    key(Table::Images, &[name.as_str().as_bytes()])
}

/// What the tags of an image start with; names follow in their order.
pub(super) fn tags_of(image: &ImageName) -> Vec<u8> {
    key(Table::Tags, &[image.as_str().as_bytes(), &[END_OF_NAME]])
}

pub(super) fn tag(image: &ImageName, name: &TagName) -> Vec<u8> {
    let mut key = tags_of(image);
    key.extend_from_slice(name.as_str().as_bytes());
    key
}

pub(super) fn applied_position() -> Vec<u8> {
    key(Table::Meta, &[b"applied"])
}

pub(super) fn format() -> Vec<u8> {
    key(Table::Meta, &[b"format"])
}

pub(super) fn purged_count() -> Vec<u8> {
    key(Table::Meta, &[b"purged"])
}

pub(super) fn grace() -> Vec<u8> {
    key(Table::Meta, &[b"grace"])
}

pub(super) fn finished_mark() -> Vec<u8> {
    key(Table::Meta, &[b"mark"])
}

/// There when it is not known that the trees of all versions are whole.
pub(super) fn trees_in_doubt() -> Vec<u8> {
    key(Table::Meta, &[b"doubt"])
}

pub(super) fn scrub_state() -> Vec<u8> {
    key(Table::Meta, &[b"scrub"])
}

/// The smallest key above `key`.
pub(super) fn after(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

/// The name that ends a key.
pub(super) fn parse_name<T: std::str::FromStr>(bytes: &[u8], what: &'static str) -> Result<T, DecodeError> {
    let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::invalid(what, "not UTF-8"))?;
    messages::parse(text, what)
}

/// The pack id that ends a key.
pub(super) fn parse_pack(bytes: &[u8]) -> Result<PackId, DecodeError> {
    PackId::from_slice(bytes).ok_or(DecodeError::invalid("pack id", "not 16 bytes long"))
}

/// The object id that ends a key.
pub(super) fn parse_object(bytes: &[u8]) -> Result<ObjectId, DecodeError> {
    ObjectId::from_slice(bytes).ok_or(DecodeError::invalid("object id", "not 32 bytes long"))
}

/// The upload id that ends a key.
pub(super) fn parse_upload(bytes: &[u8]) -> Result<UploadId, DecodeError> {
    UploadId::from_slice(bytes).ok_or(DecodeError::invalid("upload id", "not 16 bytes long"))
}

/// The number that ends a key.
pub(super) fn parse_number(bytes: &[u8]) -> Result<u64, DecodeError> {
    let bytes = bytes.try_into().map_err(|_| DecodeError::invalid("version number", "not 8 bytes long"))?;
    Ok(u64::from_be_bytes(bytes))
}

/// The kind and the object id that end the key of a quarantined record.
pub(super) fn parse_quarantined(bytes: &[u8]) -> Result<(Purpose, ObjectId), DecodeError> {
    let what = "quarantined record";
    let (kind, id) = bytes.split_first().ok_or(DecodeError::invalid(what, "cut short"))?;
    let id = ObjectId::from_slice(id).ok_or(DecodeError::invalid(what, "its id is not 32 bytes long"))?;
    Ok((Purpose::from_number(*kind)?, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_image_is_not_in_the_range_of_another() {
        let (lab, lab2): (ImageName, ImageName) = ("lab".parse().unwrap(), "lab2".parse().unwrap());
        assert!(!version(&lab2, 1).starts_with(&versions_of(&lab)));
        assert!(version(&lab, u64::MAX) < versions_of(&lab2));
    }

    #[test]
    fn numbers_are_in_order() {
        let lab: ImageName = "lab".parse().unwrap();
        assert!(version(&lab, 255) < version(&lab, 256));
    }

    #[test]
    fn keys_do_not_change() {
        let lab: ImageName = "lab/a".parse().unwrap();
        assert_eq!(version(&lab, 7), b"\0\0\0\0\x03lab/a\0\0\0\0\0\0\0\0\x07");
        let id = ObjectId::from_bytes([9; 32]);
        assert_eq!(object(Purpose::Chunks, &id)[..6], [0, 0, 0, 0, 1, 9]);
        assert_eq!(object(Purpose::Nodes, &id)[..6], [0, 0, 0, 0, 10, 9]);
        assert_eq!(tag(&lab, &"stable".parse().unwrap()), b"\0\0\0\0\x08lab/a\0stable");
        assert_eq!(removed(&lab, 7), b"\0\0\0\0\x0blab/a\0\0\0\0\0\0\0\0\x07");
        assert_eq!(pin(&lab, 7), b"\0\0\0\0\x0clab/a\0\0\0\0\0\0\0\0\x07");
        let pack = PackId::from_bytes([2; 16]);
        assert_eq!(condemned(pack)[..6], [0, 0, 0, 0, 13, 2]);
        assert_eq!(verified(pack)[..6], [0, 0, 0, 0, 15, 2]);
        assert_eq!(quarantined(pack, Purpose::Nodes, &id)[..5], [0, 0, 0, 0, 14]);
        assert_eq!(parse_quarantined(&quarantined(pack, Purpose::Nodes, &id)[21..]), Ok((Purpose::Nodes, id)));
        assert!(parse_quarantined(&[1, 2]).is_err() && parse_quarantined(&[]).is_err());
        assert_eq!(hold(UploadId::from_bytes([1; 16]), PackId::from_bytes([2; 16]))[..5], [0, 0, 0, 0, 6]);
    }
}
