//! Composes one pack, front to back, without writing it anywhere.
//!
//! The caller gets bytes to append and decides when to write them; nothing counts before the pack is sealed.

use std::collections::BTreeMap;

use imprint_content::{ObjectId, Payload};

use super::{
    ENTRY_BYTES, Footer, FooterEntry, HEADER_BYTES, MAX_PACK_BYTES, PackHeader, RECORD_HEADER_BYTES, RecordHeader,
    RecordMark, TRAILER_BYTES, index::numbered,
};
use crate::catalog::{Location, PackRecord};

/// Composes one pack.
#[derive(Debug, Clone)]
pub struct PackBuilder {
    header: PackHeader,
    mark: RecordMark,
    bytes: u64,
    objects: BTreeMap<ObjectId, Location>,
}

/// What the catalog must know of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedPack {
    /// The pack.
    pub record: PackRecord,
    /// Its records, in order of their ids.
    pub objects: Vec<(ObjectId, Location)>,
}

impl PackBuilder {
    /// Starts an empty pack.
    #[must_use]
    pub fn new(header: PackHeader) -> Self {
        Self { header, mark: RecordMark::of(header.pack), bytes: 0, objects: BTreeMap::new() }
    }

    /// Whether a record with so long a payload, and its entry in the footer, still fit.
    #[must_use]
    pub fn has_room(&self, stored_length: usize) -> bool {
        let record = RECORD_HEADER_BYTES as u64 + stored_length as u64;
        let footer = (self.objects.len() as u64 + 1) * ENTRY_BYTES as u64 + TRAILER_BYTES as u64;
        self.bytes.max(HEADER_BYTES as u64) + record + footer <= MAX_PACK_BYTES
    }

    /// Appends a record to `out` and returns where it starts in the pack, in bytes. An object that the pack has is not
    /// written again.
    ///
    /// # Panics
    /// When there is no room, or when the payload's lengths are none that [`Payload::decode`] accepts: the record
    /// could never be read.
    pub fn push(&mut self, id: ObjectId, payload: &Payload, out: &mut Vec<u8>) -> u32 {
        if let Some(location) = self.objects.get(&id) {
            return location.offset;
        }
        assert!(self.has_room(payload.stored.len()), "callers ask for room first");
        let record = RecordHeader::of(self.mark, self.header.purpose, id, payload);
        assert_eq!(record.check_lengths(), Ok(()), "callers decode payloads first");

        self.begin(out);
        let location = Location {
            pack: self.header.pack,
            offset: u32::try_from(self.bytes).expect("packs are far below 4 GiB"),
            stored_length: record.stored_length,
            raw_length: record.raw_length,
            codec: record.codec,
            // Given when all are known.
            ordinal: 0,
        };
        record.encode(out);
        out.extend_from_slice(&payload.stored);
        self.bytes += record.total_length();
        self.objects.insert(id, location);
        location.offset
    }

    /// Records in the pack.
    #[must_use]
    pub fn records(&self) -> u32 {
        u32::try_from(self.objects.len()).expect("packs are far below 4 GiB")
    }

    /// Bytes composed so far, in bytes; the footer is not among them.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the pack has a record of this object.
    #[must_use]
    pub fn contains(&self, id: &ObjectId) -> bool {
        self.objects.contains_key(id)
    }

