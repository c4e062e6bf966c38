//! Partition tables as `sfdisk` writes them, and swap as `mkswap` makes it.

#![allow(clippy::unwrap_used, clippy::panic)] // a test fails where it stands

mod common;

use std::{fs, os::unix::fs::FileExt, process::Command};

use common::*;
use imprint_disks::{Layout, Reason, TableKind, Usage};

fn sfdisk(length: u64, script: &str) -> Image {
    let image = Image::empty(length);
    run_with(Command::new("sfdisk").arg("-q").arg(&image.path), script);
    image
}

fn write(image: &Image, at: u64, bytes: &[u8]) {
    fs::OpenOptions::new().write(true).open(&image.path).unwrap().write_all_at(bytes, at).unwrap();
}

/// Number, start and length of each partition, in sectors.
fn partitions(layout: &Layout) -> Vec<(u32, u64, u64)> {
    let of = |partition: &imprint_disks::Partition| {
        let sector = u64::from(layout.sector_bytes);
        (partition.number, partition.start / sector, partition.length / sector)
    };
    layout.partitions.iter().map(of).collect()
}

/// What `sfdisk` reads.
fn listed(image: &Image) -> Vec<(u32, u64, u64)> {
    let json: serde_json::Value =
        serde_json::from_str(&run(Command::new("sfdisk").arg("-J").arg(&image.path))).unwrap();
    let mut listed: Vec<_> = json["partitiontable"]["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|partition| {
            let node = partition["node"].as_str().unwrap();
            let number = node[image.path.to_str().unwrap().len()..].parse().unwrap();
            (number, partition["start"].as_u64().unwrap(), partition["size"].as_u64().unwrap())
        })
        .collect();
    listed.sort_by_key(|(_, start, _)| *start);
    listed
}

const GPT: &str = "label: gpt\nlabel-id: 6A09E667-BB67-4E8F-A54F-F53A5F1D36F1\n\
    size=8MiB, type=U, name=\"EFI system\"\nstart=40MiB, size=8MiB, type=S\nstart=16MiB, size=20MiB, type=L, name=\"root\"\n";

