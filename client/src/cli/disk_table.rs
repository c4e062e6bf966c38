//! What is on a disk, for people: the same wherever it is written.

use std::fmt;

use imprint_client::{DiskLayout, PartitionLayout};

use super::{
    size::{count, size},
    table::{Align, Table},
    text::printable,
};

/// Table and partitions, with the reasons for what is plain bytes.
pub(crate) struct DiskTable<'a>(pub(crate) &'a DiskLayout);

impl fmt::Display for DiskTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layout = self.0;
        write!(f, "{}", table_line(layout))?;
        if let Some(remark) = &layout.remark {
            write!(f, "\n{}", printable(remark))?;
        }
        if let Some(reason) = &layout.plain {
            return write!(f, "\nall of it is plain bytes: {}", printable(reason));
        }
        if !layout.partitions.is_empty() {
            write!(f, "\n{}", partitions(&layout.partitions))?;
        }
        for partition in &layout.partitions {
            if let Some(reason) = &partition.plain {
                write!(f, "\npartition {} is plain bytes: {}", partition.number, printable(reason))?;
            }
        }
        Ok(())
    }
}

fn table_line(layout: &DiskLayout) -> String {
    let id = layout.id.as_ref().map(|id| format!(" {}", printable(id))).unwrap_or_default();
    let sectors = layout.sector_size;
    match layout.table.as_str() {
        "gpt" => format!("GPT{id}, sectors of {sectors} bytes"),
        "mbr" => format!("MBR{id}, sectors of {sectors} bytes"),
        _ => "no partition table".into(),
    }
}

fn partitions(partitions: &[PartitionLayout]) -> Table {
    let mut table = Table::new([
        ("PARTITION", Align::Right),
        ("START", Align::Right),
        ("SIZE", Align::Right),
        ("TYPE", Align::Left),
        ("CONTENT", Align::Left),
        ("USED", Align::Right),
        ("UNUSED", Align::Right),
        ("FILES", Align::Right),
        ("LABEL", Align::Left),
    ]);
    let optional = |bytes: Option<u64>| bytes.map(size).unwrap_or_default();
    for partition in partitions {
        table.row([
            partition.number.to_string(),
            size(partition.start),
            size(partition.bytes),
            printable(type_name(&partition.type_id)),
            printable(partition.filesystem.as_deref().unwrap_or("unknown")),
            optional(partition.used_bytes),
            optional(partition.unused_bytes),
            partition.files.map(count).unwrap_or_default(),
            printable(partition.label.as_deref().or(partition.name.as_deref()).unwrap_or_default()),
        ]);
    }
    table
}

/// What people call the type, or the type itself.
fn type_name(type_id: &str) -> &str {
    match type_id {
        "c12a7328-f81f-11d2-ba4b-00a0c93ec93b" | "ef" => "EFI system",
        "0fc63daf-8483-4772-8e79-3d69d8477de4"
        | "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
        | "b921b045-1df0-41c3-af44-4c6f280d3fae"
        | "83" => "Linux",
        "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f" | "82" => "Linux swap",
        "21686148-6449-6e6f-744e-656564454649" => "BIOS boot",
        "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7" => "basic data",
        "e3c9e316-0b5c-4db8-817d-f92df00215ae" => "Microsoft reserved",
        "de94bba4-06d1-4d40-a16a-bfd50179d6ac" => "Windows recovery",
        "e6d6d379-f507-44c2-a23c-238f2a3df928" | "8e" => "Linux LVM",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: u32) -> PartitionLayout {
        PartitionLayout {
            number,
            start: 1 << 20,
            bytes: 512 << 20,
            type_id: "c12a7328-f81f-11d2-ba4b-00a0c93ec93b".into(),
            id: None,
            name: Some("EFI".into()),
            filesystem: Some("fat32".into()),
            label: Some("E\u{1b}SP".into()),
            uuid: Some("1234-ABCD".into()),
            used_bytes: Some(12 << 20),
            unused_bytes: Some(500 << 20),
            files: Some(1234),
            plain: None,
        }
    }

    #[test]
    fn what_people_see() {
        let root = PartitionLayout {
            type_id: "0fc63daf-8483-4772-8e79-3d69d8477de4".into(),
            filesystem: Some("ext4".into()),
            label: None,
            name: None,
            used_bytes: None,
            unused_bytes: None,
            files: None,
            plain: Some("not clean: the journal has to be replayed".into()),
            ..partition(2)
        };
        let layout = DiskLayout {
            image_bytes: 4 << 30,
            sector_size: 512,
            table: "gpt".into(),
            id: Some("486b3f7a".into()),
            remark: None,
            plain: None,
            partitions: vec![partition(1), root],
        };
        assert_eq!(
            DiskTable(&layout).to_string(),
            "GPT 486b3f7a, sectors of 512 bytes
PARTITION     START     SIZE  TYPE        CONTENT      USED   UNUSED  FILES  LABEL
        1  1.00 MiB  512 MiB  EFI system  fat32    12.0 MiB  500 MiB  1 234  E\u{fffd}SP
        2  1.00 MiB  512 MiB  Linux       ext4
partition 2 is plain bytes: not clean: the journal has to be replayed"
        );
    }
}
