//! Garbage in any place gives plain bytes or the right map, and never a panic.

#![allow(clippy::unwrap_used, clippy::panic)] // a test fails where it stands

mod common;

use std::{ops::Range, process::Command, sync::OnceLock};

use common::*;
use imprint_disks::Layout;
use proptest::prelude::*;

const GARBAGE: usize = 4096;

/// A disk, and what is free on it as long as it is whole.
struct Whole {
    name: &'static str,
    bytes: Vec<u8>,
    free: Vec<Range<u64>>,
}

fn whole(name: &'static str, image: &Image) -> Whole {
    let layout = image.layout();
    let free = free(&layout);
    assert!(total(&free) > MIB, "{name}: {:?}", only(&layout).content.map.as_ref().err());
    Whole { name, bytes: image.bytes(), free }
}

fn disks() -> &'static [Whole] {
    static DISKS: OnceLock<Vec<Whole>> = OnceLock::new();
    DISKS.get_or_init(|| {
        let ext = |name, options: &[&str]| whole(name, &Image::ext(12 * MIB, 3 * MIB, options));
        vec![
            ext("ext2, blocks of 1 KiB", &["-t", "ext2", "-b", "1024"]),
            ext("ext2, blocks of 4 KiB", &["-t", "ext2", "-b", "4096"]),
            ext("ext3", &["-t", "ext3", "-b", "1024", "-J", "size=1"]),
            ext("ext4", &["-t", "ext4", "-b", "4096", "-J", "size=4"]),
            ext("ext4, blocks of 1 KiB", &["-t", "ext4", "-b", "1024", "-g", "1024", "-J", "size=1"]),
            ext("ext4 without checksums", &["-t", "ext4", "-b", "1024", "-O", "^metadata_csum", "-J", "size=1"]),
            ext("ext4, bigalloc", &["-t", "ext4", "-b", "1024", "-C", "4096", "-O", "bigalloc", "-J", "size=1"]),
            whole("fat12", &Image::fat(8 * MIB, 2 * MIB, &["-F", "12", "-s", "8"])),
            whole("fat16", &Image::fat(12 * MIB, 3 * MIB, &["-F", "16", "-s", "1"])),
            whole("fat32", &Image::fat(40 * MIB, 3 * MIB, &["-F", "32", "-s", "1"])),
            whole("fat32 with one table", &Image::fat(40 * MIB, 3 * MIB, &["-F", "32", "-s", "1", "-f", "1"])),
        ]
    })
}

impl Whole {
    /// Returns whether there still is a map.
    fn assert_not_wrong(&self, layout: &Layout, what: &str) -> bool {
        if let Some(byte) = outside(&free(layout), &self.free) {
            panic!("{}, {what}: byte {byte} is called free and is not", self.name);
        }
        !free(layout).is_empty()
    }

    fn damaged(&self, at: u64, bytes: Vec<u8>) -> Layout {
        read(&Damaged { disk: &self.bytes, at, bytes })
    }

    fn garbage(&self, kind: u64, at: u64) -> Vec<u8> {
        match kind {
            0 => vec![0; GARBAGE],
            1 => vec![0xff; GARBAGE],
            2 => noise(GARBAGE, at + 1),
            // What was elsewhere, as a write that went astray leaves it.
            n => {
                let from = (at * (2 * n + 1) + n * 40_960) as usize % (self.bytes.len() - GARBAGE) / 1024 * 1024;
                self.bytes[from..from + GARBAGE].to_vec()
            }
        }
    }
}

#[test]
fn garbage_in_every_place() {
    for disk in disks() {
        let (mut maps, mut all) = (0, 0);
        // Nearly all structures are in the first 4 MiB; files' data, which nobody looks at, is sampled.
        let places = 0..disk.bytes.len() as u64 / GARBAGE as u64;
        for place in places.filter(|place| *place < 1024 || place % 8 == 0) {
            for kind in 0..5 {
                let at = place * GARBAGE as u64;
                let layout = disk.damaged(at, disk.garbage(kind, at));
                maps += u64::from(disk.assert_not_wrong(&layout, &format!("garbage {kind} at {at}")));
                all += 1;
            }
        }
        println!("{}: {maps} of {all} still have a map", disk.name);
        // Most places are free or data; some must matter, or this test tests nothing.
        assert!(maps < all && maps > 0);
    }
}

