//! Finds the records of a pack without its footer, past whatever is damaged.
//!
//! A header is believed when it has the pack's mark and its checksum fits. Then so are its lengths: behind a
//! damaged payload the scan goes on where the record ends, and does not look for records *in* it. Only where no
//! header is believed does it search for the next mark. It never steps back, so its time is linear in the input.

use std::{iter::FusedIterator, ops::Range};

use imprint_content::DecodeError;

use super::{Footer, HEADER_BYTES, PackHeader, RecordHeader, RecordMark, TRAILER_BYTES, Trailer};
use crate::PackId;

/// What a scan meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScanItem {
    /// A record whose header and payload have valid checksums.
    Record(ScannedRecord),
    /// Bytes of the pack that belong neither to such a record nor to a valid header or footer.
    Damaged(Range<u64>),
}

/// A record and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScannedRecord {
    /// Where the record starts in the pack, in bytes.
    pub offset: u64,
    /// What it says of its payload.
    pub header: RecordHeader,
}

impl ScannedRecord {
    /// The bytes of the pack that it takes.
    #[must_use]
    pub const fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.header.total_length()
    }
}

/// Walks the records in `bytes`, the whole file of `pack` or what is left of it, in the order of their offsets.
///
/// The pack is named by the caller, so that one with a lost header can be scanned too.
#[must_use]
pub fn scan(pack: PackId, bytes: &[u8]) -> Scan<'_> {
    let has_header = PackHeader::decode(bytes).is_ok_and(|header| header.pack == pack);
    Scan {
        records: &bytes[..footer_start(bytes).unwrap_or(bytes.len())],
        mark: RecordMark::of(pack),
        at: HEADER_BYTES.min(bytes.len()),
        accounted: if has_header { HEADER_BYTES } else { 0 },
        pending: None,
    }
}

/// Iterates over [`ScanItem`]s; made by [`scan()`].
#[derive(Debug, Clone)]
pub struct Scan<'a> {
    /// The pack up to its footer, if that is intact; otherwise all of it.
    records: &'a [u8],
    mark: RecordMark,
    /// Where the next record may start.
    at: usize,
    /// Everything before was reported.
    accounted: usize,
    /// Found behind damage that is reported first.
    pending: Option<ScannedRecord>,
}

impl Iterator for Scan<'_> {
    type Item = ScanItem;

    fn next(&mut self) -> Option<ScanItem> {
        if let Some(record) = self.pending.take() {
            return Some(ScanItem::Record(record));
        }
        let record = self.next_record();
        let intact_from = record.map_or(self.records.len() as u64, |record| record.offset);
        let damaged = self.accounted as u64..intact_from;
        self.accounted = self.at;
        if damaged.is_empty() {
            return record.map(ScanItem::Record);
        }
        self.pending = record;
        Some(ScanItem::Damaged(damaged))
    }
}

impl FusedIterator for Scan<'_> {}

impl<'a> Scan<'a> {
    fn next_record(&mut self) -> Option<ScannedRecord> {
        while self.at < self.records.len() {
            let offset = self.at;
            let Some((header, payload)) = self.record_at(offset) else {
                self.at = self.next_mark(offset + 1);
                continue;
            };
            self.at = offset + header.header_length() + payload.len();
            if crc32c::crc32c(payload) == header.payload_checksum {
                return Some(ScannedRecord { offset: offset as u64, header });
            }
        }
        None
    }

    fn record_at(&self, offset: usize) -> Option<(RecordHeader, &'a [u8])> {
        let bytes = &self.records[offset..];
        let header = RecordHeader::decode(bytes).ok().filter(|header| header.mark == self.mark)?;
        let payload = bytes[header.header_length()..].get(..header.stored_length as usize)?;
        Some((header, payload))
    }

    fn next_mark(&self, from: usize) -> usize {
        let mark = self.mark.to_bytes();
        let found = self.records[from..].windows(mark.len()).position(|window| window == mark);
        found.map_or(self.records.len(), |distance| from + distance)
    }
}

