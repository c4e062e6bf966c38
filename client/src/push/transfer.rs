//! Brings objects to the repository: asks about them in batches, compresses and sends what is asked for.
//!
//! The number of unanswered asks is bounded by a queue that is shorter than the server's, and nobody who reads ever
//! waits for somebody who writes, so the two sides cannot stop each other. What was asked about stays here until it is
//! sent: when the connection breaks it is asked about once more on the next one.

use std::{
    collections::{HashSet, VecDeque},
    num::NonZero,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use bytes::{Bytes, BytesMut};
use imprint_content::{NodeId, ObjectId, Payload, tree::BuiltNode};
use imprint_proto::{
    limits::TARGET_MESSAGE_BYTES,
    v1::{self, push_request::Step, push_response},
};
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    task::JoinHandle,
};

use crate::{
    Error, Progress,
    extents::{ExtentMap, ExtentWriter},
    ingest::{Piece, Pieces},
};

use super::stream::{Stream, next, send};

/// An ask is sent when it names this many objects,
const ASK_OBJECTS: usize = 128;
/// or objects of this many bytes.
const ASK_BYTES: usize = 4 << 20;
/// Asks of which the answer is awaited; with their objects, some 32 MiB.
const UNANSWERED_ASKS: usize = 8;

/// What was sent.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) new_chunks: u64,
    pub(super) new_bytes: u64,
    pub(super) sent_bytes: u64,
    pub(super) new_nodes: u64,
    pub(super) node_bytes: u64,
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

/// Objects of one kind that are asked about together.
#[derive(Debug)]
pub(super) struct Batch {
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

    fn ask(&self) -> Step {
        let mut ids = BytesMut::with_capacity(32 * self.objects.len());
        for (id, _) in &self.objects {
            ids.extend_from_slice(id.as_bytes());
        }
        Step::Ask(v1::Ask { kind: self.kind.into(), ids: ids.freeze() })
    }
}

/// Builds the tree and collects what may be new in batches.
pub(super) struct Collector {
    batches: Sender<Batch>,
    chunks: Batch,
    nodes: Batch,
    known_nodes: HashSet<NodeId>,
    chunk_count: u64,
}

impl Collector {
    pub(super) const fn new(batches: Sender<Batch>, known_nodes: HashSet<NodeId>) -> Self {
        Self {
            batches,
            chunks: Batch::new(v1::ObjectKind::Chunk),
            nodes: Batch::new(v1::ObjectKind::Node),
            known_nodes,
            chunk_count: 0,
        }
    }

    /// The extents, and how many of them are chunks.
    pub(super) async fn run(
        mut self,
        mut pieces: Pieces,
        mut extents: ExtentWriter,
    ) -> Result<(ExtentMap, u64), Error> {
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
                    self.hand_over(full).await?;
                }
                self.add_nodes(&mut finished).await?;
            }
        }
        let (extents, _root) = extents.finish(&mut finished)?;
        self.add_nodes(&mut finished).await?;
        let (chunks, nodes) = (self.chunks.take(), self.nodes.take());
        self.hand_over(chunks).await?;
        self.hand_over(nodes).await?;
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
            self.hand_over(full).await?;
        }
        Ok(())
    }

    async fn hand_over(&self, batch: Batch) -> Result<(), Error> {
        match batch.objects.is_empty() {
            true => Ok(()),
            false => self.batches.send(batch).await.map_err(|_| Error::StreamClosed),
        }
    }
}

/// Batches that were asked about and are not sent yet, oldest first.
#[derive(Debug, Default)]
pub(super) struct UnderWay(Mutex<VecDeque<Arc<Batch>>>);

impl UnderWay {
    fn all(&self) -> Vec<Arc<Batch>> {
        self.lock().iter().cloned().collect()
    }

    fn add(&self, batch: Batch) -> Arc<Batch> {
        let batch = Arc::new(batch);
        self.lock().push_back(Arc::clone(&batch));
        batch
    }