#[test]
fn a_gpt() {
    let image = sfdisk(64 * MIB, GPT);
    let layout = image.layout();
    assert_eq!((layout.table, layout.sector_bytes), (TableKind::Gpt, 512));
    assert_eq!(layout.id.as_deref(), Some("6a09e667-bb67-4e8f-a54f-f53a5f1d36f1"));
    assert_eq!(partitions(&layout), listed(&image));
    assert_eq!(layout.partitions.iter().map(|partition| partition.number).collect::<Vec<_>>(), [1, 3, 2]);
    let names: Vec<_> = layout.partitions.iter().map(|partition| partition.name.as_deref()).collect();
    assert_eq!(names, [Some("EFI system"), Some("root"), None]);
    assert_eq!(layout.partitions[0].type_id, "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
    assert_eq!((layout.remark, layout.plain), (None, None));
}

#[test]
fn either_copy_of_a_gpt_is_enough() {
    let image = sfdisk(64 * MIB, GPT);
    let whole = partitions(&image.layout());
    write(&image, 512 + 40, &[0xff]);
    let layout = image.layout();
    assert_eq!(partitions(&layout), whole);
    assert!(layout.remark.is_some());
    let image = sfdisk(64 * MIB, GPT);
    write(&image, 64 * MIB - 512, &[0; 512]);
    let layout = image.layout();
    assert_eq!(partitions(&layout), whole);
    assert!(layout.remark.is_some());
    write(&image, 512, &[0; 512]);
    assert_eq!(image.layout().plain, Some(Reason::Invalid { what: "GPT", why: "cannot be read" }));
}

#[test]
fn a_gpt_that_differs_from_its_backup_is_plain_bytes() {
    let image = sfdisk(64 * MIB, GPT);
    let mut other = image.bytes();
    run_with(Command::new("sfdisk").arg("-q").arg(&image.path), "label: gpt\nsize=4MiB\n");
    let now = image.bytes();
    other[..MIB as usize].copy_from_slice(&now[..MIB as usize]);
    assert_eq!(read(other.as_slice()).plain, Some(Reason::Invalid { what: "GPT", why: "differs from its backup" }));
}

#[test]
fn a_gpt_on_a_larger_disk() {
    let image = sfdisk(64 * MIB, GPT);
    let whole = partitions(&image.layout());
    fs::OpenOptions::new().write(true).open(&image.path).unwrap().set_len(80 * MIB).unwrap();
    let layout = image.layout();
    assert_eq!(partitions(&layout), whole);
    assert_eq!(layout.remark, Some("the backup GPT is not at the end of the disk"));
}

/// Needs root and loop devices.
#[test]
fn sectors_of_4096_bytes() {
    let image = Image::empty(64 * MIB);
    let device = output(Command::new("losetup").args(["-f", "--show", "-b", "4096"]).arg(&image.path));
    if !device.status.success() {
        println!("skipped: no loop devices");
        return;
    }
    let device = String::from_utf8(device.stdout).unwrap().trim().to_owned();
    run_with(Command::new("sfdisk").args(["-q", "--no-reread", "--no-tell-kernel"]).arg(&device), GPT);
    run(Command::new("losetup").arg("-d").arg(&device));
    let layout = image.layout();
    assert_eq!((layout.table, layout.sector_bytes), (TableKind::Gpt, 4096));
    assert_eq!(partitions(&layout), [(1, 256, 2048), (3, 4096, 5120), (2, 10240, 2048)]);
}

#[test]
fn a_gpt_without_its_protective_record_is_plain_bytes() {
    let image = sfdisk(64 * MIB, GPT);
    write(&image, 446, &[0; 64]);
    assert_eq!(image.layout().plain, Some(Reason::Invalid { what: "GPT", why: "has no protective MBR" }));
}

#[test]
fn an_mbr_with_logical_partitions() {
    let script = "label: dos\nlabel-id: 0x1234abcd\nsize=8MiB, type=c, bootable\nsize=8MiB, type=82\n\
        size=40MiB, type=f\nsize=4MiB\nsize=6MiB\nsize=8MiB, type=83\n";
    let image = sfdisk(64 * MIB, script);
    let layout = image.layout();
    assert_eq!((layout.table, layout.id.as_deref()), (TableKind::Mbr, Some("1234abcd")));
    let expected: Vec<_> = listed(&image).into_iter().filter(|(number, ..)| *number != 3).collect();
    assert_eq!(expected.len(), 5);
    assert_eq!(partitions(&layout), expected);
    assert_eq!(layout.partitions[1].type_id, "82");
}

#[test]
fn a_chain_of_logical_partitions_that_returns_is_plain_bytes() {
    let image =
        sfdisk(64 * MIB, "label: dos\nsize=40MiB, type=5\nsize=1MiB\nsize=1MiB\nsize=1MiB\nsize=4MiB\nsize=6MiB\n");
    let first = 2048 * 512;
    assert_eq!(image.bytes()[first + 446 + 16 + 4], 0x05, "the successor");
    write(&image, first as u64 + 446 + 16 + 8, &[0; 4]);
    assert!(matches!(image.layout().plain, Some(Reason::Invalid { .. })));
}

#[test]
fn partitions_that_overlap_or_leave_the_disk_are_plain_bytes() {
    let image = sfdisk(64 * MIB, "label: dos\nstart=2048, size=16384\nstart=32768, size=16384\n");
    write(&image, 446 + 16 + 8, &4096u32.to_le_bytes());
    assert_eq!(image.layout().plain, Some(Reason::Invalid { what: "partitions", why: "overlap" }));
    write(&image, 446 + 16 + 8, &130_000u32.to_le_bytes());
    assert!(matches!(image.layout().plain, Some(Reason::Invalid { what: "a partition", .. })));
}

#[test]
fn a_disk_without_a_table_and_one_with_nothing() {
    assert_eq!(read(&[0u8; 0][..]).plain, Some(Reason::NoFilesystem));
    assert_eq!(read(&vec![0; 1 << 20][..]).plain, Some(Reason::NoFilesystem));
    assert_eq!(read(&noise(1 << 20, 1)[..]).plain, Some(Reason::NoFilesystem));
    let image = Image::ext(32 * MIB, MIB, &["-t", "ext4"]);
    let layout = image.layout();
    assert_eq!((layout.table, partitions(&layout)), (TableKind::None, vec![(0, 0, 65536)]));
}

#[test]
fn two_signatures_are_plain_bytes() {
    let image = Image::ext(32 * MIB, MIB, &["-t", "ext4"]);
    run_with(Command::new("sfdisk").args(["-q", "--wipe", "never"]).arg(&image.path), "label: dos\nsize=8MiB\n");
    assert_eq!(image.layout().plain, Some(Reason::Ambiguous("a partition table", "ext4")));
    for (at, signature, name) in [
        (0, &b"XFSB"[..], "xfs"),
        (0x1_0040, b"_BHRfS_M", "btrfs"),
        (512 + 24, b"LVM2 001", "lvm"),
        (4086, b"SWAPSPACE2", "swap"),
    ] {
        let image = Image::ext(32 * MIB, MIB, &["-t", "ext4", "-b", "1024"]);
        write(&image, at, signature);
        assert_eq!(image.layout().plain, Some(Reason::Ambiguous("ext4", name)));
    }
}

#[test]
fn what_is_known_and_not_understood_has_a_name() {
    let image = sfdisk(64 * MIB, GPT);
    write(&image, 16 * MIB, b"XFSB");
    assert_eq!(image.layout().partitions[1].content.map.as_ref().err(), Some(&Reason::NotSupported("xfs")));
}

#[test]
fn swap() {
    let image = sfdisk(64 * MIB, GPT);
    let (uuid, at) = ("3c6ef372-fe94-482b-a54f-f53a5f1d36f1", 40 * MIB);
    let swap = image.beside("swap");
    fs::File::create(&swap).unwrap().set_len(8 * MIB).unwrap();
    run(Command::new("mkswap").args(["-q", "-L", "pages", "-U", uuid]).arg(&swap));
    let made = fs::read(&swap).unwrap();
    write(&image, at, &made);
    let layout = image.layout();
    let content = &layout.partitions[2].content;
    let identity = content.identity.clone().unwrap();
    assert_eq!(
        (identity.kind, identity.label.as_deref(), identity.uuid.as_deref()),
        ("swap", Some("pages"), Some(uuid))
    );
    let map = content.map.as_ref().unwrap();
    assert_eq!(map.usage(), Usage::Discarded);
    assert!(map.unused(0..u64::MAX).eq(std::iter::once(4096..8 * MIB)));
    // A hibernated system waits in it, or the table says that it is something else.
    write(&image, at + 4086, b"S1SUSPEND\0");
    assert!(matches!(image.layout().partitions[2].content.map, Err(Reason::Unclean(_))));
    write(&image, 16 * MIB, &made);
    assert!(matches!(image.layout().partitions[1].content.map, Err(Reason::Invalid { what: "partition type", .. })));
}
