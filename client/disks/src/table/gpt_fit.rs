//! A GPT for a disk of another length: its backup at the new end, and both headers saying so.
//! From the UEFI specification, chapter 5.

use super::{
    gpt::{Copy, Gpt},
    resize::{Grown, Growth, Misfit, Patch, Slot, aligned_end},
};
use crate::{
    checksum::crc32,
    fields::{Fields, guid},
};

/// Where the ends of a partition are in its entry.
const FIRST_AT: usize = 32;
const LAST_AT: usize = 40;

/// Writes both copies for a disk of `sectors`. Partitions keep their places, but for the last one, which may grow.
pub(super) fn fit(
    gpt: &Gpt,
    slots: &[Slot],
    sectors: u64,
    growth: Growth,
) -> Result<(Vec<Patch>, Option<Grown>), Misfit> {
    let copy = gpt.primary.as_ref().ok_or(Misfit::Table("its first copy is damaged"))?;
    let sector_bytes = gpt.sector_bytes;
    let entry_sectors = copy.entries.len().div_ceil(sector_bytes as usize) as u64;
    // Behind the last usable sector come the entries and the header of the backup.
    let needed = |end_sector: u64| end_sector.saturating_add(entry_sectors + 1).saturating_mul(sector_bytes.into());
    if let Some(slot) = slots.iter().max_by_key(|slot| slot.range.end) {
        let end = slot.range.end / u64::from(sector_bytes);
        if end.saturating_add(entry_sectors + 1) > sectors {
            return Err(Misfit::Partition { slot: slot.clone(), needed_bytes: needed(end) });
        }
    }
    // Whatever the header says, the backup comes behind the first copy.
    let lowest = copy.first_usable.max(copy.entries_sector.saturating_add(entry_sectors)).max(copy.sector + 1);
    if lowest.saturating_add(entry_sectors + 1) > sectors {
        return Err(Misfit::NoRoom { needed_bytes: needed(lowest) });
    }
    let header_sector = sectors - 1;
    let entries_sector = header_sector - entry_sectors;
    let last_usable = entries_sector - 1;
    let mut entries = copy.entries.clone();
    let grown = match growth {
        Growth::None => None,
        Growth::LastPartition => grow(copy, &mut entries, slots, last_usable, sector_bytes),
    };
    let mut header = copy.header.clone();
    put(&mut header, 48, last_usable.to_le_bytes());
    put(&mut header, 88, crc32(&entries).to_le_bytes());
    let primary = sealed(header.clone(), copy.sector, header_sector, copy.entries_sector);
    let backup = sealed(header, header_sector, copy.sector, entries_sector);
    let at = |sector: u64| sector.saturating_mul(sector_bytes.into());
    // The backup first: as long as the first copy is the old one, the disk is what it was.
    let patches = vec![
        Patch { offset: at(entries_sector), bytes: padded(entries.clone(), sector_bytes) },
        Patch { offset: at(header_sector), bytes: padded(backup, sector_bytes) },
        Patch { offset: at(copy.entries_sector), bytes: entries },
        Patch { offset: at(copy.sector), bytes: primary },
    ];
    Ok((patches, grown))
}

/// Makes the partition that ends last end with the usable space.
fn grow(copy: &Copy, entries: &mut [u8], slots: &[Slot], last_usable: u64, sector_bytes: u32) -> Option<Grown> {
    let slot = slots.iter().max_by_key(|slot| slot.range.end)?;
    let end = aligned_end((last_usable + 1).saturating_mul(sector_bytes.into()));
    if end <= slot.range.end {
        return None;
    }
    let index = (slot.number as usize).checked_sub(1)?;
    let raw = entries.chunks_exact_mut(copy.entry_bytes).nth(index)?;
    let is_it = guid(Fields(raw).array(0)).is_some()
        && Fields(raw).u64(FIRST_AT).checked_mul(sector_bytes.into()) == Some(slot.range.start);
    if !is_it {
        return None;
    }
    put(raw, LAST_AT, (end / u64::from(sector_bytes) - 1).to_le_bytes());
    Some(Grown { slot: slot.clone(), end })
}

/// A header for one of the two places.
fn sealed(mut header: Vec<u8>, sector: u64, other: u64, entries_sector: u64) -> Vec<u8> {
    put(&mut header, 24, sector.to_le_bytes());
    put(&mut header, 32, other.to_le_bytes());
    put(&mut header, 72, entries_sector.to_le_bytes());
    put(&mut header, 16, [0; 4]);
    let checksum = crc32(&header);
    put(&mut header, 16, checksum.to_le_bytes());
    header
}

/// Fields lie within a header of at least 92 bytes and an entry of at least 128.
fn put<const N: usize>(structure: &mut [u8], at: usize, bytes: [u8; N]) {
    if let Some(field) = structure.get_mut(at..at + N) {
        field.copy_from_slice(&bytes);
    }
}

fn padded(mut bytes: Vec<u8>, sector_bytes: u32) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(sector_bytes as usize), 0);
    bytes
}
