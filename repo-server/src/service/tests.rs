//! The service as a client meets it, over the in-memory engines.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use imprint_content::{
    ChunkId, ContentRecord, Extent, NodeId, Payload, Profile,
    tree::{BuiltNode, TreeBuilder},
};
use imprint_proto::{
    Failure,
    limits::{MAX_MESSAGE_BYTES, TARGET_MESSAGE_BYTES},
    v1::{self, push_request::Step, push_response, repository_client::RepositoryClient},
};
use prost::Message as _;
use tokio::sync::mpsc::{self, Sender};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::*;
use crate::{
    RepositoryId, UploadId,
    catalog::{ImageRecord, MemoryCatalog, ScrubState, VersionKey},
    clock::now_unix_ms,
    storage::MemoryPacks,
    store::scrub::{ScrubControl, ScrubOptions, ScrubReport, ScrubScope},
};

type Client = RepositoryClient<RepositoryServer<Service>>;

fn serve(limits: Limits) -> (Service, Client) {
    let (packs, catalog) = (Arc::new(MemoryPacks::default()), Arc::new(MemoryCatalog::new()));
    let store = Store::new(RepositoryId::random(), packs, catalog, Blocking::for_this_machine());
    let service = Service::new(store, limits);
    let client = RepositoryClient::new(service.server());
    (service, client)
}

fn reason(status: Status) -> String {
    Failure::from(status).reason
}

/// A push, step by step.
struct Push {
    steps: Sender<v1::PushRequest>,
    answers: Streaming<v1::PushResponse>,
}

impl Push {
    async fn start(client: &Client) -> Self {
        let (steps, queue) = mpsc::channel(64);
        let answers = client.clone().push(ReceiverStream::new(queue)).await.unwrap().into_inner();
        Self { steps, answers }
    }

    async fn open(client: &Client) -> Self {
        let mut push = Self::start(client).await;
        push.send_open().await;
        assert!(matches!(push.answer().await, push_response::Step::Opened(_)));
        push
    }

    async fn send_open(&self) {
        let upload_id = Bytes::copy_from_slice(UploadId::random().as_bytes());
        let profile = Profile::V1.number.into();
        self.send(Step::Open(v1::OpenUpload { image: "lab/ws".into(), upload_id, base: None, profile })).await;
    }

    async fn send(&self, step: Step) {
        self.steps.send(v1::PushRequest { step: Some(step) }).await.unwrap();
    }

    async fn send_chunk(&self, raw: &Bytes) -> ChunkId {
        let id = ChunkId::of(raw);
        self.send(data(v1::ObjectKind::Chunk, id.as_bytes(), raw)).await;
        id
    }

    async fn answer(&mut self) -> push_response::Step {
        self.answers.message().await.unwrap().unwrap().step.unwrap()
    }

    /// Whether the server wants this chunk.
    async fn is_wanted(&mut self, id: ChunkId) -> bool {
        let ids = Bytes::copy_from_slice(id.as_bytes());
        self.send(Step::Ask(v1::Ask { kind: v1::ObjectKind::Chunk.into(), ids })).await;
        let push_response::Step::Answer(answer) = self.answer().await else { panic!("an ask has an answer") };
        answer.send[0] != 0
    }

    async fn failure(&mut self) -> String {
        reason(self.answers.message().await.unwrap_err())
    }
}

fn data(kind: v1::ObjectKind, id: &[u8; 32], raw: &Bytes) -> Step {
    let Payload { codec, raw_length, stored } = Payload::compress(raw);
    let object = v1::Object { id: Bytes::copy_from_slice(id), codec: codec.number().into(), raw_length, stored };
    Step::Data(v1::Data { kind: kind.into(), objects: vec![object] })
}

/// Bytes that do not compress.
fn noise(length: usize) -> Bytes {
    let mut out = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut out);
    out.into()
}

fn tree(extents: &[Extent]) -> (NodeId, Vec<BuiltNode>) {
    let (mut builder, mut nodes) = (TreeBuilder::new(), Vec::new());
    extents.iter().for_each(|extent| builder.push(*extent, &mut nodes));
    let root = builder.finish(&mut nodes);
    (root.id, nodes)
}

