//! Versions on targets of another length: tables that fit, what is remembered, and what is refused.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that goes wrong panics

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use imprint_client::{
    Error, FilesystemGrowth, Growing, RestoreOptions, RestoreOutcome, TableFit, TargetReport,
    target::{Held, TargetError},
    verify_target,
};
use imprint_tests::{
    client::Client,
    devices::LoopDevice,
    disks::{assert_clean, disks},
    extents::{push_runs, runs},
    files::{self, MIB, length, run},
    programs::{Home, Running, wait_until},
    random::Random,
    server::Loopback,
    wire,
};
use tempfile::TempDir;

const TABLE_BYTES: u64 = 34 * 512;
const BACKUP_BYTES: u64 = 33 * 512;

async fn client() -> (TempDir, Client) {
    let directory = tempfile::tempdir().unwrap();
    let client = Client::embedded(directory.path()).await;
    (directory, client)
}

/// A disk of 32 MiB with one ext4 from 1 MiB to 17 MiB, in it what `seed` gives.
fn small_disk(client: &Client, name: &str, seed: u64) -> PathBuf {
    let disk = client.place(name);
    File::create(&disk).unwrap().set_len(32 * MIB).unwrap();
    sfdisk(
        &disk,
        "label: gpt\nlabel-id: 6A09E667-BB67-4E8F-A54F-F53A5F1D36F1\nstart=1MiB, size=16MiB, name=root, uuid=6A09E667-BB67-4E8F-A54F-F53A5F1D36F2\n",
    );
    let content = client.place(&format!("{name}-content"));
    fs::create_dir(&content).unwrap();
    fs::write(content.join("file"), Random::fixed(seed).bytes(3 << 20)).unwrap();
    fs::write(content.join("other"), Random::fixed(5).bytes(2 << 20)).unwrap();
    let offset = format!("offset={MIB},lazy_itable_init=1");
    run(Command::new("mkfs.ext4")
        .args(["-q", "-F", "-b", "4096", "-d"])
        .arg(&content)
        .args(["-E", &offset])
        .arg(&disk)
        .arg("16384k"));
    disk
}

fn sfdisk(disk: &Path, script: &str) {
    let mut sfdisk = Command::new("sfdisk").arg("-q").arg(disk).stdin(Stdio::piped()).spawn().unwrap();
    sfdisk.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(sfdisk.wait().unwrap().success());
}

/// Both tools find nothing to complain about.
fn assert_table(disk: &Path) {
    let said = Command::new("sgdisk").arg("-v").arg(disk).output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("No problems found"), "{said}");
    let said = Command::new("sfdisk").arg("--verify").arg(disk).env("LC_ALL", "C").output().unwrap();
    let said = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
    assert!(said.contains("No errors detected") && !said.contains("mismatch"), "{said}");
}

/// The target has the image's bytes wherever no table belongs.
fn assert_same_content(target: &Path, image: &Path) {
    let target = File::open(target).unwrap();
    let target_length = rustix::fs::seek(&target, rustix::fs::SeekFrom::End(0)).unwrap();
    let image_bytes = fs::read(image).unwrap();
    let end = (image_bytes.len() as u64).min(if target_length == image_bytes.len() as u64 {
        target_length
    } else {
        target_length / 512 * 512 - BACKUP_BYTES
    });
    let mut bytes = vec![0; end as usize];
    target.read_exact_at(&mut bytes, 0).unwrap();
    let at = (TABLE_BYTES as usize..bytes.len()).find(|at| bytes[*at] != image_bytes[*at]);
    assert_eq!(at, None, "first byte that differs");
    assert_eq!(bytes[..446], image_bytes[..446], "what boots");
}

async fn restore(client: &Client, reference: &str, target: &Path, size: Option<u64>) -> Result<RestoreOutcome, Error> {
    restore_growing(client, reference, target, size, Growing::No).await
}

async fn restore_growing(
    client: &Client,
    reference: &str,
    target: &Path,
    size: Option<u64>,
    growing: Growing,
) -> Result<RestoreOutcome, Error> {
    let version = client.version(reference).await;
    let following = Some("lab/pc".parse().unwrap());
    let options = RestoreOptions { size, growing, following, ..client.restore_options() };
    imprint_client::restore(&client.repository, &version, target, options, Arc::default()).await
}

fn held(client: &Client, target: &Path) -> Held {
    client.memory.load(target).unwrap().unwrap()
}

async fn verify(client: &Client, target: &Path) -> TargetReport {
    let held = held(client, target);
    let version = client.version(&format!("lab/pc@{}", held.number)).await;
    verify_target(&client.repository, &version, target, Some(&held), Arc::default()).await.unwrap()
}

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
    assert_eq!(outcome.grown, None, "the filesystem grows when it is asked for");
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

/// How many bytes too few there are, and why.
fn beyond(refused: Result<RestoreOutcome, Error>) -> (u64, String) {
    match refused {
        Err(Error::Target(TargetError::DoesNotFit { beyond, what, .. })) => (beyond, what),
        other => panic!("not refused: {other:?}"),
    }
}

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

fn arg<T: AsRef<OsStr> + ?Sized>(argument: &T) -> &OsStr {
    argument.as_ref()
}

#[test]
fn the_command_line_says_what_it_did_and_goes_on_after_a_kill() {
    let home = Home::new();
    home.ok([arg("push"), arg(&disks().v1), arg("lab/pc")]);
    let target = home.place("disk.raw");
    let restore = || [arg("restore"), arg("lab/pc"), arg("disk.raw"), arg("--size"), arg("256M"), arg("--grow")];
    for delay in [5, 40, 120] {
        let running = Running::start(&mut home.command(restore()));
        std::thread::sleep(std::time::Duration::from_millis(delay));
        let _ = running.kill();
    }
    // A tool that was started by who was killed still has the target, for a moment.
    let mut ended = home.run(restore());
    wait_until("the target is free", || {
        if ended.code() == 5 {
            ended = home.run(restore());
        }
        ended.code() != 5
    });
    assert_eq!(ended.code(), 0, "{ended}");
    assert!(ended.stderr.contains("the partition table was made to fit 256 MiB"), "{ended}");
    assert!(ended.stderr.contains("partition 1 was grown from 190 MiB to 254 MiB, its filesystem with it"), "{ended}");
    assert_table(&target);
    assert_clean(&target);
    let ended = home.run([arg("verify"), arg("./disk.raw")]);
    assert_eq!(ended.code(), 8);
    assert!(ended.stderr.contains("grown after the restore"), "{ended}");
    let result = home.result([arg("update"), arg("disk.raw")]);
    assert_eq!((&result["table"], &result["target_bytes"]), (&"refitted".into(), &(256 * MIB).into()));
    home.ok([arg("verify"), arg("./disk.raw")]);
    let refused = home.run([arg("restore"), arg("lab/pc"), arg("small.raw"), arg("--size"), arg("100M")]);
    assert_eq!(refused.code(), 5);
    assert!(refused.stderr.contains("partition 1 ends behind it") && refused.stderr.contains("resize2fs"), "{refused}");
}
