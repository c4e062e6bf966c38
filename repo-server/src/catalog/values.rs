//! Values of the catalog's tables. Decoders return errors, never panic: the bytes come from a disk.

use imprint_content::{
    Codec, DecodeError, ImageName,
    bytes::{Reader, put_blob},
};
use prost::Message;

use super::{
    ImageRecord, Location, PackRecord, UploadRecord, VersionKey, VersionRecord, journal::Position, keys, messages,
    messages::VersionMessage,
};
use crate::{PackId, UploadId, pack::Purpose};

/// A tag as it is kept: removed ones too, so that their counters are never given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TagValue {
    /// The version; `None` when the tag was removed.
    pub(super) number: Option<u64>,
    pub(super) counter: u64,
}

pub(super) fn encode_location(location: &Location) -> [u8; 29] {
    let mut out = [0; 29];
    out[..16].copy_from_slice(location.pack.as_bytes());
    out[16..20].copy_from_slice(&location.offset.to_le_bytes());
    out[20..24].copy_from_slice(&location.stored_length.to_le_bytes());
    out[24..28].copy_from_slice(&location.raw_length.to_le_bytes());
    out[28] = location.codec.number();
    out
}

pub(super) fn decode_location(value: &[u8]) -> Result<Location, DecodeError> {
    let what = "object location";
    let mut reader = Reader::new(value);
    let location = Location {
        pack: PackId::from_bytes(reader.array(what)?),
        offset: reader.u32(what)?,
        stored_length: reader.u32(what)?,
        raw_length: reader.u32(what)?,
        codec: Codec::from_number(reader.u8(what)?.into())?,
    };
    reader.finish(what)?;
    Ok(location)
}

pub(super) fn encode_pack(pack: &PackRecord) -> Vec<u8> {
    let mut out = vec![pack.purpose.number()];
    out.extend_from_slice(&pack.bytes.to_le_bytes());
    out.extend_from_slice(&pack.records.to_le_bytes());
    out
}

pub(super) fn decode_pack(id: PackId, value: &[u8]) -> Result<PackRecord, DecodeError> {
    let what = "pack";
    let mut reader = Reader::new(value);
    let pack = PackRecord {
        id,
        purpose: Purpose::from_number(reader.u8(what)?)?,
        bytes: reader.u64(what)?,
        records: reader.u32(what)?,
    };
    reader.finish(what)?;
    Ok(pack)
}

pub(super) fn encode_version(version: &VersionRecord) -> Vec<u8> {
    VersionMessage::from(version).encode_to_vec()
}

pub(super) fn decode_version(value: &[u8]) -> Result<VersionRecord, DecodeError> {
    messages::decode::<VersionMessage>(value, "version")?.try_into()
}

pub(super) fn encode_version_key(key: &VersionKey) -> Vec<u8> {
    let mut out = key.number.to_le_bytes().to_vec();
    put_blob(&mut out, key.image.as_str().as_bytes());
    out
}

pub(super) fn decode_version_key(value: &[u8]) -> Result<VersionKey, DecodeError> {
    let mut reader = Reader::new(value);
    let key = read_version_key(&mut reader)?;
    reader.finish("version")?;
    Ok(key)
}

fn read_version_key(reader: &mut Reader<'_>) -> Result<VersionKey, DecodeError> {
    let number = reader.u64("version number")?;
    Ok(VersionKey { number, image: keys::parse_name(reader.blob("image name")?, "image name")? })
}

pub(super) fn encode_upload(upload: &UploadRecord) -> Vec<u8> {
    let mut out = Vec::new();
    put_blob(&mut out, upload.image.as_str().as_bytes());
    if let Some(base) = &upload.base {
        out.extend(encode_version_key(base));
    }
    out
}

pub(super) fn decode_upload(id: UploadId, value: &[u8]) -> Result<UploadRecord, DecodeError> {
    let mut reader = Reader::new(value);
    let image = keys::parse_name(reader.blob("image name")?, "image name")?;
    let base = if reader.remaining() > 0 { Some(read_version_key(&mut reader)?) } else { None };
    reader.finish("upload")?;
    Ok(UploadRecord { id, image, base })
}

