//! Damage to FAT: a wrong number in the table, chains that meet, are lost or return, tables that differ, directories with
//! anything in them. The map is what it was, or there is none; never is a cluster free that was in use.

#![allow(clippy::unwrap_used, clippy::panic)] // a test fails where it stands

mod common;

use std::{
    ops::{ControlFlow, Range},
    sync::OnceLock,
};

use common::*;
use imprint_disks::{FileEntry, FileExtent, FileKind, FileVisitor, Reason, files};
use proptest::prelude::*;

/// A filesystem, and where its structures are.
struct Whole {
    bits: usize,
    disk: Vec<u8>,
    free: Vec<Range<u64>>,
    tables: Vec<usize>,
    data: usize,
    cluster_bytes: usize,
    clusters: usize,
    /// Clusters of each file, and of each directory.
    files: Vec<Vec<usize>>,
    directories: Vec<Range<u64>>,
}

#[derive(Default)]
struct Collector {
    files: Vec<Vec<Range<u64>>>,
    directories: Vec<Range<u64>>,
    is_directory: bool,
}

impl FileVisitor for Collector {
    fn file(&mut self, file: &FileEntry<'_>) -> ControlFlow<()> {
        self.is_directory = file.kind == FileKind::Directory;
        if !self.is_directory {
            self.files.push(Vec::new());
        }
        ControlFlow::Continue(())
    }

    fn extent(&mut self, extent: &FileExtent) -> ControlFlow<()> {
        let range = extent.start..extent.start + extent.length;
        match self.files.last_mut() {
            _ if self.is_directory => self.directories.push(range),
            Some(file) => file.push(range),
            None => {}
        }
        ControlFlow::Continue(())
    }
}

fn whole(bits: usize, mib: u64, options: &[&str]) -> Whole {
    let image = Image::fat(mib * MIB, 2 * MIB, options);
    let disk = image.bytes();
    let word = |at: usize| usize::from(u16::from_le_bytes([disk[at], disk[at + 1]]));
    let table_bytes = 512 * if word(0x16) == 0 { word(0x24) } else { word(0x16) };
    let tables: Vec<usize> = (0..usize::from(disk[0x10])).map(|n| word(0xe) * 512 + n * table_bytes).collect();
    let data = tables[0] + tables.len() * table_bytes + word(0x11) * 32;
    let cluster_bytes = usize::from(disk[0xd]) * 512;
    let mut collector = Collector::default();
    assert!(files(&Borrowed(disk.as_slice()), 0..u64::MAX, &mut collector).unwrap().is_continue());
    let numbers = |range: &Range<u64>| {
        let number = |byte: u64| (byte as usize - data) / cluster_bytes + 2;
        number(range.start)..number(range.end)
    };
    let files: Vec<Vec<usize>> = collector.files.iter().map(|file| file.iter().flat_map(numbers).collect()).collect();
    assert!(files.iter().filter(|file| file.len() > 2).count() > 20);
    let clusters = (disk.len() - data) / cluster_bytes;
    let free = free(&image.layout());
    assert!(total(&free) > MIB);
    let directories = collector.directories;
    Whole { bits, disk, free, tables, data, cluster_bytes, clusters, files, directories }
}

fn disks() -> &'static [Whole] {
    static DISKS: OnceLock<Vec<Whole>> = OnceLock::new();
    DISKS.get_or_init(|| {
        vec![
            whole(12, 8, &["-F", "12", "-s", "8"]),
            whole(16, 12, &["-F", "16", "-s", "1"]),
            whole(32, 40, &["-F", "32", "-s", "1"]),
            whole(32, 40, &["-F", "32", "-s", "1", "-f", "1"]),
        ]
    })
}

impl Whole {
    fn entry(&self, number: usize) -> u32 {
        let at = self.tables[0];
        let byte = |n: usize| u32::from(self.disk[at + n]);
        match self.bits {
            12 => (byte(number * 3 / 2) | byte(number * 3 / 2 + 1) << 8) >> (number % 2 * 4) & 0xfff,
            16 => byte(number * 2) | byte(number * 2 + 1) << 8,
            _ => u32::from_le_bytes(self.disk[at + number * 4..at + number * 4 + 4].try_into().unwrap()) & 0x0fff_ffff,
        }
    }