fn footer_start(bytes: &[u8]) -> Result<usize, DecodeError> {
    let trailer = Trailer::decode(bytes, bytes.len() as u64)?;
    let start = trailer.footer.start as usize;
    Footer::decode(&bytes[..HEADER_BYTES], &bytes[start..bytes.len() - TRAILER_BYTES], &trailer)?;
    Ok(start)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use imprint_content::{Codec, ObjectId, Payload};

    use super::*;
    use crate::pack::{PackBuilder, Purpose, RECORD_HEADER_BYTES, sample};

    fn scanned(bytes: &[u8]) -> (Vec<ScannedRecord>, Vec<Range<u64>>) {
        let (mut records, mut damage) = (Vec::new(), Vec::new());
        for item in scan(sample::HEADER.pack, bytes) {
            match item {
                ScanItem::Record(record) => records.push(record),
                ScanItem::Damaged(range) => damage.push(range),
            }
        }
        (records, damage)
    }

    fn without(records: &[ScannedRecord], lost: Option<usize>) -> Vec<ScannedRecord> {
        let kept = |(index, _): &(usize, &ScannedRecord)| Some(*index) != lost;
        records.iter().enumerate().filter(kept).map(|(_, record)| *record).collect()
    }

    fn record_with(records: &[ScannedRecord], byte: usize) -> Option<usize> {
        records.iter().position(|record| record.range().contains(&(byte as u64)))
    }

    #[test]
    fn an_intact_pack_has_its_records_and_no_damage() {
        let (bytes, finished) = sample::pack();
        let (records, damage) = scanned(&bytes);
        assert!(damage.is_empty());
        let ids: Vec<ObjectId> = records.iter().map(|record| record.header.id).collect();
        assert_eq!(ids, sample::payloads().iter().map(|(id, _)| *id).collect::<Vec<_>>());
        for (id, location) in finished.objects {
            assert!(records.iter().any(|r| r.header.id == id && r.offset == u64::from(location.offset)));
        }
    }

    #[test]
    fn a_truncated_pack_has_the_records_that_are_whole() {
        let (bytes, _) = sample::pack();
        let (all, _) = scanned(&bytes);
        for end in 0..bytes.len() {
            let (records, damage) = scanned(&bytes[..end]);
            let whole = all.iter().filter(|record| record.range().end <= end as u64).copied().collect::<Vec<_>>();
            assert_eq!(records, whole, "cut at {end}");
            let intact_end = whole.last().map_or(if end < HEADER_BYTES { 0 } else { 64 }, |last| last.range().end);
            let rest = intact_end..end as u64;
            assert_eq!(damage, if rest.is_empty() { vec![] } else { vec![rest] }, "cut at {end}");
        }
    }

    #[test]
    fn a_flipped_bit_costs_the_record_that_it_is_in_and_nothing_else() {
        let (bytes, _) = sample::pack();
        let (all, _) = scanned(&bytes);
        for (bit, bad) in sample::flipped(&bytes).enumerate() {
            let (records, damage) = scanned(&bad);
            let lost = record_with(&all, bit / 8);
            assert_eq!(records, without(&all, lost), "bit {bit}");
            assert!(damage.iter().any(|range| range.contains(&(bit as u64 / 8))), "bit {bit}");
            if let Some(lost) = lost {
                assert_eq!(damage, [all[lost].range()], "bit {bit}");
            }
        }
    }

    #[test]
    fn any_destroyed_stretch_costs_the_records_that_it_touches() {
        let (bytes, _) = sample::pack();
        let (all, _) = scanned(&bytes);
        let end = sample::records_end();
        for start in HEADER_BYTES..end {
            for stop in start + 1..=end {
                for fill in [0, 0xff] {
                    let mut bad = bytes.clone();
                    bad[start..stop].fill(fill);
                    let touched = |record: &&ScannedRecord| {
                        let range = record.range().start as usize..record.range().end as usize;
                        bad[range.clone()] == bytes[range]
                    };
                    let intact: Vec<_> = all.iter().filter(touched).copied().collect();
                    assert_eq!(scanned(&bad).0, intact, "{start}..{stop}");
                }
            }
        }
    }

    #[test]
    fn a_lost_header_costs_no_record() {
        let (mut bytes, _) = sample::pack();
        let (all, _) = scanned(&bytes);
        bytes[..HEADER_BYTES].fill(0);
        let (records, damage) = scanned(&bytes);
        assert_eq!(records, all);
        // Without the header, the footer's hash does not fit either.
        assert_eq!(damage, [0..HEADER_BYTES as u64, sample::records_end() as u64..bytes.len() as u64]);
    }

    #[test]
    fn a_pack_inside_a_payload_is_never_taken_for_records() {
        let inner_header = PackHeader { pack: PackId::from_bytes([9; 16]), ..sample::HEADER };
        let mut inner = Vec::new();
        let mut builder = PackBuilder::new(inner_header);
        for (id, payload) in sample::payloads() {
            builder.push(id, &payload, &mut inner);
        }
        builder.finish(&mut inner);
        let raw_length = inner.len() as u32;
        let outer = Payload { codec: Codec::Raw, raw_length, stored: Bytes::from(inner) };
        let (mut bytes, _) = sample::pack_of(&[(ObjectId::from_bytes([1; 32]), outer), sample::payload("behind")]);
        // The outer record's header is lost, so that the search runs through the inner pack.
        bytes[HEADER_BYTES + 20] ^= 1;

        let (records, damage) = scanned(&bytes);
        let ids: Vec<ObjectId> = records.iter().map(|record| record.header.id).collect();
        assert_eq!(ids, [sample::payload("behind").0]);
        assert_eq!(damage, std::slice::from_ref(&(64..64 + RECORD_HEADER_BYTES as u64 + u64::from(raw_length))));
    }

    #[test]
    fn a_record_of_another_pack_in_place_of_ours_is_damage() {
        let (mut bytes, _) = sample::pack();
        let (all, _) = scanned(&bytes);
        let header = RecordHeader { mark: RecordMark::of(PackId::from_bytes([9; 16])), ..all[1].header };
        let mut foreign = Vec::new();
        header.encode(&mut foreign);
        let start = all[1].offset as usize;
        bytes[start..start + foreign.len()].copy_from_slice(&foreign);
        assert_eq!(scanned(&bytes), (without(&all, Some(1)), vec![all[1].range()]));
    }

    #[test]
    fn headers_that_overlap_are_not_read_again_and_again() {
        let (id, payload) = sample::payload("x");
        let mark = RecordMark::of(sample::HEADER.pack);
        let mut bytes = sample::HEADER.encode().to_vec();
        // Each claims that its payload reaches to the end, as far as that is allowed.
        let copies = 10_000;
        for copy in (0..copies).rev() {
            let stored_length = copy * RECORD_HEADER_BYTES as u32 + 1;
            let header = RecordHeader::of(mark, Purpose::Chunks, id, &payload);
            RecordHeader { codec: Codec::Zstd, stored_length, ..header }.encode(&mut bytes);
        }
        bytes.push(b'!');
        assert_eq!(scan(sample::HEADER.pack, &bytes).collect::<Vec<_>>(), [ScanItem::Damaged(64..bytes.len() as u64)]);

        let mut scan = scan(sample::HEADER.pack, &bytes);
        assert!(scan.next_record().is_none());
        assert_eq!(scan.at, bytes.len());
    }

    #[test]
    fn zeros_and_marks_alone_are_damage() {
        let mark = RecordMark::of(sample::HEADER.pack).to_bytes();
        for bytes in [vec![0; 4096], mark.repeat(1024), Vec::new(), vec![0xff; 63]] {
            let expected: Vec<_> = (!bytes.is_empty()).then_some(0..bytes.len() as u64).into_iter().collect();
            assert_eq!(scanned(&bytes), (Vec::new(), expected));
        }
    }
}
