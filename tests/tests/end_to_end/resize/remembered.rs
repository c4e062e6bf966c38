//! What is remembered of a target, and what of it still holds.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

use imprint_client::{Error, FilesystemGrowth, Growing, target::TargetError};
use imprint_tests::{
    client::Client,
    devices::LoopDevice,
    files::{self, MIB, length, run},
    random::Random,
};

use super::support::{
    assert_same_content, assert_table, client, held, restore, restore_growing, sfdisk, small_disk, verify,
};

/// A disk of this length without a table, or with an MBR, and nothing but zeros behind 4 MiB.
fn disk_without_backup(client: &Client, name: &str, bytes: u64, has_mbr: bool) -> PathBuf {
    let disk = files::write(&client.place("."), name, &Random::fixed(9).bytes(4 << 20));
    File::options().write(true).open(&disk).unwrap().set_len(bytes).unwrap();
    if has_mbr {
        files::overwrite(&disk, 0, &[0; 4096]);
        sfdisk(&disk, "label: dos\nstart=1MiB, size=8MiB\n");
    }
    disk
}

fn assert_all_same(target: &Path, image: &Path) {
    let image = fs::read(image).unwrap();
    let mut there = vec![0; image.len()];
    File::open(target).unwrap().read_exact_at(&mut there, 0).unwrap();
    assert_eq!((0..image.len()).find(|at| image[*at] != there[*at]), None, "first byte that differs");
}

