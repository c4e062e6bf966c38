//! FAT as `mkfs.fat` makes it and mtools fill it, against `mshowfat` and `fsck.fat`.

#![allow(clippy::unwrap_used, clippy::panic)] // a test fails where it stands

mod common;

use std::{ops::Range, os::unix::fs::FileExt, process::Command};

use common::*;
use imprint_disks::Reason;

fn field(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Where clusters are, computed from the boot sector on its own.
struct Geometry {
    data: u64,
    cluster: u64,
}

fn geometry(bytes: &[u8]) -> Geometry {
    let sector = field(bytes, 0xb, 2);
    let table = match field(bytes, 0x16, 2) {
        0 => field(bytes, 0x24, 4),
        sectors => sectors,
    };
    let data = (field(bytes, 0xe, 2) + field(bytes, 0x10, 1) * table) * sector + field(bytes, 0x11, 2) * 32;
    Geometry { data, cluster: sector * field(bytes, 0xd, 1) }
}

/// Clusters that mtools find in files and directories.
fn mtools_used(image: &Image) -> Vec<Range<u64>> {
    let Geometry { data, cluster } = geometry(&image.bytes());
    let listing = run(Command::new("mdir").args(["-/", "-b", "-a", "-i"]).arg(&image.path).arg("::/"));
    let mut ranges = Vec::new();
    for paths in listing.lines().collect::<Vec<_>>().chunks(200) {
        let paths = paths.iter().map(|path| path.trim_end_matches('/'));
        let shown = run(Command::new("mshowfat").arg("-i").arg(&image.path).args(paths));
        for part in shown.split('<').skip(1).map(|part| part.split('>').next().unwrap()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let at = |number: &str| data + (number.parse::<u64>().unwrap() - 2) * cluster;
            ranges.push(at(first)..at(last) + cluster);
        }
    }
    ranges.sort_by_key(|range: &Range<u64>| range.start);
    ranges
}

/// Clusters in use, and all of them.
fn fsck_counts(image: &Image) -> (u64, u64) {
    let report = output(Command::new("fsck.fat").arg("-nv").arg(&image.path));
    let report = String::from_utf8_lossy(&report.stdout).into_owned();
    let counts = report.lines().rev().find_map(|line| line.strip_suffix(" clusters")).unwrap();
    let (in_use, clusters) = counts.rsplit(' ').next().unwrap().split_once('/').unwrap();
    (in_use.parse().unwrap(), clusters.parse().unwrap())
}

fn assert_exact(image: &Image, kind: &str) {
    let layout = image.layout();
    let partition = only(&layout);
    assert_eq!(partition.content.identity.as_ref().unwrap().kind, kind);
    let map = partition.content.map.as_ref().unwrap_or_else(|reason| panic!("plain bytes: {reason}"));
    let (free, used) = (free(&layout), mtools_used(image));
    assert!(used.len() > 100);
    for range in &used {
        let overlaps = free.iter().any(|free| free.start < range.end && range.start < free.end);
        assert!(!overlaps, "{range:?} is in use");
    }
    // The root directory of FAT32 is a chain that `mdir` does not list.
    let root = if kind == "fat32" { geometry(&image.bytes()).cluster } else { 0 };
    let (in_use, clusters) = fsck_counts(image);
    let cluster = geometry(&image.bytes()).cluster;
    assert_eq!(map.unused_bytes(), (clusters - in_use) * cluster);
    assert_eq!(total(&free), map.unused_bytes());
    assert_eq!(in_use * cluster, total(&used) + root);
}

#[test]
fn every_size() {
    let matrix: &[(&str, u64, &[&str])] = &[
        ("fat12", 16, &["-F", "12", "-s", "16"]),
        ("fat12", 16, &["-F", "12", "-s", "16", "-f", "1"]),
        ("fat16", 40, &["-F", "16"]),
        ("fat16", 40, &["-F", "16", "-r", "1024", "-R", "8"]),
        ("fat32", 64, &["-F", "32", "-n", "ESP"]),
        ("fat32", 64, &["-F", "32", "-s", "1", "-f", "1"]),
    ];
    for (kind, mib, options) in matrix {
        println!("{kind} {options:?}");
        assert_exact(&Image::fat(mib * MIB, 6 * MIB, options), kind);
    }
}

/// With too few clusters for mtools, which take it for FAT16; the kernel and `fsck.fat` do not.
#[test]
fn large_sectors() {
    for sector in ["2048", "4096"] {
        let image = Image::empty(256 * MIB);
        run(Command::new("mkfs.fat").args(["-F", "32", "-S", sector, "-s", "1"]).arg(&image.path));
        let (in_use, clusters) = fsck_counts(&image);
        let expected = (clusters - in_use) * geometry(&image.bytes()).cluster;
        assert_eq!(total(&free(&image.layout())), expected);
    }
}

#[test]
fn fragmented() {
    let image = Image::fat(64 * MIB, 30 * MIB, &["-F", "32"]);
    let mut delete = Command::new("mdel");
    delete.arg("-i").arg(&image.path);
    for n in (1..300).filter(|n| n % 3 == 0) {
        delete.arg(format!("::/directory-{}/{}/file {n}", n % 7, n % 3));
    }
    run(&mut delete);
    let large = image.beside("large");
    std::fs::write(&large, noise(5 << 20, 5)).unwrap();
    run(Command::new("mcopy").arg("-i").arg(&image.path).arg(&large).arg("::/"));
    assert_exact(&image, "fat32");
}

#[test]
fn label_and_serial_number() {
    let image = Image::empty(64 * MIB);
    run(Command::new("mkfs.fat").args(["-F", "32", "-n", "ESP", "-i", "1234abcd"]).arg(&image.path));
    let layout = image.layout();
    let identity = only(&layout).content.identity.clone().unwrap();
    assert_eq!((identity.label.as_deref(), identity.uuid.as_deref()), (Some("ESP"), Some("1234-ABCD")));
}

fn changed(at: u64, bytes: &[u8]) -> Reason {
    let image = Image::fat(64 * MIB, MIB, &["-F", "32"]);
    std::fs::OpenOptions::new().write(true).open(&image.path).unwrap().write_all_at(bytes, at).unwrap();
    reason(&image.layout())
}

#[test]
fn what_is_not_clean_is_plain_bytes() {
    assert!(matches!(changed(0x41, &[1]), Reason::Unclean(_)));
    assert!(matches!(changed(0x41, &[2]), Reason::Unclean(_)));
    // Both tables, so that they agree; mkfs.fat puts them behind 32 sectors.
    let image = Image::fat(64 * MIB, MIB, &["-F", "32", "-f", "1"]);
    let file = std::fs::OpenOptions::new().write(true).open(&image.path).unwrap();
    file.write_all_at(&0x07ff_ffffu32.to_le_bytes(), 32 * 512 + 4).unwrap();
    assert!(matches!(reason(&image.layout()), Reason::Unclean(_)));
}

#[test]
fn what_does_not_agree_is_plain_bytes() {
    let different = Reason::Invalid { what: "copies of the table", why: "are different" };
    assert_eq!(changed(32 * 512 + 4000, &[1, 2, 3, 4]), different);
    assert!(matches!(changed(512 + 488, &[9, 0, 0, 0]), Reason::Disagreement { .. }));
    assert!(matches!(changed(512, &[9]), Reason::Invalid { what: "FSInfo", .. }));
    assert!(matches!(changed(6 * 512 + 0xd, &[4]), Reason::Invalid { what: "copy of the boot sector", .. }));
    assert!(matches!(changed(0x28, &[0x80]), Reason::Invalid { what: "tables", .. }));
}
