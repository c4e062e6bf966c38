//! What was reached: one bit for each record, and the bytes of what is live in each pack.

use std::collections::HashMap;

use super::plan::PackUse;
use crate::{
    Error, PackId,
    catalog::{Location, PackRecord, RecordSet},
    pack::{ENTRY_BYTES, MAX_PACK_BYTES, RECORD_HEADER_BYTES, record_length},
};

/// No pack has more records: each takes at least a header, a byte and an entry in the footer.
#[allow(clippy::cast_possible_truncation)] // far below 2^32
const MAX_RECORDS: u32 = (MAX_PACK_BYTES / (RECORD_HEADER_BYTES + 1 + ENTRY_BYTES) as u64) as u32;

/// Records that were reached. Takes one bit a record, and some 100 bytes a pack.
#[derive(Debug, Default)]
pub struct Marks {
    packs: HashMap<PackId, PackMarks>,
}

#[derive(Debug, Default)]
struct PackMarks {
    records: RecordSet,
    /// Length of the marked records in the file.
    bytes: u64,
}

impl Marks {
    /// No marks, with room for those of these packs.
    #[must_use]
    pub fn of(packs: &[PackRecord]) -> Self {
        let room = |pack: &PackRecord| {
            let records = RecordSet::with_capacity(pack.records.min(MAX_RECORDS));
            (pack.id, PackMarks { records, bytes: 0 })
        };
        Self { packs: packs.iter().map(room).collect() }
    }

    /// Marks a record; whether it was not marked before.
    ///
    /// # Errors
    /// [`Error::Catalog`] for an ordinal that no pack has.
    pub fn insert(&mut self, at: &Location) -> Result<bool, Error> {
        if at.ordinal >= MAX_RECORDS {
            return Err(Error::Catalog(format!("a record of pack {} has the ordinal {}", at.pack, at.ordinal)));
        }
        let pack = self.packs.entry(at.pack).or_default();
        let is_new = pack.records.insert(at.ordinal);
        if is_new {
            pack.bytes += record_length(at.stored_length);
        }
        Ok(is_new)
    }

    /// The marked records of a pack.
    #[must_use]
    pub fn of_pack(&self, pack: PackId) -> RecordSet {
        self.packs.get(&pack).map(|marks| marks.records.clone()).unwrap_or_default()
    }

    /// What is live in each of these packs.
    #[must_use]
    pub fn uses(&self, packs: &[PackRecord]) -> Vec<PackUse> {
        let none = PackMarks::default();
        let of = |pack: &PackRecord| {
            let marks = self.packs.get(&pack.id).unwrap_or(&none);
            PackUse {
                id: pack.id,
                purpose: pack.purpose,
                bytes: pack.bytes,
                records: pack.records,
                live_records: marks.records.len(),
                live_bytes: marks.bytes,
            }
        };
        packs.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use imprint_content::Codec;

    use super::*;

    fn at(ordinal: u32) -> Location {
        let pack = PackId::from_bytes([1; 16]);
        Location { pack, offset: 64, stored_length: 10, raw_length: 10, codec: Codec::Raw, ordinal }
    }

    #[test]
    fn a_record_counts_once() {
        let mut marks = Marks::default();
        assert!(marks.insert(&at(7)).unwrap());
        assert!(!marks.insert(&at(7)).unwrap());
        assert!(marks.insert(&at(8)).unwrap());
        let record = PackRecord {
            id: PackId::from_bytes([1; 16]),
            purpose: crate::pack::Purpose::Chunks,
            bytes: 1000,
            records: 9,
        };
        let uses = marks.uses(&[record]);
        assert_eq!((uses[0].live_records, uses[0].live_bytes), (2, 2 * record_length(10)));
    }

    #[test]
    fn an_ordinal_that_no_pack_has_is_an_error_and_takes_no_memory() {
        assert!(Marks::default().insert(&at(u32::MAX)).is_err());
        assert!(Marks::default().insert(&at(MAX_RECORDS - 1)).is_ok());
    }
}
