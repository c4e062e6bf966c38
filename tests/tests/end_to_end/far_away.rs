//! Images as long as numbers go, which anybody may push.

use std::sync::Arc;

use imprint_client::{DiskLayout, PartitionLayout, file_changes};
use imprint_tests::{
    client::Client,
    extents::{Run, push_runs_with_layout},
    random::Random,
    server::Loopback,
    wire,
};

const CHUNK_BYTES: u64 = 64 << 10;
const PARTITION_BYTES: u64 = 4 * CHUNK_BYTES;

/// A partition that ends where numbers do.
fn layout() -> DiskLayout {
    DiskLayout {
        image_bytes: u64::MAX,
        sector_size: 512,
        table: "gpt".into(),
        id: None,
        remark: None,
        plain: None,
        partitions: vec![PartitionLayout {
            number: 1,
            start: u64::MAX - PARTITION_BYTES,
            bytes: PARTITION_BYTES,
            type_id: String::new(),
            id: None,
            name: None,
            filesystem: Some("ext4".into()),
            label: None,
            uuid: None,
            used_bytes: None,
            unused_bytes: None,
            files: Some(1),
            plain: None,
        }],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_at_the_end_of_all_numbers_is_compared() {
    let directory = tempfile::tempdir().unwrap();
    let server = Loopback::serve(directory.path()).await;
    let client = Client::connect(&server.url()).await;
    let wire = wire::connect(&server.url()).await;
    for seed in [1, 2] {
        let mut runs = vec![Run::Zero(u64::MAX - PARTITION_BYTES)];
        let mut random = Random::fixed(seed);
        runs.extend((0..4).map(|_| Run::Data(random.bytes(CHUNK_BYTES as usize))));
        push_runs_with_layout(&wire, "lab/far", &runs, layout().encode()).await;
    }
    let outcome = client.diff("lab/far@1", "lab/far@2").await;
    assert_eq!(outcome.changed_bytes, PARTITION_BYTES);
    let (from, to) = (client.version("lab/far@1").await, client.version("lab/far@2").await);
    let changes = file_changes(&client.repository, &from, &to, &outcome, Arc::default()).await.unwrap();
    assert_eq!(changes.len(), 1);
    assert!(changes[0].unknown.is_some(), "{changes:?}");
}
