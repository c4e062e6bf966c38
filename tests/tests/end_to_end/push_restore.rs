//! What is pushed comes back, byte for byte, and costs what changed.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
};

use imprint_client::{PushOptions, PushOutcome, source::Source};
use imprint_content::NodeId;
use imprint_tests::{
    client::Client,
    devices::LoopDevice,
    disks::{PARTITION_OFFSET, assert_clean, disks, read_file},
    files::{self, MIB, allocated, assert_same, copy_allocated, copy_sparse, length, packs},
    random::Random,
    server::Server,
};

/// A client of a new repository in a new directory.
async fn client() -> (tempfile::TempDir, Client) {
    let directory = tempfile::tempdir().unwrap();
    let client = Client::embedded(directory.path()).await;
    (directory, client)
}

fn stream(path: &Path) -> Source {
    Source::stream(File::open(path).unwrap())
}

async fn pushes_and_restores_both_versions(client: &Client) {
    let disks = disks();
    for (number, disk) in [(1, &disks.v1), (2, &disks.v2)] {
        let pushed = client.push(disk, "lab/pc").await;
        assert_eq!((pushed.version.number, pushed.image_bytes), (number, length(disk)));
        assert_eq!(pushed.base, (number > 1).then(|| number - 1));
    }
    for (reference, disk) in [("lab/pc@1", &disks.v1), ("lab/pc@2", &disks.v2), ("lab/pc", &disks.v2)] {
        let target = client.place("restored.raw");
        let _ = fs::remove_file(&target);
        let restored = client.restore(reference, &target).await;
        assert_same(&target, disk);
        assert_clean(&target);
        let version = client.version(reference).await;
        assert_eq!((restored.image_bytes, restored.written_bytes), (version.content.length, version.data_bytes));
        assert_eq!((restored.kept_bytes, restored.zeroed_bytes), (0, 0));
        assert_eq!(client.verify(reference).await.unwrap().data_bytes, version.data_bytes);
        assert!(allocated(&target) <= version.data_bytes + MIB, "zeros were written");
    }
    assert_eq!(read_file(&client.place("restored.raw"), "/note"), b"the second version\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_comes_back_byte_for_byte() {
    let (_directory, client) = client().await;
    pushes_and_restores_both_versions(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_comes_back_byte_for_byte_through_a_server() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path());
    pushes_and_restores_both_versions(&Client::connect(server.url()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pushing_again_sends_nothing_and_writes_no_pack() {
    let (directory, client) = client().await;
    let first = client.push(&disks().v1, "lab/pc").await;
    assert!(first.new_chunks > 0 && first.new_nodes > 0 && first.chunks >= first.new_chunks);
    let before = packs(directory.path());
    // By the same client, and by one that does not have the tree; from the disk, and from a stream.
    for (client, source) in [
        (&client, Source::open(&disks().v1).unwrap()),
        (&client.another(), Source::open(&disks().v1).unwrap()),
        (&client.another(), stream(&disks().v1)),
    ] {
        let again = client.try_push(source, "lab/pc", PushOptions::default()).await.unwrap();
        assert_sent_nothing(&again);
        assert_eq!((again.chunks, again.data_bytes), (first.chunks, first.data_bytes));
        assert_eq!(again.version.content.root, first.version.content.root);
        assert_eq!((again.version.new_chunks, again.version.new_stored_bytes), (0, 0));
    }
    assert_eq!(packs(directory.path()), before);
    assert_eq!(client.versions("lab/pc").await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_image_with_the_same_content_stores_nothing_new() {
    let (directory, client) = client().await;
    client.push(&disks().v1, "lab/pc").await;
    let before = packs(directory.path());
    let other = client.another().push(&disks().v1, "vm/template").await;
    assert_sent_nothing(&other);
    assert_eq!((other.version.number, other.base), (1, None));
    assert_eq!(packs(directory.path()), before);
    let target = client.place("restored.raw");
    client.restore("vm/template", &target).await;
    assert_same(&target, &disks().v1);
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_moved_to_another_image_is_not_sent_again() {
    let (_directory, client) = client().await;
    client.push(&disks().v1, "lab/pc").await;
    let directory = tempfile::tempdir().unwrap();
    // The filesystem without the partition around it: nothing is at its old offset, and nearly all chunks are known.
    let content = fs::read(&disks().v1).unwrap();
    let path = files::write(directory.path(), "filesystem.raw", &content[PARTITION_OFFSET as usize..]);
    let pushed = client.push(&path, "lab/other").await;
    assert!(pushed.new_bytes < pushed.data_bytes / 10, "{} of {} bytes are new", pushed.new_bytes, pushed.data_bytes);
}

fn assert_sent_nothing(outcome: &PushOutcome) {
    let PushOutcome { new_chunks, new_bytes, sent_bytes, new_nodes, node_bytes, .. } = *outcome;
    assert_eq!((new_chunks, new_bytes, sent_bytes, new_nodes, node_bytes), (0, 0, 0, 0, 0));
}

/// Distance of the chunks in a sparse image with many of them.
const STRIDE: u64 = 128 << 10;
/// Length of each.
const GRAIN: usize = 4096;

/// An image of `chunks` short chunks with zeros between them: many extents, few bytes.
fn sparse_image(path: &Path, chunks: u64, random: &mut Random) {
    let file = File::create(path).unwrap();
    file.set_len(chunks * STRIDE).unwrap();
    for n in 0..chunks {
        file.write_all_at(&random.bytes(GRAIN), n * STRIDE).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_writes_nodes_for_what_changed_not_for_what_the_image_is() {
    let mut random = Random::new(2);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.raw");
    for (chunks, levels) in [(2048, 2), (16384, 3)] {
        let (repository, client) = client().await;
        sparse_image(&path, chunks, &mut random);
        let first = client.push(&path, "lab/pc").await;
        assert_eq!(first.new_chunks, chunks);
        let whole = first.new_nodes;
        println!("{chunks} chunks: {whole} nodes, {} bytes", first.node_bytes);
        for changed in [1u64, 2, 4, 8] {
            for _ in 0..changed {
                files::overwrite(&path, random.below(chunks) * STRIDE, &random.bytes(GRAIN));
            }
            let before = packs(repository.path()).len();
            let next = client.push(&path, "lab/pc").await;
            println!("{changed} changed: {} nodes, {} bytes", next.new_nodes, next.node_bytes);
            assert!(next.new_chunks <= changed && next.new_chunks > 0);
            // Each change makes a new node on each level; now and then it also moves a border between two.
            let bound = (changed + 2) * levels;
            assert!(next.new_nodes <= bound, "{} nodes for {changed} chunks", next.new_nodes);
            assert!(next.node_bytes <= bound * 5000, "{} node bytes for {changed} chunks", next.node_bytes);
            assert_eq!(packs(repository.path()).len(), before + 2, "one pack of chunks and one of nodes");
        }
        assert!(whole > chunks / 80, "the bound above would say nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tree_does_not_depend_on_the_kind_of_source() {
    let directory = tempfile::tempdir().unwrap();
    let [sparse, allocated] = ["sparse", "allocated"].map(|name| directory.path().join(name));
    copy_sparse(&disks().v1, &sparse);
    copy_allocated(&disks().v1, &allocated);
    let device = LoopDevice::over(&sparse);
    let mut sources =
        vec![Source::open(&sparse).unwrap(), Source::open(&allocated).unwrap(), stream(&sparse), stream(&allocated)];
    sources.extend(device.as_ref().map(|device| Source::open(device.node()).unwrap()));
    let mut roots: Vec<NodeId> = Vec::new();
    for source in sources {
        // Each into a repository of its own: nothing is recognised.
        let (_repository, client) = client().await;
        let pushed = client.try_push(source, "lab/pc", PushOptions::default()).await.unwrap();
        assert!(pushed.new_chunks > 0);
        roots.push(pushed.version.content.root);
    }
    assert!(roots.iter().all(|root| *root == roots[0]), "{roots:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tree_does_not_depend_on_the_base() {
    let (_directory, client) = client().await;
    client.push(&disks().v1, "lab/pc").await;
    let based = client.push(&disks().v2, "lab/pc").await;
    let alone = client.another().push(&disks().v2, "lab/other").await;
    assert_eq!((based.base, alone.base), (Some(1), None));
    assert_eq!(based.version.content.root, alone.version.content.root);
}

#[tokio::test(flavor = "multi_thread")]
async fn images_of_every_length_come_back() {
    let mut random = Random::new(3);
    let content = random.bytes((64 * MIB + 1) as usize);
    let (_directory, client) = client().await;
    let (source, target) = (client.place("source.raw"), client.place("target.raw"));
    let lengths = [0, 1, 4095, 4096, 4097, 16 << 10, 65_535, 65_536, 65_537, (256 << 10) + 1, 64 * MIB - 1, 64 * MIB];
    for length in lengths.into_iter().chain([64 * MIB + 1]) {
        fs::write(&source, &content[..length as usize]).unwrap();
        let pushed = client.push(&source, "lab/pc").await;
        let streamed = client.try_push(stream(&source), "lab/stream", PushOptions::default()).await.unwrap();
        assert_eq!((pushed.image_bytes, pushed.data_bytes), (length, length));
        assert_eq!(pushed.version.content.root, streamed.version.content.root, "{length} bytes");
        let _ = fs::remove_file(&target);
        client.restore("lab/pc", &target).await;
        assert_same(&target, &source);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn zeros_are_neither_stored_nor_written() {
    let (directory, client) = client().await;
    let source = client.place("zeros.raw");
    for length in [1, 4096, 64 * MIB, 200 * MIB + 5] {
        fs::write(&source, vec![0; length as usize]).unwrap();
        let before = packs(directory.path()).len();
        let pushed = client.push(&source, "lab/pc").await;
        let target = client.place(&length.to_string());
        client.restore("lab/pc", &target).await;
        assert_same(&target, &source);
        if length >= 64 << 10 {
            assert_eq!((pushed.data_bytes, pushed.new_chunks, pushed.new_nodes), (0, 0, 1), "{length} zeros");
            assert_eq!((packs(directory.path()).len(), allocated(&target)), (before + 1, 0));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn zeros_end_wherever_data_begins() {
    let mut random = Random::new(4);
    let (_directory, client) = client().await;
    let (source, target) = (client.place("source.raw"), client.place("target.raw"));
    for round in 0..20 {
        let mut content = vec![0; (65 * MIB + random.below(8192)) as usize];
        for _ in 0..random.below(30) {
            let start = random.below(content.len() as u64) as usize;
            let end = content.len().min(start + random.below(300_000) as usize);
            random.fill(&mut content[start..end]);
        }
        fs::write(&source, &content).unwrap();
        client.push(&source, "lab/pc").await;
        client.restore("lab/pc", &target).await;
        assert!(fs::read(&target).unwrap() == content, "round {round}");
    }
}

/// CDI PR#779: zeros are written where the target was not zero.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_over_other_content_leaves_none_of_it() {
    let (_directory, client) = client().await;
    client.push(&disks().v1, "lab/pc").await;
    let size = length(&disks().v1);
    // Random bytes where zeros belong, a file that is longer, and one that is shorter.
    for other in [size, size + 3 * MIB + 17, size / 3] {
        let target = files::write(&client.place(""), "target.raw", &Random::new(other).bytes(other as usize));
        let restored = client.restore("lab/pc", &target).await;
        assert_same(&target, &disks().v1);
        assert_eq!((restored.kept_bytes, restored.image_bytes), (0, size));
        if other >= size {
            assert_eq!(restored.zeroed_bytes, size - restored.written_bytes);
        }
    }
}

/// desync#314: buffers that threads shared mixed the bytes of one with those of another.
#[tokio::test(flavor = "multi_thread")]
async fn pushes_and_restores_at_the_same_time_do_not_mix_their_bytes() {
    let (_directory, client) = client().await;
    let tasks: Vec<_> = (0..6_u64)
        .map(|n| {
            let client = client.another();
            tokio::spawn(async move {
                // Chunks of the same lengths at the same places, and other bytes in each.
                let mut bytes = vec![n as u8; 6 * MIB as usize];
                Random::new(500 + n).fill(&mut bytes[MIB as usize..3 * MIB as usize]);
                let source = files::write(&client.place(""), "source.raw", &bytes);
                for number in 1..=2 {
                    client.push(&source, &format!("lab/pc{n}")).await;
                    let target = client.place("target.raw");
                    let _ = fs::remove_file(&target);
                    client.restore(&format!("lab/pc{n}@{number}"), &target).await;
                    assert_same(&target, &source);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// Bytes of 4 KiB blocks that differ.
fn differing_bytes(a: &Path, b: &Path) -> u64 {
    let (a, b) = (fs::read(a).unwrap(), fs::read(b).unwrap());
    a.chunks(4096).zip(b.chunks(4096)).filter(|(a, b)| a != b).map(|(a, _)| a.len() as u64).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_over_an_older_version_writes_only_what_differs() {
    let (_directory, client) = client().await;
    let [v1, v2] = [&disks().v1, &disks().v2];
    for disk in [v1, v2] {
        client.push(disk, "lab/pc").await;
    }
    let diff = client.diff("lab/pc@1", "lab/pc@2").await;
    let data = client.version("lab/pc@2").await.data_bytes;
    let differing = differing_bytes(v1, v2);
    // Remembered from a restore, and found by reading.
    for is_remembered in [true, false] {
        let target = client.place(&format!("{is_remembered}.raw"));
        client.restore("lab/pc@1", &target).await;
        let client = if is_remembered { &client } else { &client.another() };
        let restored = client.restore("lab/pc@2", &target).await;
        assert_same(&target, v2);
        assert_eq!(restored.kept_bytes + restored.copied_bytes + restored.written_bytes, data);
        assert!(restored.written_bytes <= diff.changed_bytes && restored.fetched_chunks <= diff.fetch_chunks.max(1));
        let (changed, whole) = (restored.written_bytes + restored.zeroed_bytes, length(v2));
        assert!((differing..whole / 4).contains(&changed), "{changed} bytes written for {differing} that differ");
        let again = client.restore("lab/pc@2", &target).await;
        assert_eq!((again.kept_bytes, again.fetched_chunks), (data, 0));
        assert_eq!((again.written_bytes, again.zeroed_bytes), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_target_is_remembered_to_hold_counts_only_while_nothing_wrote_to_it() {
    let (_directory, client) = client().await;
    let [v1, v2] = [&disks().v1, &disks().v2];
    for disk in [v1, v2] {
        client.push(disk, "lab/pc").await;
    }
    let target = client.place("target.raw");
    client.restore("lab/pc@1", &target).await;
    // In data that both versions share, with the time of the last write put back.
    let changed = client.diff("lab/pc@1", "lab/pc@2").await.changed;
    let content = fs::read(v1).unwrap();
    let is_shared =
        |offset: &u64| content[*offset as usize] != 0 && !changed.iter().any(|range| range.contains(offset));
    let shared = (0..length(v1)).step_by(4096).find(is_shared).unwrap();
    let written = fs::metadata(&target).unwrap().modified().unwrap();
    files::flip(&target, shared);
    File::options().write(true).open(&target).unwrap().set_modified(written).unwrap();
    let restored = client.restore("lab/pc@2", &target).await;
    assert_same(&target, v2);
    assert!(restored.kept_bytes > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_gets_the_image_and_keeps_what_lies_behind_it() {
    let (_directory, client) = client().await;
    for disk in [&disks().v1, &disks().v2] {
        client.push(disk, "lab/pc").await;
    }
    let size = length(&disks().v1);
    let tail = Random::new(5).bytes(MIB as usize);
    let backing = client.place("backing.raw");
    copy_sparse(&disks().v1, &backing);
    File::options().append(true).open(&backing).map(|file| file.write_all_at(&tail, size)).unwrap().unwrap();
    let Some(device) = LoopDevice::over(&backing) else { return };
    let before = device.written_bytes();
    let restored = client.restore("lab/pc@2", device.node()).await;
    assert!(restored.written_bytes < size / 4 && restored.kept_bytes > 0);
    let (written, counted) = (restored.written_bytes + restored.zeroed_bytes, device.written_bytes() - before);
    assert!((1..=written + MIB).contains(&counted), "the kernel counts {counted} bytes, the client {written}");
    let content = fs::read(device.node()).unwrap();
    // The table is made to fit the device: in the first sectors, and in the last ones.
    let (table, backup) = (34 * 512, content.len() - 33 * 512);
    assert!(content[table..size as usize] == fs::read(&disks().v2).unwrap()[table..]);
    assert!(content[size as usize..backup] == tail[..backup - size as usize]);
}
