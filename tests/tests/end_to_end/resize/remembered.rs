//! What is remembered of a target, and what of it still holds.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use imprint_tests::{
    client::Client,
    devices::LoopDevice,
    files::{self, MIB},
    random::Random,
};

use super::support::{assert_same_content, assert_table, client, held, restore, sfdisk, small_disk, verify};

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
