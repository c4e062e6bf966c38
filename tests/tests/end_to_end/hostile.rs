//! Clients that do not keep the protocol: each hears what is wrong, and nobody else notices.

use std::{collections::BTreeSet, fs};

use bytes::Bytes;
use imprint_content::{
    ChunkId, ContentRecord, Extent, NodeId, Profile, VersionId,
    profile::MAX_CHUNK_BYTES,
    tree::{Child, Node, Summary},
};
use imprint_proto::{
    limits::{
        MAX_ASK_IDS, MAX_COMMIT_TAGS, MAX_CONTENT_RECORD_BYTES, MAX_FETCH_OFFSETS, MAX_MESSAGE_BYTES,
        MAX_UNANSWERED_ASKS, MAX_WHO_BYTES,
    },
    v1::{self, push_request::Step, push_response},
};
use imprint_tests::{
    client::Client,
    files::assert_same,
    random::Random,
    server::{Loopback, Server},
    wire::{self, RawPush, Wire, code_and_reason},
};
use tempfile::TempDir;
use tokio_stream::StreamExt;
use tonic::{Code, Status};

const CHUNK: i32 = v1::ObjectKind::Chunk as i32;
const NODE: i32 = v1::ObjectKind::Node as i32;

/// A server with one honest version, `lab/pc@1`.
struct Fixture {
    directory: TempDir,
    wire: Wire,
    client: Client,
    _server: Loopback,
}

impl Fixture {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = Loopback::serve(&directory.path().join("repository")).await;
        let client = Client::connect(&server.url()).await;
        let fixture = Self { wire: wire::connect(&server.url()).await, directory, client, _server: server };
        fixture.push_honestly("lab/pc").await;
        fixture
    }

    async fn push_honestly(&self, image: &str) {
        let source = self.directory.path().join("honest.raw");
        let mut content = Random::new(21).bytes(1 << 20);
        content[300_000..600_000].fill(0);
        fs::write(&source, content).unwrap();
        self.client.push(&source, image).await;
        let target = self.client.place("honest.raw");
        let _ = fs::remove_file(&target);
        self.client.restore(image, &target).await;
        assert_same(&target, &source);
    }

    /// Whoever comes next is served, and nothing that a hostile client did became a version.
    async fn still_serves(&self) {
        self.push_honestly("lab/after").await;
        let images: Vec<String> =
            self.client.repository.images().await.unwrap().iter().map(|image| image.name.to_string()).collect();
        assert_eq!(images, ["lab/after", "lab/pc"]);
        assert_eq!(self.client.versions("lab/pc").await.len(), 1);
    }

    /// How the server answers to this as the first step.
    async fn refuses_first(&self, step: Option<Step>) -> (Code, String) {
        let mut push = RawPush::start(&self.wire).await;
        push.send_request(v1::PushRequest { step }).await;
        push.failure().await
    }

    /// How the server answers to these steps of an upload that is open.
    async fn refuses(&self, steps: impl IntoIterator<Item = Step>) -> (Code, String) {
        let mut push = RawPush::open(&self.wire, wire::open("lab/evil", fresh_upload())).await;
        for step in steps {
            push.send(step).await;
        }
        push.failure().await
    }
}

