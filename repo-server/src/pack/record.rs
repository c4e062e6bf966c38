//! One record: a header that says what follows, and the payload as it was received.
//!
//! Both have checksums of their own, so that a scrub can check a record without decoding it, and a scan knows
//! where a record with a damaged payload ends.

use bytes::Bytes;
use imprint_content::{Codec, DecodeError, ObjectId, Payload, bytes::Reader, profile::MAX_CHUNK_BYTES};

use super::{MAX_PACK_BYTES, Purpose};
use crate::PackId;

/// Length of a record's header in bytes, when it has no base.
pub const RECORD_HEADER_BYTES: usize = 56;

const BASE_BYTES: usize = 32;
/// The only cipher: none.
const CIPHER_NONE: u8 = 0;
/// The record depends on another one, whose id follows its own.
const FLAG_BASE: u8 = 1;

/// Starts each record of one pack; differs from pack to pack.
///
/// A payload can hold anything, another pack included (the image of a machine that keeps a repository). Its
/// records must not be taken for records of this pack when a scan searches behind damage, and whoever pushes
/// must not be able to plant some: the mark follows from the pack's random id. No client learns it before the pack is
/// sealed; failures name packs, but by then nothing is added to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordMark(u32);

impl RecordMark {
    /// The mark of a pack's records.
    #[must_use]
    pub fn of(pack: PackId) -> Self {
        // Never zero: zeros are what a lost sector reads as.
        Self(crc32c::crc32c(pack.as_bytes()).max(1))
    }

    /// The mark as it stands in the file.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 4] {
        self.0.to_le_bytes()
    }
}

/// Says what a record's payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordHeader {
    /// The mark of the pack that the record was written for.
    pub mark: RecordMark,
    /// What kind of object it is.
    pub purpose: Purpose,
    /// How the payload is encoded.
    pub codec: Codec,
    /// Length of the payload as stored, in bytes.
    pub stored_length: u32,
    /// Length after decoding, in bytes.
    pub raw_length: u32,
    /// The object.
    pub id: ObjectId,
    /// The object that the payload is a difference to. Never written yet, and not readable yet.
    pub base: Option<ObjectId>,
    /// CRC-32C of the payload as stored.
    pub payload_checksum: u32,
}

impl RecordHeader {
    /// Describes `payload`.
    #[must_use]
    pub fn of(mark: RecordMark, purpose: Purpose, id: ObjectId, payload: &Payload) -> Self {
        Self {
            mark,
            purpose,
            codec: payload.codec,
            stored_length: u32::try_from(payload.stored.len()).unwrap_or(u32::MAX),
            raw_length: payload.raw_length,
            id,
            base: None,
            payload_checksum: crc32c::crc32c(&payload.stored),
        }
    }

    /// Length of the encoded header in bytes.
    #[must_use]
    pub const fn header_length(&self) -> usize {
        RECORD_HEADER_BYTES + if self.base.is_some() { BASE_BYTES } else { 0 }
    }

    /// Length of the whole record in bytes.
    #[must_use]
    pub const fn total_length(&self) -> u64 {
        self.header_length() as u64 + self.stored_length as u64
    }

    /// Whether the lengths are such that a reader accepts them.
    pub fn check_lengths(&self) -> Result<(), DecodeError> {
        let (stored, raw) = (u64::from(self.stored_length), self.raw_length as usize);
        if raw == 0 || raw > MAX_CHUNK_BYTES {
            return Err(DecodeError::invalid("record", "raw length out of bounds"));
        }
        if stored == 0 || stored > MAX_PACK_BYTES {
            return Err(DecodeError::invalid("record", "stored length out of bounds"));
        }
        if self.codec == Codec::Raw && self.base.is_none() && self.stored_length != self.raw_length {
            return Err(DecodeError::invalid("record", "raw bytes of two lengths"));
        }
        Ok(())
    }

    /// Appends the encoded header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let flags = if self.base.is_some() { FLAG_BASE } else { 0 };
        out.extend_from_slice(&self.mark.to_bytes());
        out.extend_from_slice(&[self.purpose.number(), self.codec.number(), CIPHER_NONE, flags]);
        out.extend_from_slice(&self.stored_length.to_le_bytes());
        out.extend_from_slice(&self.raw_length.to_le_bytes());
        out.extend_from_slice(self.id.as_bytes());
        if let Some(base) = &self.base {
            out.extend_from_slice(base.as_bytes());
        }
        out.extend_from_slice(&self.payload_checksum.to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(&out[start..]).to_le_bytes());
    }

    /// Decodes the header at the front of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Reader::new(bytes);
        let mark = RecordMark(fields.u32("record mark")?);
        let [kind, codec, cipher, flags] = fields.array("record header")?;
        let stored_length = fields.u32("stored length")?;
        let raw_length = fields.u32("raw length")?;
        let id = ObjectId::from_bytes(fields.array("object id")?);
        let base = match flags & FLAG_BASE {
            0 => None,
            _ => Some(ObjectId::from_bytes(fields.array("base id")?)),
        };
        let payload_checksum = fields.u32("payload checksum")?;
        let covered = &bytes[..bytes.len() - fields.remaining()];
        if fields.u32("record checksum")? != crc32c::crc32c(covered) {
            return Err(DecodeError::Checksum { what: "record header" });
        }
        if mark.0 == 0 {
            return Err(DecodeError::invalid("record mark", "zero"));
        }
        if flags & !FLAG_BASE != 0 {
            return Err(DecodeError::Unknown { what: "record flags", found: flags.into() });
        }
        if cipher != CIPHER_NONE {
            return Err(DecodeError::Unknown { what: "cipher", found: cipher.into() });
        }
        let (purpose, codec) = (Purpose::from_number(kind)?, Codec::from_number(codec.into())?);
        let header = Self { mark, purpose, codec, stored_length, raw_length, id, base, payload_checksum };
        header.check_lengths()?;
        Ok(header)
    }
}

