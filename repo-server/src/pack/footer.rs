//! The end of a pack: where each record is, and a hash by which it is believed without reading the records.

use std::ops::Range;

use imprint_content::{Codec, DecodeError, ObjectId, bytes::Reader};

use super::{HEADER_BYTES, MAX_PACK_BYTES, record_length};
use crate::{PackId, catalog::Location};

/// Length of an encoded [`FooterEntry`] in bytes.
pub const ENTRY_BYTES: usize = 45;
/// Length of an encoded [`Trailer`] in bytes.
pub const TRAILER_BYTES: usize = 48;

const END_MAGIC: [u8; 8] = *b"IPACKEND";
/// BLAKE3 `derive_key` context of the footer's hash. Part of the format.
const FOOTER_CONTEXT: &str = "imprint 2026-11-23 pack footer v1";

/// Where one record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FooterEntry {
    /// The object.
    pub id: ObjectId,
    /// Where the record starts in the pack, in bytes.
    pub offset: u32,
    /// Length of the payload as stored, in bytes.
    pub stored_length: u32,
    /// Length after decoding, in bytes.
    pub raw_length: u32,
    /// How the payload is encoded.
    pub codec: Codec,
}

impl FooterEntry {
    pub(super) fn of((id, at): (&ObjectId, &Location)) -> Self {
        let Location { pack: _, offset, stored_length, raw_length, codec, ordinal: _ } = *at;
        Self { id: *id, offset, stored_length, raw_length, codec }
    }

    /// The entry's place in `pack`, whose footer has it at position `ordinal`.
    pub(super) const fn location(&self, pack: PackId, ordinal: u32) -> Location {
        let Self { id: _, offset, stored_length, raw_length, codec } = *self;
        Location { pack, offset, stored_length, raw_length, codec, ordinal }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.stored_length.to_le_bytes());
        out.extend_from_slice(&self.raw_length.to_le_bytes());
        out.push(self.codec.number());
    }

    fn decode(fields: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: ObjectId::from_bytes(fields.array("footer entry")?),
            offset: fields.u32("footer entry")?,
            stored_length: fields.u32("footer entry")?,
            raw_length: fields.u32("footer entry")?,
            codec: Codec::from_number(fields.u8("footer entry")?.into())?,
        })
    }

    const fn end(&self) -> u64 {
        self.offset as u64 + record_length(self.stored_length)
    }
}

/// Where all records of a pack are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Footer {
    /// In strictly ascending order of their ids.
    pub entries: Vec<FooterEntry>,
}

impl Footer {
    /// Appends entries and trailer, and returns their length in bytes.
    pub(super) fn encode(&self, header: &[u8; HEADER_BYTES], out: &mut Vec<u8>) -> u64 {
        let start = out.len();
        self.entries.iter().for_each(|entry| entry.encode(out));
        let counts = Counts::of(self.entries.len());
        let hash = counts.hash(header, &out[start..]);
        out.extend_from_slice(&counts.encode());
        out.extend_from_slice(&hash);
        out.extend_from_slice(&END_MAGIC);
        (out.len() - start) as u64
    }

    /// Decodes the entries that `trailer` announces. `header` are the pack's first [`HEADER_BYTES`].
    pub fn decode(header: &[u8], entries: &[u8], trailer: &Trailer) -> Result<Self, DecodeError> {
        if trailer.counts.hash(header, entries) != trailer.hash {
            return Err(DecodeError::Checksum { what: "pack footer" });
        }
        let mut fields = Reader::new(entries);
        let mut footer = Self { entries: Vec::with_capacity(entries.len() / ENTRY_BYTES) };
        while fields.remaining() > 0 {
            let entry = FooterEntry::decode(&mut fields)?;
            if footer.entries.last().is_some_and(|last| last.id >= entry.id) {
                return Err(DecodeError::invalid("pack footer", "its entries are not in order"));
            }
            if (entry.offset as usize) < HEADER_BYTES || entry.end() > trailer.footer.start {
                return Err(DecodeError::invalid("pack footer", "an entry points outside of the records"));
            }
            footer.entries.push(entry);
        }
        Ok(footer)
    }
}

/// The last bytes of a pack: how long the footer is and what it hashes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trailer {
    /// Where the footer's entries are in the pack.
    pub footer: Range<u64>,
    counts: Counts,
    hash: [u8; 32],
}

impl Trailer {
    /// Decodes the trailer at the end of `tail`, the last bytes of a pack that is `pack_length` bytes long.
    pub fn decode(tail: &[u8], pack_length: u64) -> Result<Self, DecodeError> {
        let start = tail.len().checked_sub(TRAILER_BYTES);
        let needed = TRAILER_BYTES.saturating_sub(tail.len());
        let start = start.ok_or(DecodeError::Truncated { what: "pack trailer", needed })?;
        let mut fields = Reader::new(&tail[start..]);
        let counts = Counts { entries: fields.u32("pack trailer")?, bytes: fields.u32("pack trailer")? };
        let hash = fields.array("pack trailer")?;
        if fields.array("pack trailer")? != END_MAGIC {
            return Err(DecodeError::invalid("pack trailer", "the pack does not end here"));
        }
        Ok(Self { footer: counts.range(pack_length)?, counts, hash })
    }
}

