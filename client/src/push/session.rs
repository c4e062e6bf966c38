//! The stream of one push: asks, answers and data, each in a task of its own.
//!
//! The number of unanswered asks is bounded by a queue that is shorter than the server's, and nobody who reads ever
//! waits for somebody who writes, so the two sides cannot stop each other.

use std::{collections::HashSet, num::NonZero, path::Path, sync::Arc, thread};

use bytes::{Bytes, BytesMut};
use imprint_content::{ChunkId, ContentRecord, NodeId, ObjectId, Payload, TagName, tree::BuiltNode};
use imprint_proto::{
    limits::TARGET_MESSAGE_BYTES,
    v1::{self, push_request::Step, push_response},
};
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::{
    Error, Progress, Repository, Version,
    extents::{ExtentMap, ExtentWriter},
    fetch::final_error,
    ingest::{Piece, Pieces},
};

use super::PushOutcome;

/// An ask is sent when it names this many objects,
const ASK_OBJECTS: usize = 128;
/// or objects of this many bytes.
const ASK_BYTES: usize = 4 << 20;
/// Asks of which the answer is awaited; with their objects, some 32 MiB.
const UNANSWERED_ASKS: usize = 8;

/// An open upload.
pub(super) struct Session {
    requests: Sender<v1::PushRequest>,
    responses: Streaming<v1::PushResponse>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    chunks: u64,
    new_chunks: u64,
    new_bytes: u64,
    sent_bytes: u64,
    new_nodes: u64,
    node_bytes: u64,
}

/// What is committed.
#[derive(Clone, Copy)]
pub(super) struct Commit<'a> {
    pub(super) content: &'a ContentRecord,
    pub(super) tags: &'a [TagName],
    pub(super) who: &'a str,
}

/// What the repository said to a commit.
pub(super) enum Committed {
    Version(Box<Version>),
    Missing { chunks: Vec<ChunkId>, nodes: Vec<NodeId> },
}

impl Session {
    /// Opens the upload; returns what the repository has lost of the base.
    pub(super) async fn open(
        repository: &Repository,
        open: v1::OpenUpload,
    ) -> Result<(Self, HashSet<ObjectId>), Error> {
        let (requests, queue) = mpsc::channel(4);
        let first = v1::PushRequest { step: Some(Step::Open(open)) };
        requests.send(first).await.map_err(|_| Error::WorkerStopped)?;
        let mut responses = repository.client().push(ReceiverStream::new(queue)).await?.into_inner();
        match next(&mut responses).await? {
            push_response::Step::Opened(opened) => {
                let damaged = opened.damaged.iter().filter_map(|id| ObjectId::from_slice(id)).collect();
                Ok((Self { requests, responses, counts: Counts::default() }, damaged))
            }
            _ => Err(Error::Protocol("an upload was not opened".into())),
        }
    }

    /// Sends what of these pieces, and of the tree over them, the repository asks for. Returns the extents.
    pub(super) async fn send_pieces(
        &mut self,
        pieces: Pieces,
        known_nodes: HashSet<NodeId>,
        spool: &Path,
        progress: &Arc<Progress>,
    ) -> Result<ExtentMap, Error> {
        let (asked, unanswered) = mpsc::channel(UNANSWERED_ASKS);
        let jobs = thread::available_parallelism().map_or(1, NonZero::get) + 2;
        let (ready, compressed) = mpsc::channel(jobs);
        let asker = Asker {
            requests: self.requests.clone(),
            asked,
            chunks: Batch::new(v1::ObjectKind::Chunk),
            nodes: Batch::new(v1::ObjectKind::Node),
            known_nodes,
            chunk_count: 0,
        };
        let result = tokio::try_join!(
            asker.run(pieces, ExtentWriter::create(spool)?),
            take_answers(&mut self.responses, unanswered, ready, progress),
            send_data(&self.requests, compressed, progress),
        );
        match result {
            Ok(((extents, chunks), (), sent)) => {
                self.counts.chunks = chunks;
                self.counts.add(&sent);
                Ok(extents)
            }
            Err(error) => Err(self.explain(error).await),
        }
    }

    /// Sends objects without asking: the repository has said that it misses them.
    pub(super) async fn send_missing(
        &mut self,
        kind: v1::ObjectKind,
        raw: Vec<(ObjectId, Bytes)>,
    ) -> Result<(), Error> {
        let (ready, compressed) = mpsc::channel(1);
        let job = compress(kind, raw);
        ready.send(job).await.map_err(|_| Error::WorkerStopped)?;
        drop(ready);
        let sent = send_data(&self.requests, compressed, &Arc::default()).await;
        match sent {
            Ok(sent) => self.counts.add(&sent),
            Err(error) => return Err(self.explain(error).await),
        }
        Ok(())
    }