    /// Appends the footer. With it the pack is complete.
    pub fn finish(mut self, out: &mut Vec<u8>) -> FinishedPack {
        self.begin(out);
        let records = self.records();
        let footer = Footer { entries: self.objects.iter().map(FooterEntry::of).collect() };
        let length = footer.encode(&self.header.encode(), out);
        let record =
            PackRecord { id: self.header.pack, purpose: self.header.purpose, bytes: self.bytes + length, records };
        FinishedPack { record, objects: numbered(self.objects) }
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if self.bytes == 0 {
            out.extend_from_slice(&self.header.encode());
            self.bytes = HEADER_BYTES as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use imprint_content::{ChunkId, Codec, profile::MAX_CHUNK_BYTES};
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::pack::{PackIndex, Purpose, ScanItem, decode_record, record_length, sample, scan};

    fn raw(length: usize, fill: usize) -> (ObjectId, Payload) {
        let id = ObjectId::from_bytes(*blake3::hash(&fill.to_le_bytes()).as_bytes());
        let stored = Bytes::from(vec![fill as u8; length]);
        (id, Payload { codec: Codec::Raw, raw_length: length as u32, stored })
    }

    #[test]
    fn golden_bytes() {
        let (bytes, _) = sample::pack();
        assert_eq!(bytes.len(), 445);
        assert_eq!(
            blake3::hash(&bytes).to_string(),
            "c136728b64c20333129e15753ed797159edc04221bdfde8a31b2d0b7f6b5e5a8"
        );
    }

    #[test]
    fn a_location_is_where_its_record_can_be_read() {
        let (bytes, finished) = sample::pack();
        let bytes = Bytes::from(bytes);
        assert_eq!(finished.record.bytes, bytes.len() as u64);
        assert_eq!(finished.record.records, 3);
        for (id, at) in finished.objects {
            let end = u64::from(at.offset) + record_length(at.stored_length);
            let record = bytes.slice(at.offset as usize..end as usize);
            let decoded = decode_record(Purpose::Chunks, &record).unwrap();
            assert!(sample::payloads().contains(&decoded));
            assert_eq!(decoded.0, id);
        }
    }

    #[test]
    fn an_object_is_written_once() {
        let mut builder = PackBuilder::new(sample::HEADER);
        let mut out = Vec::new();
        let (id, payload) = sample::payload("one");
        assert!(!builder.contains(&id));
        let first = builder.push(id, &payload, &mut out);
        let length = out.len();
        assert_eq!(builder.push(id, &payload, &mut out), first);
        assert_eq!((out.len(), builder.bytes(), builder.records()), (length, length as u64, 1));
        assert!(builder.contains(&id));
    }

    #[test]
    fn an_empty_pack_is_a_header_and_a_footer() {
        let (bytes, finished) = sample::pack_of(&[]);
        assert_eq!(bytes.len(), HEADER_BYTES + TRAILER_BYTES);
        assert_eq!(finished.record.bytes, bytes.len() as u64);
        assert_eq!(scan(sample::HEADER.pack, &bytes).next(), None);
    }

    #[test]
    fn a_pack_can_be_filled_to_the_last_byte_and_no_further() {
        let mut builder = PackBuilder::new(sample::HEADER);
        let mut out = Vec::new();
        let mut pushed = 0;
        let mut length = MAX_CHUNK_BYTES;
        while length > 0 {
            if builder.has_room(length) {
                let (id, payload) = raw(length, pushed);
                builder.push(id, &payload, &mut out);
                pushed += 1;
            } else {
                length = (1..length).rev().find(|length| builder.has_room(*length)).unwrap_or(0);
            }
        }
        let finished = builder.finish(&mut out);
        assert!(pushed >= 64);
        let unused = MAX_PACK_BYTES - out.len() as u64;
        assert!(unused <= (RECORD_HEADER_BYTES + ENTRY_BYTES) as u64, "{unused} bytes are unused");
        assert_eq!(scan(sample::HEADER.pack, &out).count(), finished.objects.len());
    }

    #[test]
    #[should_panic(expected = "callers ask for room first")]
    fn what_does_not_fit_is_not_written() {
        let stored = Bytes::from(vec![1; MAX_PACK_BYTES as usize]);
        let payload = Payload { codec: Codec::Zstd, raw_length: 1, stored };
        PackBuilder::new(sample::HEADER).push(ObjectId::from_bytes([1; 32]), &payload, &mut Vec::new());
    }

    #[test]
    #[should_panic(expected = "callers decode payloads first")]
    fn what_could_not_be_read_is_not_written() {
        let (id, payload) = raw(0, 0);
        PackBuilder::new(sample::HEADER).push(id, &payload, &mut Vec::new());
    }

    proptest! {
        #[test]
        fn what_was_pushed_comes_back_by_footer_and_by_scan(contents in vec(vec(any::<u8>(), 1..300), 0..20)) {
            let payloads: BTreeMap<ObjectId, Payload> = contents
                .into_iter()
                .map(|raw| (ChunkId::of(&raw).into(), Payload::compress(&raw.into())))
                .collect();
            let list: Vec<_> = payloads.clone().into_iter().collect();
            let (bytes, finished) = sample::pack_of(&list);
            let PackIndex { record, objects, damage } = sample::index(bytes.clone()).unwrap();
            prop_assert_eq!(FinishedPack { record, objects }, finished.clone());
            prop_assert!(damage.is_empty());

            let scanned = scan(sample::HEADER.pack, &bytes[..bytes.len() - TRAILER_BYTES - ENTRY_BYTES * list.len()]);
            let mut found = 0;
            for item in scanned {
                let ScanItem::Record(record) = item else { panic!("{item:?}") };
                let range = record.range();
                let record = Bytes::copy_from_slice(&bytes[range.start as usize..range.end as usize]);
                let (id, payload) = decode_record(Purpose::Chunks, &record).unwrap();
                prop_assert_eq!(payloads.get(&id), Some(&payload));
                found += 1;
            }
            prop_assert_eq!(found, list.len());
        }
    }
}
