//! A whole disk: its table, its partitions, and what is in them.

use crate::{
    filesystem::{Identity, PartitionType, examine, is_identified},
    map::{Map, MapOptions},
    read::{ReadAt, ReadError, Volume},
    reason::{Reason, settle},
    table::{self, Entry, Table, TableKind},
};

/// Type of a partition for swap, in a GPT and in an MBR.
const SWAP_TYPES: [&str; 2] = ["0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "82"];

/// What is on a disk.
#[derive(Debug)]
pub struct Layout {
    /// Length in bytes.
    pub length: u64,
    /// Logical sector size in bytes: that of the table, or what the caller said.
    pub sector_bytes: u32,
    /// What kind of table there is.
    pub table: TableKind,
    /// GUID of the disk, or the number in its MBR.
    pub id: Option<String>,
    /// Ascending by where they begin; none overlap. A disk without a table whose filesystem is known has one, number 0,
    /// from the first byte to the last.
    pub partitions: Vec<Partition>,
    /// What is not as it should be, and does no harm.
    pub remark: Option<&'static str>,
    /// Why the disk has no partitions here: all of it is plain bytes.
    pub plain: Option<Reason>,
}

/// A range of the disk with one content.
#[derive(Debug)]
pub struct Partition {
    /// As the system counts: 2 for `sda2`.
    pub number: u32,
    /// First byte.
    pub start: u64,
    /// Length in bytes.
    pub length: u64,
    /// GUID of its type, or the two digits in the MBR; empty without a table.
    pub type_id: String,
    /// Its own GUID.
    pub id: Option<String>,
    /// Its name in the table.
    pub name: Option<String>,
    /// What is in it.
    pub content: Content,
}

/// What is in a partition.
#[derive(Debug)]
pub struct Content {
    /// What it says of itself.
    pub identity: Option<Identity>,
    /// What it uses, or why it is plain bytes.
    pub map: Result<Map, Reason>,
}

impl Layout {
    /// Reads the layout of a disk, and maps of all filesystems that are understood.
    ///
    /// `sector_bytes` is the disk's logical sector size, 512 where it is a file; a GPT is found with both usual sizes.
    ///
    /// # Errors
    /// Only if the disk cannot be read. Whatever is on it, there is a layout.
    pub fn read(disk: &dyn ReadAt, sector_bytes: u32, options: &MapOptions) -> Result<Self, ReadError> {
        let bare = |plain| Self {
            length: disk.length(),
            sector_bytes,
            table: TableKind::None,
            id: None,
            partitions: Vec::new(),
            remark: None,
            plain: Some(plain),
        };
        let whole = Volume::new(disk, 0, disk.length());
        match (settle(table::read(disk, sector_bytes))?, is_identified(&whole)?) {
            (Err(reason), _) => Ok(bare(reason)),
            (Ok(Some(_)), Some(kind)) => Ok(bare(Reason::Ambiguous("a partition table", kind))),
            (Ok(Some(table)), None) => Self::of_table(disk, table, options),
            (Ok(None), _) => {
                let partition = Partition::examine(disk, Entry::whole(disk.length()), options)?;
                match (&partition.content.identity, &partition.content.map) {
                    (None, Err(reason)) => Ok(bare(reason.clone())),
                    _ => Ok(Self { partitions: vec![partition], plain: None, ..bare(Reason::NoFilesystem) }),
                }
            }
        }
    }

    fn of_table(disk: &dyn ReadAt, table: Table, options: &MapOptions) -> Result<Self, ReadError> {
        let mut left = *options;
        let mut partitions = Vec::new();
        for entry in table.entries {
            let partition = Partition::examine(disk, entry, &left)?;
            if let Ok(map) = &partition.content.map {
                left = left.beside(map);
            }
            partitions.push(partition);
        }
        Ok(Self {
            length: disk.length(),
            sector_bytes: table.sector_bytes,
            table: table.kind,
            id: table.id,
            partitions,
            remark: table.remark,
            plain: None,
        })
    }
}

impl Entry {
    const fn whole(length: u64) -> Self {
        Self { number: 0, start: 0, length, type_id: String::new(), id: None, name: None }
    }
}

impl Partition {
    fn examine(disk: &dyn ReadAt, entry: Entry, options: &MapOptions) -> Result<Self, ReadError> {
        let is_swap = SWAP_TYPES.contains(&entry.type_id.as_str());
        let partition_type = if is_swap { PartitionType::Swap } else { PartitionType::Other };
        let found = examine(&Volume::new(disk, entry.start, entry.length), partition_type, options)?;
        let Entry { number, start, length, type_id, id, name } = entry;
        Ok(Self {
            number,
            start,
            length,
            type_id,
            id,
            name,
            content: Content { identity: found.identity, map: found.map },
        })
    }
}