    /// Asks for the commit.
    pub(super) async fn commit(&mut self, commit: Commit<'_>) -> Result<Committed, Error> {
        let step = Step::Commit(v1::Commit {
            content_record: commit.content.encode().into(),
            tags: commit.tags.iter().map(ToString::to_string).collect(),
            who: commit.who.to_owned(),
        });
        if let Err(error) = send(&self.requests, step).await {
            return Err(self.explain(error).await);
        }
        match next(&mut self.responses).await? {
            push_response::Step::Committed(version) => Ok(Committed::Version(Box::new(Version::from_wire(version)?))),
            push_response::Step::Missing(missing) => Ok(Committed::Missing {
                chunks: split(&missing.chunk_ids, ChunkId::from_bytes)?,
                nodes: split(&missing.node_ids, NodeId::from_bytes)?,
            }),
            _ => Err(Error::Protocol("a commit was answered with something else".into())),
        }
    }

    /// What was sent, in an outcome whose other fields are for the caller.
    pub(super) fn outcome(&self, version: Version) -> PushOutcome {
        let Counts { chunks, new_chunks, new_bytes, sent_bytes, new_nodes, node_bytes } = self.counts;
        PushOutcome {
            version,
            base: None,
            image_bytes: 0,
            data_bytes: 0,
            chunks,
            new_chunks,
            new_bytes,
            sent_bytes,
            new_nodes,
            node_bytes,
        }
    }

    /// A closed stream is only the symptom: the repository has said why.
    async fn explain(&mut self, error: Error) -> Error {
        if !matches!(error, Error::StreamClosed) {
            return error;
        }
        final_error(&mut self.responses).await.unwrap_or(error)
    }
}

impl Counts {
    const fn add(&mut self, other: &Self) {
        self.new_chunks += other.new_chunks;
        self.new_bytes += other.new_bytes;
        self.sent_bytes += other.sent_bytes;
        self.new_nodes += other.new_nodes;
        self.node_bytes += other.node_bytes;
    }
}

/// Objects of one kind that are asked about together.
struct Batch {
    kind: v1::ObjectKind,
    objects: Vec<(ObjectId, Bytes)>,
    bytes: usize,
}

impl Batch {
    const fn new(kind: v1::ObjectKind) -> Self {
        Self { kind, objects: Vec::new(), bytes: 0 }
    }

    fn is_full(&self) -> bool {
        self.objects.len() >= ASK_OBJECTS || self.bytes >= ASK_BYTES
    }

    fn add(&mut self, id: ObjectId, raw: Bytes) {
        self.bytes += raw.len();
        self.objects.push((id, raw));
    }

    fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new(self.kind))
    }
}

/// Builds the tree and asks about what may be new.
struct Asker {
    requests: Sender<v1::PushRequest>,
    asked: Sender<Batch>,
    chunks: Batch,
    nodes: Batch,
    known_nodes: HashSet<NodeId>,
    chunk_count: u64,
}

impl Asker {
    async fn run(mut self, mut pieces: Pieces, mut extents: ExtentWriter) -> Result<(ExtentMap, u64), Error> {
        let mut finished = Vec::new();
        while let Some(batch) = pieces.next().await? {
            for piece in batch {
                let extent = piece.extent();
                if let Piece::Candidate(id, raw) = piece {
                    self.chunks.add(id.into(), raw);
                }
                self.chunk_count += u64::from(extent.chunk().is_some());
                extents.push(extent, &mut finished)?;
                if self.chunks.is_full() {
                    let full = self.chunks.take();
                    self.ask(full).await?;
                }
                self.add_nodes(&mut finished).await?;
            }
        }
        let (extents, _root) = extents.finish(&mut finished)?;
        self.add_nodes(&mut finished).await?;
        let (chunks, nodes) = (self.chunks.take(), self.nodes.take());
        self.ask(chunks).await?;
        self.ask(nodes).await?;
        Ok((extents, self.chunk_count))
    }

    async fn add_nodes(&mut self, finished: &mut Vec<BuiltNode>) -> Result<(), Error> {
        for node in finished.drain(..) {
            if !self.known_nodes.contains(&node.id) {
                self.nodes.add(node.id.into(), node.encoded.into());
            }
        }
        if self.nodes.is_full() {
            let full = self.nodes.take();
            self.ask(full).await?;
        }
        Ok(())
    }

    async fn ask(&self, batch: Batch) -> Result<(), Error> {
        if batch.objects.is_empty() {
            return Ok(());
        }
        let mut ids = BytesMut::with_capacity(32 * batch.objects.len());
        for (id, _) in &batch.objects {
            ids.extend_from_slice(id.as_bytes());
        }
        let ask = v1::Ask { kind: batch.kind.into(), ids: ids.freeze() };
        // Noted before it is sent, so that no answer comes before somebody waits for it.
        self.asked.send(batch).await.map_err(|_| Error::StreamClosed)?;
        send(&self.requests, Step::Ask(ask)).await
    }
}