    fn remove(&self, done: &Arc<Batch>) {
        self.lock().retain(|batch| !Arc::ptr_eq(batch, done));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<Batch>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Brings all batches over one stream, those under way first. Stopped at any point by an error, what is neither in
/// the queue nor under way was sent.
pub(super) async fn bring(
    stream: &mut Stream,
    batches: &mut Receiver<Batch>,
    under_way: &UnderWay,
    counts: &mut Counts,
    progress: &Arc<Progress>,
) -> Result<(), Error> {
    let (asked, unanswered) = mpsc::channel(UNANSWERED_ASKS);
    let jobs = thread::available_parallelism().map_or(1, NonZero::get) + 2;
    let (ready, compressed) = mpsc::channel(jobs);
    tokio::try_join!(
        ask_all(&stream.requests, batches, under_way, asked),
        take_answers(&mut stream.responses, unanswered, under_way, ready, progress),
        send_data(&stream.requests, compressed, under_way, counts, progress),
    )
    .map(drop)
}

/// Sends objects without asking: the repository has said that it misses them.
pub(super) async fn send_unasked(
    stream: &Stream,
    kind: v1::ObjectKind,
    raw: Vec<(ObjectId, Bytes)>,
    counts: &mut Counts,
) -> Result<(), Error> {
    let (ready, compressed) = mpsc::channel(1);
    let batch = Arc::new(Batch { kind, objects: raw.clone(), bytes: 0 });
    ready.send(compress(batch, raw)).await.map_err(|_| Error::WorkerStopped)?;
    drop(ready);
    send_data(&stream.requests, compressed, &UnderWay::default(), counts, &Arc::default()).await
}

async fn ask_all(
    requests: &Sender<v1::PushRequest>,
    batches: &mut Receiver<Batch>,
    under_way: &UnderWay,
    asked: Sender<Arc<Batch>>,
) -> Result<(), Error> {
    for batch in under_way.all() {
        ask(requests, &asked, batch).await?;
    }
    while let Some(batch) = batches.recv().await {
        ask(requests, &asked, under_way.add(batch)).await?;
    }
    Ok(())
}

async fn ask(requests: &Sender<v1::PushRequest>, asked: &Sender<Arc<Batch>>, batch: Arc<Batch>) -> Result<(), Error> {
    let step = batch.ask();
    // Noted before it is sent, so that no answer comes before somebody waits for it.
    asked.send(batch).await.map_err(|_| Error::StreamClosed)?;
    send(requests, step).await
}

/// A batch of which some objects are being compressed, in the order in which they will be sent.
struct Compressing {
    batch: Arc<Batch>,
    job: JoinHandle<Vec<(ObjectId, Payload)>>,
}

fn compress(batch: Arc<Batch>, wanted: Vec<(ObjectId, Bytes)>) -> Compressing {
    let job = tokio::task::spawn_blocking(move || {
        wanted.into_iter().map(|(id, raw)| (id, Payload::compress(&raw))).collect()
    });
    Compressing { batch, job }
}

/// Matches answers to asks and starts compressing what shall be sent.
async fn take_answers(
    responses: &mut tonic::Streaming<v1::PushResponse>,
    mut unanswered: Receiver<Arc<Batch>>,
    under_way: &UnderWay,
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
        for (n, (id, raw)) in batch.objects.iter().enumerate() {
            if answer.send[n / 8] & (1 << (n % 8)) != 0 {
                wanted.push((*id, raw.clone()));
            } else if batch.kind == v1::ObjectKind::Chunk {
                progress.add_reused(raw.len() as u64);
            }
        }
        if wanted.is_empty() {
            under_way.remove(&batch);
        } else {
            ready.send(compress(batch, wanted)).await.map_err(|_| Error::StreamClosed)?;
        }
    }
}

/// Sends what was compressed, in order, in messages of about 1 MiB.
async fn send_data(
    requests: &Sender<v1::PushRequest>,
    mut compressed: Receiver<Compressing>,
    under_way: &UnderWay,
    counts: &mut Counts,
    progress: &Arc<Progress>,
) -> Result<(), Error> {
    while let Some(Compressing { batch, job }) = compressed.recv().await {
        let kind = batch.kind;
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
        under_way.remove(&batch);
    }
    Ok(())
}