/// The backup of a table that was fitted lies where this version, and the next one, have zeros.
async fn a_fitted_table_does_not_stay_on(target: &Path, size: Option<u64>) {
    let (_directory, client) = client().await;
    let bytes = 24 * MIB;
    let gpt = small_disk(&client, "gpt.raw", 1);
    client.push(&gpt, "lab/pc").await;
    let others = [false, true].map(|has_mbr| disk_without_backup(&client, &format!("{has_mbr}"), bytes, has_mbr));
    for (number, other) in (2..).zip(&others) {
        client.push(other, "lab/pc").await;
        let reference = format!("lab/pc@{number}");
        restore(&client, "lab/pc@1", target, size).await.unwrap();
        assert!(held(&client, target).witness.is_some(), "what it holds is not read");
        restore(&client, &reference, target, size).await.unwrap();
        assert_all_same(target, other);
        assert_eq!(verify(&client, target).await.different, []);
        // The same by an update, there and back.
        restore(&client, "lab/pc@1", target, size).await.unwrap();
        client.update(target, Some(&reference)).await.unwrap();
        assert_all_same(target, other);
        client.rollback(target, None).await.unwrap();
        assert_table(target);
        assert_same_content(target, &gpt);
        client.rollback(target, None).await.unwrap();
        assert_all_same(target, other);
        assert_eq!(verify(&client, target).await.different, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fitted_table_does_not_stay_in_a_file_that_gets_zeros_there() {
    let directory = tempfile::tempdir().unwrap();
    a_fitted_table_does_not_stay_on(&directory.path().join("target.raw"), Some(24 * MIB)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fitted_table_does_not_stay_on_a_device_that_gets_zeros_there() {
    let directory = tempfile::tempdir().unwrap();
    let backing = directory.path().join("backing");
    fs::write(&backing, Random::fixed(4).bytes(24 << 20)).unwrap();
    let Some(device) = LoopDevice::over(&backing) else { return };
    a_fitted_table_does_not_stay_on(device.node(), None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_keeps_the_length_that_it_was_given() {
    let (_directory, client) = client().await;
    let small = small_disk(&client, "small.raw", 1);
    client.push(&small, "lab/pc").await;
    let exact = disk_without_backup(&client, "exact.raw", 40 * MIB, true);
    client.push(&exact, "lab/pc").await;
    let large = disk_without_backup(&client, "large.raw", 44 * MIB, false);
    client.push(&large, "lab/pc").await;
    let target = client.place("target.raw");
    restore(&client, "lab/pc@1", &target, Some(40 * MIB)).await.unwrap();
    client.update(&target, Some("lab/pc@2")).await.unwrap();
    assert_all_same(&target, &exact);
    client.rollback(&target, None).await.unwrap();
    assert_eq!(length(&target), 40 * MIB);
    assert_table(&target);
    assert_same_content(&target, &small);

    // A longer version is refused with what helps a file, and that does help.
    let refused = client.update(&target, Some("lab/pc@3")).await;
    let Err(Error::Target(refused @ TargetError::DoesNotFit { beyond, .. })) = refused else { panic!("{refused:?}") };
    assert_eq!(beyond, 4 * MIB);
    assert!(refused.hint().contains("imprint restore --size"), "{}", refused.hint());
    assert_table(&target);
    restore(&client, "lab/pc@3", &target, Some(44 * MIB)).await.unwrap();
    assert_all_same(&target, &large);
    // Whoever restores without a length takes it back.
    restore(&client, "lab/pc@1", &target, None).await.unwrap();
    client.update(&target, Some("lab/pc@3")).await.unwrap();
    assert_eq!(length(&target), 44 * MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_disk_under_the_same_name_inherits_nothing() {
    let (_directory, client) = client().await;
    for seed in [1, 2, 3] {
        client.push(&small_disk(&client, &format!("{seed}.raw"), seed), "lab/pc").await;
    }
    let backing = client.place("backing");
    File::create(&backing).unwrap().set_len(64 * MIB).unwrap();
    let Some(device) = LoopDevice::over(&backing) else { return };
    restore(&client, "lab/pc@1", device.node(), None).await.unwrap();
    restore_growing(&client, "lab/pc@3", device.node(), None, Growing::Requested).await.unwrap();

    // The same disk, also when others wrote to it: its partition grows again, which is said.
    File::options().write(true).open(device.node()).unwrap().write_all_at(b"written by its user", 8 * MIB).unwrap();
    let refused = client.update(device.node(), Some("lab/pc@2")).await;
    assert!(matches!(refused, Err(Error::Older { held: 3, .. })), "{refused:?}");
    let (_, outcome) = client.rollback(device.node(), Some("lab/pc@1")).await.unwrap();
    let grown = outcome.grown.unwrap();
    assert_eq!((grown.bytes, grown.filesystem), (62 * MIB, FilesystemGrowth::Left));
    client.update(device.node(), None).await.unwrap();
    assert_eq!(held(&client, device.node()).following, "lab/pc");

    // The next disk gets this name.
    let note = held(&client, device.node());
    let node = device.node().to_owned();
    drop(device);
    fs::write(&backing, vec![7; 64 << 20]).unwrap();
    let device = LoopDevice::over(&backing).unwrap();
    if device.node() != node {
        client.memory.store(&imprint_client::target::Held { target: device.node().to_owned(), ..note }).unwrap();
    }
    for refused in [client.update(device.node(), None).await, client.rollback(device.node(), None).await] {
        assert!(matches!(refused, Err(Error::AnotherDisk { .. })), "{refused:?}");
    }
    let (version, outcome) = client.update(device.node(), Some("lab/pc@2")).await.unwrap();
    assert_eq!((version.number, outcome.grown), (2, None), "neither older than what it holds nor grown");
    let note = held(&client, device.node());
    assert_eq!((note.grown, note.previous, note.following.as_str()), (false, None, "lab/pc@2"));
    assert_table(device.node());
    let listed = Command::new("sfdisk").args(["-l", "-o", "Sectors"]).arg(device.node()).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains(&(16 * MIB / 512).to_string()), "{listed:?}");
}

/// A disk of 96 MiB with one ext4 of many files, which begins at `start`.
fn disk_of_files(client: &Client, name: &str, start: u64) -> PathBuf {
    let disk = client.place(name);
    File::create(&disk).unwrap().set_len(96 * MIB).unwrap();
    let table = "label: gpt\nlabel-id: 6A09E667-BB67-4E8F-A54F-F53A5F1D36F1\n";
    let partition = "size=88MiB, uuid=6A09E667-BB67-4E8F-A54F-F53A5F1D36F2\n";
    sfdisk(&disk, &format!("{table}start={}, {partition}", start / 512));
    let content = client.place(&format!("{name}-content"));
    fs::create_dir(&content).unwrap();
    for n in 0..400 {
        let bytes = Random::fixed(1000 + n).bytes(20_000 + 311 * n as usize);
        fs::write(content.join(format!("{n:04}")), bytes).unwrap();
    }
    run(Command::new("mkfs.ext4")
        .args(["-q", "-F", "-b", "4096", "-U", "6A09E667-BB67-4E8F-A54F-F53A5F1D36F3", "-d"])
        .arg(&content)
        .args(["-E", &format!("offset={start},lazy_itable_init=1")])
        .arg(&disk)
        .arg("88M"));
    disk
}

/// A machine that was booted since has no witness, and is read; what moved in it is there.
#[tokio::test(flavor = "multi_thread")]
async fn what_moved_is_found_on_a_target_of_another_length() {
    let (_directory, client) = client().await;
    client.push(&disk_of_files(&client, "first.raw", MIB), "lab/pc").await;
    client.push(&disk_of_files(&client, "second.raw", 4 * MIB), "lab/pc").await;
    let mut fetched = Vec::new();
    for (name, size) in [("same.raw", None), ("larger.raw", Some(128 * MIB))] {
        let target = client.place(name);
        restore(&client, "lab/pc@1", &target, size).await.unwrap();
        files::overwrite(&target, 96 * MIB - 1, &[0]);
        let (_, outcome) = client.update(&target, Some("lab/pc@2")).await.unwrap();
        assert_eq!(verify(&client, &target).await.different, []);
        println!("{name}: {outcome:?}");
        fetched.push((outcome.fetched_chunks, outcome.fetched_bytes));
    }
    let [same, larger] = fetched[..] else { panic!("two targets") };
    assert!(larger.0 <= same.0 + 3, "chunks and bytes fetched: {larger:?}, on a target of the same length {same:?}");
}