/// Length in the file of a record with so long a payload.
#[must_use]
pub const fn record_length(stored_length: u32) -> u64 {
    RECORD_HEADER_BYTES as u64 + stored_length as u64
}

/// Decodes exactly one record, without copying its payload. The payload is *not* checked against the id here.
pub fn decode_record(purpose: Purpose, bytes: &Bytes) -> Result<(ObjectId, Payload), DecodeError> {
    let header = RecordHeader::decode(bytes)?;
    if header.purpose != purpose {
        return Err(DecodeError::invalid("record kind", "not what the pack is for"));
    }
    if header.base.is_some() {
        return Err(DecodeError::Unknown { what: "delta record", found: FLAG_BASE.into() });
    }
    let mut rest = Reader::new(bytes);
    rest.take(RECORD_HEADER_BYTES, "record header")?;
    let payload = rest.take(header.stored_length as usize, "payload")?;
    rest.finish("record")?;
    if crc32c::crc32c(payload) != header.payload_checksum {
        return Err(DecodeError::Checksum { what: "payload" });
    }
    let stored = bytes.slice(RECORD_HEADER_BYTES..);
    Ok((header.id, Payload { codec: header.codec, raw_length: header.raw_length, stored }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::sample;

    fn record() -> (RecordHeader, Bytes) {
        let (id, payload) = sample::payload("some bytes");
        let header = RecordHeader::of(RecordMark::of(sample::HEADER.pack), Purpose::Chunks, id, &payload);
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        bytes.extend_from_slice(&payload.stored);
        (header, bytes.into())
    }

    /// The record with other header bytes and a checksum that fits them.
    fn forged(at: usize, value: &[u8]) -> Vec<u8> {
        let mut bytes = record().1.to_vec();
        bytes[at..at + value.len()].copy_from_slice(value);
        let checksum = crc32c::crc32c(&bytes[..RECORD_HEADER_BYTES - 4]);
        bytes[RECORD_HEADER_BYTES - 4..RECORD_HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    #[test]
    fn what_was_encoded_comes_back_and_is_not_copied() {
        let (header, bytes) = record();
        assert_eq!(RecordHeader::decode(&bytes), Ok(header));
        assert_eq!(header.total_length(), bytes.len() as u64);
        assert_eq!(record_length(header.stored_length), bytes.len() as u64);

        let (id, payload) = decode_record(Purpose::Chunks, &bytes).unwrap();
        assert_eq!((id, payload.clone()), sample::payload("some bytes"));
        assert_eq!(payload.stored.as_ptr(), bytes[RECORD_HEADER_BYTES..].as_ptr());
    }

    #[test]
    fn golden_bytes() {
        let (header, bytes) = record();
        let mut expected = vec![0xaa, 0xb3, 0x13, 0x7d];
        expected.extend(b"\x01\0\0\0\x0a\0\0\0\x0a\0\0\0");
        expected.extend(header.id.as_bytes());
        expected.extend(b"CU\xcd\xf6");
        expected.extend([0x91, 0x90, 0x1f, 0xf3]);
        expected.extend(b"some bytes");
        assert_eq!(bytes.to_vec(), expected);
    }

    #[test]
    fn every_truncation_and_flipped_bit_is_an_error() {
        let (_, good) = record();
        for end in 0..good.len() {
            assert!(decode_record(Purpose::Chunks, &good.slice(..end)).is_err(), "cut at {end}");
        }
        for bad in sample::flipped(&good) {
            assert!(decode_record(Purpose::Chunks, &bad.clone().into()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn bytes_behind_a_record_do_not_belong_to_it() {
        let mut bytes = record().1.to_vec();
        bytes.push(0);
        let decoded = decode_record(Purpose::Chunks, &bytes.into());
        assert_eq!(decoded, Err(DecodeError::Trailing { what: "record", extra: 1 }));
    }

    #[test]
    fn a_record_of_the_other_kind_is_refused() {
        assert!(decode_record(Purpose::Nodes, &record().1).is_err());
    }

    #[test]
    fn unknown_kinds_codecs_ciphers_and_flags_are_refused() {
        for (at, value, what) in
            [(4, 9, "purpose"), (5, 9, "codec"), (6, 1, "cipher"), (7, 2, "record flags"), (7, 0x80, "record flags")]
        {
            let expected = DecodeError::Unknown { what, found: u64::from(value) };
            assert_eq!(RecordHeader::decode(&forged(at, &[value])), Err(expected));
        }
    }

    #[test]
    fn lengths_that_no_writer_produces_are_refused() {
        for length in [0, 9, 11, MAX_CHUNK_BYTES as u32 + 1, u32::MAX] {
            for at in [8, 12] {
                assert!(RecordHeader::decode(&forged(at, &length.to_le_bytes())).is_err(), "{length} at {at}");
            }
        }
    }

    #[test]
    fn zeros_are_not_a_record() {
        assert!(RecordHeader::decode(&[0; 4096]).is_err());
        assert!(RecordHeader::decode(&forged(0, &[0; 4])).is_err());
    }

    #[test]
    fn a_delta_record_is_understood_but_not_read() {
        let (header, _) = record();
        let header = RecordHeader { base: Some(ObjectId::from_bytes([5; 32])), ..header };
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        assert_eq!(bytes.len(), header.header_length());
        bytes.extend_from_slice(b"some bytes");

        assert_eq!(RecordHeader::decode(&bytes), Ok(header));
        let decoded = decode_record(Purpose::Chunks, &bytes.into());
        assert_eq!(decoded, Err(DecodeError::Unknown { what: "delta record", found: 1 }));
    }
}
