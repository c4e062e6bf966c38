//! Partition tables on disks of other lengths, as `sfdisk` and `sgdisk` judge them.

#![allow(clippy::unwrap_used, clippy::panic)] // a test fails where it stands

mod common;

use std::{fs, os::unix::fs::FileExt, path::Path, process::Command};

use common::*;
use imprint_disks::{Growth, Misfit, PartitionTable, Resized, TableKind};
use proptest::prelude::*;

const GPT: &str = "label: gpt\nlabel-id: 6A09E667-BB67-4E8F-A54F-F53A5F1D36F1\n\
    size=8MiB, type=U, name=\"EFI system\"\nstart=40MiB, size=8MiB, type=S\nstart=16MiB, size=20MiB, type=L, name=\"root\"\n";

fn sfdisk(length: u64, script: &str) -> Image {
    let image = Image::empty(length);
    run_with(Command::new("sfdisk").arg("-q").arg(&image.path), script);
    image
}

fn table(image: &Image) -> PartitionTable {
    PartitionTable::read(&fs::File::open(&image.path).unwrap(), 512).unwrap().unwrap().unwrap()
}

/// Gives the image another length, as copying it onto another disk does, and writes what makes the table fit.
fn apply(path: &Path, length: u64, resized: &Resized) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(length).unwrap();
    for patch in &resized.patches {
        file.write_all_at(&patch.bytes, patch.offset).unwrap();
    }
}

/// Both tools find nothing to complain about.
fn assert_verified(path: &Path) {
    let said = run(Command::new("sgdisk").arg("-v").arg(path));
    assert!(said.contains("No problems found"), "{said}");
    let said = output(Command::new("sfdisk").arg("--verify").arg(path));
    let said = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.contains("No errors detected"), "{said}");
    assert!(!said.contains("mismatch") && !said.contains("corrupt"), "{said}");
}

fn resize(image: &Image, length: u64, growth: Growth) -> Resized {
    let resized = table(image).resized(length, growth).unwrap();
    apply(&image.path, length, &resized);
    resized
}

#[test]
fn a_gpt_fits_larger_and_smaller_disks() {
    for length in [64 * MIB + 512, 64 * MIB + 4096 + 100, 80 * MIB, 1000 * MIB, 64 * MIB - 512, 49 * MIB] {
        let image = sfdisk(64 * MIB, GPT);
        let before = table(&image);
        assert_eq!(resize(&image, length, Growth::None).grown, None);
        let after = table(&image);
        assert_eq!(after.slots(), before.slots(), "{length}");
        let sectors = length / 512;
        assert_eq!(
            after.backup_ranges(),
            [(sectors - 33) * 512..(sectors - 1) * 512, (sectors - 1) * 512..sectors * 512]
        );
        let layout = image.layout();
        assert_eq!(
            (layout.remark, layout.plain, layout.id.as_deref()),
            (None, None, Some("6a09e667-bb67-4e8f-a54f-f53a5f1d36f1"))
        );
        assert_verified(&image.path);
    }
}

#[test]
fn on_its_own_disk_a_gpt_is_what_it_is() {
    let image = sfdisk(64 * MIB, GPT);
    let before = image.bytes();
    resize(&image, 64 * MIB, Growth::None);
    assert!(image.bytes() == before, "sfdisk writes what is written here, byte for byte");
}

#[test]
fn there_and_back_is_where_it_was() {
    let image = sfdisk(64 * MIB, GPT);
    let before = image.bytes();
    resize(&image, 80 * MIB, Growth::None);
    assert!(image.bytes()[..MIB as usize] != before[..MIB as usize]);
    resize(&image, 64 * MIB, Growth::None);
    assert!(image.bytes() == before);
}

#[test]
fn the_last_partition_grows_to_the_end() {
    let image = sfdisk(64 * MIB, GPT);
    let grown = resize(&image, 100 * MIB, Growth::LastPartition).grown.unwrap();
    assert_eq!((grown.slot.number, grown.slot.range.clone(), grown.end), (2, 40 * MIB..48 * MIB, 99 * MIB));
    let layout = image.layout();
    assert_eq!((layout.partitions[2].length, layout.remark), (59 * MIB, None));
    assert_eq!(layout.partitions[1].length, 20 * MIB);
    assert_verified(&image.path);
    // Nothing is left to take.
    assert_eq!(resize(&image, 100 * MIB, Growth::LastPartition).grown, None);
}

