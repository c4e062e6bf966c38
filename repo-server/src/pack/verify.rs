//! Looks at every byte of a pack, front to back, and says exactly what is wrong with it.
//!
//! The rule that must not be broken: nothing healthy is blamed. A lost header or footer is damage of the file and costs
//! no record; a damaged record costs itself. And nothing damaged passes: a record is intact only if its payload decodes to
//! bytes with the hash that is its id.

use std::ops::Range;

use bytes::Bytes;
use imprint_content::{ChunkId, DecodeError, NodeId, ObjectId};

use super::{
    Footer, FooterEntry, HEADER_BYTES, PackHeader, Purpose, RecordHeader, RecordMark, ScanItem, ScannedRecord,
    TRAILER_BYTES, Trailer, decode_record, index, record_length, scan,
};
use crate::{PackId, RepositoryId, catalog::Location};

/// What is wrong with a stretch of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackDamage {
    /// Where, in bytes from the start of the file.
    pub range: Range<u64>,
    /// What should be there.
    pub part: PackPart,
    /// What is wrong, for people.
    pub why: String,
}

/// What a stretch of a pack should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackPart {
    /// The first bytes of the file.
    Header,
    /// A record of this object. Only an intact footer can say so.
    Record(ObjectId),
    /// Records, or a part of one; of which objects, the catalog may know.
    Records,
    /// Entries and trailer at the end of the file.
    Footer,
    /// All of it: the file is another pack.
    File,
}

/// A pack, every byte of which was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPack {
    /// What its records hold; `None` when nothing in it says so.
    pub purpose: Option<Purpose>,
    /// Records whose bytes are what their ids say, in order of their ids, at the places that
    /// [`read_index`](super::read_index) gives them.
    pub intact: Vec<(ObjectId, Location)>,
    /// Everything else, in order of offsets. Empty for a healthy pack.
    pub damage: Vec<PackDamage>,
}

impl VerifiedPack {
    /// Whether header or footer is lost, so that the file cannot be read as what it is, whatever its records are.
    #[must_use]
    pub fn has_structural_damage(&self) -> bool {
        self.damage.iter().any(|damage| !matches!(damage.part, PackPart::Record(_)))
    }
}

/// Verifies a pack. `bytes` is the file, at most its first [`MAX_PACK_BYTES`](super::MAX_PACK_BYTES); `length` all that it has.
///
/// # Errors
/// When the pack is intact and of a newer format: nothing can be said of it then.
pub fn verify(repository: RepositoryId, pack: PackId, length: u64, bytes: &Bytes) -> Result<VerifiedPack, DecodeError> {
    let mut verifier = Verifier { pack, bytes, damage: Vec::new(), intact: Vec::new(), scratch: Vec::new() };
    let purpose = match verifier.header(repository)? {
        HeaderState::Foreign => None,
        HeaderState::Known(purpose) => match verifier.footer(length, &header(repository, pack, purpose)) {
            Ok((footer, records_end)) => {
                verifier.listed(purpose, footer, records_end);
                Some(purpose)
            }
            Err(error) => verifier.scanned(Some(purpose), length, &error),
        },
        HeaderState::Damaged => verifier.without_header(repository, length),
    };
    let Verifier { mut damage, intact, .. } = verifier;
    damage.sort_by_key(|damage| damage.range.start);
    Ok(VerifiedPack { purpose, intact, damage })
}

const PURPOSES: [Purpose; 2] = [Purpose::Chunks, Purpose::Nodes];

fn header(repository: RepositoryId, pack: PackId, purpose: Purpose) -> [u8; HEADER_BYTES] {
    PackHeader { repository, pack, purpose }.encode()
}

enum HeaderState {
    Known(Purpose),
    Damaged,
    /// Another pack's, and intact.
    Foreign,
}

struct Verifier<'a> {
    pack: PackId,
    bytes: &'a Bytes,
    damage: Vec<PackDamage>,
    intact: Vec<(ObjectId, Location)>,
    scratch: Vec<u8>,
}

