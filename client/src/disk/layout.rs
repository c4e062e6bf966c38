//! What a disk looks like: the table, the partitions and what is in them, without maps.

use imprint_disks::{Layout, Map, Partition, TableKind};
use serde::Serialize;

/// One disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiskLayout {
    /// Length in bytes.
    pub image_bytes: u64,
    /// Logical sector size in bytes.
    pub sector_size: u32,
    /// `gpt`, `mbr`, `none`.
    pub table: String,
    /// GUID of the disk, or the number in its MBR.
    pub id: Option<String>,
    /// What is not as it should be, and does no harm.
    pub remark: Option<String>,
    /// Why all of it is plain bytes.
    pub plain: Option<String>,
    /// Ascending by where they begin.
    pub partitions: Vec<PartitionLayout>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionLayout {
    /// As the system counts; 0 is a disk without a table.
    pub number: u32,
    /// First byte.
    pub start: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// GUID of its type, or the two digits in the MBR.
    #[serde(rename = "type")]
    pub type_id: String,
    /// Its own GUID.
    pub id: Option<String>,
    /// Its name in the table.
    pub name: Option<String>,
    /// `ext4`, `fat32`, `swap`, ...; also what is known by name only.
    pub filesystem: Option<String>,
    /// The filesystem's name.
    pub label: Option<String>,
    /// What the system finds the filesystem by.
    pub uuid: Option<String>,
    /// Bytes in use, where that is known.
    pub used_bytes: Option<u64>,
    /// The others.
    pub unused_bytes: Option<u64>,
    /// Files and directories, where they were counted.
    pub files: Option<u64>,
    /// Why it is plain bytes.
    pub plain: Option<String>,
}

impl DiskLayout {
    /// Bytes that no filesystem uses.
    #[must_use]
    pub fn unused_bytes(&self) -> u64 {
        self.partitions.iter().filter_map(|partition| partition.unused_bytes).fold(0, u64::saturating_add)
    }
}

impl From<&Layout> for DiskLayout {
    fn from(layout: &Layout) -> Self {
        let table = match layout.table {
            TableKind::Gpt => "gpt",
            TableKind::Mbr => "mbr",
            TableKind::None => "none",
        };
        Self {
            image_bytes: layout.length,
            sector_size: layout.sector_bytes,
            table: table.to_owned(),
            id: layout.id.clone(),
            remark: layout.remark.map(str::to_owned),
            plain: layout.plain.as_ref().map(ToString::to_string),
            partitions: layout.partitions.iter().map(PartitionLayout::from).collect(),
        }
    }
}

impl From<&Partition> for PartitionLayout {
    fn from(partition: &Partition) -> Self {
        let map = partition.content.map.as_ref();
        let identity = partition.content.identity.clone().unwrap_or_default();
        let unused = map.ok().map(Map::unused_bytes);
        Self {
            number: partition.number,
            start: partition.start,
            bytes: partition.length,
            type_id: partition.type_id.clone(),
            id: partition.id.clone(),
            name: partition.name.clone(),
            filesystem: (!identity.kind.is_empty()).then(|| identity.kind.to_owned()),
            label: identity.label,
            uuid: identity.uuid,
            used_bytes: unused.map(|unused| partition.length.saturating_sub(unused)),
            unused_bytes: unused,
            files: map.ok().map(Map::files),
            plain: map.err().map(ToString::to_string),
        }
    }
}
