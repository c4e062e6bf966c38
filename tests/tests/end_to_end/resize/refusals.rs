//! What is in use is never cut off, and what is not understood not touched.

use std::fs::{self, File};

use imprint_client::{Error, Growing, PushOptions, TableFit, source::Source, target::TargetError};
use imprint_content::CaptureMode;
use imprint_tests::{
    client::Client,
    devices::LoopDevice,
    disks::{assert_clean, disks, read_file},
    extents::{push_runs, runs},
    files::{self, MIB},
    random::Random,
    server::Loopback,
    wire,
};

use super::support::{
    BACKUP_BYTES, assert_table, beyond, client, restore, restore_growing, sfdisk, small_disk, verify,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_use_behind_the_end_is_refused_by_the_byte() {
    let (_directory, client) = client().await;
    let disk = small_disk(&client, "first.raw", 1);
    client.push(&disk, "lab/pc").await;
    let target = client.place("target.raw");
    let least = 17 * MIB + BACKUP_BYTES;
    let (missing, what) = beyond(restore(&client, "lab/pc", &target, Some(least - 512)).await);
    assert_eq!((missing, what.as_str()), (512, "partition 1 (root) ends behind it"));
    assert!(!target.exists());
    restore(&client, "lab/pc", &target, Some(least)).await.unwrap();
    assert_table(&target);
    assert_clean(&target);

    // Data behind the last partition, that no table knows of.
    files::overwrite(&disk, 20 * MIB + 99, &[7]);
    client.push(&disk, "lab/pc").await;
    let before = fs::read(&target).unwrap();
    let (missing, _) = beyond(restore(&client, "lab/pc@2", &target, Some(19 * MIB)).await);
    assert_eq!(missing, 20 * MIB + 100 - (19 * MIB - BACKUP_BYTES));
    assert!(fs::read(&target).unwrap() == before);
    restore(&client, "lab/pc@2", &target, Some((19 * MIB + missing).next_multiple_of(512))).await.unwrap();
    assert_eq!(verify(&client, &target).await.different, []);

    // The image of another disk, whose only partition has all of it.
    client.push(&disks().v1, "lab/full").await;
    let (missing, what) = beyond(restore(&client, "lab/full", &target, Some(128 * MIB)).await);
    assert_eq!((missing, what.as_str()), (63 * MIB + BACKUP_BYTES, "partition 1 ends behind it"));
}

#[tokio::test(flavor = "multi_thread")]
async fn free_space_behind_the_end_is_still_in_a_partition() {
    let directory = tempfile::tempdir().unwrap();
    let server = Loopback::serve(directory.path()).await;
    let client = Client::connect(&server.url()).await;
    let disk = small_disk(&client, "first.raw", 1);
    // All that comes after the first half of the filesystem counts as free.
    let free = |at: u64| (9 * MIB..17 * MIB).contains(&at);
    let wire = wire::connect(&server.url()).await;
    push_runs(&wire, "lab/pc", &runs(&fs::read(&disk).unwrap(), 65536, free)).await;
    let (missing, what) = beyond(restore(&client, "lab/pc", &client.place("small.raw"), Some(12 * MIB)).await);
    assert_eq!((missing, what.as_str()), (5 * MIB + BACKUP_BYTES, "partition 1 (root) ends behind it"));
    let target = client.place("large.raw");
    restore(&client, "lab/pc", &target, Some(40 * MIB)).await.unwrap();
    assert_table(&target);
    assert_eq!(verify(&client, &target).await.different, []);
}

/// A real capture without its free space, over earlier data.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_captured_without_free_space_goes_onto_other_disks() {
    let (_directory, client) = client().await;
    let disk = small_disk(&client, "first.raw", 1);
    let options = PushOptions { capture_mode: CaptureMode::Omit, ..PushOptions::default() };
    let pushed = client.try_push(Source::open(&disk).unwrap(), "lab/pc", options).await.unwrap();
    assert!(pushed.data_bytes < 8 * MIB, "{} of data", pushed.data_bytes);
    for (bytes, growing) in [(40 * MIB, Growing::No), (64 * MIB, Growing::Requested), (24 * MIB, Growing::No)] {
        let target = client.place("target.raw");
        fs::write(&target, Random::fixed(bytes).bytes(bytes as usize)).unwrap();
        let outcome = restore_growing(&client, "lab/pc", &target, Some(bytes), growing).await.unwrap();
        assert!(outcome.discarded_bytes > 4 * MIB, "{outcome:?}");
        assert_table(&target);
        assert_clean(&target);
        if growing == Growing::No {
            assert_eq!(verify(&client, &target).await.different, []);
        }
        for name in ["file", "other"] {
            assert!(read_file(&target, name) == read_file(&disk, name), "{name}");
            assert!(read_file(&target, name).len() >= 2 << 20);
        }
    }
    // Beneath its last partition nothing is used, and the partition does not fit all the same.
    assert_eq!(
        beyond(restore(&client, "lab/pc", &client.place("small.raw"), Some(16 * MIB)).await).0,
        MIB + BACKUP_BYTES
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_table_that_is_understood_nothing_is_cut_off_and_nothing_written() {
    let (_directory, client) = client().await;
    let mbr = client.place("mbr.raw");
    File::create(&mbr).unwrap().set_len(16 * MIB).unwrap();
    sfdisk(&mbr, "label: dos\nstart=1MiB, size=8MiB\n");
    client.push(&mbr, "lab/mbr").await;
    let noise = files::write(&client.place("."), "noise.raw", &Random::fixed(3).bytes(4 << 20));
    client.push(&noise, "lab/noise").await;
    for (image, disk) in [("lab/mbr", &mbr), ("lab/noise", &noise)] {
        let target = client.place("larger.raw");
        let outcome = restore(&client, image, &target, Some(20 * MIB)).await.unwrap();
        assert_eq!(outcome.table, TableFit::Unchanged);
        let mut expected = fs::read(disk).unwrap();
        expected.resize(20 << 20, 0);
        assert!(fs::read(&target).unwrap() == expected, "{image}");
        fs::remove_file(&target).unwrap();
    }
    let target = client.place("smaller.raw");
    restore(&client, "lab/mbr", &target, Some(9 * MIB)).await.unwrap();
    assert!(fs::read(&target).unwrap() == fs::read(&mbr).unwrap()[..9 << 20]);
    assert_eq!(beyond(restore(&client, "lab/mbr", &target, Some(9 * MIB - 512)).await).0, 512);
    assert_eq!(beyond(restore(&client, "lab/noise", &target, Some(MIB)).await).0, 3 * MIB);

    // A table that contradicts itself is left as it is.
    let doubtful = small_disk(&client, "doubtful.raw", 1);
    files::overwrite(&doubtful, 446, &[0; 64]);
    client.push(&doubtful, "lab/doubtful").await;
    let target = client.place("left.raw");
    let outcome = restore(&client, "lab/doubtful", &target, Some(40 * MIB)).await.unwrap();
    assert!(matches!(outcome.table, TableFit::Left(_)), "{outcome:?}");
    let refused = restore_growing(&client, "lab/doubtful", &target, Some(40 * MIB), Growing::Requested).await;
    assert!(matches!(refused, Err(Error::Target(TargetError::CannotGrow { .. }))), "{refused:?}");
    beyond(restore(&client, "lab/doubtful", &target, Some(20 * MIB)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn sectors_of_another_size_are_refused() {
    let (_directory, client) = client().await;
    client.push(&small_disk(&client, "first.raw", 1), "lab/pc").await;
    let backing = client.place("backing");
    File::create(&backing).unwrap().set_len(40 * MIB).unwrap();
    let Some(device) = LoopDevice::with_sectors(&backing, 4096) else { return };
    let refused = restore(&client, "lab/pc", device.node(), None).await;
    let Err(Error::Target(TargetError::SectorSize { device: 4096, image: 512, .. })) = refused else {
        panic!("{refused:?}")
    };
    // The image of a disk with such sectors, taken from a file: what its table counts in is what matters.
    let large = client.place("large-sectors.raw");
    File::create(&large).unwrap().set_len(32 * MIB).unwrap();
    let maker = LoopDevice::with_sectors(&large, 4096).unwrap();
    sfdisk(maker.node(), "label: gpt\nstart=1MiB, size=16MiB\n");
    drop(maker);
    client.push(&large, "lab/large").await;
    restore(&client, "lab/large", device.node(), None).await.unwrap();
    assert_table(device.node());
    drop(device);
    let Some(device) = LoopDevice::over(&backing) else { return };
    let refused = restore(&client, "lab/large", device.node(), None).await;
    assert!(matches!(refused, Err(Error::Target(TargetError::SectorSize { device: 512, image: 4096, .. }))));
}