pub(super) fn encode_image(image: &ImageRecord) -> Vec<u8> {
    [image.highest_number, image.versions].iter().flat_map(|number| number.to_le_bytes()).collect()
}

pub(super) fn decode_image(name: ImageName, value: &[u8]) -> Result<ImageRecord, DecodeError> {
    let what = "image";
    let mut reader = Reader::new(value);
    let image = ImageRecord { name, highest_number: reader.u64(what)?, versions: reader.u64(what)? };
    reader.finish(what)?;
    Ok(image)
}

/// Number 0, which no version has, stands for a removed tag.
pub(super) fn encode_tag(tag: TagValue) -> Vec<u8> {
    [tag.counter, tag.number.unwrap_or(0)].iter().flat_map(|number| number.to_le_bytes()).collect()
}

pub(super) fn decode_tag(value: &[u8]) -> Result<TagValue, DecodeError> {
    let what = "tag";
    let mut reader = Reader::new(value);
    let counter = reader.u64(what)?;
    let number = Some(reader.u64(what)?).filter(|number| *number > 0);
    reader.finish(what)?;
    Ok(TagValue { number, counter })
}

pub(super) fn encode_position(position: Position) -> Vec<u8> {
    let mut out = position.offset.to_le_bytes().to_vec();
    out.extend_from_slice(&position.sequence.to_le_bytes());
    out.extend_from_slice(&position.checksum.to_le_bytes());
    out
}

pub(super) fn decode_position(value: &[u8]) -> Result<Position, DecodeError> {
    let what = "journal position";
    let mut reader = Reader::new(value);
    let position = Position { offset: reader.u64(what)?, sequence: reader.u64(what)?, checksum: reader.u32(what)? };
    reader.finish(what)?;
    Ok(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every cut of a value, and the value with a byte more.
    fn broken(value: &[u8]) -> impl Iterator<Item = Vec<u8>> {
        let longer = [value, &[0]].concat();
        (0..value.len()).map(|end| value[..end].to_vec()).collect::<Vec<_>>().into_iter().chain([longer])
    }

    #[test]
    fn locations_come_back_and_their_bytes_do_not_change() {
        let location = Location {
            pack: PackId::from_bytes([7; 16]),
            offset: 1,
            stored_length: 2,
            raw_length: 3,
            codec: Codec::Zstd,
        };
        let value = encode_location(&location);
        assert_eq!(&value[16..], [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 1]);
        assert_eq!(decode_location(&value), Ok(location));
        assert!(broken(&value).all(|value| decode_location(&value).is_err()));
    }

    #[test]
    fn small_values_come_back_and_bad_ones_are_errors() {
        let id = PackId::from_bytes([7; 16]);
        let pack = PackRecord { id, purpose: Purpose::Nodes, bytes: 1 << 40, records: 9 };
        assert_eq!(decode_pack(id, &encode_pack(&pack)), Ok(pack.clone()));
        assert!(broken(&encode_pack(&pack)).all(|value| decode_pack(id, &value).is_err()));
        for tag in [TagValue { number: None, counter: 3 }, TagValue { number: Some(2), counter: 1 }] {
            assert_eq!(decode_tag(&encode_tag(tag)), Ok(tag));
            assert!(broken(&encode_tag(tag)).all(|value| decode_tag(&value).is_err()));
        }
        let position = Position { offset: 1 << 40, sequence: 8, checksum: 9 };
        assert_eq!(decode_position(&encode_position(position)), Ok(position));
        assert!(broken(&encode_position(position)).all(|value| decode_position(&value).is_err()));
    }

    #[test]
    fn uploads_come_back_with_and_without_a_base() {
        let id = UploadId::from_bytes([7; 16]);
        let image: ImageName = "lab/a".parse().unwrap();
        let base = VersionKey { image: "b".parse().unwrap(), number: 4 };
        for base in [None, Some(base)] {
            let upload = UploadRecord { id, image: image.clone(), base };
            assert_eq!(decode_upload(id, &encode_upload(&upload)), Ok(upload));
        }
    }
}