    /// The disk with another number in some of the tables.
    fn with_entries(&self, entries: &[(usize, u32)], tables: &[usize]) -> Patched<'_> {
        let mut disk = Patched::new(&self.disk);
        for table in tables {
            for (number, value) in entries {
                match self.bits {
                    12 => {
                        let at = table + number * 3 / 2;
                        let (shift, keep) = if number % 2 == 0 { (0, 0xf000) } else { (4, 0x000f) };
                        let value = (*value as u16 & 0xfff) << shift;
                        let pair = u16::from_le_bytes(disk.get(at)) & keep | value;
                        disk.put(at, &pair.to_le_bytes());
                    }
                    16 => disk.put(table + number * 2, &(*value as u16).to_le_bytes()),
                    _ => disk.put(table + number * 4, &value.to_le_bytes()),
                }
            }
        }
        disk
    }

    fn end(&self) -> u32 {
        u32::MAX >> (32 - self.bits.min(28))
    }

    /// Whether there still is a map, which then must be right.
    fn still_has_a_map(&self, disk: &Patched<'_>, what: &str) -> bool {
        let layout = read(disk);
        if let Some(byte) = outside(&free(&layout), &self.free) {
            panic!("FAT{}, {what}: byte {byte} is called free and is not", self.bits);
        }
        !free(&layout).is_empty()
    }

    fn reason(&self, disk: &Patched<'_>) -> Reason {
        reason(&read(disk))
    }

    fn long_files(&self) -> impl Iterator<Item = &Vec<usize>> {
        self.files.iter().filter(|file| file.len() > 2).take(40)
    }
}

const fn invalid(what: &'static str, why: &'static str) -> Reason {
    Reason::Invalid { what, why }
}

#[test]
fn the_number_of_any_cluster_can_be_read_as_it_was_written() {
    for disk in disks() {
        for file in disk.long_files() {
            assert_eq!(disk.entry(file[0]), file[1] as u32);
            assert!(disk.still_has_a_map(&disk.with_entries(&[(file[0], file[1] as u32)], &disk.tables), "nothing"));
        }
    }
}

#[test]
fn chains_that_meet() {
    let owners = invalid("a cluster", "has two owners");
    let short = invalid("a file", "is longer than its clusters");
    for disk in disks() {
        let files: Vec<_> = disk.long_files().collect();
        for pair in files.windows(2) {
            let meets = disk.with_entries(&[(pair[0][0], pair[1][1] as u32)], &disk.tables);
            // It may be too short then, which is seen first.
            assert!([&owners, &short].contains(&&disk.reason(&meets)));
            let returns = disk.with_entries(&[(pair[0][1], pair[0][0] as u32)], &disk.tables);
            assert_eq!(disk.reason(&returns), owners);
        }
    }
}

#[test]
fn chains_that_are_lost() {
    for disk in disks() {
        for file in disk.long_files() {
            // The end comes early: nobody has the rest.
            let cut = disk.with_entries(&[(file[0], disk.end())], &disk.tables);
            assert!(matches!(disk.reason(&cut), Reason::Invalid { what: "a file", .. } | Reason::Disagreement { .. }));
            // The middle is free: no end comes. FAT32 also notices that its count is another.
            let torn = disk.with_entries(&[(file[1], 0)], &disk.tables);
            assert!(matches!(disk.reason(&torn), Reason::Invalid { what: "a file", .. } | Reason::Disagreement { .. }));
        }
        // A cluster that nobody has, and one that is bad by itself, which is no damage.
        let unused = (2..disk.clusters).rev().find(|number| disk.entry(*number) == 0).unwrap();
        let lost = disk.with_entries(&[(unused, disk.end())], &disk.tables);
        assert!(matches!(disk.reason(&lost), Reason::Disagreement { .. }));
        let bad = disk.with_entries(&[(unused, disk.end() - 8)], &disk.tables);
        // FAT32 counts it.
        assert_eq!(disk.still_has_a_map(&bad, "a bad cluster"), disk.bits != 32);
    }
}

#[test]
fn tables_that_differ() {
    for disk in disks().iter().filter(|disk| disk.tables.len() == 2) {
        for file in disk.long_files() {
            for table in &disk.tables {
                let one = disk.with_entries(&[(file[0], 0)], &[*table]);
                assert_eq!(disk.reason(&one), invalid("copies of the table", "are different"));
            }
        }
    }
}

