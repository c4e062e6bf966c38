//! The first bytes of a pack: whose it is and what it holds.

use imprint_content::{DecodeError, bytes::Reader};

use super::Purpose;
use crate::{PackId, RepositoryId};

/// Length of an encoded [`PackHeader`] in bytes.
pub const HEADER_BYTES: usize = 64;

const MAGIC: [u8; 8] = *b"IPACK\0\0\x01";
const FORMAT: u16 = 1;
/// Zero today. A later format may use them, so whoever does not know it must not read on.
const PADDING: [u8; 5] = [0; 5];
const RESERVED: [u8; 12] = [0; 12];
const CHECKSUM_AT: usize = HEADER_BYTES - 4;

/// Ties a file to its repository, so that a pack that was copied to the wrong place is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PackHeader {
    /// The repository that wrote the pack.
    pub repository: RepositoryId,
    /// The pack.
    pub pack: PackId,
    /// What its records hold.
    pub purpose: Purpose,
}

impl PackHeader {
    /// The header as it stands in the file.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.push(self.purpose.number());
        out.extend_from_slice(&PADDING);
        out.extend_from_slice(self.repository.as_bytes());
        out.extend_from_slice(self.pack.as_bytes());
        out.extend_from_slice(&RESERVED);
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out.try_into().expect("the fields add up to the header")
    }

    /// Decodes the header at the front of `bytes`.
    ///
    /// # Errors
    /// [`DecodeError::Unknown`] when it is intact and newer than this version of Imprint; anything else means damage.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let header = Reader::new(bytes).take(HEADER_BYTES, "pack header")?;
        let mut fields = Reader::new(header);
        if fields.array("pack magic")? != MAGIC {
            return Err(DecodeError::invalid("pack header", "not a pack"));
        }
        // Before the format: the checksum is at the same place in all of them.
        if header[CHECKSUM_AT..] != crc32c::crc32c(&header[..CHECKSUM_AT]).to_le_bytes() {
            return Err(DecodeError::Checksum { what: "pack header" });
        }
        match fields.u16("pack format")? {
            FORMAT => Self::decode_fields(fields),
            newer => Err(DecodeError::Unknown { what: "pack format", found: newer.into() }),
        }
    }

    fn decode_fields(mut fields: Reader<'_>) -> Result<Self, DecodeError> {
        let purpose = Purpose::from_number(fields.u8("pack purpose")?)?;
        let padding: [u8; PADDING.len()] = fields.array("pack header")?;
        let repository = RepositoryId::from_bytes(fields.array("repository id")?);
        let pack = PackId::from_bytes(fields.array("pack id")?);
        let reserved: [u8; RESERVED.len()] = fields.array("pack header")?;
        if padding != PADDING || reserved != RESERVED {
            return Err(DecodeError::Unknown { what: "use of reserved bytes in a pack header of format", found: 1 });
        }
        Ok(Self { repository, pack, purpose })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::sample;

    #[test]
    fn what_was_encoded_comes_back() {
        for purpose in [Purpose::Chunks, Purpose::Nodes] {
            let header = PackHeader { purpose, ..sample::HEADER };
            assert_eq!(PackHeader::decode(&header.encode()), Ok(header));
        }
    }

    #[test]
    fn golden_bytes() {
        let mut expected = b"IPACK\0\0\x01\x01\0\x01\0\0\0\0\0".to_vec();
        expected.extend([7; 16]);
        expected.extend([8; 16]);
        expected.extend([0; 12]);
        expected.extend([0xaa, 0x57, 0xf2, 0xb9]);
        assert_eq!(sample::HEADER.encode().to_vec(), expected);
    }

    #[test]
    fn every_truncation_and_flipped_bit_is_an_error() {
        let good = sample::HEADER.encode();
        for end in 0..good.len() {
            assert!(PackHeader::decode(&good[..end]).is_err(), "cut at {end}");
        }
        for bad in sample::flipped(&good) {
            assert!(PackHeader::decode(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_newer_format_or_use_of_reserved_bytes_is_refused() {
        for at in [8, 10, 11, 15, 48, 59] {
            let mut bytes = sample::HEADER.encode();
            bytes[at] = 9;
            let checksum = crc32c::crc32c(&bytes[..CHECKSUM_AT]);
            bytes[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
            assert!(matches!(PackHeader::decode(&bytes), Err(DecodeError::Unknown { .. })), "{at}");
        }
    }

    #[test]
    fn zeros_are_not_a_header() {
        assert!(PackHeader::decode(&[0; HEADER_BYTES]).is_err());
    }
}