/// Objects being compressed, in the order in which they will be sent.
struct Compressing {
    kind: v1::ObjectKind,
    job: JoinHandle<Vec<(ObjectId, Payload)>>,
}

fn compress(kind: v1::ObjectKind, objects: Vec<(ObjectId, Bytes)>) -> Compressing {
    let job = tokio::task::spawn_blocking(move || {
        objects.into_iter().map(|(id, raw)| (id, Payload::compress(&raw))).collect()
    });
    Compressing { kind, job }
}

/// Matches answers to asks and starts compressing what shall be sent.
async fn take_answers(
    responses: &mut Streaming<v1::PushResponse>,
    mut unanswered: Receiver<Batch>,
    ready: Sender<Compressing>,
    progress: &Progress,
) -> Result<(), Error> {
    loop {
        let batch = tokio::select! {
            biased;
            batch = unanswered.recv() => batch,
            // A source can be silent for long: what goes wrong meanwhile is heard at once.
            unasked = next(responses) => {
                return Err(unasked.map_or_else(|error| error, |_| Error::Protocol("an answer came unasked".into())));
            }
        };
        let Some(batch) = batch else { return Ok(()) };
        let push_response::Step::Answer(answer) = next(responses).await? else {
            return Err(Error::Protocol("an ask was answered with something else".into()));
        };
        if answer.send.len() != batch.objects.len().div_ceil(8) {
            return Err(Error::Protocol("an answer has another length than its ask".into()));
        }
        let mut wanted = Vec::new();
        for (n, (id, raw)) in batch.objects.into_iter().enumerate() {
            if answer.send[n / 8] & (1 << (n % 8)) != 0 {
                wanted.push((id, raw));
            } else if batch.kind == v1::ObjectKind::Chunk {
                progress.add_reused(raw.len() as u64);
            }
        }
        if !wanted.is_empty() {
            ready.send(compress(batch.kind, wanted)).await.map_err(|_| Error::StreamClosed)?;
        }
    }
}

/// Sends what was compressed, in order, in messages of about 1 MiB.
async fn send_data(
    requests: &Sender<v1::PushRequest>,
    mut compressed: Receiver<Compressing>,
    progress: &Arc<Progress>,
) -> Result<Counts, Error> {
    let mut counts = Counts::default();
    while let Some(Compressing { kind, job }) = compressed.recv().await {
        let mut objects = Vec::new();
        let mut bytes = 0;
        for (id, payload) in job.await.map_err(|_| Error::WorkerStopped)? {
            counts.count(kind, &payload);
            if kind == v1::ObjectKind::Chunk {
                progress.add_new(payload.raw_length.into());
            }
            progress.add_transferred(payload.stored.len() as u64);
            bytes += payload.stored.len();
            objects.push(v1::Object {
                id: Bytes::copy_from_slice(id.as_bytes()),
                codec: payload.codec.number().into(),
                raw_length: payload.raw_length,
                stored: payload.stored,
            });
            if bytes >= TARGET_MESSAGE_BYTES {
                bytes = 0;
                let objects = std::mem::take(&mut objects);
                send(requests, Step::Data(v1::Data { kind: kind.into(), objects })).await?;
            }
        }
        if !objects.is_empty() {
            send(requests, Step::Data(v1::Data { kind: kind.into(), objects })).await?;
        }
    }
    Ok(counts)
}

impl Counts {
    fn count(&mut self, kind: v1::ObjectKind, payload: &Payload) {
        if kind == v1::ObjectKind::Node {
            self.new_nodes += 1;
            self.node_bytes += u64::from(payload.raw_length);
        } else {
            self.new_chunks += 1;
            self.new_bytes += u64::from(payload.raw_length);
            self.sent_bytes += payload.stored.len() as u64;
        }
    }
}

async fn send(requests: &Sender<v1::PushRequest>, step: Step) -> Result<(), Error> {
    requests.send(v1::PushRequest { step: Some(step) }).await.map_err(|_| Error::StreamClosed)
}

async fn next(responses: &mut Streaming<v1::PushResponse>) -> Result<push_response::Step, Error> {
    match responses.message().await? {
        Some(v1::PushResponse { step: Some(step) }) => Ok(step),
        Some(_) => Err(Error::Protocol("an answer is empty or unknown".into())),
        None => Err(Error::StreamClosed),
    }
}

fn split<T>(joined: &[u8], id: impl Fn([u8; 32]) -> T) -> Result<Vec<T>, Error> {
    match joined.as_chunks::<32>() {
        (ids, []) => Ok(ids.iter().map(|bytes| id(*bytes)).collect()),
        _ => Err(Error::Protocol("a list of ids is cut short".into())),
    }
}