#[test]
fn marks_of_what_is_not_clean() {
    for disk in disks() {
        let at = if disk.bits == 32 { 0x41 } else { 0x25 };
        for mark in 1..4 {
            let mut bytes = Patched::new(&disk.disk);
            bytes.put(at, &[disk.disk[at] | mark]);
            assert!(matches!(disk.reason(&bytes), Reason::Unclean(_)));
        }
        for bit in [1, 2].map(|bit| disk.end() & !(1 << (disk.bits.min(28) - bit))) {
            let marked = disk.with_entries(&[(1, bit)], &disk.tables);
            // FAT12 has no room for them.
            assert_eq!(disk.still_has_a_map(&marked, "a mark"), disk.bits == 12);
        }
    }
}

/// 4 KiB of garbage over each directory, wherever it is; the tables and boot sectors are in `damage.rs`.
#[test]
fn garbage_in_every_directory() {
    for disk in disks() {
        let (mut maps, mut all) = (0, 0);
        for range in &disk.directories {
            for at in (range.start..range.end).step_by(512).take(16) {
                for kind in 0..4u64 {
                    let garbage = match kind {
                        0 => vec![0; 4096],
                        1 => vec![0xff; 4096],
                        2 => noise(4096, at),
                        _ => disk.disk[disk.data..disk.data + 4096].to_vec(),
                    };
                    let at = at as usize;
                    let mut bytes = Patched::new(&disk.disk);
                    bytes.put(at, &garbage);
                    maps += u32::from(disk.still_has_a_map(&bytes, &format!("garbage {kind} at {at}")));
                    all += 1;
                }
            }
        }
        println!("FAT{}: {maps} of {all} still have a map", disk.bits);
        // Most of a directory is empty; what is not matters.
        assert!(maps > 0 && maps < all);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Numbers that could be right, in both tables: chains are joined, cut, swapped, freed.
    #[test]
    fn numbers_that_could_be_right(
        disk in 0usize..4,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0u8..6), 1..5),
    ) {
        let disk = &disks()[disk];
        let chained: Vec<usize> = disk.files.concat();
        let entries: Vec<(usize, u32)> = changes.iter().map(|(from, to, kind)| {
            let (from, to) = (*from.get(&chained), *to.get(&chained));
            match kind {
                0 => (from, 0),
                1 => (from, disk.end()),
                2 => (from, disk.end() - 8),
                3 => (from, disk.entry(to)),
                4 => (from, to as u32 + 1),
                _ => (from, to as u32),
            }
        }).collect();
        disk.still_has_a_map(&disk.with_entries(&entries, &disk.tables), &format!("{entries:?}"));
    }

    /// The same in directories: first clusters, lengths, kinds, deleted and ended entries.
    #[test]
    fn entries_that_could_be_right(
        disk in 0usize..4,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0u8..7), 1..4),
    ) {
        let disk = &disks()[disk];
        let mut bytes = Patched::new(&disk.disk);
        let places: Vec<u64> = disk.directories.iter().flat_map(|range| (range.start..range.end).step_by(32)).collect();
        let used: Vec<u64> = places.into_iter().filter(|at| disk.disk[*at as usize] != 0).collect();
        for (at, other, value, kind) in &changes {
            let (at, other) = (*at.get(&used) as usize, *other.get(&used) as usize);
            match kind {
                0 => bytes.put(at, &[0]),
                1 => bytes.put(at, &[0xe5]),
                2 => bytes.put(at + 11, &[*value]),
                3 => bytes.put(at + 26, &[*value]),
                4 => bytes.put(at, &bytes.get::<32>(other)),
                5 => bytes.put(at + 26, &bytes.get::<2>(other + 26)),
                _ => bytes.put(at + 29, &[*value]),
            }
        }
        disk.still_has_a_map(&bytes, &format!("{changes:?}"));
    }
}

/// Nothing above holds if the table is not where this file believes it to be.
#[test]
fn clusters_are_where_they_are_believed_to_be() {
    for disk in disks() {
        assert!(disk.free.iter().all(|range| (range.start as usize - disk.data).is_multiple_of(disk.cluster_bytes)));
        let free = (2..disk.clusters + 2).filter(|number| disk.entry(*number) == 0).count();
        assert!((free * disk.cluster_bytes) as u64 >= total(&disk.free));
    }
}
