//! Disks with room behind their only partition, and what must be so wherever they are restored.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use imprint_client::{
    Error, Growing, RestoreOptions, RestoreOutcome, TargetReport,
    target::{Held, TargetError},
    verify_target,
};
use imprint_tests::{
    client::Client,
    files::{MIB, run},
    random::Random,
};
use tempfile::TempDir;

pub(crate) const TABLE_BYTES: u64 = 34 * 512;
pub(crate) const BACKUP_BYTES: u64 = 33 * 512;

pub(crate) async fn client() -> (TempDir, Client) {
    let directory = tempfile::tempdir().unwrap();
    let client = Client::embedded(directory.path()).await;
    (directory, client)
}

/// A disk of 32 MiB with one ext4 from 1 MiB to 17 MiB, in it what `seed` gives.
pub(crate) fn small_disk(client: &Client, name: &str, seed: u64) -> PathBuf {
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

pub(crate) fn sfdisk(disk: &Path, script: &str) {
    let mut sfdisk = Command::new("sfdisk").arg("-q").arg(disk).stdin(Stdio::piped()).spawn().unwrap();
    sfdisk.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(sfdisk.wait().unwrap().success());
}

/// Both tools find nothing to complain about.
pub(crate) fn assert_table(disk: &Path) {
    let said = Command::new("sgdisk").arg("-v").arg(disk).output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("No problems found"), "{said}");
    let said = Command::new("sfdisk").arg("--verify").arg(disk).env("LC_ALL", "C").output().unwrap();
    let said = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
    assert!(said.contains("No errors detected") && !said.contains("mismatch"), "{said}");
}

/// The target has the image's bytes wherever no table belongs.
pub(crate) fn assert_same_content(target: &Path, image: &Path) {
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

pub(crate) async fn restore(
    client: &Client,
    reference: &str,
    target: &Path,
    size: Option<u64>,
) -> Result<RestoreOutcome, Error> {
    restore_growing(client, reference, target, size, Growing::No).await
}

pub(crate) async fn restore_growing(
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

pub(crate) fn held(client: &Client, target: &Path) -> Held {
    client.memory.load(target).unwrap().unwrap()
}

pub(crate) async fn verify(client: &Client, target: &Path) -> TargetReport {
    let held = held(client, target);
    let version = client.version(&format!("lab/pc@{}", held.number)).await;
    verify_target(&client.repository, &version, target, Some(&held), Arc::default()).await.unwrap()
}

/// How many bytes too few there are, and why.
pub(crate) fn beyond(refused: Result<RestoreOutcome, Error>) -> (u64, String) {
    match refused {
        Err(Error::Target(TargetError::DoesNotFit { beyond, what, .. })) => (beyond, what),
        other => panic!("not refused: {other:?}"),
    }
}
