//! What a disk looks like, for people and for versions: the table, the partitions and what is in them, without maps.

use std::ops::Range;

use imprint_content::record::MAX_LAYOUT_BYTES;
use imprint_disks::{Layout, Map, Partition, TableKind};
use serde::{Deserialize, Serialize};

/// Of the encoding in content records: docs/format.md, "Disk layout".
const FORMAT: u32 = 1;

/// One disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// As content records keep it.
#[derive(Serialize, Deserialize)]
struct Recorded<T> {
    format: u32,
    #[serde(flatten)]
    layout: T,
}

impl DiskLayout {
    /// As a content record keeps it; empty when it would be longer than a record allows.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let text = serde_json::to_vec(&Recorded { format: FORMAT, layout: self }).unwrap_or_default();
        if text.len() <= MAX_LAYOUT_BYTES { text } else { Vec::new() }
    }

    /// From a content record, which anybody may have written; `None` when there is none, or one that this version of
    /// Imprint does not read.
    #[must_use]
    pub fn decode(record: &[u8]) -> Option<Self> {
        let recorded: Recorded<Self> = serde_json::from_slice(record).ok()?;
        (recorded.format == FORMAT).then_some(recorded.layout)
    }

    /// Bytes that no filesystem uses.
    #[must_use]
    pub fn unused_bytes(&self) -> u64 {
        self.partitions.iter().filter_map(|partition| partition.unused_bytes).fold(0, u64::saturating_add)
    }
}

impl PartitionLayout {
    /// Where it is on the disk.
    #[must_use]
    pub const fn range(&self) -> Range<u64> {
        self.start..self.start.saturating_add(self.bytes)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> DiskLayout {
        DiskLayout {
            image_bytes: 64 << 20,
            sector_size: 512,
            table: "gpt".into(),
            id: Some("6a09e667-bb67-4e8f-a54f-f53a5f1d36f1".into()),
            remark: None,
            plain: None,
            partitions: vec![PartitionLayout {
                number: 1,
                start: 1 << 20,
                bytes: 32 << 20,
                type_id: "0fc63daf-8483-4772-8e79-3d69d8477de4".into(),
                id: None,
                name: Some("root".into()),
                filesystem: Some("ext4".into()),
                label: None,
                uuid: None,
                used_bytes: Some(4096),
                unused_bytes: Some((32 << 20) - 4096),
                files: Some(1),
                plain: None,
            }],
        }
    }

    #[test]
    fn the_encoding_does_not_change() {
        let text = concat!(
            r#"{"format":1,"image_bytes":67108864,"sector_size":512,"table":"gpt","#,
            r#""id":"6a09e667-bb67-4e8f-a54f-f53a5f1d36f1","#,
            r#""remark":null,"plain":null,"partitions":[{"number":1,"start":1048576,"bytes":33554432,"#,
            r#""type":"0fc63daf-8483-4772-8e79-3d69d8477de4","id":null,"name":"root","filesystem":"ext4","label":null,"#,
            r#""uuid":null,"used_bytes":4096,"unused_bytes":33550336,"files":1,"plain":null}]}"#
        );
        assert_eq!(String::from_utf8(sample().encode()).unwrap(), text);
        assert_eq!(DiskLayout::decode(text.as_bytes()), Some(sample()));
        assert_eq!(DiskLayout::decode(b""), None);
        let newer = text.replace("\"format\":1", "\"format\":2");
        assert_eq!(DiskLayout::decode(newer.as_bytes()), None);
        // What later versions add is passed over.
        let more = text.replace("\"files\":1", "\"files\":1,\"encrypted\":true");
        assert_eq!(DiskLayout::decode(more.as_bytes()), Some(sample()));
    }

    #[test]
    fn what_no_record_has_room_for_is_left_out() {
        let layout = DiskLayout { remark: Some("x".repeat(MAX_LAYOUT_BYTES)), ..sample() };
        assert!(layout.encode().is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_layout_or_none(at in any::<prop::sample::Index>(), with in any::<Vec<u8>>(), nested in 0usize..2000) {
            let mut bytes = sample().encode();
            let at = at.index(bytes.len());
            let end = (at + with.len()).min(bytes.len());
            bytes.splice(at..end, with);
            let _ = DiskLayout::decode(&bytes);
            let _ = DiskLayout::decode("[".repeat(nested).as_bytes());
        }
    }
}