impl Verifier<'_> {
    fn blame(&mut self, range: Range<u64>, part: PackPart, why: String) {
        self.damage.push(PackDamage { range, part, why });
    }

    fn header(&mut self, repository: RepositoryId) -> Result<HeaderState, DecodeError> {
        match PackHeader::decode(self.bytes) {
            Ok(found) if found.repository == repository && found.pack == self.pack => {
                Ok(HeaderState::Known(found.purpose))
            }
            Ok(found) => {
                let why = format!("its header names pack {} of repository {}", found.pack, found.repository);
                self.blame(0..self.bytes.len() as u64, PackPart::File, why);
                Ok(HeaderState::Foreign)
            }
            Err(newer @ DecodeError::Unknown { .. }) => Err(newer),
            Err(error) => {
                self.blame(0..self.bytes.len().min(HEADER_BYTES) as u64, PackPart::Header, error.to_string());
                Ok(HeaderState::Damaged)
            }
        }
    }

    /// The footer, if it is intact, and where the records end. Its hash covers the header, as it should be.
    fn footer(&self, length: u64, header: &[u8; HEADER_BYTES]) -> Result<(Footer, u64), DecodeError> {
        let trailer = Trailer::decode(self.bytes, length)?;
        let (start, end) = (trailer.footer.start as usize, self.bytes.len().saturating_sub(TRAILER_BYTES));
        let cut_short = DecodeError::Truncated { what: "pack footer", needed: start.saturating_sub(end) };
        let entries = self.bytes.get(start..end).ok_or(cut_short)?;
        Ok((Footer::decode(header, entries, &trailer)?, trailer.footer.start))
    }

    /// Two headers are possible, and the hash of an intact footer tells which of them it was.
    fn without_header(&mut self, repository: RepositoryId, length: u64) -> Option<Purpose> {
        let mut last = None;
        for purpose in PURPOSES {
            match self.footer(length, &header(repository, self.pack, purpose)) {
                Ok((footer, records_end)) => {
                    self.listed(purpose, footer, records_end);
                    return Some(purpose);
                }
                Err(error) => last = Some(error),
            }
        }
        let why = last.unwrap_or(DecodeError::Checksum { what: "pack footer" });
        self.scanned(None, length, &why)
    }

    /// Every record that the footer lists, and that they are all there is.
    fn listed(&mut self, purpose: Purpose, footer: Footer, records_end: u64) {
        let ordinals = (0..).zip(footer.entries);
        let mut entries: Vec<(u32, FooterEntry)> = ordinals.collect();
        entries.sort_by_key(|(_, entry)| entry.offset);
        let mut end = HEADER_BYTES as u64;
        for (ordinal, entry) in entries {
            let start = u64::from(entry.offset);
            self.expect_no_gap(end..start);
            end = end.max(start + record_length(entry.stored_length));
            let location = entry.location(self.pack, ordinal);
            match self.record(purpose, &entry.id, &location) {
                Ok(()) => self.intact.push((entry.id, location)),
                Err(why) => {
                    let range = start..start + record_length(entry.stored_length);
                    self.blame(range, PackPart::Record(entry.id), why);
                }
            }
        }
        self.expect_no_gap(end..records_end);
        self.intact.sort_unstable_by_key(|(id, _)| *id);
    }

    fn expect_no_gap(&mut self, gap: Range<u64>) {
        if !gap.is_empty() {
            self.blame(gap, PackPart::Records, "bytes that belong to no record".into());
        }
    }

    /// One record, looked at as a reader would, and hashed.
    fn record(&mut self, purpose: Purpose, id: &ObjectId, at: &Location) -> Result<(), String> {
        let start = at.offset as usize;
        let end = start + record_length(at.stored_length) as usize;
        if end > self.bytes.len() {
            return Err("it ends behind the file".into());
        }
        let record = self.bytes.slice(start..end);
        let header = RecordHeader::decode(&record).map_err(|error| error.to_string())?;
        if header.mark != RecordMark::of(self.pack) {
            return Err("it was written for another pack".into());
        }
        let (found, payload) = decode_record(purpose, &record).map_err(|error| error.to_string())?;
        if found != *id {
            return Err(format!("it is a record of {found}, not of {id}"));
        }
        if (header.codec, header.raw_length) != (at.codec, at.raw_length) {
            return Err("it is not encoded as the footer says".into());
        }
        payload.decode_into(&mut self.scratch).map_err(|error| error.to_string())?;
        let actual: ObjectId = match purpose {
            Purpose::Chunks => ChunkId::of(&self.scratch).into(),
            Purpose::Nodes => NodeId::of(&self.scratch).into(),
        };
        if actual == *id { Ok(()) } else { Err(format!("its bytes hash to {actual}, not to {id}")) }
    }

    /// What can be found without a footer.
    fn scanned(&mut self, purpose: Option<Purpose>, length: u64, footer: &DecodeError) -> Option<Purpose> {
        let mut records = Vec::new();
        let mut unread = Vec::new();
        for item in scan(self.pack, self.bytes) {
            match item {
                ScanItem::Record(record) => records.push(record),
                ScanItem::Damaged(range) => unread.push(range),
            }
        }
        let records_end = records.last().map_or(HEADER_BYTES as u64, |record: &ScannedRecord| record.range().end);
        self.blame_unread(unread, records_end, length, footer);
        let purpose = purpose.or_else(|| records.first().map(|record| record.header.purpose))?;
        let mut objects = std::collections::BTreeMap::new();
        for record in &records {
            let checked = index::location(record, self.pack, purpose).ok_or_else(|| "it cannot be read".to_owned());
            let checked = checked.and_then(|at| self.record(purpose, &record.header.id, &at).map(|()| at));
            match checked {
                Ok(at) => _ = objects.entry(record.header.id).or_insert(at),
                Err(why) => self.blame(record.range(), PackPart::Records, why),
            }
        }
        self.intact = index::numbered(objects);
        Some(purpose)
    }

    /// The footer starts where the last record ends, or somewhere behind it, in what cannot be read.
    fn blame_unread(&mut self, unread: Vec<Range<u64>>, records_end: u64, length: u64, footer: &DecodeError) {
        let has_header_damage = self.damage.iter().any(|damage| damage.part == PackPart::Header);
        let mut footer_start = records_end.max(HEADER_BYTES as u64).min(length);
        for range in unread {
            if range.start >= records_end {
                // Records and footer, both unreadable; where one ends and the other begins nobody knows.
                footer_start = footer_start.min(range.start);
                continue;
            }
            // A scan does not believe a damaged header either; that is known.
            let start = if has_header_damage { range.start.max(HEADER_BYTES as u64) } else { range.start };
            if start < range.end {
                self.blame(start..range.end, PackPart::Records, "no record can be read here".into());
            }
        }
        self.blame(footer_start..length, PackPart::Footer, footer.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::{FinishedPack, PackBuilder, sample};

    fn verified(bytes: Vec<u8>) -> VerifiedPack {
        let length = bytes.len() as u64;
        verify(sample::HEADER.repository, sample::HEADER.pack, length, &bytes.into()).unwrap()
    }

    fn records(finished: &FinishedPack) -> Vec<(ObjectId, Range<u64>)> {
        let range = |at: &Location| u64::from(at.offset)..u64::from(at.offset) + record_length(at.stored_length);
        finished.objects.iter().map(|(id, at)| (*id, range(at))).collect()
    }

    fn ids(verified: &VerifiedPack) -> Vec<ObjectId> {
        verified.intact.iter().map(|(id, _)| *id).collect()
    }

    #[test]
    fn a_healthy_pack_has_all_its_records_and_no_damage() {
        let (bytes, finished) = sample::pack();
        let expected = VerifiedPack { purpose: Some(Purpose::Chunks), intact: finished.objects, damage: vec![] };
        assert_eq!(verified(bytes), expected);
        assert!(!expected.has_structural_damage());
        let (empty, _) = sample::pack_of(&[]);
        assert!(verified(empty).damage.is_empty());
    }

    #[test]
    fn every_flipped_bit_is_found_where_it_is_and_costs_what_it_hit() {
        let (good, finished) = sample::pack();
        let end = sample::records_end() as u64;
        for (bit, bad) in sample::flipped(&good).enumerate() {
            let at = bit as u64 / 8;
            let found = verified(bad);
            assert_eq!(found.damage.len(), 1, "bit {bit}: {:?}", found.damage);
            assert!(found.damage[0].range.contains(&at), "bit {bit}: {:?}", found.damage);
            let hit = records(&finished).into_iter().find(|(_, range)| range.contains(&at));
            let expected: Vec<ObjectId> = match &hit {
                Some((hit, range)) => {
                    assert_eq!((found.damage[0].part, &found.damage[0].range), (PackPart::Record(*hit), range));
                    finished.objects.iter().map(|(id, _)| *id).filter(|id| id != hit).collect()
                }
                None => finished.objects.iter().map(|(id, _)| *id).collect(),
            };
            let part = if at < HEADER_BYTES as u64 { PackPart::Header } else { PackPart::Footer };
            assert!(hit.is_some() || found.damage[0].part == part, "bit {bit}");
            assert_eq!(hit.is_none(), at < HEADER_BYTES as u64 || at >= end);
            assert_eq!((ids(&found), found.purpose), (expected, Some(Purpose::Chunks)), "bit {bit}");
            assert_eq!(found.has_structural_damage(), hit.is_none());
        }
    }

    #[test]
    fn what_is_left_of_a_truncated_pack_is_intact_and_the_rest_is_named() {
        let (good, finished) = sample::pack();
        for end in 0..good.len() {
            let found = verified(good[..end].to_vec());
            let whole: Vec<ObjectId> = records(&finished)
                .into_iter()
                .filter_map(|(id, range)| (range.end <= end as u64).then_some(id))
                .collect();
            assert_eq!(ids(&found), whole, "cut at {end}");
            assert!(found.has_structural_damage(), "cut at {end}");
        }
    }

    #[test]
    fn any_destroyed_stretch_is_found_and_costs_the_records_that_it_touches() {
        let (good, finished) = sample::pack();
        for start in (0..good.len()).step_by(3) {
            for stop in (start + 1..=good.len()).step_by(5) {
                let mut bad = good.clone();
                bad[start..stop].fill(0xee);
                let found = verified(bad);
                let untouched: Vec<ObjectId> = records(&finished)
                    .into_iter()
                    .filter_map(|(id, range)| (range.end <= start as u64 || stop as u64 <= range.start).then_some(id))
                    .collect();
                assert_eq!(ids(&found), untouched, "{start}..{stop}");
                let blamed: Vec<_> = found.damage.iter().map(|damage| damage.range.clone()).collect();
                assert!(
                    (start..stop).all(|at| blamed.iter().any(|range| range.contains(&(at as u64)))),
                    "{start}..{stop}: {blamed:?}"
                );
            }
        }
    }

    /// The checksums of a record fit, and still it is not what its id says (restic#4523).
    #[test]
    fn a_record_whose_bytes_hash_to_another_id_is_damaged() {
        let (id, _) = sample::payload("what was meant");
        let (_, payload) = sample::payload("what is there");
        for lost_footer in [false, true] {
            let (mut bytes, _) = sample::pack_of(&[(id, payload.clone()), sample::payload("another")]);
            if lost_footer {
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
            }
            let found = verified(bytes);
            assert_eq!(ids(&found), [sample::payload("another").0]);
            let record = &found.damage[0];
            assert_eq!(record.range.start, HEADER_BYTES as u64);
            assert!(record.why.contains("hash to"), "{}", record.why);
        }
    }

    #[test]
    fn another_pack_in_its_place_has_none_of_its_records() {
        let mut bytes = Vec::new();
        PackBuilder::new(PackHeader { pack: PackId::from_bytes([1; 16]), ..sample::HEADER }).finish(&mut bytes);
        let found = verified(bytes);
        assert_eq!((found.intact.len(), found.damage.len()), (0, 1));
        assert_eq!(found.damage[0].part, PackPart::File);
    }

    #[test]
    fn of_a_newer_format_nothing_is_said() {
        let (mut bytes, _) = sample::pack();
        bytes[8] = 2;
        let checksum = crc32c::crc32c(&bytes[..HEADER_BYTES - 4]);
        bytes[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
        let length = bytes.len() as u64;
        assert!(verify(sample::HEADER.repository, sample::HEADER.pack, length, &bytes.into()).is_err());
    }

    #[test]
    fn a_file_that_is_longer_than_any_pack_is_read_as_far_as_packs_go() {
        let (good, finished) = sample::pack();
        let bytes = Bytes::from(good);
        let length = crate::pack::MAX_PACK_BYTES + 9;
        let found = verify(sample::HEADER.repository, sample::HEADER.pack, length, &bytes).unwrap();
        assert_eq!(found.intact.len(), finished.objects.len());
        assert_eq!(found.damage.last().unwrap().range.end, length);
    }
}
