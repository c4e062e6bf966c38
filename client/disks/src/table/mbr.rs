//! Master boot records, with the chain of logical partitions in an extended one.

use super::{Entry, Table, TableKind, bytes};
use crate::{
    fields::Fields,
    read::Volume,
    reason::{Obstacle, limit, require},
};

const SIGNATURE: u16 = 0xaa55;
const PROTECTIVE: u8 = 0xee;
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
/// More logical partitions than any system allows.
const MAX_LOGICAL: u64 = 128;

/// Where the first entry is, and how long each is.
const SLOTS_AT: usize = 446;
const SLOT_BYTES: usize = 16;
/// The end of a partition in a field for cylinders, heads and sectors that cannot say it.
const CHS_BEYOND: [u8; 3] = [0xfe, 0xff, 0xff];

/// Four entries that may be partitions.
#[derive(Debug)]
pub(super) struct Record {
    id: u32,
    slots: [Slot; 4],
}

/// One of them; starts are counted from where its table says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    kind: u8,
    first: u32,
    sectors: u32,
}

/// A partition in the record itself, in sectors.
pub(super) struct LastSlot {
    pub(super) index: usize,
    pub(super) is_extended: bool,
    pub(super) first: u64,
    pub(super) sectors: u64,
}

impl Slot {
    /// Neither a type nor a length is no partition.
    const fn is_empty(self) -> bool {
        self.kind == 0 || self.sectors == 0
    }

    fn is_extended(self) -> bool {
        !self.is_empty() && EXTENDED.contains(&self.kind)
    }
}

impl Record {
    /// `None` for what is no record: no signature, or entries that cannot be.
    pub(super) fn parse(raw: &[u8; 512]) -> Option<Self> {
        let raw = Fields(raw);
        let at = |index: usize| SLOTS_AT + SLOT_BYTES * index;
        let slots = [0, 1, 2, 3].map(|index| Slot {
            kind: raw.u8(at(index) + 4),
            first: raw.u32(at(index) + 8),
            sectors: raw.u32(at(index) + 12),
        });
        let active = (0..4).all(|index| matches!(raw.u8(at(index)), 0 | 0x80));
        (raw.u16(510) == SIGNATURE && active).then(|| Self { id: raw.u32(440), slots })
    }

    /// Whether the disk says that it has a GPT.
    pub(super) fn is_protective(&self) -> bool {
        self.slots.iter().any(|slot| slot.kind == PROTECTIVE)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.iter().all(|slot| slot.is_empty())
    }

    /// The partition that says that there is a GPT, where it is the only one; its index.
    pub(super) fn only_protective(&self) -> Option<usize> {
        let mut used = self.slots.iter().enumerate().filter(|(_, slot)| !slot.is_empty());
        match (used.next(), used.next()) {
            (Some((index, slot)), None) if slot.kind == PROTECTIVE && slot.first == 1 => Some(index),
            _ => None,
        }
    }

    /// The partition that ends last; an extended one counts as one.
    pub(super) fn last(&self) -> Option<LastSlot> {
        let used = self.slots.iter().enumerate().filter(|(_, slot)| !slot.is_empty());
        let last = used.max_by_key(|(_, slot)| u64::from(slot.first) + u64::from(slot.sectors));
        last.map(|(index, slot)| LastSlot {
            index,
            is_extended: slot.is_extended(),
            first: slot.first.into(),
            sectors: slot.sectors.into(),
        })
    }

    /// Bytes that give the slot another length: their offset on the disk, and what to write there.
    pub(super) fn with_sectors(&self, index: usize, sectors: u32) -> (u64, Vec<u8>) {
        let at = SLOTS_AT + SLOT_BYTES * index;
        let first = self.slots.get(index).map_or(0, |slot| slot.first);
        let bytes = [&CHS_BEYOND[..], &first.to_le_bytes(), &sectors.to_le_bytes()].concat();
        (at as u64 + 5, bytes)
    }