/// Pushes a version that holds one chunk several times.
async fn push_repeated(client: &Client, chunk: &Bytes, times: usize) -> v1::VersionKey {
    let mut push = Push::open(client).await;
    let id = push.send_chunk(chunk).await;
    let extents = vec![Extent::data(id, chunk.len() as u64); times];
    let (root, nodes) = tree(&extents);
    for node in nodes {
        push.send(data(v1::ObjectKind::Node, node.id.as_bytes(), &node.encoded.into())).await;
    }
    let content_record = ContentRecord::new(root, (chunk.len() * times) as u64, Profile::V1).encode().into();
    push.send(Step::Commit(v1::Commit { content_record, tags: vec![], who: "test".into() })).await;
    let push_response::Step::Committed(version) = push.answer().await else { panic!("everything was sent") };
    v1::VersionKey { image: version.image, number: version.number }
}

async fn fetch(
    client: &Client,
    version: v1::VersionKey,
    offsets: Vec<u64>,
) -> (Sender<v1::FetchChunksRequest>, Streaming<v1::FetchChunksResponse>) {
    let (requests, queue) = mpsc::channel(4);
    requests.send(v1::FetchChunksRequest { version: Some(version), offsets }).await.unwrap();
    let answers = client.clone().fetch_chunks(ReceiverStream::new(queue)).await.unwrap().into_inner();
    (requests, answers)
}

#[tokio::test]
async fn answers_to_a_fetch_fit_into_messages_however_often_a_chunk_occurs() {
    let (_service, client) = serve(Limits::default());
    for (length, times) in [(1 << 20, 6), (100_000, 64), (5, 1024)] {
        let chunk = noise(length);
        let version = push_repeated(&client, &chunk, times).await;
        let offsets: Vec<u64> = (0..times).map(|n| (n * length) as u64).collect();
        let (requests, mut answers) = fetch(&client, version, offsets.clone()).await;
        drop(requests);
        let mut arrived = Vec::new();
        while let Some(answer) = answers.message().await.unwrap() {
            let limit = if answer.chunks.len() == 1 { MAX_MESSAGE_BYTES } else { TARGET_MESSAGE_BYTES };
            assert!(answer.encoded_len() <= limit, "{} bytes", answer.encoded_len());
            arrived.extend(answer.chunks.iter().map(|chunk| chunk.offset));
        }
        arrived.sort_unstable();
        assert_eq!(arrived, offsets);
    }
}

#[tokio::test]
async fn offsets_that_do_not_ascend_are_refused() {
    let (_service, client) = serve(Limits::default());
    let version = push_repeated(&client, &noise(10), 3).await;
    for offsets in [vec![0, 0], vec![10, 0], vec![0; 1024]] {
        let (_requests, mut answers) = fetch(&client, version.clone(), offsets).await;
        assert_eq!(reason(answers.message().await.unwrap_err()), "BAD_REQUEST");
    }
}

#[tokio::test]
async fn stopping_ends_streams_and_keeps_what_was_sent() {
    let (service, client) = serve(Limits::default());
    let version = push_repeated(&client, &noise(10), 1).await;
    let mut push = Push::open(&client).await;
    let sent = push.send_chunk(&noise(20)).await;
    let (_requests, mut fetched) = fetch(&client, version, vec![0]).await;
    assert!(fetched.message().await.unwrap().is_some());
    // An answer comes after what was sent before it was taken in.
    assert!(push.is_wanted(ChunkId::of(b"another")).await);

    service.stop();
    service.ended().await;
    assert_eq!(push.failure().await, "STOPPING");
    assert_eq!(reason(fetched.message().await.unwrap_err()), "STOPPING");
    let found = service.store.catalog().locate(crate::pack::Purpose::Chunks, vec![sent.into()]).await.unwrap();
    assert!(found[0].is_some(), "what was sent is sealed");
    let mut late = Push::start(&client).await;
    late.send_open().await;
    assert_eq!(late.failure().await, "STOPPING");
}

#[tokio::test]
async fn who_gets_no_turn_hears_so() {
    let (_service, client) = serve(Limits { pushes: 1, turn: Duration::from_millis(20), ..Limits::default() });
    let first = Push::open(&client).await;
    let mut second = Push::start(&client).await;
    second.send_open().await;
    assert_eq!(second.failure().await, "BUSY");
    let mut silent = Push::start(&client).await;
    assert_eq!(silent.failure().await, "IDLE");
    drop(first);
}

