//! What is in a stored pack: from its footer, or by scanning it when the footer is lost.

use std::{collections::BTreeMap, ops::Range};

use bytes::Bytes;
use imprint_content::{DecodeError, ObjectId};

use super::{
    Footer, HEADER_BYTES, MAX_PACK_BYTES, PackHeader, Purpose, ScanItem, ScannedRecord, TRAILER_BYTES, Trailer, scan,
};
use crate::{
    Error, PackId, RepositoryId,
    catalog::{Location, PackRecord},
    storage::{PackStorage, read_past_damage},
};

/// What the catalog must know of a pack, as far as it can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackIndex {
    /// The pack.
    pub record: PackRecord,
    /// Its records, in order of their ids.
    pub objects: Vec<(ObjectId, Location)>,
    /// What a scan could not read, in bytes from the start. Empty when the footer is intact: then no record was
    /// looked at. Never empty otherwise: where nothing but the footer is known to be missing, it has the empty range
    /// at the end.
    pub damage: Vec<Range<u64>>,
}

/// Reads what is in a pack. What the disk cannot read is damage, block by block.
///
/// # Errors
/// [`Error::RecordCorrupt`] when the file is another pack, or when nothing in it can be read;
/// [`Error::PackTooNew`] when it is intact and of a newer format.
pub async fn read_index(storage: &dyn PackStorage, repository: RepositoryId, pack: PackId) -> Result<PackIndex, Error> {
    let length = storage.length(pack).await?;
    let head = read_one(storage, pack, 0..length.min(HEADER_BYTES as u64)).await?;
    let header = PackHeader::decode(&head);
    match &header {
        Ok(header) => {
            check_identity(header, repository, pack)?;
            if let Some(footer) = read_footer(storage, pack, length, &head).await? {
                return Ok(from_footer(header, length, &footer));
            }
        }
        // Its records may look like ours and mean something else: no scan.
        Err(newer @ DecodeError::Unknown { .. }) => return Err(Error::PackTooNew { pack, why: newer.to_string() }),
        Err(_) => {}
    }
    // Longer than any pack: what is behind was not written by us, and is not worth the memory.
    let bytes = read_one(storage, pack, 0..length.min(MAX_PACK_BYTES)).await?;
    from_scan(header, pack, length, &bytes)
}

fn check_identity(header: &PackHeader, repository: RepositoryId, pack: PackId) -> Result<(), Error> {
    if header.repository == repository && header.pack == pack {
        return Ok(());
    }
    let why = format!("its header names pack {} of repository {}", header.pack, header.repository);
    Err(Error::RecordCorrupt { pack, offset: 0, why })
}

/// The footer, or `None` when it is damaged.
async fn read_footer(
    storage: &dyn PackStorage,
    pack: PackId,
    length: u64,
    header: &[u8],
) -> Result<Option<Footer>, Error> {
    let tail = read_one(storage, pack, length.saturating_sub(TRAILER_BYTES as u64)..length).await?;
    let Ok(trailer) = Trailer::decode(&tail, length) else { return Ok(None) };
    let entries = read_one(storage, pack, trailer.footer.clone()).await?;
    Ok(Footer::decode(header, &entries, &trailer).ok())
}

async fn read_one(storage: &dyn PackStorage, pack: PackId, range: Range<u64>) -> Result<Bytes, Error> {
    let read = |range| async move { Ok(storage.read(pack, vec![range]).await?.pop().unwrap_or_default()) };
    read_past_damage(range, read).await
}

fn from_footer(header: &PackHeader, length: u64, footer: &Footer) -> PackIndex {
    let objects = (0..).zip(&footer.entries).map(|(n, entry)| (entry.id, entry.location(header.pack, n))).collect();
    index(header.pack, header.purpose, length, objects, Vec::new())
}

fn from_scan(
    header: Result<PackHeader, DecodeError>,
    pack: PackId,
    length: u64,
    bytes: &[u8],
) -> Result<PackIndex, Error> {
    let mut records = Vec::new();
    let mut damage = Vec::new();
    for item in scan(pack, bytes) {
        match item {
            ScanItem::Record(record) => records.push(record),
            ScanItem::Damaged(range) => damage.push(range),
        }
    }
    if length > bytes.len() as u64 {
        damage.push(bytes.len() as u64..length);
    }
    let purpose = match (header, records.first()) {
        (Ok(header), _) => header.purpose,
        (Err(_), Some(record)) => record.header.purpose,
        (Err(error), None) => {
            let why = format!("{error}, and it has no record that can be read");
            return Err(Error::RecordCorrupt { pack, offset: 0, why });
        }
    };
    let mut objects = BTreeMap::new();
    for record in &records {
        match location(record, pack, purpose) {
            Some(location) => _ = objects.entry(record.header.id).or_insert(location),
            None => damage.push(record.range()),
        }
    }
    if damage.is_empty() {
        // Cut between two records: nobody knows how many there were.
        damage.push(length..length);
    }
    Ok(index(pack, purpose, length, numbered(objects), damage))
}

/// A pack's objects in order, each with its ordinal.
pub(super) fn numbered(objects: BTreeMap<ObjectId, Location>) -> Vec<(ObjectId, Location)> {
    (0..).zip(objects).map(|(ordinal, (id, location))| (id, Location { ordinal, ..location })).collect()
}

/// Where to read a record; its ordinal is not known yet. `None` when this version of Imprint cannot.
pub(super) fn location(record: &ScannedRecord, pack: PackId, purpose: Purpose) -> Option<Location> {
    let header = &record.header;
    if header.purpose != purpose || header.base.is_some() {
        return None;
    }
    let (stored_length, raw_length, codec) = (header.stored_length, header.raw_length, header.codec);
    Some(Location { pack, offset: u32::try_from(record.offset).ok()?, stored_length, raw_length, codec, ordinal: 0 })
}