#[test]
fn a_partition_that_does_not_fit_is_named_with_what_it_needs() {
    let image = sfdisk(64 * MIB, GPT);
    let needed = 48 * MIB + 33 * 512;
    assert!(table(&image).resized(needed, Growth::None).is_ok());
    let Err(Misfit::Partition { slot, needed_bytes }) = table(&image).resized(needed - 1, Growth::None) else {
        panic!("it fits")
    };
    assert_eq!((slot.number, needed_bytes), (2, needed));
    let image = sfdisk(64 * MIB, "label: gpt\n");
    assert!(matches!(table(&image).resized(10_000, Growth::None), Err(Misfit::NoRoom { .. })));
    assert!(matches!(table(&image).resized(0, Growth::None), Err(Misfit::NoRoom { .. })));
}

#[test]
fn a_table_of_which_only_the_backup_is_whole_is_not_rewritten() {
    let image = sfdisk(64 * MIB, GPT);
    fs::OpenOptions::new().write(true).open(&image.path).unwrap().write_all_at(&[0xff], 512 + 40).unwrap();
    assert!(matches!(table(&image).resized(80 * MIB, Growth::None), Err(Misfit::Table(_))));
}

#[test]
fn a_missing_backup_is_made() {
    let image = sfdisk(64 * MIB, GPT);
    fs::OpenOptions::new().write(true).open(&image.path).unwrap().write_all_at(&[0; 512], 64 * MIB - 512).unwrap();
    assert_eq!(table(&image).backup_ranges(), []);
    resize(&image, 80 * MIB, Growth::None);
    assert_eq!(image.layout().remark, None);
    assert_verified(&image.path);
}

#[test]
fn an_mbr_needs_nothing_and_its_last_partition_can_grow() {
    let image = sfdisk(64 * MIB, "label: dos\nsize=8MiB, type=c, bootable\nstart=20MiB, size=12MiB\n");
    assert_eq!(table(&image).kind(), TableKind::Mbr);
    assert_eq!(table(&image).resized(80 * MIB, Growth::None).unwrap(), Resized::default());
    assert!(table(&image).resized(32 * MIB, Growth::None).is_ok());
    let Err(Misfit::Partition { slot, needed_bytes }) = table(&image).resized(32 * MIB - 512, Growth::None) else {
        panic!("it fits")
    };
    assert_eq!((slot.number, needed_bytes), (2, 32 * MIB));
    resize(&image, 80 * MIB + 512, Growth::LastPartition);
    let layout = image.layout();
    let lengths: Vec<_> = layout.partitions.iter().map(|partition| partition.length).collect();
    assert_eq!(lengths, [8 * MIB, 60 * MIB]);
    let said = output(Command::new("sfdisk").arg("--verify").arg(&image.path));
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}

#[test]
fn a_logical_partition_does_not_grow() {
    let image = sfdisk(
        64 * MIB,
        "label: dos\nstart=1MiB, size=4MiB\nstart=10MiB, size=40MiB, type=f\nstart=11MiB, size=4MiB\n",
    );
    assert!(matches!(table(&image).resized(80 * MIB, Growth::LastPartition), Err(Misfit::Growth(_))));
    assert!(table(&image).resized(80 * MIB, Growth::None).is_ok());
    assert!(matches!(table(&image).resized(40 * MIB, Growth::None), Err(Misfit::Partition { .. })));
}

/// Needs root and loop devices.
#[test]
fn sectors_of_4096_bytes() {
    let image = Image::empty(64 * MIB);
    let attach = || {
        let device = output(Command::new("losetup").args(["-f", "--show", "-b", "4096"]).arg(&image.path));
        device.status.success().then(|| String::from_utf8(device.stdout).unwrap().trim().to_owned())
    };
    let detach = |device: &str| run(Command::new("losetup").arg("-d").arg(device));
    let Some(device) = attach() else {
        println!("skipped: no loop devices");
        return;
    };
    run_with(Command::new("sfdisk").args(["-q", "--no-reread", "--no-tell-kernel"]).arg(&device), GPT);
    detach(&device);
    for (length, growth) in [
        (80 * MIB, Growth::None),
        (64 * MIB, Growth::None),
        (49 * MIB, Growth::None),
        (90 * MIB, Growth::LastPartition),
    ] {
        assert_eq!(table(&image).sector_bytes(), 4096);
        resize(&image, length, growth);
        assert_eq!(image.layout().remark, None);
        let device = attach().unwrap();
        assert_verified(Path::new(&device));
        detach(&device);
    }
    assert_eq!(table(&image).slots()[2].range, 40 * MIB..89 * MIB);
}

fn crc32(bytes: &[u8]) -> u32 {
    let bit = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), bit))
}

