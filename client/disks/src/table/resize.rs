//! A partition table on a disk of another length than the one it was made for.
//!
//! Nothing is written here: what would have to be is returned. A table that is not understood completely is not
//! touched.

use std::ops::Range;

use thiserror::Error;

use super::{RawTable, TableKind, gpt_fit, mbr::Record, read_raw};
use crate::{
    read::{ReadAt, ReadError},
    reason::{Reason, settle},
};

/// Ends of grown partitions are multiples of this, as starts are.
const ALIGNMENT_BYTES: u64 = 1 << 20;

/// A table that was read and agrees with itself, and can be fitted to another length.
#[derive(Debug)]
pub struct PartitionTable {
    raw: RawTable,
    slots: Vec<Slot>,
}

/// Where a partition is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// As the system counts: 2 for `sda2`.
    pub number: u32,
    /// Its name in the table.
    pub name: Option<String>,
    /// In bytes.
    pub range: Range<u64>,
}

/// Bytes for a place on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// First byte.
    pub offset: u64,
    /// What is to stand there.
    pub bytes: Vec<u8>,
}

/// Whether the last partition takes what a larger disk has more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Growth {
    /// Partitions stay as they are.
    #[default]
    None,
    /// The one that ends last ends with the disk.
    LastPartition,
}

/// A partition that became longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grown {
    /// As it was.
    pub slot: Slot,
    /// The byte behind it now.
    pub end: u64,
}

/// What makes a table fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resized {
    /// In the order in which to write them. Some may be what is there already.
    pub patches: Vec<Patch>,
    /// What grew, if anything did.
    pub grown: Option<Grown>,
}

/// Why a table cannot be fitted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Misfit {
    /// A partition ends behind the end of the disk, or where the backup of the table has to be.
    #[error("partition {} does not fit: the disk must have at least {needed_bytes} bytes", slot.number)]
    Partition {
        /// Which one.
        slot: Slot,
        /// The least length of a disk that it fits on, in bytes.
        needed_bytes: u64,
    },
    /// Not even the table has room.
    #[error("the table does not fit: the disk must have at least {needed_bytes} bytes")]
    NoRoom {
        /// The least length of a disk, in bytes.
        needed_bytes: u64,
    },
    /// It cannot be rewritten without a guess.
    #[error("the partition table cannot be rewritten: {0}")]
    Table(&'static str),
    /// The last partition cannot become longer.
    #[error("the last partition cannot be grown: {0}")]
    Growth(&'static str),
}

impl PartitionTable {
    /// Reads the table of a disk; `None` when it has none. `sector_bytes` as for [`Layout::read`](crate::Layout::read).
    ///
    /// # Errors
    /// The outer one if the disk cannot be read, the inner one for what is not understood.
    pub fn read(disk: &dyn ReadAt, sector_bytes: u32) -> Result<Result<Option<Self>, Reason>, ReadError> {
        Ok(settle(read_raw(disk, sector_bytes))?.map(|raw| raw.map(Self::new)))
    }

    fn new(raw: RawTable) -> Self {
        let slot = |entry: &super::Entry| Slot {
            number: entry.number,
            name: entry.name.clone(),
            range: entry.start..entry.start.saturating_add(entry.length),
        };
        Self { slots: raw.table.entries.iter().map(slot).collect(), raw }
    }

    /// What kind of table it is; never [`TableKind::None`].
    #[must_use]
    pub const fn kind(&self) -> TableKind {
        self.raw.table.kind
    }

    /// The sectors that it counts in, in bytes.
    #[must_use]
    pub const fn sector_bytes(&self) -> u32 {
        self.raw.table.sector_bytes
    }

    /// Its partitions, ascending by where they begin.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Where the backup copy of a GPT is, in bytes: what a disk of another length has elsewhere.
    #[must_use]
    pub fn backup_ranges(&self) -> Vec<Range<u64>> {
        let Some(gpt) = &self.raw.gpt else { return Vec::new() };
        let Some(backup) = &gpt.backup else { return Vec::new() };
        let at = |sector: u64| sector.saturating_mul(gpt.sector_bytes.into());
        let entries = at(backup.entries_sector);
        let header = at(backup.sector);
        let mut ranges = vec![
            entries..entries.saturating_add(backup.entries.len() as u64),
            header..header.saturating_add(gpt.sector_bytes.into()),
        ];
        ranges.sort_by_key(|range| range.start);
        ranges
    }

    /// What to write so that the table is right on a disk of `length` bytes.
    ///
    /// # Errors
    /// Nothing is to be written, and the table is not right there.
    pub fn resized(&self, length: u64, growth: Growth) -> Result<Resized, Misfit> {
        let sectors = length / u64::from(self.sector_bytes());
        match &self.raw.gpt {
            Some(gpt) => {
                let (mut patches, grown) = gpt_fit::fit(gpt, &self.slots, sectors, growth)?;
                patches.extend(protect(&self.raw.record, sectors));
                Ok(Resized { patches, grown })
            }
            None => self.resized_mbr(sectors, growth),
        }
    }

    fn resized_mbr(&self, sectors: u64, growth: Growth) -> Result<Resized, Misfit> {
        let Some(last) = self.raw.record.last() else { return Ok(Resized::default()) };
        let sector_bytes = u64::from(self.sector_bytes());
        let end = last.first + last.sectors;
        let range = last.first * sector_bytes..end * sector_bytes;
        let number = last.index as u32 + 1;
        let slot = Slot { number, name: None, range };
        if end > sectors {
            return Err(Misfit::Partition { needed_bytes: slot.range.end, slot });
        }
        let room = sectors.min(last.first + u64::from(u32::MAX));
        let new_end = aligned_end(room * sector_bytes);
        if growth == Growth::None || new_end <= slot.range.end {
            return Ok(Resized::default());
        }
        if last.is_extended {
            return Err(Misfit::Growth("it is a logical one, in an extended partition"));
        }
        let length = (new_end / sector_bytes).saturating_sub(last.first);
        let (offset, bytes) = self.raw.record.with_sectors(last.index, u32::try_from(length).unwrap_or(u32::MAX));
        Ok(Resized { patches: vec![Patch { offset, bytes }], grown: Some(Grown { slot, end: new_end }) })
    }
}

/// The protective MBR covers the disk, as far as it can count.
fn protect(record: &Record, sectors: u64) -> Option<Patch> {
    let index = record.only_protective()?;
    let protected = u32::try_from(sectors.saturating_sub(1)).unwrap_or(u32::MAX);
    let (offset, bytes) = Record::with_protected_sectors(index, protected);
    Some(Patch { offset, bytes })
}

pub(super) const fn aligned_end(end: u64) -> u64 {
    end - end % ALIGNMENT_BYTES
}
