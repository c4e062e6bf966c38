//! Values of the catalog's tables. Decoders return errors, never panic: the bytes come from a disk.

use imprint_content::{
    Codec, DecodeError, ImageName, NodeId, VersionId,
    bytes::{Reader, put_blob},
};
use prost::Message;

use super::{
    BaseRecord, FinishedMark, ImageRecord, Location, PackRecord, RemovedVersion, VersionCounts, VersionKey,
    VersionRecord, journal::Position, keys, messages, messages::VersionMessage, scrub::ScrubState,
};
use crate::{PackId, pack::Purpose};

/// An open upload as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OpenUpload {
    pub(super) image: ImageName,
    pub(super) base: Option<BaseRecord>,
    /// When a stream last did something with it.
    pub(super) used_unix_ms: i64,
}

/// A tag as it is kept: removed ones too, so that their counters are never given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TagValue {
    /// The version; `None` when the tag was removed.
    pub(super) number: Option<u64>,
    pub(super) counter: u64,
}

pub(super) fn encode_location(location: &Location) -> [u8; 33] {
    let mut out = [0; 33];
    out[..16].copy_from_slice(location.pack.as_bytes());
    out[16..20].copy_from_slice(&location.offset.to_le_bytes());
    out[20..24].copy_from_slice(&location.stored_length.to_le_bytes());
    out[24..28].copy_from_slice(&location.raw_length.to_le_bytes());
    out[28] = location.codec.number();
    out[29..].copy_from_slice(&location.ordinal.to_le_bytes());
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
        ordinal: reader.u32(what)?,
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

pub(super) fn encode_upload(upload: &OpenUpload) -> Vec<u8> {
    let mut out = upload.used_unix_ms.to_le_bytes().to_vec();
    put_blob(&mut out, upload.image.as_str().as_bytes());
    if let Some(base) = &upload.base {
        out.extend_from_slice(base.id.as_bytes());
        out.extend_from_slice(base.root.as_bytes());
        out.extend(encode_version_key(&base.version));
    }
    out
}

pub(super) fn decode_upload(value: &[u8]) -> Result<OpenUpload, DecodeError> {
    let what = "upload";
    let mut reader = Reader::new(value);
    let used_unix_ms = reader.u64(what)?.cast_signed();
    let image = keys::parse_name(reader.blob("image name")?, "image name")?;
    let base = if reader.remaining() > 0 { Some(read_base(&mut reader)?) } else { None };
    reader.finish(what)?;
    Ok(OpenUpload { image, base, used_unix_ms })
}

fn read_base(reader: &mut Reader<'_>) -> Result<BaseRecord, DecodeError> {
    let id = VersionId::from_bytes(reader.array("upload")?);
    let root = NodeId::from_bytes(reader.array("upload")?);
    Ok(BaseRecord { id, root, version: read_version_key(reader)? })
}

pub(super) fn encode_removed(removed: &RemovedVersion) -> Vec<u8> {
    let mut out = removed.removed_unix_ms.to_le_bytes().to_vec();
    out.extend(encode_version(&removed.version));
    out
}

pub(super) fn decode_removed(value: &[u8]) -> Result<RemovedVersion, DecodeError> {
    let what = "removed version";
    let (time, version) = value.split_first_chunk().ok_or(DecodeError::invalid(what, "cut short"))?;
    Ok(RemovedVersion { removed_unix_ms: i64::from_le_bytes(*time), version: decode_version(version)? })
}

pub(super) fn decode_count(value: &[u8]) -> Result<u64, DecodeError> {
    let mut reader = Reader::new(value);
    let count = reader.u64("count")?;
    reader.finish("count")?;
    Ok(count)
}

pub(super) fn encode_finished_mark(mark: &FinishedMark) -> Vec<u8> {
    let VersionCounts { versions, purged } = mark.counts;
    [mark.finished_unix_ms.cast_unsigned(), versions, purged].iter().flat_map(|number| number.to_le_bytes()).collect()
}

pub(super) fn decode_finished_mark(value: &[u8]) -> Result<FinishedMark, DecodeError> {
    let what = "finished mark";
    let mut reader = Reader::new(value);
    let finished_unix_ms = reader.u64(what)?.cast_signed();
    let counts = VersionCounts { versions: reader.u64(what)?, purged: reader.u64(what)? };
    reader.finish(what)?;
    Ok(FinishedMark { finished_unix_ms, counts })
}

pub(super) fn decode_time(value: &[u8]) -> Result<i64, DecodeError> {
    decode_count(value).map(u64::cast_signed)
}

/// Time 0, at which nothing was scrubbed, stands for none.
pub(super) fn encode_scrub_state(state: &ScrubState) -> Vec<u8> {
    let times = [state.open_since_unix_ms, state.finished_unix_ms];
    times.iter().flat_map(|time| time.unwrap_or(0).to_le_bytes()).collect()
}

pub(super) fn decode_scrub_state(value: &[u8]) -> Result<ScrubState, DecodeError> {
    let what = "state of scrubbing";
    let mut reader = Reader::new(value);
    let mut time = || Ok(Some(reader.u64(what)?.cast_signed()).filter(|time| *time != 0));
    let state = ScrubState { open_since_unix_ms: time()?, finished_unix_ms: time()? };
    reader.finish(what)?;
    Ok(state)
}

/// What is wrong with a quarantined record, as its writer said it.
pub(super) fn decode_why(value: &[u8]) -> Result<String, DecodeError> {
    let text = std::str::from_utf8(value).map_err(|_| DecodeError::invalid("quarantined record", "not UTF-8"))?;
    Ok(text.to_owned())
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
            ordinal: 4,
        };
        let value = encode_location(&location);
        assert_eq!(&value[16..], [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 1, 4, 0, 0, 0]);
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
        let image: ImageName = "lab/a".parse().unwrap();
        let version = VersionKey { image: "b".parse().unwrap(), number: 4 };
        let base = BaseRecord { version, id: VersionId::of(b"b"), root: NodeId::of(b"root") };
        for base in [None, Some(base)] {
            let upload = OpenUpload { image: image.clone(), base, used_unix_ms: -5 };
            let value = encode_upload(&upload);
            assert_eq!(decode_upload(&value), Ok(upload.clone()));
            let whole_without_base = encode_upload(&OpenUpload { base: None, ..upload });
            for value in broken(&value).filter(|value| *value != whole_without_base) {
                assert!(decode_upload(&value).is_err());
            }
        }
    }

    #[test]
    fn what_marks_and_removals_leave_comes_back() {
        let counts = VersionCounts { versions: 3, purged: 1 << 40 };
        let mark = FinishedMark { finished_unix_ms: -1, counts };
        assert_eq!(decode_finished_mark(&encode_finished_mark(&mark)), Ok(mark));
        assert!(broken(&encode_finished_mark(&mark)).all(|value| decode_finished_mark(&value).is_err()));
        assert_eq!(decode_count(&9u64.to_le_bytes()), Ok(9));
        assert!(broken(&9u64.to_le_bytes()).all(|value| decode_count(&value).is_err()));
        assert!(decode_removed(&[0; 7]).is_err() && decode_removed(&[0; 8]).is_err());
        assert!(decode_why(&[0xff]).is_err());
        for (open_since_unix_ms, finished_unix_ms) in
            [(None, None), (Some(5), None), (None, Some(7)), (Some(9), Some(7))]
        {
            let state = ScrubState { open_since_unix_ms, finished_unix_ms };
            assert_eq!(decode_scrub_state(&encode_scrub_state(&state)), Ok(state));
            assert!(broken(&encode_scrub_state(&state)).all(|value| decode_scrub_state(&value).is_err()));
        }
    }
}