fn index(
    id: PackId,
    purpose: Purpose,
    bytes: u64,
    objects: Vec<(ObjectId, Location)>,
    damage: Vec<Range<u64>>,
) -> PackIndex {
    let records = u32::try_from(objects.len()).unwrap_or(u32::MAX);
    PackIndex { record: PackRecord { id, purpose, bytes, records }, objects, damage }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::{FinishedPack, PackBuilder, decode_record, record_length, sample};

    fn pack_in(error: &Error) -> String {
        assert!(matches!(error, Error::RecordCorrupt { offset: 0, .. }), "{error}");
        error.to_string()
    }

    /// Every object that is listed either reads exactly as it was pushed or says that it is damaged.
    fn readable(index: &PackIndex, bytes: &Bytes) -> usize {
        let intact = |(id, at): &&(ObjectId, Location)| {
            let start = at.offset as usize;
            let record = bytes.slice(start..start + record_length(at.stored_length) as usize);
            let Ok(decoded) = decode_record(Purpose::Chunks, &record) else { return false };
            assert_eq!(decoded.0, *id);
            assert!(sample::payloads().contains(&decoded));
            true
        };
        index.objects.iter().filter(intact).count()
    }

    #[test]
    fn an_intact_pack_is_what_its_builder_said() {
        let (bytes, finished) = sample::pack();
        let PackIndex { record, objects, damage } = sample::index(bytes).unwrap();
        assert_eq!(FinishedPack { record, objects }, finished);
        assert!(damage.is_empty());
    }

    #[test]
    fn without_its_footer_a_pack_is_scanned() {
        let (mut bytes, finished) = sample::pack();
        bytes.truncate(sample::records_end());
        let index = sample::index(bytes).unwrap();
        assert_eq!(index.objects, finished.objects);
        let end = sample::records_end() as u64;
        assert_eq!(index.record.bytes, end);
        assert_eq!(index.damage, std::slice::from_ref(&(end..end)));
    }

    #[test]
    fn a_flipped_bit_never_yields_a_wrong_record_and_costs_at_most_one() {
        let (good, finished) = sample::pack();
        for (bit, bad) in sample::flipped(&good).enumerate() {
            let index = sample::index(bad.clone()).unwrap();
            let in_records = (HEADER_BYTES..sample::records_end()).contains(&(bit / 8));
            assert_eq!(readable(&index, &bad.into()), finished.objects.len() - usize::from(in_records), "bit {bit}");
            assert_eq!(index.damage.is_empty(), in_records, "bit {bit}: the footer vouches for places, not for bytes");
        }
    }

    #[test]
    fn a_truncated_pack_has_what_is_left_or_is_an_error() {
        let (good, _) = sample::pack();
        for end in 0..good.len() {
            let cut = Bytes::copy_from_slice(&good[..end]);
            match sample::index(cut.to_vec()) {
                Ok(index) => {
                    assert_eq!(readable(&index, &cut), index.objects.len(), "cut at {end}");
                    assert!(!index.damage.is_empty(), "cut at {end}: it looks like a whole pack");
                }
                Err(error) => assert!(end < HEADER_BYTES && pack_in(&error).contains("cut short"), "cut at {end}"),
            }
        }
    }

    #[test]
    fn a_pack_in_the_wrong_place_is_refused() {
        for header in [
            PackHeader { repository: RepositoryId::from_bytes([1; 16]), ..sample::HEADER },
            PackHeader { pack: PackId::from_bytes([1; 16]), ..sample::HEADER },
        ] {
            let mut bytes = Vec::new();
            PackBuilder::new(header).finish(&mut bytes);
            let error = pack_in(&sample::index(bytes).unwrap_err());
            assert!(error.contains(&format!("pack {} of repository {}", header.pack, header.repository)), "{error}");
        }
    }

    #[test]
    fn a_pack_of_a_newer_format_is_refused_and_not_scanned() {
        let (mut bytes, _) = sample::pack();
        bytes[8] = 2;
        let checksum = crc32c::crc32c(&bytes[..HEADER_BYTES - 4]);
        bytes[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
        let error = sample::index(bytes).unwrap_err();
        assert!(matches!(error, Error::PackTooNew { pack, .. } if pack == sample::HEADER.pack), "{error}");
    }

    #[test]
    fn a_delta_record_is_listed_as_not_readable() {
        let (bytes, _) = sample::pack();
        let end = sample::records_end();
        let (id, payload) = sample::payload("difference");
        let mark = crate::pack::RecordMark::of(sample::HEADER.pack);
        let delta = crate::pack::RecordHeader::of(mark, Purpose::Chunks, id, &payload);
        let mut bytes = bytes[..end].to_vec();
        crate::pack::RecordHeader { base: Some(id), ..delta }.encode(&mut bytes);
        bytes.extend_from_slice(&payload.stored);
        let index = sample::index(bytes.clone()).unwrap();
        assert_eq!(index.objects.len(), 3);
        assert_eq!(index.damage, std::slice::from_ref(&(end as u64..bytes.len() as u64)));
    }

    #[test]
    fn what_is_behind_the_longest_pack_is_damage() {
        let (bytes, _) = sample::pack();
        let index = from_scan(PackHeader::decode(&bytes), sample::HEADER.pack, bytes.len() as u64 + 5, &bytes).unwrap();
        assert_eq!(index.objects.len(), 3);
        assert_eq!(index.damage, std::slice::from_ref(&(bytes.len() as u64..bytes.len() as u64 + 5)));
    }
}
