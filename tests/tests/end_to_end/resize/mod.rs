//! Versions on targets of another length: tables that fit, what is remembered, and what is refused.

mod command;
mod growth;
mod refusals;
mod remembered;
mod support;

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
};

use imprint_client::{TableFit, target::Held};
use imprint_tests::{
    devices::LoopDevice,
    files::{self, MIB, length},
    random::Random,
};
use support::{BACKUP_BYTES, assert_same_content, assert_table, client, held, restore, small_disk, verify};

/// Restores, updates and rolls back on a target of another length; a file gets `size`.
async fn lives_on(target: &Path, size: Option<u64>) {
    let (_directory, client) = client().await;
    let (first, second) = (small_disk(&client, "first.raw", 1), small_disk(&client, "second.raw", 2));
    client.push(&first, "lab/pc").await;
    let outcome = restore(&client, "lab/pc", target, size).await.unwrap();
    assert_eq!(outcome.table, TableFit::Refitted);
    let right = async |image: &Path| {
        assert_table(target);
        assert_same_content(target, image);
        assert_eq!(verify(&client, target).await.different, []);
    };
    right(&first).await;

    // Nothing changed, so nothing is written.
    let (_, again) = client.update(target, None).await.unwrap();
    let moved = (again.written_bytes, again.copied_bytes, again.zeroed_bytes, again.fetched_chunks);
    assert_eq!(moved, (0, 0, 0, 0), "{again:?}");

    client.push(&second, "lab/pc").await;
    let diff = client.diff("lab/pc@1", "lab/pc@2").await;
    let (_, outcome) = client.update(target, None).await.unwrap();
    assert!(outcome.fetched_chunks <= diff.fetch_chunks, "{outcome:?}, {diff:?}");
    right(&second).await;
    client.rollback(target, None).await.unwrap();
    right(&first).await;

    // What others did to the table is found, and repaired by the next update.
    let end = outcome.target_bytes.unwrap();
    for offset in [512 + 32, end - 512 + 40, end - BACKUP_BYTES] {
        let file = File::options().read(true).write(true).open(target).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[!byte[0]], offset).unwrap();
        file.sync_all().unwrap();
        drop(file);
        assert!(verify(&client, target).await.different_bytes > 0, "byte {offset}");
        client.update(target, Some("lab/pc@1")).await.unwrap();
        right(&first).await;
    }

    // A restore that did not come to its end: the note says so, and half of the table is another.
    client.memory.store(&Held { complete: false, witness: None, ..held(&client, target) }).unwrap();
    let file = File::options().write(true).open(target).unwrap();
    file.write_all_at(&fs::read(&second).unwrap()[..MIB as usize], 0).unwrap();
    file.sync_all().unwrap();
    drop(file);
    restore(&client, "lab/pc@2", target, size).await.unwrap();
    right(&second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_larger_file() {
    let directory = tempfile::tempdir().unwrap();
    lives_on(&directory.path().join("target.raw"), Some(48 * MIB)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_larger_by_a_sector() {
    let directory = tempfile::tempdir().unwrap();
    lives_on(&directory.path().join("target.raw"), Some(32 * MIB + 512)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_smaller_file() {
    let directory = tempfile::tempdir().unwrap();
    lives_on(&directory.path().join("target.raw"), Some(20 * MIB)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_ends_within_the_old_backup() {
    let directory = tempfile::tempdir().unwrap();
    lives_on(&directory.path().join("target.raw"), Some(32 * MIB - 8192)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_larger_and_a_smaller_device() {
    for bytes in [40 * MIB, 24 * MIB] {
        let directory = tempfile::tempdir().unwrap();
        let backing = directory.path().join("backing");
        fs::write(&backing, Random::fixed(bytes).bytes(bytes as usize)).unwrap();
        let Some(device) = LoopDevice::over(&backing) else { return };
        lives_on(device.node(), None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_sequence_of_lengths_and_versions() {
    let (_directory, client) = client().await;
    let images = [small_disk(&client, "first.raw", 1), small_disk(&client, "second.raw", 2)];
    for image in &images {
        client.push(image, "lab/pc").await;
    }
    let target = client.place("target.raw");
    let mut random = Random::new(31);
    for _ in 0..40 {
        let number = random.below(2) as usize;
        let sizes = [
            None,
            Some(17 * MIB + BACKUP_BYTES + random.below(20_000)),
            Some(32 * MIB + random.below(40_000)),
            Some(36 * MIB),
        ];
        let size = sizes[random.below(4) as usize];
        if random.below(3) == 0 && target.exists() {
            let offset = random.below(length(&target) - 10_000);
            files::overwrite(&target, offset, &random.bytes(10_000));
        }
        restore(&client, &format!("lab/pc@{}", number + 1), &target, size).await.unwrap();
        assert_eq!(length(&target), size.unwrap_or(32 * MIB));
        assert_table(&target);
        assert_same_content(&target, &images[number]);
        assert_eq!(verify(&client, &target).await.different, [], "{size:?}");
        if size.is_none() {
            files::assert_same(&target, &images[number]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backup_of_a_former_length_does_not_stay() {
    let (_directory, client) = client().await;
    client.push(&small_disk(&client, "first.raw", 1), "lab/pc").await;
    let target = client.place("target.raw");
    restore(&client, "lab/pc", &target, Some(40 * MIB)).await.unwrap();
    restore(&client, "lab/pc", &target, Some(50 * MIB)).await.unwrap();
    let mut old = vec![1; BACKUP_BYTES as usize];
    File::open(&target).unwrap().read_exact_at(&mut old, 40 * MIB - BACKUP_BYTES).unwrap();
    assert!(old.iter().all(|byte| *byte == 0));
    assert_table(&target);
}