fn fresh_upload() -> [u8; 16] {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut id = [0xEE; 16];
    id[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    id
}

fn invalid(reason: &str) -> (Code, String) {
    (Code::InvalidArgument, reason.into())
}

fn bad_request() -> (Code, String) {
    invalid("BAD_REQUEST")
}

fn key(image: &str, number: u64) -> Option<v1::VersionKey> {
    Some(v1::VersionKey { image: image.into(), number })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_does_not_start_with_an_upload_is_refused() {
    let fixture = Fixture::new().await;
    let (_, object) = wire::chunk(b"chunk");
    for step in [
        None,
        Some(wire::ask(CHUNK, vec![7; 32])),
        Some(wire::chunks(vec![object])),
        Some(wire::commit(NodeId::of(b"root"), 1)),
    ] {
        assert_eq!(fixture.refuses_first(step.clone()).await, bad_request(), "{step:?}");
    }
    let mut silent = RawPush::start(&fixture.wire).await;
    silent.end();
    assert_eq!(silent.failure().await, bad_request());
    fixture.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_names_nothing_real_is_not_opened() {
    let fixture = Fixture::new().await;
    let good = || wire::open("lab/evil", fresh_upload());
    for (what, open, expected) in [
        ("no image", v1::OpenUpload { image: String::new(), ..good() }, bad_request()),
        ("a path", v1::OpenUpload { image: "../../etc".into(), ..good() }, bad_request()),
        ("a long name", v1::OpenUpload { image: "x".repeat(1 << 16), ..good() }, bad_request()),
        ("no upload", v1::OpenUpload { upload_id: Bytes::new(), ..good() }, bad_request()),
        ("15 bytes", v1::OpenUpload { upload_id: vec![1; 15].into(), ..good() }, bad_request()),
        ("17 bytes", v1::OpenUpload { upload_id: vec![1; 17].into(), ..good() }, bad_request()),
        ("no profile", v1::OpenUpload { profile: 0, ..good() }, invalid("BAD_MESSAGE")),
        ("another profile", v1::OpenUpload { profile: 3, ..good() }, invalid("BAD_MESSAGE")),
        ("profile 1 of 2^16", v1::OpenUpload { profile: (1 << 16) + 1, ..good() }, bad_request()),
        (
            "an image that is not there",
            v1::OpenUpload { base: key("lab/nothing", 1), ..good() },
            (Code::NotFound, "VERSION_NOT_FOUND".into()),
        ),
        (
            "a version that is not there",
            v1::OpenUpload { base: key("lab/pc", 99), ..good() },
            (Code::NotFound, "VERSION_NOT_FOUND".into()),
        ),
        ("a base without a name", v1::OpenUpload { base: key("", 1), ..good() }, bad_request()),
    ] {
        assert_eq!(fixture.refuses_first(Some(Step::Open(open))).await, expected, "{what}");
    }
    let open = Step::Open(wire::open("lab/evil", fresh_upload()));
    assert_eq!(fixture.refuses([open]).await, bad_request(), "opened twice");
    fixture.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_that_are_no_questions_are_refused() {
    let fixture = Fixture::new().await;
    for (what, step) in [
        ("half an id", wire::ask(CHUNK, vec![7; 16])),
        ("an id and a byte", wire::ask(CHUNK, vec![7; 33])),
        ("too many ids", wire::ask(CHUNK, vec![7; (MAX_ASK_IDS + 1) * 32])),
        ("no kind", wire::ask(0, vec![7; 32])),
        ("an unknown kind", wire::ask(7, vec![7; 32])),
        ("a negative kind", wire::ask(-1, vec![7; 32])),
    ] {
        assert_eq!(fixture.refuses([step]).await, bad_request(), "{what}");
    }
    let mut push = RawPush::open(&fixture.wire, wire::open("lab/evil", fresh_upload())).await;
    push.send_request(v1::PushRequest { step: None }).await;
    assert_eq!(push.failure().await, bad_request());
    // Odd, but well-formed: nothing, as much as is allowed, and the same id many times.
    let mut push = RawPush::open(&fixture.wire, wire::open("lab/evil", fresh_upload())).await;
    for count in [0, 1, 8, 9, MAX_ASK_IDS] {
        push.send(wire::ask(CHUNK, vec![9; count * 32])).await;
        let push_response::Step::Answer(answer) = push.next().await.unwrap() else { panic!("no answer") };
        let asked: u32 = answer.send.iter().map(|byte| byte.count_ones()).sum();
        assert_eq!(answer.send.len(), count.div_ceil(8));
        assert!(asked <= 1, "one chunk is asked for {asked} times");
    }
    fixture.still_serves().await;
}

/// restic#3023, rclone#7449: half an object is none. restic#4677: what a compressor spoiled is found before it is stored.
#[tokio::test(flavor = "multi_thread")]
async fn objects_that_are_not_what_they_claim_are_not_stored() {
    let fixture = Fixture::new().await;
    let chunk = |change: &dyn Fn(&mut v1::Object)| {
        let (_, mut object) = wire::chunk(&[b'x'; 65536]);
        change(&mut object);
        wire::chunks(vec![object])
    };
    let zeros = |count: usize| Bytes::from(zstd::bulk::compress(&vec![0; count], 1).unwrap());
    let bomb = zeros(1 << 30);
    assert!(bomb.len() < 65536, "the bomb would be refused for its size");
    let many = zstd::bulk::compress(&[b'x'; 65536], 1).unwrap().repeat(2);
    let wrong_bytes = invalid("WRONG_BYTES");
    for (what, step, expected) in [
        ("short id", chunk(&|object| object.id = vec![1; 31].into()), bad_request()),
        ("another id", chunk(&|object| object.id = vec![1; 32].into()), wrong_bytes.clone()),
        ("the id of a node", chunk(&|object| object.id = node_id_of(&[b'x'; 65536])), wrong_bytes.clone()),
        ("unknown codec", chunk(&|object| object.codec = 2), invalid("BAD_MESSAGE")),
        ("codec beyond a byte", chunk(&|object| object.codec = 256 + 1), invalid("BAD_MESSAGE")),
        ("claimed longer", chunk(&|object| object.raw_length += 1), bad_request()),
        ("claimed shorter", chunk(&|object| object.raw_length -= 1), bad_request()),
        ("claimed empty", chunk(&|object| object.raw_length = 0), bad_request()),
        ("claimed huge", chunk(&|object| object.raw_length = u32::MAX), bad_request()),
        ("above the limit", chunk(&|object| object.raw_length = MAX_CHUNK_BYTES as u32 + 1), bad_request()),
        ("no frame", chunk(&|object| object.stored = vec![7; 100].into()), bad_request()),
        ("nothing", chunk(&|object| object.stored = Bytes::new()), bad_request()),
        ("cut", chunk(&|object| object.stored.truncate(object.stored.len() - 1)), bad_request()),
        ("raw, and shorter", chunk(&|object| object.codec = 0), bad_request()),
        ("two frames", chunk(&|object| object.stored = many.clone().into()), bad_request()),
        ("a bomb", chunk(&|object| object.stored = bomb.clone()), bad_request()),
        (
            "a bomb of the largest length",
            chunk(&|object| (object.stored, object.raw_length) = (bomb.clone(), 1 << 20)),
            bad_request(),
        ),
        ("a chunk as a node", wire::nodes(vec![wire::chunk(b"no node").1]), invalid("BAD_MESSAGE")),
    ] {
        assert_eq!(fixture.refuses([step]).await, expected, "{what}");
    }
    let mut push = RawPush::open(&fixture.wire, wire::open("lab/evil", fresh_upload())).await;
    let (_, object) = wire::chunk(b"chunk");
    push.send(Step::Data(v1::Data { kind: 9, objects: vec![object] })).await;
    assert_eq!(push.failure().await, bad_request());
    fixture.still_serves().await;
}

fn node_id_of(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(NodeId::of(bytes).as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_no_tree_has_are_not_stored() {
    let fixture = Fixture::new().await;
    let zero = |length| Extent::zero(length);
    let child = |length| Child { id: NodeId::of(b"?"), summary: Summary { length, data: 0, extents: 1 } };
    let encoded = |node: &Node| node.encode();
    let mut bad: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", vec![]),
        ("unmerged zeros", encoded(&Node::Leaf(vec![zero(5), zero(5)]))),
        ("lengths that overflow", encoded(&Node::Inner { level: 1, children: vec![child(u64::MAX), child(1)] })),
        ("no children", encoded(&Node::Inner { level: 1, children: vec![] })),
        ("too many entries", encoded(&Node::Inner { level: 1, children: vec![child(1); 321] })),
        ("too high", encoded(&Node::Inner { level: 17, children: vec![child(1)] })),
        ("an empty extent", encoded(&Node::Leaf(vec![zero(0)]))),
        ("a chunk that is too long", encoded(&Node::Leaf(vec![Extent::data(ChunkId::of(b"?"), 1 << 21)]))),
    ];
    let good = encoded(&Node::Leaf(vec![zero(5)]));
    bad.push(("a byte too many", [&good[..], &[0]].concat()));
    bad.push(("a byte too few", good[..good.len() - 1].to_vec()));
    for at in [0, 1, 4] {
        let mut changed = good.clone();
        changed[at] = 99;
        bad.push(("unknown format, level or kind", changed));
    }
    for (what, encoded) in bad {
        let object = v1::Object {
            id: node_id_of(&encoded),
            codec: 0,
            raw_length: encoded.len() as u32,
            stored: encoded.clone().into(),
        };
        let (code, reason) = fixture.refuses([wire::nodes(vec![object])]).await;
        assert_eq!(code, Code::InvalidArgument, "{what}");
        assert!(["BAD_MESSAGE", "BAD_REQUEST"].contains(&reason.as_str()), "{what}: {reason}");
    }
    fixture.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_lists_what_was_never_sent_and_takes_it_then() {
    let fixture = Fixture::new().await;
    let raw = b"a chunk that comes late".as_slice();
    let (chunk_id, chunk) = wire::chunk(raw);
    let (leaf_id, leaf) = wire::node(&wire::leaf(&[raw]));
    let mut push = RawPush::open(&fixture.wire, wire::open("lab/late", fresh_upload())).await;
    push.send(wire::commit(leaf_id, raw.len() as u64)).await;
    assert_eq!(push.missing().await, (vec![], vec![leaf_id]));
    push.send(wire::nodes(vec![leaf])).await;
    push.send(wire::commit(leaf_id, raw.len() as u64)).await;
    assert_eq!(push.missing().await, (vec![chunk_id], vec![]));
    push.send(wire::chunks(vec![chunk])).await;
    push.send(wire::commit(leaf_id, raw.len() as u64)).await;
    assert_eq!(push.committed().await.number, 1);
    let target = fixture.client.place("late.raw");
    fixture.client.restore("lab/late", &target).await;
    assert_eq!(fs::read(target).unwrap(), raw);
}

/// A leaf and an inner node above it; the summary says what it shall.
fn tree_over(leaf: &Node, change: impl Fn(&mut Summary)) -> Node {
    let (id, _) = wire::node(leaf);
    let mut summary = leaf.summary();
    change(&mut summary);
    let other = Child { id: NodeId::of(b"other"), summary: Summary { length: 0, data: 0, extents: 0 } };
    // One child would be no form that a tree has; whether that is refused is not what these tests are about.
    let _ = other;
    Node::Inner { level: 1, children: vec![Child { id, summary }] }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_its_children_is_not_trusted() {
    let fixture = Fixture::new().await;
    let raw = b"the only chunk".as_slice();
    let (chunk_id, chunk) = wire::chunk(raw);
    let leaf = wire::leaf(&[raw]);
    let (leaf_id, leaf_object) = wire::node(&leaf);
    let (root_id, root_object) = wire::node(&tree_over(&leaf, |_| {}));
    // Somebody sends the top of a tree and goes away.
    let mut push = RawPush::open(&fixture.wire, wire::open("lab/evil", fresh_upload())).await;
    push.send(wire::nodes(vec![root_object])).await;
    push.end();
    assert_eq!(push.failure().await.0, Code::Cancelled);
    // The next one need not send it, yet nothing below it is taken for granted.
    let mut push = RawPush::open(&fixture.wire, wire::open("lab/evil", fresh_upload())).await;
    push.send(wire::ask(NODE, Bytes::copy_from_slice(root_id.as_bytes()))).await;
    let push_response::Step::Answer(answer) = push.next().await.unwrap() else { panic!("no answer") };
    assert_eq!(*answer.send, [0], "what a client sent before it went away was kept");
    push.send(wire::commit(root_id, raw.len() as u64)).await;
    assert_eq!(push.missing().await, (vec![], vec![leaf_id]));
    push.send(wire::nodes(vec![leaf_object])).await;
    push.send(wire::commit(root_id, raw.len() as u64)).await;
    assert_eq!(push.missing().await, (vec![chunk_id], vec![]));
    push.end();
    assert_eq!(push.failure().await.0, Code::Cancelled);
    let _ = chunk;
    fixture.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_contradicts_itself_is_not_committed() {
    let fixture = Fixture::new().await;
    let raw = [b"first chunk".as_slice(), b"second one"];
    let chunks = || wire::chunks(raw.iter().map(|raw| wire::chunk(raw).1).collect());
    let leaf = wire::leaf(&raw);
    let length = leaf.summary().length;
    let leaf_data = || wire::nodes(vec![wire::node(&leaf).1]);
    for wrong in [length - 1, length + 1, 0, u64::MAX] {
        let steps = [chunks(), leaf_data(), wire::commit(wire::node(&leaf).0, wrong)];
        assert_eq!(fixture.refuses(steps).await, bad_request(), "{wrong} bytes for {length}");
    }
    // A leaf that gives a chunk another length than it has.
    for wrong in [1, 12, 1 << 20] {
        let leaf = Node::Leaf(vec![Extent::data(ChunkId::of(raw[0]), wrong)]);
        let (id, object) = wire::node(&leaf);
        let steps = [chunks(), wire::nodes(vec![object]), wire::commit(id, wrong)];
        assert_eq!(fixture.refuses(steps).await, bad_request(), "a chunk of {wrong} bytes");
    }
    // A parent that says something else of its child than the child says.
    type Lie = fn(&mut Summary);
    let lies: [(&str, Lie); 3] = [
        ("length", |summary| summary.length += 1),
        ("data", |summary| summary.data -= 1),
        ("extents", |summary| summary.extents += 1),
    ];
    for (what, lie) in lies {
        let root = tree_over(&leaf, lie);
        let (id, object) = wire::node(&root);
        let steps = [chunks(), leaf_data(), wire::nodes(vec![object]), wire::commit(id, root.summary().length)];
        assert_eq!(fixture.refuses(steps).await, bad_request(), "{what}");
    }
    // A child of a level that is not the one below.
    let (id, _) = wire::node(&leaf);
    let root = Node::Inner { level: 2, children: vec![Child { id, summary: leaf.summary() }] };
    let (id, object) = wire::node(&root);
    let steps = [chunks(), leaf_data(), wire::nodes(vec![object]), wire::commit(id, length)];
    assert_eq!(fixture.refuses(steps).await, bad_request(), "a level is left out");
    // A chunk's id where a node belongs, and the other way round.
    let root = Node::Inner {
        level: 1,
        children: vec![Child { id: NodeId::from_bytes(*ChunkId::of(raw[0]).as_bytes()), summary: leaf.summary() }],
    };
    let (id, object) = wire::node(&root);
    let (code, _) = refused_or_missing(&fixture, [chunks(), wire::nodes(vec![object]), wire::commit(id, length)]).await;
    assert_ne!(code, Code::Ok, "a chunk was taken for a node");
    fixture.still_serves().await;
}

/// As [`Fixture::refuses`]; objects that are said to be missing count as a refusal.
async fn refused_or_missing(fixture: &Fixture, steps: impl IntoIterator<Item = Step>) -> (Code, String) {
    let mut push = RawPush::open(&fixture.wire, wire::open("lab/evil", fresh_upload())).await;
    for step in steps {
        push.send(step).await;
    }
    match push.next().await {
        Ok(push_response::Step::Missing(_)) => (Code::NotFound, "missing".into()),
        Ok(other) => panic!("{other:?}"),
        Err(status) => code_and_reason(status),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_refers_to_one_node_from_very_many_places_is_walked_once() {
    let fixture = Fixture::new().await;
    let raw = b"again and again".as_slice();
    let mut push = RawPush::open(&fixture.wire, wire::open("lab/wide", fresh_upload())).await;
    push.send(wire::chunks(vec![wire::chunk(raw).1])).await;
    let mut below = wire::leaf(&[raw]);
    push.send(wire::nodes(vec![wire::node(&below).1])).await;
    // 320^6 places of one chunk: more than could ever be visited.
    for level in 1..=6 {
        let child = Child { id: wire::node(&below).0, summary: below.summary() };
        below = Node::Inner { level, children: vec![child; 320] };
        push.send(wire::nodes(vec![wire::node(&below).1])).await;
    }
    push.send(wire::commit(wire::node(&below).0, below.summary().length)).await;
    let version = push.committed().await;
    assert_eq!(version.data_bytes, 320u64.pow(6) * raw.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_does_not_fit_its_upload_is_not_committed() {
    let fixture = Fixture::new().await;
    let raw = b"chunk".as_slice();
    let (root, node) = wire::node(&wire::leaf(&[raw]));
    let data = || [wire::chunks(vec![wire::chunk(raw).1]), wire::nodes(vec![node.clone()])];
    let record = || ContentRecord::new(root, raw.len() as u64, Profile::V1);
    let commit = |record: Vec<u8>| v1::Commit { content_record: record.into(), tags: vec![], who: "evil".into() };
    let good = || commit(record().encode());
    let tags = |count: usize| (0..count).map(|n| format!("t{n}")).collect::<Vec<_>>();
    let mut truncated = record().encode();
    truncated.pop();
    for (what, commit, expected) in [
        ("no record", commit(vec![]), invalid("BAD_MESSAGE")),
        ("garbage", commit(vec![7; 300]), invalid("BAD_MESSAGE")),
        ("a record that is cut short", commit(truncated), invalid("BAD_MESSAGE")),
        ("a byte too many", commit([record().encode(), vec![0]].concat()), invalid("BAD_MESSAGE")),
        ("a huge record", commit(vec![7; MAX_CONTENT_RECORD_BYTES + 1]), bad_request()),
        ("another profile", commit(ContentRecord { profile: 2, ..record() }.encode()), bad_request()),
        (
            "a base that was not opened",
            commit(ContentRecord { base: Some(VersionId::of(b"?")), ..record() }.encode()),
            bad_request(),
        ),
        ("odd sectors", commit(ContentRecord { sector_size: 777, ..record() }.encode()), invalid("BAD_MESSAGE")),
        ("too many tags", v1::Commit { tags: tags(MAX_COMMIT_TAGS + 1), ..good() }, bad_request()),
        ("the tag latest", v1::Commit { tags: vec!["latest".into()], ..good() }, bad_request()),
        ("a number as a tag", v1::Commit { tags: vec!["7".into()], ..good() }, bad_request()),
        ("a path as a tag", v1::Commit { tags: vec!["../x".into()], ..good() }, bad_request()),
        ("a long name", v1::Commit { who: "x".repeat(MAX_WHO_BYTES + 1), ..good() }, bad_request()),
    ] {
        let steps = data().into_iter().chain([Step::Commit(commit)]);
        assert_eq!(fixture.refuses(steps).await, expected, "{what}");
    }
    fixture.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_must_be_the_one_of_the_upload() {
    let fixture = Fixture::new().await;
    let newest = fixture.client.version("lab/pc").await;
    let record = ContentRecord { base: Some(VersionId::of(b"another")), ..newest.content.clone() };
    let with_base = v1::OpenUpload { base: key("lab/pc", 1), ..wire::open("lab/evil", fresh_upload()) };
    let mut push = RawPush::open(&fixture.wire, with_base).await;
    push.send(wire::commit_record(&record)).await;
    assert_eq!(push.failure().await, bad_request());
    fixture.still_serves().await;
}

async fn open_error(wire: &Wire, open: v1::OpenUpload) -> (Code, String) {
    let mut push = RawPush::start(wire).await;
    push.send(Step::Open(open)).await;
    push.failure().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_id_belongs_to_one_image_and_one_base() {
    let fixture = Fixture::new().await;
    let id = fresh_upload();
    drop(RawPush::open(&fixture.wire, wire::open("lab/evil", id)).await);
    let mismatch = invalid("UPLOAD_MISMATCH");
    assert_eq!(open_error(&fixture.wire, wire::open("lab/other", id)).await, mismatch);
    let with_base = v1::OpenUpload { base: key("lab/pc", 1), ..wire::open("lab/evil", id) };
    assert_eq!(open_error(&fixture.wire, with_base).await, mismatch);
    drop(RawPush::open(&fixture.wire, wire::open("lab/evil", id)).await);
    fixture.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_repeated_returns_the_same_version() {
    let fixture = Fixture::new().await;
    let raw = b"once".as_slice();
    let (root, node) = wire::node(&wire::leaf(&[raw]));
    let id = fresh_upload();
    let mut push = RawPush::open(&fixture.wire, wire::open("lab/once", id)).await;
    push.send(wire::chunks(vec![wire::chunk(raw).1])).await;
    push.send(wire::nodes(vec![node])).await;
    push.send(wire::commit(root, raw.len() as u64)).await;
    let version = push.committed().await;
    // Its answer was lost: whoever opens the upload again, or committed it elsewhere, hears of the same version.
    for _ in 0..3 {
        let mut again = RawPush::start(&fixture.wire).await;
        again.send(Step::Open(wire::open("lab/once", id))).await;
        assert_eq!(again.committed().await, version);
    }
    assert_eq!(open_error(&fixture.wire, wire::open("lab/other", id)).await, invalid("UPLOAD_MISMATCH"));
    assert_eq!(fixture.client.versions("lab/once").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_streams_of_one_upload_commit_one_version() {
    let fixture = Fixture::new().await;
    let raw = b"twice".as_slice();
    let (root, node) = wire::node(&wire::leaf(&[raw]));
    let id = fresh_upload();
    let mut pushes = Vec::new();
    for _ in 0..4 {
        let push = RawPush::open(&fixture.wire, wire::open("lab/twice", id)).await;
        push.send(wire::chunks(vec![wire::chunk(raw).1])).await;
        push.send(wire::nodes(vec![node.clone()])).await;
        pushes.push(push);
    }
    for push in &pushes {
        push.send(wire::commit(root, raw.len() as u64)).await;
    }
    let mut numbers = BTreeSet::new();
    for push in &mut pushes {
        numbers.insert(push.committed().await.number);
    }
    assert_eq!(numbers, BTreeSet::from([1]));
    assert_eq!(fixture.client.versions("lab/twice").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_above_the_limit_is_refused() {
    let fixture = Fixture::new().await;
    let objects = (0..6u8).map(|n| wire::chunk(&Random::new(n.into()).bytes(MAX_CHUNK_BYTES)).1).collect();
    let (code, _) = fixture.refuses([wire::chunks(objects)]).await;
    assert_eq!(code, Code::OutOfRange);
    let open = v1::OpenUpload { image: "x".repeat(MAX_MESSAGE_BYTES + 1), ..wire::open("lab/evil", fresh_upload()) };
    assert_eq!(fixture.refuses_first(Some(Step::Open(open))).await.0, Code::OutOfRange);
    let request = v1::ListVersionsRequest { image: "x".repeat(MAX_MESSAGE_BYTES + 1) };
    let refused = fixture.wire.clone().list_versions(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);
    fixture.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_does_not_stop_the_others() {
    let fixture = Fixture::new().await;
    let push = RawPush::open(&fixture.wire, wire::open("lab/evil", fresh_upload())).await;
    let mut random = Random::new(22);
    // As many questions as may be unanswered, and then as many as the connection takes.
    for _ in 0..MAX_UNANSWERED_ASKS * 4 {
        let step = wire::ask(CHUNK, random.bytes(MAX_ASK_IDS * 32));
        let sent = tokio::time::timeout(std::time::Duration::from_millis(200), push.send(step)).await;
        if sent.is_err() {
            break; // the server takes no more, which is what it should do
        }
    }
    fixture.still_serves().await;
    // Nor does one that asks for chunks and takes none.
    let (requests, queue) = tokio::sync::mpsc::channel(1000);
    let _unread = fixture.wire.clone().fetch_chunks(tokio_stream::wrappers::ReceiverStream::new(queue)).await.unwrap();
    let version = key("lab/pc", 1);
    for _ in 0..900 {
        let _ =
            requests.try_send(v1::FetchChunksRequest { version: version.clone(), offsets: vec![0; MAX_FETCH_OFFSETS] });
    }
    fixture.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_only_connect_leave_room_after_they_are_gone() {
    let fixture = Fixture::new().await;
    for _ in 0..3 {
        let mut idle = Vec::new();
        for _ in 0..40 {
            idle.push(RawPush::start(&fixture.wire).await);
        }
    }
    fixture.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_only_connect_do_not_keep_others_out() {
    let fixture = Fixture::new().await;
    let mut idle = Vec::new();
    for _ in 0..40 {
        idle.push(RawPush::start(&fixture.wire).await);
    }
    let served = tokio::time::timeout(std::time::Duration::from_secs(20), fixture.still_serves()).await;
    assert!(served.is_ok(), "nobody else is served");
}

/// How the server answers to requests for chunks.
async fn fetch(wire: &Wire, requests: Vec<v1::FetchChunksRequest>) -> Result<Vec<v1::FetchedChunk>, Status> {
    let mut messages = wire.clone().fetch_chunks(tokio_stream::iter(requests)).await?.into_inner();
    let mut chunks = Vec::new();
    while let Some(message) = messages.next().await {
        chunks.extend(message?.chunks);
    }
    Ok(chunks)
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_are_served_only_where_a_version_has_them() {
    let fixture = Fixture::new().await;
    let request = |offsets: &[u64]| v1::FetchChunksRequest { version: key("lab/pc", 1), offsets: offsets.to_vec() };
    let length = fixture.client.version("lab/pc").await.content.length;
    for (what, offsets) in [
        ("inside an extent", vec![1]),
        ("in zeros", vec![400_000]),
        ("where zeros start", vec![303_104]),
        ("at the end", vec![length]),
        ("behind the end", vec![length + 1]),
        ("far behind the end", vec![u64::MAX]),
        ("one good, one bad", vec![0, 1]),
        ("twice", vec![0, 0]),
        ("too many", vec![0; MAX_FETCH_OFFSETS + 1]),
    ] {
        let refused = fetch(&fixture.wire, vec![request(&offsets)]).await.map_err(code_and_reason);
        assert_eq!(refused, Err(bad_request()), "{what}");
    }
    // Odd, but answerable.
    assert_eq!(fetch(&fixture.wire, vec![]).await.unwrap(), []);
    assert_eq!(fetch(&fixture.wire, vec![request(&[])]).await.unwrap(), []);
    let first = fetch(&fixture.wire, vec![request(&[0])]).await.unwrap();
    let again = fetch(&fixture.wire, vec![request(&[0]), v1::FetchChunksRequest { version: None, offsets: vec![0] }]);
    assert_eq!(again.await.unwrap(), [&first[..], &first].concat());
    // No version, one that is not there, one of another name.
    for (version, expected) in [
        (None, bad_request()),
        (key("lab/pc", 0), (Code::NotFound, "VERSION_NOT_FOUND".into())),
        (key("lab/pc", 2), (Code::NotFound, "VERSION_NOT_FOUND".into())),
        (key("lab/no", 1), (Code::NotFound, "IMAGE_NOT_FOUND".into())),
        (key("lab//pc", 1), bad_request()),
    ] {
        let request = v1::FetchChunksRequest { version: version.clone(), offsets: vec![0] };
        let refused = fetch(&fixture.wire, vec![request]).await.map_err(code_and_reason);
        assert_eq!(refused, Err(expected.clone()), "{version:?}");
        let request = v1::FetchTreeRequest { version: version.clone(), have: None, with_stored_lengths: true };
        let refused = fixture.wire.clone().fetch_tree(request).await.map(drop).map_err(code_and_reason);
        assert_eq!(refused, Err(expected), "the tree of {version:?}");
    }
    let request =
        v1::FetchTreeRequest { version: key("lab/pc", 1), have: key("lab/pc", 7), with_stored_lengths: false };
    let refused = fixture.wire.clone().fetch_tree(request).await.map(drop).map_err(code_and_reason);
    assert_eq!(refused, Err((Code::NotFound, "VERSION_NOT_FOUND".into())));
    fixture.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_with_bad_names_are_refused() {
    use v1::get_version_request::Selector;
    let fixture = Fixture::new().await;
    let wire = || fixture.wire.clone();
    for image in ["", "/", "..", "lab/../pc", "lab/pc/", "lab pc", "lab/pc\0", "läb", &"x".repeat(256)] {
        let request = v1::GetVersionRequest { image: image.into(), selector: None };
        assert_eq!(wire().get_version(request).await.map_err(code_and_reason).err(), Some(bad_request()), "{image:?}");
        let request = v1::ListVersionsRequest { image: image.into() };
        let listed = wire().list_versions(request).await.map(drop).map_err(code_and_reason);
        assert_eq!(listed.err(), Some(bad_request()), "{image:?}");
    }
    for selector in [
        Selector::Tag("latest".into()),
        Selector::Tag(String::new()),
        Selector::Tag("7".into()),
        Selector::IdPrefix(String::new()),
        Selector::IdPrefix("ABCDEF01".into()),
        Selector::IdPrefix("0".repeat(65)),
        Selector::IdPrefix("%s".into()),
    ] {
        let request = v1::GetVersionRequest { image: "lab/pc".into(), selector: Some(selector.clone()) };
        assert_eq!(
            wire().get_version(request).await.map_err(code_and_reason).err(),
            Some(bad_request()),
            "{selector:?}"
        );
    }
    let not_found = |reason: &str| Some((Code::NotFound, reason.to_owned()));
    for (selector, reason) in [
        (Selector::Number(0), "VERSION_NOT_FOUND"),
        (Selector::Number(u64::MAX), "VERSION_NOT_FOUND"),
        (Selector::Tag("gone".into()), "TAG_NOT_FOUND"),
        (Selector::IdPrefix("0".repeat(64)), "VERSION_NOT_FOUND"),
    ] {
        let request = v1::GetVersionRequest { image: "lab/pc".into(), selector: Some(selector.clone()) };
        assert_eq!(wire().get_version(request).await.map_err(code_and_reason).err(), not_found(reason), "{selector:?}");
    }
    let tag = |name: &str, number, expected_counter| v1::SetTagRequest {
        image: "lab/pc".into(),
        name: name.into(),
        number,
        expected_counter,
    };
    let moved = (Code::Aborted, "TAG_MOVED".to_owned());
    for (request, expected) in [
        (tag("latest", 1, None), bad_request()),
        (tag("7", 1, None), bad_request()),
        (tag("", 1, None), bad_request()),
        (tag("good", 0, None), (Code::NotFound, "VERSION_NOT_FOUND".into())),
        (tag("good", 2, None), (Code::NotFound, "VERSION_NOT_FOUND".into())),
        (tag("good", 1, Some(1)), moved.clone()),
    ] {
        let refused = wire().set_tag(request.clone()).await.map_err(code_and_reason).err();
        assert_eq!(refused, Some(expected), "{request:?}");
    }
    wire().set_tag(tag("good", 1, Some(0))).await.unwrap();
    assert_eq!(wire().set_tag(tag("good", 1, Some(0))).await.map_err(code_and_reason).err(), Some(moved));
    let remove = |number| v1::RemoveVersionRequest { version: key("lab/pc", number) };
    let tagged = (Code::Aborted, "VERSION_TAGGED".to_owned());
    assert_eq!(wire().remove_version(remove(1)).await.map_err(code_and_reason).err(), Some(tagged));
    let refused = wire().remove_version(remove(0)).await.map_err(code_and_reason).err();
    assert_eq!(refused, not_found("VERSION_NOT_FOUND"));
    let request = v1::RemoveVersionRequest { version: None };
    assert_eq!(wire().remove_version(request).await.map_err(code_and_reason).err(), Some(bad_request()));
    fixture.still_serves().await;
}

/// Peak memory of a process, in bytes.
fn peak_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// tonic before 0.14.3: a small message became a gibibyte.
#[tokio::test(flavor = "multi_thread")]
async fn bombs_and_floods_do_not_fill_the_servers_memory() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path());
    let wire = wire::connect(server.url()).await;
    let bomb = Bytes::from(zstd::bulk::compress(&vec![0; 1 << 30], 1).unwrap());
    for _ in 0..20 {
        let object = v1::Object { id: vec![7; 32].into(), codec: 1, raw_length: 1 << 20, stored: bomb.clone() };
        let mut push = RawPush::open(&wire, wire::open("lab/evil", fresh_upload())).await;
        push.send(wire::chunks(vec![object; 100])).await;
        assert_eq!(push.failure().await, bad_request());
    }
    // More clients than are served at once, each with messages of 3 MiB, and questions whose answers are never read.
    let mut pushes = Vec::new();
    let mut random = Random::new(23);
    let raw = random.bytes(MAX_CHUNK_BYTES);
    let objects = vec![wire::chunk(&raw).1; 3];
    for _ in 0..24 {
        let push = RawPush::start(&wire::connect(server.url()).await).await;
        push.send(Step::Open(wire::open("lab/evil", fresh_upload()))).await;
        for _ in 0..4 {
            push.send(wire::chunks(objects.clone())).await;
            push.send(wire::ask(CHUNK, random.bytes(MAX_ASK_IDS * 32))).await;
        }
        pushes.push(push);
    }
    drop(pushes);
    let client = Client::connect(server.url()).await;
    let source = client.place("honest.raw");
    fs::write(&source, &raw).unwrap();
    client.push(&source, "lab/pc").await;
    let peak = peak_memory(server.id());
    println!("peak memory {} MiB", peak >> 20);
    assert!(peak < 450 << 20, "{} MiB", peak >> 20);
}