    /// Bytes that say how much of the disk the GPT protects.
    pub(super) fn with_protected_sectors(index: usize, sectors: u32) -> (u64, Vec<u8>) {
        ((SLOTS_AT + SLOT_BYTES * index + 12) as u64, sectors.to_le_bytes().to_vec())
    }

    /// A GPT is believed beside partitions of this table only when they are its own.
    pub(super) fn allow_beside(&self, gpt: Table) -> Result<Table, Obstacle> {
        for slot in self.slots.iter().filter(|slot| !slot.is_empty() && slot.kind != PROTECTIVE) {
            let (start, length) = place(0, *slot, gpt.sector_bytes)?;
            let same = gpt.entries.iter().any(|entry| entry.start == start && entry.length == length);
            require(same, "GPT", "does not have the partitions of the MBR")?;
        }
        Ok(gpt)
    }
}

/// Reads the partitions of a record, logical ones included.
pub(super) fn read(volume: &Volume<'_>, record: &Record, sector_bytes: u32) -> Result<Table, Obstacle> {
    let mut entries = Vec::new();
    let mut extended = None;
    for (index, slot) in record.slots.iter().enumerate().filter(|(_, slot)| !slot.is_empty()) {
        if slot.is_extended() {
            require(extended.is_none(), "MBR", "has two extended partitions")?;
            extended = Some(*slot);
        } else {
            entries.push(entry(index as u32 + 1, 0, *slot, sector_bytes)?);
        }
    }
    if let Some(extended) = extended {
        logical(volume, extended, sector_bytes, &mut entries)?;
    }
    let id = (record.id != 0).then(|| format!("{:08x}", record.id));
    Ok(Table { kind: TableKind::Mbr, id, sector_bytes, entries, remark: None })
}

/// Follows the chain of tables in an extended partition: each has one partition and says where the next table is.
fn logical(volume: &Volume<'_>, extended: Slot, sector_bytes: u32, entries: &mut Vec<Entry>) -> Result<(), Obstacle> {
    let (start, length) = place(0, extended, sector_bytes)?;
    let end = start.saturating_add(length);
    require(end <= volume.length(), "the extended partition", "is beyond the end of the disk")?;
    let outside = entries.iter().all(|entry| entry.start >= end || entry.start.saturating_add(entry.length) <= start);
    require(outside, "partitions", "overlap")?;
    let mut table = start;
    let mut number = 5;
    let mut tables = 0;
    loop {
        tables += 1;
        limit("logical partitions", tables, MAX_LOGICAL)?;
        let mut raw = [0; 512];
        volume.read(table, &mut raw, "a table of logical partitions")?;
        let record =
            Record::parse(&raw).ok_or_else(|| Obstacle::invalid("a table of logical partitions", "is none"))?;
        let mut next = None;
        for slot in record.slots.into_iter().filter(|slot| !slot.is_empty()) {
            if slot.is_extended() {
                require(next.is_none(), "a table of logical partitions", "has two successors")?;
                next = Some(place(start, slot, sector_bytes)?.0);
            } else {
                let entry = entry(number, table, slot, sector_bytes)?;
                let inside = entry.start > table && entry.start.saturating_add(entry.length) <= end;
                require(inside, "a logical partition", "is outside of the extended one")?;
                entries.push(entry);
                number += 1;
            }
        }
        match next {
            None => return Ok(()),
            // As every tool writes them.
            Some(next) => require(next > table && next < end, "tables of logical partitions", "are not in order")?,
        }
        table = next.unwrap_or(end);
    }
}

/// Start and length in bytes.
fn place(origin: u64, slot: Slot, sector_bytes: u32) -> Result<(u64, u64), Obstacle> {
    let start = bytes(slot.first.into(), sector_bytes)?.saturating_add(origin);
    Ok((start, bytes(slot.sectors.into(), sector_bytes)?))
}

fn entry(number: u32, origin: u64, slot: Slot, sector_bytes: u32) -> Result<Entry, Obstacle> {
    let (start, length) = place(origin, slot, sector_bytes)?;
    require(start > 0, "a partition", "begins with its table")?;
    Ok(Entry { number, start, length, type_id: format!("{:02x}", slot.kind), id: None, name: None })
}
