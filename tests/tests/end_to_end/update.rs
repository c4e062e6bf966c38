//! Update and rollback: only what differs moves, whatever the target was before.

use std::{fs, path::Path};

use imprint_client::Error;
use imprint_tests::{
    client::Client,
    disks::{assert_clean, disks},
    files::{self, MIB, assert_same, copy_sparse, length},
    random::Random,
};

async fn client() -> (tempfile::TempDir, Client) {
    let directory = tempfile::tempdir().unwrap();
    let client = Client::embedded(directory.path()).await;
    (directory, client)
}

/// A client with both disks pushed, and a target that was restored from the first.
async fn restored() -> (tempfile::TempDir, Client, std::path::PathBuf) {
    let (directory, client) = client().await;
    client.push(&disks().v1, "lab/pc").await;
    let target = client.place("target.raw");
    client.restore("lab/pc", &target).await;
    client.push(&disks().v2, "lab/pc").await;
    (directory, client, target)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_follows_its_ref_and_a_rollback_returns() {
    let (_directory, client, target) = restored().await;
    let diff = client.diff("lab/pc@1", "lab/pc@2").await;

    let (version, outcome) = client.update(&target, None).await.unwrap();
    assert_eq!(version.number, 2);
    assert_same(&target, &disks().v2);
    assert_clean(&target);
    let moved = outcome.written_bytes + outcome.copied_bytes;
    assert!(moved <= diff.changed_bytes, "{moved} bytes were written, {} differ", diff.changed_bytes);
    assert!(outcome.fetched_chunks <= diff.fetch_chunks, "only what the target has nowhere is fetched");
    assert!(outcome.fetched_chunks > 0);

    let (version, _) = client.rollback(&target, None).await.unwrap();
    assert_eq!(version.number, 1);
    assert_same(&target, &disks().v1);
    let (version, _) = client.update(&target, None).await.unwrap();
    assert_eq!(version.number, 2, "it goes on following its ref");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_to_what_is_there_writes_nothing() {
    let (_directory, client, target) = restored().await;
    client.update(&target, None).await.unwrap();
    let (_, again) = client.update(&target, None).await.unwrap();
    assert_eq!((again.written_bytes, again.copied_bytes, again.zeroed_bytes, again.fetched_chunks), (0, 0, 0, 0));
    assert_same(&target, &disks().v2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_something_else_wrote_is_found_and_repaired() {
    let (_directory, client, target) = restored().await;
    files::overwrite(&target, 5 * MIB + 17, b"drift");
    files::overwrite(&target, length(&target) - 3 * MIB, &vec![7; MIB as usize]);
    client.update(&target, None).await.unwrap();
    assert_same(&target, &disks().v2);
}

#[tokio::test(flavor = "multi_thread")]
async fn going_back_by_update_must_be_allowed() {
    let (_directory, client, target) = restored().await;
    client.update(&target, None).await.unwrap();
    let refused = client.update(&target, Some("lab/pc@1")).await;
    assert!(matches!(refused, Err(Error::Older { held: 2, .. })), "{refused:?}");
    assert_same(&target, &disks().v2);
    client.rollback(&target, Some("lab/pc@1")).await.unwrap();
    assert_same(&target, &disks().v1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_nothing_is_known_of_needs_a_ref() {
    let (_directory, client, target) = restored().await;
    let copy = client.place("copy.raw");
    copy_sparse(&target, &copy);
    assert!(matches!(client.update(&copy, None).await, Err(Error::NotKnown(_))));
    assert!(matches!(client.rollback(&target, None).await, Err(Error::NothingBefore(_))));
    let (_, outcome) = client.update(&copy, Some("lab/pc")).await.unwrap();
    assert_same(&copy, &disks().v2);
    assert!(outcome.fetched_chunks <= client.diff("lab/pc@1", "lab/pc@2").await.fetch_chunks);
}

/// The image in blocks of 1 MiB, in another order, with a few bytes before it or not.
fn rearranged(original: &Path, target: &Path, prefix: usize, order: impl Fn(usize, usize) -> usize) {
    let bytes = fs::read(original).unwrap();
    let blocks: Vec<&[u8]> = bytes.chunks(MIB as usize).collect();
    let mut out = Random::new(prefix as u64 + 1).bytes(prefix);
    for n in 0..blocks.len() {
        out.extend_from_slice(blocks[order(n, blocks.len())]);
    }
    fs::write(target, out).unwrap();
}

async fn updates_over(prefix: usize, order: impl Fn(usize, usize) -> usize) {
    let (_directory, client) = client().await;
    client.push(&disks().v1, "lab/pc").await;
    let target = client.place("target.raw");
    client.restore("lab/pc", &target).await;
    let next = client.place("next.raw");
    rearranged(&disks().v1, &next, prefix, order);
    let pushed = client.push(&next, "lab/pc").await;
    let (_, outcome) = client.update(&target, None).await.unwrap();
    assert_same(&target, &next);
    // What moved is on the target: no more is fetched than the push had to send.
    assert!(
        outcome.fetched_chunks <= pushed.new_chunks,
        "{} chunks were fetched, {} are new; {outcome:?}",
        outcome.fetched_chunks,
        pushed.new_chunks
    );
    let (_, back) = client.rollback(&target, None).await.unwrap();
    assert_same(&target, &disks().v1);
    assert!(back.copied_bytes > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn shifted_data_is_moved_in_place() {
    updates_over(12 << 10, |n, _| n).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_data_is_moved_in_place() {
    updates_over(0, |n, count| (n + count / 2) % count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reversed_data_is_moved_in_place() {
    updates_over(0, |n, count| count - 1 - n).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_saves_fetching_and_a_lying_seed_costs_nothing_but_time() {
    let (_directory, client) = client().await;
    client.push(&disks().v1, "lab/pc").await;
    client.push(&disks().v2, "lab/pc").await;
    let seed = client.place("seed.raw");
    client.restore("lab/pc@1", &seed).await;
    let target = client.place("target.raw");
    let outcome = client.restore_with_seeds("lab/pc@2", &target, &[&seed]).await;
    assert_same(&target, &disks().v2);
    assert!(outcome.fetched_chunks <= client.diff("lab/pc@1", "lab/pc@2").await.fetch_chunks);

    files::overwrite(&seed, 9 * MIB, &vec![3; 8 * MIB as usize]);
    let other = client.place("other.raw");
    client.restore_with_seeds("lab/pc@2", &other, &[&seed, &target]).await;
    assert_same(&other, &disks().v2);
}
