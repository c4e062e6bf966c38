//! GUID partition tables: two copies with checksums. From the UEFI specification, chapter 5.

use super::{Entry, Table, TableKind, bytes};
use crate::{
    checksum::crc32,
    fields::{Fields, guid, name},
    read::Volume,
    reason::{Obstacle, require},
};

const SIGNATURE: &[u8; 8] = b"EFI PART";
/// Sector sizes of disks with this table.
const SECTOR_BYTES: [u32; 2] = [512, 4096];
const HEADER_BYTES: usize = 92;
/// Usual are 16 KiB.
const MAX_ENTRY_BYTES: usize = 1 << 20;

/// Reads the table, wherever one of its two copies is whole. `sector_bytes` is tried first.
pub(super) fn read(volume: &Volume<'_>, sector_bytes: u32) -> Result<Option<Gpt>, Obstacle> {
    let others = SECTOR_BYTES.into_iter().filter(|other| *other != sector_bytes);
    for sector_bytes in std::iter::once(sector_bytes).chain(others) {
        if let Some(gpt) = read_with(volume, sector_bytes)? {
            return Ok(Some(gpt));
        }
    }
    Ok(None)
}

fn read_with(volume: &Volume<'_>, sector_bytes: u32) -> Result<Option<Gpt>, Obstacle> {
    let sectors = volume.length() / u64::from(sector_bytes);
    if sectors < 3 {
        return Ok(None);
    }
    let primary = Copy::read(volume, sector_bytes, 1)?;
    // A disk that was copied onto a larger one has the other copy where the smaller one ended.
    let elsewhere = primary.as_ref().map(|copy| copy.other).filter(|other| (2..sectors).contains(other));
    let place = elsewhere.unwrap_or(sectors - 1);
    let backup = Copy::read(volume, sector_bytes, place)?;
    if let (Some(primary), Some(backup)) = (&primary, &backup) {
        require(primary.says_the_same_as(backup), "GPT", "differs from its backup")?;
    }
    let is_none = primary.is_none() && backup.is_none();
    Ok((!is_none).then_some(Gpt { sector_bytes, primary, backup, is_at_end: place == sectors - 1 }))
}

/// Both copies of a table, as far as they are whole; one of them is.
#[derive(Debug)]
pub(super) struct Gpt {
    pub(super) sector_bytes: u32,
    pub(super) primary: Option<Copy>,
    pub(super) backup: Option<Copy>,
    /// Whether the backup is, or was looked for, in the last sector of the disk.
    is_at_end: bool,
}

impl Gpt {
    pub(super) fn table(&self) -> Result<Table, Obstacle> {
        let (copy, remark) = match (&self.primary, &self.backup) {
            (Some(primary), Some(_)) if self.is_at_end => (primary, None),
            (Some(primary), Some(_)) => (primary, Some("the backup GPT is not at the end of the disk")),
            (Some(primary), None) => (primary, Some("the backup GPT is damaged or missing")),
            (None, Some(backup)) => (backup, Some("the GPT is damaged; this is its backup")),
            (None, None) => return Err(Obstacle::invalid("GPT", "cannot be read")),
        };
        Ok(Table {
            kind: TableKind::Gpt,
            id: copy.disk.clone(),
            sector_bytes: self.sector_bytes,
            entries: copy.partitions(self.sector_bytes)?,
            remark,
        })
    }
}

/// One header with its entries.
#[derive(Debug)]
pub(super) struct Copy {
    /// The header, its checksum zero.
    pub(super) header: Vec<u8>,
    /// Where it is.
    pub(super) sector: u64,
    /// Where the entries are.
    pub(super) entries_sector: u64,
    other: u64,
    pub(super) first_usable: u64,
    last_usable: u64,
    disk: Option<String>,
    pub(super) entry_bytes: usize,
    pub(super) entries: Vec<u8>,
}

impl Copy {
    /// `None` when there is none, or when a checksum is wrong.
    fn read(volume: &Volume<'_>, sector_bytes: u32, sector: u64) -> Result<Option<Self>, Obstacle> {
        let mut raw = vec![0; sector_bytes as usize];
        let at = bytes(sector, sector_bytes)?;
        if volume.try_read(at, &mut raw)?.is_none() || raw[..8] != *SIGNATURE {
            return Ok(None);
        }
        let length = Fields(&raw).u32(12) as usize;
        if !(HEADER_BYTES..=raw.len()).contains(&length) {
            return Ok(None);
        }
        let expected = Fields(&raw).u32(16);
        raw[16..20].fill(0);
        let fields = Fields(&raw[..length]);
        if crc32(fields.0) != expected || fields.u64(24) != sector {
            return Ok(None);
        }
        require(fields.u32(8) == 0x1_0000, "version of the GPT", "is unknown")?;
        let (count, entry_bytes) = (fields.u32(80) as usize, fields.u32(84) as usize);
        let total = count.checked_mul(entry_bytes).filter(|total| *total <= MAX_ENTRY_BYTES);
        let usual = entry_bytes.is_power_of_two() && entry_bytes >= 128;
        let total = total.filter(|_| usual).ok_or_else(|| Obstacle::invalid("GPT", "has impossible entries"))?;
        let mut entries = vec![0; total];
        if volume.try_read(bytes(fields.u64(72), sector_bytes)?, &mut entries)?.is_none()
            || crc32(&entries) != fields.u32(88)
        {
            return Ok(None);
        }
        let entries_sector = fields.u64(72);
        Ok(Some(Self {
            header: fields.0.to_vec(),
            sector,
            entries_sector,
            other: fields.u64(32),
            first_usable: fields.u64(40),
            last_usable: fields.u64(48),
            disk: guid(fields.array(56)),
            entry_bytes,
            entries,
        }))
    }

    fn says_the_same_as(&self, other: &Self) -> bool {
        let say = |copy: &Self| (copy.first_usable, copy.last_usable, copy.disk.clone(), copy.entry_bytes);
        say(self) == say(other) && self.entries == other.entries
    }

    fn partitions(&self, sector_bytes: u32) -> Result<Vec<Entry>, Obstacle> {
        let mut partitions = Vec::new();
        for (index, raw) in self.entries.chunks_exact(self.entry_bytes).enumerate() {
            let raw = Fields(raw);
            let Some(type_id) = guid(raw.array(0)) else { continue };
            let (first, last) = (raw.u64(32), raw.u64(40));
            let inside = self.first_usable <= first && first <= last && last <= self.last_usable;
            require(inside, "a partition", "is outside of what the GPT may use")?;
            let sectors =
                (last - first).checked_add(1).ok_or_else(|| Obstacle::invalid("a partition", "is too long"))?;
            partitions.push(Entry {
                number: index as u32 + 1,
                start: bytes(first, sector_bytes)?,
                length: bytes(sectors, sector_bytes)?,
                type_id,
                id: guid(raw.array(16)),
                name: utf16_name(&raw.array::<72>(56)),
            });
        }
        Ok(partitions)
    }
}

fn utf16_name(raw: &[u8; 72]) -> Option<String> {
    let units = raw.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit)).take_while(|unit| *unit != 0);
    let text: String = char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    name(text.as_bytes())
}
