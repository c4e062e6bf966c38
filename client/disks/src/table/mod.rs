//! Partition tables.

mod gpt;
mod gpt_fit;
mod mbr;
mod resize;

use crate::{
    read::{ReadAt, Volume},
    reason::{Obstacle, Reason, require},
};

pub use resize::{Grown, Growth, Misfit, PartitionTable, Patch, Resized, Slot};

/// What kind of table a disk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// GUID partition table.
    Gpt,
    /// Master boot record.
    Mbr,
    /// None: one filesystem from the first byte, or nothing that is known.
    None,
}

/// A table that was read and agrees with itself.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) kind: TableKind,
    /// GUID of the disk, or the number that Windows gave it.
    pub(crate) id: Option<String>,
    pub(crate) sector_bytes: u32,
    /// Ascending by where they begin; none overlap.
    pub(crate) entries: Vec<Entry>,
    /// What is not as it should be, and does no harm.
    pub(crate) remark: Option<&'static str>,
}

/// One partition, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As the system counts: `sda2`.
    pub(crate) number: u32,
    pub(crate) start: u64,
    pub(crate) length: u64,
    /// GUID of its type, or two hexadecimal digits.
    pub(crate) type_id: String,
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
}

/// Reads the table of a disk; `None` when it has none.
pub(crate) fn read(disk: &dyn ReadAt, sector_bytes: u32) -> Result<Option<Table>, Obstacle> {
    Ok(read_raw(disk, sector_bytes)?.map(|raw| raw.table))
}

/// A table, and the structures that it was read from.
#[derive(Debug)]
struct RawTable {
    table: Table,
    record: mbr::Record,
    gpt: Option<gpt::Gpt>,
}

fn read_raw(disk: &dyn ReadAt, sector_bytes: u32) -> Result<Option<RawTable>, Obstacle> {
    let volume = Volume::new(disk, 0, disk.length());
    let mut first = [0; 512];
    if volume.try_read(0, &mut first)?.is_none() {
        return Ok(None);
    }
    let record = mbr::Record::parse(&first);
    let gpt = gpt::read(&volume, sector_bytes)?;
    let mut raw = match (record, gpt) {
        (Some(record), Some(gpt)) if record.is_protective() => {
            RawTable { table: record.allow_beside(gpt.table()?)?, record, gpt: Some(gpt) }
        }
        (_, Some(_)) => return Err(Obstacle::invalid("GPT", "has no protective MBR")),
        (Some(record), None) if record.is_protective() => return Err(Obstacle::invalid("GPT", "cannot be read")),
        (Some(record), None) if !record.is_empty() => {
            RawTable { table: mbr::read(&volume, &record, sector_bytes)?, record, gpt: None }
        }
        (_, None) => return Ok(None),
    };
    raw.table.entries.sort_by_key(|entry| (entry.start, entry.number));
    check(&raw.table.entries, disk.length())?;
    Ok(Some(raw))
}

fn check(entries: &[Entry], disk_bytes: u64) -> Result<(), Obstacle> {
    let mut end = 0;
    for entry in entries {
        require(entry.length > 0, "a partition", "is empty")?;
        require(entry.start >= end, "partitions", "overlap")?;
        end = entry.start.saturating_add(entry.length);
        require(end <= disk_bytes, "a partition", "is beyond the end of the disk")?;
    }
    Ok(())
}

/// Where sectors are, in bytes.
fn bytes(sectors: u64, sector_bytes: u32) -> Result<u64, Obstacle> {
    let bytes = sectors.checked_mul(sector_bytes.into());
    bytes.ok_or(Obstacle::Reason(Reason::Invalid { what: "a partition", why: "is beyond the end of the disk" }))
}
