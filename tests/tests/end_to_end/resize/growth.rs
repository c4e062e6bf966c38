//! The last partition, and its filesystem, take what a target has more.

use std::{fs::File, os::unix::fs::FileExt, process::Command, sync::Arc};

use imprint_client::{Error, FilesystemGrowth, Growing, target::TargetError};
use imprint_tests::{
    devices::LoopDevice,
    disks::assert_clean,
    files::{MIB, run},
};

use super::support::{assert_same_content, assert_table, client, held, restore, restore_growing, small_disk, verify};

#[tokio::test(flavor = "multi_thread")]
async fn the_last_partition_and_its_filesystem_grow() {
    let (_directory, client) = client().await;
    let (first, second) = (small_disk(&client, "first.raw", 1), small_disk(&client, "second.raw", 2));
    client.push(&first, "lab/pc").await;
    let target = client.place("target.raw");
    let outcome = restore_growing(&client, "lab/pc", &target, Some(64 * MIB), Growing::Requested).await.unwrap();
    let grown = outcome.grown.unwrap();
    assert_eq!((grown.number, grown.bytes_before, grown.bytes), (1, 16 * MIB, 62 * MIB));
    assert_eq!(grown.filesystem, FilesystemGrowth::Grown);
    let block_count = || {
        let filesystem = format!("{}?offset={MIB}", target.display());
        let said = Command::new("dumpe2fs").args(["-h", &filesystem]).output().unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let line = said.lines().find_map(|line| line.strip_prefix("Block count:")).unwrap().trim().to_owned();
        line.parse::<u64>().unwrap()
    };
    assert_table(&target);
    assert_clean(&target);
    assert_eq!(block_count(), 62 * MIB / 4096);
    // What the tools wrote is not the version's, and nobody takes it for that.
    assert_eq!((held(&client, &target).witness, held(&client, &target).filesystem_grown), (None, true));
    assert!(verify(&client, &target).await.different_bytes > 0);

    client.push(&second, "lab/pc").await;
    let (_, outcome) = client.update(&target, None).await.unwrap();
    assert_eq!(outcome.grown.unwrap().filesystem, FilesystemGrowth::Left, "it grows when it is asked for");
    assert_table(&target);
    assert_clean(&target);
    assert_eq!(block_count(), 16 * MIB / 4096);
    assert_eq!(verify(&client, &target).await.different, []);
    let listed = Command::new("sfdisk").args(["-l", "-o", "Sectors"]).arg(&target).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains(&(62 * MIB / 512).to_string()), "the partition stays grown: {listed}");
    client.update(&target, None).await.unwrap();
    let options = imprint_client::UpdateOptions { growing: Growing::Requested, ..client.update_options() };
    let (_, outcome) =
        imprint_client::update(&client.repository, &target, None, options, Arc::default()).await.unwrap();
    assert_eq!(outcome.grown.unwrap().filesystem, FilesystemGrowth::Grown);
    assert_eq!(block_count(), 62 * MIB / 4096);
    assert_clean(&target);

    // An update leaves a witness; a restore that is not told to grow brings the partition back all the same.
    client.update(&target, None).await.unwrap();
    assert!(held(&client, &target).witness.is_some());
    let outcome = restore(&client, "lab/pc", &target, Some(64 * MIB)).await.unwrap();
    assert!(outcome.fetched_chunks <= 2, "{outcome:?}");
    assert_table(&target);
    assert_same_content(&target, &second);
    assert_eq!(verify(&client, &target).await.different, []);
    let image = File::open(&second).unwrap();
    let (mut there, mut entry) = ([0; 128], [0; 128]);
    File::open(&target).unwrap().read_exact_at(&mut there, 1024).unwrap();
    image.read_exact_at(&mut entry, 1024).unwrap();
    assert_eq!(there, entry);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filesystem_on_a_device_grows() {
    let (_directory, client) = client().await;
    client.push(&small_disk(&client, "first.raw", 1), "lab/pc").await;
    let backing = client.place("backing");
    File::create(&backing).unwrap().set_len(64 * MIB).unwrap();
    let Some(device) = LoopDevice::over(&backing) else { return };
    let outcome = restore_growing(&client, "lab/pc", device.node(), None, Growing::Requested).await.unwrap();
    assert_eq!(outcome.grown.unwrap().filesystem, FilesystemGrowth::Grown);
    assert_table(device.node());
    assert_clean(device.node());
    // A target without room to grow is refused, and not touched.
    let refused = restore_growing(&client, "lab/pc", &client.place("same.raw"), None, Growing::Requested).await;
    assert!(matches!(refused, Err(Error::Target(TargetError::CannotGrow { .. }))), "{refused:?}");
    assert!(!client.place("same.raw").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filesystem_without_a_partition_grows_too() {
    let (_directory, client) = client().await;
    let disk = client.place("bare.raw");
    File::create(&disk).unwrap().set_len(16 * MIB).unwrap();
    run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk));
    client.push(&disk, "lab/pc").await;
    let target = client.place("target.raw");
    let outcome = restore_growing(&client, "lab/pc", &target, Some(40 * MIB), Growing::Requested).await.unwrap();
    let grown = outcome.grown.unwrap();
    assert_eq!((grown.number, grown.bytes, grown.filesystem), (0, 40 * MIB, FilesystemGrowth::Grown));
    run(Command::new("e2fsck").arg("-fn").arg(&target));
}
