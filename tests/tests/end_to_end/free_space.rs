//! Free extents: discarded or left alone, never compared, never a seed, never taken for zero.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

use imprint_client::{FreeSpace, RestoreOptions, RestoreOutcome, verify_target};
use imprint_tests::{
    client::Client,
    devices::LoopDevice,
    extents::{Run, push_runs},
    files::MIB,
    random::Random,
    server::Loopback,
    wire,
};
use tempfile::TempDir;

/// A repository with versions of `lab/pc` that are made of these runs.
async fn repository(versions: &[Vec<Run>]) -> (TempDir, Loopback, Client) {
    let directory = tempfile::tempdir().unwrap();
    let server = Loopback::serve(directory.path()).await;
    let wire = wire::connect(&server.url()).await;
    for version in versions {
        push_runs(&wire, "lab/pc", version).await;
    }
    let client = Client::connect(&server.url()).await;
    (directory, server, client)
}

async fn restore(client: &Client, number: usize, target: &Path, free_space: FreeSpace) -> RestoreOutcome {
    let version = client.version(&format!("lab/pc@{number}")).await;
    let options = RestoreOptions { free_space, ..client.restore_options() };
    imprint_client::restore(&client.repository, &version, target, options, Arc::default()).await.unwrap()
}

fn read(target: &Path, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    File::open(target).unwrap().read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn write(target: &Path, offset: u64, bytes: &[u8]) {
    let file = File::options().write(true).open(target).unwrap();
    file.write_all_at(bytes, offset).unwrap();
    file.sync_all().unwrap();
}

/// Runs of random lengths, in sectors; data comes from so few chunks that much of it moves between versions.
fn random_version(random: &mut Random, length: u64) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut left = length;
    while left > 0 {
        let run = match random.below(3) {
            0 => Run::Zero(((1 + random.below(160)) * 512).min(left)),
            1 => Run::Free(((1 + random.below(160)) * 512).min(left)),
            _ => noise(random.below(6), (4096u64 << random.below(6)).min(left)),
        };
        left -= run.length();
        runs.push(run);
    }
    runs
}

/// What the target must hold after `version` was put over `before`.
fn expected(version: &[Run], before: &[u8], free_space: FreeSpace) -> Vec<u8> {
    let mut bytes = Vec::new();
    for run in version {
        let at = bytes.len();
        match (run, free_space) {
            (Run::Data(content), _) => bytes.extend_from_slice(content),
            (Run::Zero(length), _) | (Run::Free(length), FreeSpace::Discard) => bytes.resize(at + *length as usize, 0),
            (Run::Free(length), FreeSpace::Keep) => bytes.extend_from_slice(&before[at..at + *length as usize]),
        }
    }
    bytes
}

/// Restores, and lets others write, in random order; what the target holds must always be what the model says.
async fn any_sequence_of_restores(target: &Path, seed: u64, steps: usize) {
    let mut random = Random::new(seed);
    let length = 2 * MIB;
    let versions: Vec<_> = (0..6).map(|_| random_version(&mut random, length)).collect();
    let (_directory, _server, client) = repository(&versions).await;
    let mut model = read(target, length as usize);
    for step in 0..steps {
        if random.below(3) == 0 {
            let offset = random.below(length - 70_000);
            let count = random.below(70_000) as usize;
            let bytes = random.bytes(count);
            write(target, offset, &bytes);
            model[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
        }
        let number = random.below(versions.len() as u64) as usize;
        let free_space = if random.below(2) == 0 { FreeSpace::Discard } else { FreeSpace::Keep };
        restore(&client, number + 1, target, free_space).await;
        model = expected(&versions[number], &model, free_space);
        let actual = read(target, length as usize);
        if let Some(at) = (0..model.len()).find(|at| actual[*at] != model[*at]) {
            panic!("step {step}, version {}, {free_space:?}: byte {at} is wrong", number + 1);
        }
        let version = client.version(&format!("lab/pc@{}", number + 1)).await;
        let report = verify_target(&client.repository, &version, target, None, Arc::default()).await.unwrap();
        assert_eq!(report.different, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_sequence_of_restores_onto_a_file_is_as_the_model_says() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("target.raw");
    fs::write(&target, Random::fixed(1).bytes(2 << 20)).unwrap();
    any_sequence_of_restores(&target, 21, 150).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_sequence_of_restores_onto_a_device_is_as_the_model_says() {
    let directory = tempfile::tempdir().unwrap();
    let backing = directory.path().join("backing");
    fs::write(&backing, Random::fixed(1).bytes(2 << 20)).unwrap();
    let Some(device) = LoopDevice::over(&backing) else { return };
    any_sequence_of_restores(device.node(), 22, 60).await;
}

fn noise(seed: u64, length: u64) -> Run {
    Run::Data(Random::fixed(seed).bytes(length as usize))
}

/// CDI PR#779: zeros of the version are written where the target is not zero.
#[tokio::test(flavor = "multi_thread")]
async fn zeros_over_what_was_free_are_written_also_when_the_target_is_known() {
    let first = vec![noise(1, 65536), Run::Free(MIB), noise(2, 65536)];
    let second = vec![noise(1, 65536), Run::Zero(MIB), noise(2, 65536)];
    let (_directory, _server, client) = repository(&[first, second.clone()]).await;
    let target = client.place("target.raw");
    let before = Random::fixed(9).bytes(MIB as usize + 131_072);
    fs::write(&target, &before).unwrap();
    let kept = restore(&client, 1, &target, FreeSpace::Keep).await;
    assert_eq!((kept.free_kept_bytes, kept.discarded_bytes), (MIB, 0));
    assert_eq!(read(&target, before.len())[65536..][..MIB as usize], before[65536..][..MIB as usize]);
    let zeroed = restore(&client, 2, &target, FreeSpace::Keep).await;
    assert_eq!((zeroed.zeroed_bytes, zeroed.fetched_chunks), (MIB, 0), "the data is known, the zeros are not");
    assert_eq!(read(&target, before.len()), expected(&second, &before, FreeSpace::Keep));
}

#[tokio::test(flavor = "multi_thread")]
async fn free_space_that_was_discarded_once_is_not_looked_at_again() {
    let first = vec![noise(1, 65536), Run::Free(MIB), noise(2, 65536)];
    let second = vec![noise(1, 65536), Run::Free(MIB), noise(3, 65536)];
    let (directory, _server, client) = repository(&[first, second]).await;
    let backing = directory.path().join("backing");
    fs::write(&backing, Random::fixed(9).bytes(MIB as usize + 131_072)).unwrap();
    let Some(device) = LoopDevice::over(&backing) else { return };
    let discarded = restore(&client, 1, device.node(), FreeSpace::Discard).await;
    assert_eq!(discarded.discarded_bytes, MIB);
    let again = restore(&client, 2, device.node(), FreeSpace::Discard).await;
    assert_eq!((again.discarded_bytes, again.fetched_chunks), (0, 1));
    // What was kept once is discarded by the next restore that is not told to keep it.
    restore(&client, 1, device.node(), FreeSpace::Keep).await;
    assert_eq!(restore(&client, 2, device.node(), FreeSpace::Discard).await.discarded_bytes, MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_file_has_no_earlier_data_to_keep() {
    let (_directory, _server, client) = repository(&[vec![Run::Free(MIB), noise(1, 4096)]]).await;
    let outcome = restore(&client, 1, &client.place("new.raw"), FreeSpace::Keep).await;
    assert_eq!((outcome.free_kept_bytes, outcome.discarded_bytes), (0, 0));
}