/// A disk of 1 MiB with a GPT whose header says what nobody would write, and is whole.
fn strange(fields: &[(usize, u64)]) -> Vec<u8> {
    let mut disk = vec![0; 1 << 20];
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk[446 + 4] = 0xee;
    disk[446 + 8] = 1;
    disk[446 + 12..446 + 16].fill(0xff);
    let mut header = vec![0; 92];
    header[..8].copy_from_slice(b"EFI PART");
    for (at, value) in
        [(8, 0x5c_0001_0000u64), (24, 1), (32, 2047), (40, 34), (48, 2014), (72, 2), (80, 128 << 32 | 128)]
    {
        header[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    for (at, value) in fields {
        header[*at..*at + 8].copy_from_slice(&value.to_le_bytes());
    }
    header[88..92].copy_from_slice(&crc32(&[0; 128 * 128]).to_le_bytes());
    let checksum = crc32(&header);
    header[16..20].copy_from_slice(&checksum.to_le_bytes());
    disk[512..512 + 92].copy_from_slice(&header);
    disk
}

#[test]
fn a_header_that_says_strange_things_is_never_written_over_itself() {
    struct Disk(Vec<u8>);
    impl imprint_disks::ReadAt for Disk {
        fn length(&self) -> u64 {
            self.0.len() as u64
        }
        fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
            imprint_disks::ReadAt::read_exact_at(self.0.as_slice(), buf, offset)
        }
    }
    let mut understood = 0;
    for field in [32, 40, 48, 72] {
        for value in [0, 1, 2, 3, 33, 34, 100, 1000, 2000, 2047, 2048, 1 << 32, u64::MAX / 512, u64::MAX - 40, u64::MAX]
        {
            let disk = Disk(strange(&[(field, value)]));
            let Ok(Some(table)) = PartitionTable::read(&disk, 512).unwrap() else { continue };
            understood += 1;
            for length in [0, 512, 17_000, 17_408, 17_920, 34_304, 34_816, 100_000, 1 << 20, 1 << 30, u64::MAX] {
                let Ok(resized) = table.resized(length, Growth::LastPartition) else { continue };
                let mut ranges: Vec<_> =
                    resized.patches.iter().map(|patch| (patch.offset, patch.bytes.len() as u64)).collect();
                ranges.sort_unstable();
                assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "{field} {value} {length}");
                assert!(
                    ranges.last().is_none_or(|(offset, bytes)| offset + bytes <= length),
                    "{field} {value} {length}"
                );
            }
        }
    }
    assert!(understood > 20, "{understood}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Wherever a disk goes, it has the same partitions there, and what comes back is what went.
    #[test]
    fn any_length_that_fits_is_read_again_as_it_was(
        starts in prop::collection::btree_set(1u64..60, 1..6),
        lengths in prop::collection::vec(48u64 << 11..400 << 11, 1..3),
    ) {
        let starts: Vec<u64> = starts.into_iter().collect();
        let script: String = starts.iter().enumerate().map(|(index, start)| {
            let end = starts.get(index + 1).copied().unwrap_or(62);
            format!("start={start}MiB, size={}MiB\n", end - start)
        }).collect();
        let image = sfdisk(64 * MIB, &format!("label: gpt\n{script}"));
        let ends = || {
            let (mut ends, file) = (vec![0; 1 << 20], fs::File::open(&image.path).unwrap());
            let (first, last) = ends.split_at_mut(1 << 19);
            file.read_exact_at(first, 0).unwrap();
            file.read_exact_at(&mut last[..33 * 512], 64 * MIB - 33 * 512).unwrap();
            ends
        };
        let (before, slots) = (ends(), table(&image).slots().to_vec());
        for sectors in lengths {
            let length = sectors * 512 + sectors % 512;
            match table(&image).resized(length, Growth::None) {
                Ok(resized) => {
                    apply(&image.path, length, &resized);
                    prop_assert_eq!(table(&image).slots().to_vec(), slots.clone());
                    let file = fs::File::open(&image.path).unwrap();
                    prop_assert_eq!(read(&file).remark, None);
                }
                Err(Misfit::Partition { slot, needed_bytes }) => {
                    prop_assert!(needed_bytes > length);
                    prop_assert_eq!(Some(&slot), slots.last());
                }
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
        let resized = table(&image).resized(64 * MIB, Growth::None).unwrap();
        apply(&image.path, 64 * MIB, &resized);
        // Both copies; what stood at other ends stays.
        prop_assert!(ends() == before);
    }
}