#[test]
fn every_end() {
    for disk in disks() {
        for end in [0, 1, 511, 512, 1023, 1024, 2047, 2048, 4096, 10_000, 100_000, 1 << 20, disk.bytes.len() - 1] {
            assert!(free(&read(&disk.bytes[..end])).is_empty(), "{} cut at {end}", disk.name);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn garbage_that_begins_anywhere(
        disk in 0usize..11,
        at in prop_oneof![0u64..300_000, 0u64..8_000_000],
        kind in 0u64..6,
        length in prop_oneof![1usize..16, 1usize..=GARBAGE],
    ) {
        let disk = &disks()[disk];
        let garbage = disk.garbage(kind, at)[..length].to_vec();
        disk.assert_not_wrong(&disk.damaged(at, garbage), &format!("{length} bytes at {at}"));
    }

    /// Numbers in the first structures take the values that programs stumble over.
    #[test]
    fn extreme_numbers(
        disk in 0usize..11,
        at in prop_oneof![0u64..512, 1024u64..2048, 2048u64..2200, 4096u64..4300],
        value in prop_oneof![Just(0u64), Just(u64::MAX), Just(1), Just(0x7fff_ffff), Just(0x8000_0000), any::<u64>()],
        length in 1usize..=8,
    ) {
        let disk = &disks()[disk];
        disk.assert_not_wrong(&disk.damaged(at, value.to_le_bytes()[..length].to_vec()), &format!("{value} at {at}"));
    }

    /// Whatever follows a signature.
    #[test]
    fn noise_behind_a_signature(
        seed in any::<u64>(),
        signatures in prop::collection::vec(0usize..7, 1..3),
        patches in prop::collection::vec((0usize..8192, any::<u32>()), 0..12),
    ) {
        const SIGNATURES: [(usize, &[u8]); 7] = [
            (1024 + 0x38, b"\x53\xef"),
            (510, b"\x55\xaa"),
            (512, b"EFI PART\0\0\x01\0\x5c\0\0\0"),
            (446, b"\0\0\0\0\xee"),
            (446, b"\0\0\0\0\x05"),
            (4086, b"SWAPSPACE2"),
            (0, b"\xeb\x3c\x90mkfs.fat\0\x02\x04\x01\0\x02"),
        ];
        let mut bytes = if seed % 2 == 0 { noise(1 << 18, seed) } else { vec![0; 1 << 18] };
        for (at, value) in patches {
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        for index in signatures {
            let (at, signature) = SIGNATURES[index];
            bytes[at..at + signature.len()].copy_from_slice(signature);
        }
        let _ = read(bytes.as_slice());
    }
}

/// A table is damaged in the same way: partitions move nowhere else.
#[test]
fn garbage_in_a_partition_table() {
    let image = Image::empty(32 * MIB);
    run_with(Command::new("sfdisk").arg("-q").arg(&image.path), "label: gpt\nsize=12MiB\nsize=12MiB\n");
    let ext = Image::ext(12 * MIB, 3 * MIB, &["-t", "ext4", "-b", "1024"]).bytes();
    let mut bytes = image.bytes();
    bytes[MIB as usize..13 * MIB as usize].copy_from_slice(&ext);
    let free = free(&read(bytes.as_slice()));
    assert!(total(&free) > MIB);
    let disk = Whole { name: "gpt", bytes, free };
    for at in (0..40_000).step_by(512).chain((32 * MIB - 40_000)..32 * MIB).step_by(512) {
        for kind in 0..5 {
            disk.assert_not_wrong(&disk.damaged(at, disk.garbage(kind, at)), &format!("garbage {kind} at {at}"));
        }
    }
}