/// The footer's size, said twice: a writer and a reader that disagree about entries are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    entries: u32,
    bytes: u32,
}

impl Counts {
    fn of(entries: usize) -> Self {
        let counted = |count| u32::try_from(count).expect("packs are far below 4 GiB");
        Self { entries: counted(entries), bytes: counted(entries * ENTRY_BYTES) }
    }

    fn encode(self) -> [u8; 8] {
        (u64::from(self.bytes) << 32 | u64::from(self.entries)).to_le_bytes()
    }

    fn hash(self, header: &[u8], entries: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key(FOOTER_CONTEXT);
        hasher.update(header).update(entries).update(&self.encode());
        *hasher.finalize().as_bytes()
    }

    fn range(self, pack_length: u64) -> Result<Range<u64>, DecodeError> {
        let bytes = u64::from(self.bytes);
        if pack_length > MAX_PACK_BYTES {
            return Err(DecodeError::invalid("pack", "longer than packs are"));
        }
        if bytes != u64::from(self.entries) * ENTRY_BYTES as u64 {
            return Err(DecodeError::invalid("pack trailer", "count and length of the footer disagree"));
        }
        let end = pack_length.checked_sub(TRAILER_BYTES as u64);
        match end.and_then(|end| Some(end.checked_sub(bytes)?..end)) {
            Some(range) if range.start >= HEADER_BYTES as u64 => Ok(range),
            _ => Err(DecodeError::invalid("pack trailer", "the footer is longer than the pack")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::sample;

    fn entry(id: u8, offset: u32) -> FooterEntry {
        let (stored_length, raw_length, codec) = (10, 10, Codec::Raw);
        FooterEntry { id: ObjectId::from_bytes([id; 32]), offset, stored_length, raw_length, codec }
    }

    /// A pack of `records` bytes with these entries, whatever they say, and a hash that fits.
    fn decode(records: usize, entries: &[FooterEntry]) -> Result<Footer, DecodeError> {
        let header = sample::HEADER.encode();
        let mut pack = header.to_vec();
        pack.resize(HEADER_BYTES + records, 1);
        Footer { entries: entries.to_vec() }.encode(&header, &mut pack);
        let trailer = Trailer::decode(&pack, pack.len() as u64)?;
        Footer::decode(&header, &pack[trailer.footer.start as usize..trailer.footer.end as usize], &trailer)
    }

    #[test]
    fn what_was_encoded_comes_back() {
        let entries = vec![entry(1, 130), entry(2, 64)];
        assert_eq!(decode(132, &entries), Ok(Footer { entries }));
        assert_eq!(decode(0, &[]), Ok(Footer::default()));
    }

    #[test]
    fn entries_out_of_order_or_bounds_are_refused_though_the_hash_fits() {
        for entries in [[entry(2, 64), entry(1, 130)], [entry(1, 64), entry(1, 130)]] {
            let expected = DecodeError::invalid("pack footer", "its entries are not in order");
            assert_eq!(decode(132, &entries), Err(expected));
        }
        for offset in [0, 63, 65, u32::MAX] {
            let expected = DecodeError::invalid("pack footer", "an entry points outside of the records");
            assert_eq!(decode(66, &[entry(1, offset)]), Err(expected), "{offset}");
        }
    }

    #[test]
    fn every_flipped_bit_of_header_footer_or_trailer_is_an_error() {
        let (good, finished) = sample::pack();
        let footer_start = sample::records_end();
        for (bit, bad) in sample::flipped(&good).enumerate() {
            let decoded = Trailer::decode(&bad, bad.len() as u64).and_then(|trailer| {
                let entries = &bad[trailer.footer.start as usize..trailer.footer.end as usize];
                Footer::decode(&bad[..HEADER_BYTES], entries, &trailer)
            });
            let untouched = (HEADER_BYTES..footer_start).contains(&(bit / 8));
            assert_eq!(decoded.is_ok(), untouched, "bit {bit}");
            assert!(decoded.is_err() || decoded.unwrap().entries.len() == finished.objects.len());
        }
    }

    #[test]
    fn a_trailer_that_claims_more_than_the_pack_has_is_refused_before_anything_is_read() {
        for (entries, bytes) in [(u32::MAX, u32::MAX), (u32::MAX / 45, u32::MAX / 45 * 45), (9, 9 * 45), (0, 1), (1, 0)]
        {
            let counts = Counts { entries, bytes };
            let trailer = [&counts.encode()[..], &[0; 32], &END_MAGIC].concat();
            assert!(Trailer::decode(&trailer, 300).is_err(), "{counts:?}");
        }
        assert!(Trailer::decode(&[0; TRAILER_BYTES], 300).is_err());
        let trailer = [&[0; 40][..], &END_MAGIC].concat();
        assert!(Trailer::decode(&trailer, 300).is_ok());
        assert!(Trailer::decode(&trailer[1..], 300).is_err());
        assert!(Trailer::decode(&trailer, MAX_PACK_BYTES + 1).is_err());
        assert!(Trailer::decode(&trailer, (HEADER_BYTES + TRAILER_BYTES - 1) as u64).is_err());
    }
}