#[tokio::test]
async fn a_silent_push_is_ended_and_keeps_what_was_sent() {
    let (_service, client) = serve(Limits { idle_push: Duration::from_millis(50), ..Limits::default() });
    let mut push = Push::open(&client).await;
    let sent = push.send_chunk(&noise(20)).await;
    assert_eq!(push.failure().await, "IDLE");
    assert!(!Push::open(&client).await.is_wanted(sent).await);
}

#[tokio::test]
async fn a_fetch_that_waits_for_its_client_keeps_nobody_out() {
    let (_service, client) = serve(Limits { fetches: 1, turn: Duration::from_millis(20), ..Limits::default() });
    let version = push_repeated(&client, &noise(10), 1).await;
    let (requests, mut waiting) = fetch(&client, version.clone(), vec![0]).await;
    assert!(waiting.message().await.unwrap().is_some());
    let (_requests, mut other) = fetch(&client, version, vec![0]).await;
    assert!(other.message().await.unwrap().is_some());
    requests.send(v1::FetchChunksRequest { version: None, offsets: vec![0] }).await.unwrap();
    assert!(waiting.message().await.unwrap().is_some());
}

#[tokio::test]
async fn an_image_whose_last_version_goes_while_it_is_listed_is_listed_without_one() {
    let (service, client) = serve(Limits::default());
    let key = push_repeated(&client, &noise(10), 1).await;
    let image = key.image.parse::<imprint_content::ImageName>().unwrap();
    service.store.remove_version(VersionKey { image: image.clone(), number: key.number }).await.unwrap();
    let as_listed = ImageRecord { name: image, versions: 1, highest_number: 1 };
    let found = queries::image(service.store.clone(), as_listed).await.unwrap();
    assert_eq!((found.newest, found.versions), (None, 0));
}

#[tokio::test]
async fn the_default_profile_is_the_superblocks() {
    let (packs, catalog) = (Arc::new(MemoryPacks::default()), Arc::new(MemoryCatalog::new()));
    let store = Store::new(RepositoryId::random(), packs, catalog, Blocking::for_this_machine());
    assert_eq!(queries::describe(&store.with_default_profile(7)).default_profile, 7);
}

#[tokio::test]
async fn a_scheduled_scrub_begins_by_itself_and_ends_with_the_server() {
    let (service, client) = serve(Limits::default());
    push_repeated(&client, &noise(10), 1).await;
    let scrubbing = tokio::spawn({
        let service = service.clone();
        async move { service.scrub_every(Duration::from_millis(5), None).await }
    });
    let is_scrubbed = async {
        while service.store.scrub_health().await.unwrap().scrubbed_unix_ms.is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), is_scrubbed).await.unwrap();
    assert_eq!(service.store.scrub_health().await.unwrap().unverified_packs, 0);
    service.stop();
    scrubbing.await.unwrap();
}

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn scrub_if_due(service: &Service) -> Option<ScrubReport> {
    let options = ScrubOptions { scope: ScrubScope::OlderThan(DAY), bytes_per_second: None };
    service.scrub_if_due(options, DAY, &ScrubControl::new()).await.unwrap()
}

#[tokio::test]
async fn a_scheduled_scrub_goes_on_where_a_stopped_server_left_it() {
    let (service, client) = serve(Limits::default());
    assert_eq!(scrub_if_due(&service).await, None, "there is nothing to look at");
    push_repeated(&client, &noise(10), 1).await;
    let report = scrub_if_due(&service).await.unwrap();
    assert_eq!((report.packs, report.versions), (2, 1));
    assert_eq!(scrub_if_due(&service).await, None);

    // The server stopped after the last pack: which versions suffer was not found out.
    let catalog = service.store.catalog();
    for finished_unix_ms in [None, Some(now_unix_ms() - 5000), Some(i64::MAX)] {
        catalog.note_scrub_state(ScrubState { finished_unix_ms, ..ScrubState::default() }).await.unwrap();
        let report = scrub_if_due(&service).await.unwrap();
        assert_eq!((report.packs, report.versions), (0, 1), "finished at {finished_unix_ms:?}");
        assert_eq!(scrub_if_due(&service).await, None);
    }
    // From a clock that went back since.
    let pack = catalog.packs().await.unwrap()[0].id;
    catalog.note_verified(vec![pack], i64::MAX).await.unwrap();
    assert_eq!(scrub_if_due(&service).await.unwrap().packs, 1);
    assert_eq!(scrub_if_due(&service).await, None);
}
