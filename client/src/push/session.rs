//! An upload from its opening to its commit, over as many connections as it takes.
//!
//! The upload's id is what connects them: the repository goes on with the upload, or answers that it was committed.
//! What it lost when it went away, such as packs that were not sealed, it lists as missing at the commit.

use std::{collections::HashSet, path::Path, sync::Arc};

use bytes::Bytes;
use imprint_content::{ChunkId, ContentRecord, NodeId, ObjectId, TagName};
use imprint_proto::v1::{self, push_request::Step, push_response};
use tokio::sync::mpsc;

use crate::{
    Error, Progress, Repository, Version,
    extents::{ExtentMap, ExtentWriter},
    ingest::Pieces,
    retry::Patience,
};

use super::{
    PushOutcome,
    stream::{Opened, Stream, next, send},
    transfer::{Batch, Collector, Counts, UnderWay, bring, send_unasked},
};

/// An open upload.
pub(super) struct Session<'a> {
    repository: &'a Repository,
    open: v1::OpenUpload,
    /// None after the connection broke.
    stream: Option<Box<Stream>>,
    patience: Patience,
    /// Bytes dealt with when the connection broke last.
    got_through: u64,
    progress: Arc<Progress>,
    chunks: u64,
    counts: Counts,
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

impl<'a> Session<'a> {
    /// Opens the upload; returns what the repository has lost of the base.
    pub(super) async fn open(
        repository: &'a Repository,
        open: v1::OpenUpload,
        progress: &Arc<Progress>,
    ) -> Result<(Self, HashSet<ObjectId>), Error> {
        let opening = repository.retrying(progress, || Stream::open(repository, open.clone()));
        let Opened::Stream(stream, opened) = opening.await? else {
            return Err(Error::Protocol("an upload was committed before it was opened".into()));
        };
        let damaged = opened.damaged.iter().filter_map(|id| ObjectId::from_slice(id)).collect();
        let session = Self {
            repository,
            open,
            stream: Some(stream),
            patience: repository.patience(),
            got_through: 0,
            progress: Arc::clone(progress),
            chunks: 0,
            counts: Counts::default(),
        };
        Ok((session, damaged))
    }

    /// Sends what of these pieces, and of the tree over them, the repository asks for. Returns the extents.
    pub(super) async fn send_pieces(
        &mut self,
        pieces: Pieces,
        known_nodes: HashSet<NodeId>,
        spool: &Path,
    ) -> Result<ExtentMap, Error> {
        let (batches, queue) = mpsc::channel(1);
        let collector = Collector::new(batches, known_nodes);
        let collecting = collector.run(pieces, ExtentWriter::create(spool)?);
        let ((extents, chunks), ()) = tokio::try_join!(collecting, self.bring_all(queue))?;
        self.chunks = chunks;
        Ok(extents)
    }

    async fn bring_all(&mut self, mut batches: mpsc::Receiver<Batch>) -> Result<(), Error> {
        let under_way = UnderWay::default();
        loop {
            let broken = match self.connected().await {
                Ok(None) => {
                    let Some(stream) = &mut self.stream else { continue };
                    let brought = bring(stream, &mut batches, &under_way, &mut self.counts, &self.progress).await;
                    match brought {
                        Ok(()) => return Ok(()),
                        Err(error) => error,
                    }
                }
                Ok(Some(_)) => return Err(Error::Protocol("an upload was committed before it was complete".into())),
                Err(error) => error,
            };
            self.after(broken).await?;
        }
    }

    /// Sends objects without asking: the repository has said that it misses them.
    pub(super) async fn send_missing(
        &mut self,
        kind: v1::ObjectKind,
        raw: Vec<(ObjectId, Bytes)>,
    ) -> Result<(), Error> {
        let Some(stream) = &self.stream else { return Ok(()) };
        if let Err(error) = send_unasked(stream, kind, raw, &mut self.counts).await {
            // What did not arrive is missing still, and listed by the next commit.
            self.after(error).await?;
        }
        Ok(())
    }

    /// Asks for the commit, again and again until there is an answer.
    pub(super) async fn commit(&mut self, commit: Commit<'_>) -> Result<Committed, Error> {
        loop {
            let answer = match self.connected().await {
                Ok(Some(version)) => return Ok(Committed::Version(version)),
                Ok(None) => self.ask_for_commit(commit).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(committed) => return Ok(committed),
                Err(error) => self.after(error).await?,
            }
        }
    }

    async fn ask_for_commit(&mut self, commit: Commit<'_>) -> Result<Committed, Error> {
        let Some(stream) = &mut self.stream else { return Err(Error::StreamClosed) };
        let step = Step::Commit(v1::Commit {
            content_record: commit.content.encode().into(),
            tags: commit.tags.iter().map(ToString::to_string).collect(),
            who: commit.who.to_owned(),
        });
        send(&stream.requests, step).await?;
        match next(&mut stream.responses).await? {
            push_response::Step::Committed(version) => Ok(Committed::Version(Box::new(Version::from_wire(version)?))),
            push_response::Step::Missing(missing) => Ok(Committed::Missing {
                chunks: split(&missing.chunk_ids, ChunkId::from_bytes)?,
                nodes: split(&missing.node_ids, NodeId::from_bytes)?,
            }),
            _ => Err(Error::Protocol("a commit was answered with something else".into())),
        }
    }

    /// Opens the upload again if its stream is gone. Returns the version when it was committed meanwhile.
    async fn connected(&mut self) -> Result<Option<Box<Version>>, Error> {
        if self.stream.is_some() {
            return Ok(None);
        }
        self.repository.expect_same().await?;
        match Stream::open(self.repository, self.open.clone()).await? {
            Opened::Committed(version) => Ok(Some(version)),
            Opened::Stream(stream, _) => {
                self.stream = Some(stream);
                Ok(None)
            }
        }
    }

    /// Waits for the next attempt, or says why there will be none.
    async fn after(&mut self, error: Error) -> Result<(), Error> {
        let error = match self.stream.take() {
            Some(mut stream) => stream.explain(error).await,
            None => error,
        };
        let got_through = self.progress.done() + self.progress.transferred_bytes();
        if got_through > self.got_through {
            self.patience.renew();
        }
        self.got_through = got_through;
        self.patience.wait_after(error, &self.progress).await
    }

    /// What was sent, in an outcome whose other fields are for the caller.
    pub(super) fn outcome(&self, version: Version) -> PushOutcome {
        let Counts { new_chunks, new_bytes, sent_bytes, new_nodes, node_bytes } = self.counts;
        PushOutcome {
            version,
            base: None,
            image_bytes: 0,
            data_bytes: 0,
            chunks: self.chunks,
            new_chunks,
            new_bytes,
            sent_bytes,
            new_nodes,
            node_bytes,
            unused_bytes: 0,
        }
    }
}

fn split<T>(joined: &[u8], id: impl Fn([u8; 32]) -> T) -> Result<Vec<T>, Error> {
    match joined.as_chunks::<32>() {
        (ids, []) => Ok(ids.iter().map(|bytes| id(*bytes)).collect()),
        _ => Err(Error::Protocol("a list of ids is cut short".into())),
    }
}
