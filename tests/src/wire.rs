//! The bare protocol, for clients that do not keep it.

use std::time::Duration;

use bytes::Bytes;
use imprint_content::{ChunkId, ContentRecord, Extent, NodeId, Payload, Profile, tree::Node};
use imprint_proto::{
    Failure,
    v1::{self, push_request::Step, push_response, repository_client::RepositoryClient},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};

/// A generated client without limits of its own.
pub type Wire = RepositoryClient<Channel>;

/// How long an answer may take before the test fails instead of hanging.
const DEADLINE: Duration = Duration::from_secs(30);

/// Connects to a server.
pub async fn connect(url: &str) -> Wire {
    RepositoryClient::connect(url.to_owned()).await.unwrap()
}

/// What tests compare of a failure: its code and its reason.
#[must_use]
pub fn code_and_reason(status: Status) -> (Code, String) {
    println!("refused: {status:?}");
    (status.code(), Failure::from(status).reason)
}

/// Opens an upload of `image`.
#[must_use]
pub fn open(image: &str, upload: [u8; 16]) -> v1::OpenUpload {
    v1::OpenUpload {
        image: image.into(),
        upload_id: Bytes::copy_from_slice(&upload),
        base: None,
        profile: Profile::V1.number.into(),
    }
}

/// A chunk as it is sent.
#[must_use]
pub fn chunk(raw: &[u8]) -> (ChunkId, v1::Object) {
    let id = ChunkId::of(raw);
    (id, object(*id.as_bytes(), &Payload::compress(&Bytes::copy_from_slice(raw))))
}

/// A node as it is sent.
#[must_use]
pub fn node(node: &Node) -> (NodeId, v1::Object) {
    let encoded = node.encode();
    let id = NodeId::of(&encoded);
    (id, object(*id.as_bytes(), &Payload::compress(&encoded.into())))
}

/// A leaf over chunks, in their order.
#[must_use]
pub fn leaf(chunks: &[&[u8]]) -> Node {
    Node::Leaf(chunks.iter().map(|raw| Extent::data(ChunkId::of(raw), raw.len() as u64)).collect())
}

fn object(id: [u8; 32], payload: &Payload) -> v1::Object {
    v1::Object {
        id: Bytes::copy_from_slice(&id),
        codec: payload.codec.number().into(),
        raw_length: payload.raw_length,
        stored: payload.stored.clone(),
    }
}

/// Chunks on their way.
#[must_use]
pub fn chunks(objects: Vec<v1::Object>) -> Step {
    Step::Data(v1::Data { kind: v1::ObjectKind::Chunk.into(), objects })
}

/// Nodes on their way.
#[must_use]
pub fn nodes(objects: Vec<v1::Object>) -> Step {
    Step::Data(v1::Data { kind: v1::ObjectKind::Node.into(), objects })
}

/// A question about ids of this kind.
#[must_use]
pub fn ask(kind: i32, ids: impl Into<Bytes>) -> Step {
    Step::Ask(v1::Ask { kind, ids: ids.into() })
}

/// A commit of a tree, as honest as its arguments.
#[must_use]
pub fn commit(root: NodeId, length: u64) -> Step {
    commit_record(&ContentRecord::new(root, length, Profile::V1))
}

/// A commit of a record.
#[must_use]
pub fn commit_record(record: &ContentRecord) -> Step {
    Step::Commit(v1::Commit { content_record: record.encode().into(), tags: Vec::new(), who: "hostile".into() })
}

/// One push, message by message.
pub struct RawPush {
    requests: Option<mpsc::Sender<v1::PushRequest>>,
    responses: Streaming<v1::PushResponse>,
}

impl RawPush {
    /// Starts a stream without a word.
    pub async fn start(wire: &Wire) -> Self {
        let (requests, queue) = mpsc::channel(64);
        let responses = wire.clone().push(ReceiverStream::new(queue)).await.unwrap().into_inner();
        Self { requests: Some(requests), responses }
    }

    /// Starts a stream and opens an upload, which must succeed.
    pub async fn open(wire: &Wire, open: v1::OpenUpload) -> Self {
        let mut push = Self::start(wire).await;
        push.send(Step::Open(open)).await;
        match push.next().await.unwrap() {
            push_response::Step::Opened(_) => push,
            other => panic!("not opened: {other:?}"),
        }
    }

    /// Sends a step, if the other side still takes any.
    pub async fn send(&self, step: Step) {
        self.send_request(v1::PushRequest { step: Some(step) }).await;
    }

    /// Sends a message.
    pub async fn send_request(&self, request: v1::PushRequest) {
        if let Some(requests) = &self.requests {
            let sent = tokio::time::timeout(DEADLINE, requests.send(request)).await;
            let _ = sent.expect("the server takes or refuses messages in time");
        }
    }

    /// Says that nothing more will come.
    pub fn end(&mut self) {
        self.requests = None;
    }

    /// The next answer.
    ///
    /// # Errors
    /// How the server ended the stream.
    pub async fn next(&mut self) -> Result<push_response::Step, Status> {
        let message = tokio::time::timeout(DEADLINE, self.responses.message()).await.expect("an answer in time");
        match message? {
            Some(v1::PushResponse { step: Some(step) }) => Ok(step),
            Some(_) => panic!("an empty answer"),
            None => panic!("the stream ended without a status"),
        }
    }

    /// The failure that the server answers with, sooner or later.
    pub async fn failure(&mut self) -> (Code, String) {
        loop {
            match self.next().await {
                Ok(push_response::Step::Answer(_)) => {}
                Ok(other) => panic!("no failure but {other:?}"),
                Err(status) => return code_and_reason(status),
            }
        }
    }

    /// The version that the server answers with.
    pub async fn committed(&mut self) -> v1::Version {
        match self.next().await.unwrap() {
            push_response::Step::Committed(version) => version,
            other => panic!("not committed: {other:?}"),
        }
    }

    /// What the server says is missing: chunks and nodes.
    pub async fn missing(&mut self) -> (Vec<ChunkId>, Vec<NodeId>) {
        match self.next().await.unwrap() {
            push_response::Step::Missing(missing) => (
                missing.chunk_ids.chunks(32).map(|id| ChunkId::from_slice(id).unwrap()).collect(),
                missing.node_ids.chunks(32).map(|id| NodeId::from_slice(id).unwrap()).collect(),
            ),
            other => panic!("nothing missing but {other:?}"),
        }
    }
}
