//! A client that pushes, one step after the other.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use imprint_content::{ContentRecord, ObjectId, Payload, Profile};

use super::{
    content::Content,
    model::{Key, image_name, tag_name},
    session::{Trouble, ensure, fail},
};
use crate::{
    Error, UploadId,
    catalog::{UploadRecord, VersionRecord},
    pack::Purpose,
    store::{CommitRequest, Store, Upload, UploadOutcome},
};

/// Objects in one question.
const ASK: usize = 40;
/// A tree has fewer levels; each commit names at least one.
const MAX_COMMITS: usize = 20;

/// A push. Its id, image and base never change, whatever becomes of its streams.
pub(super) struct Push {
    pub(super) image: usize,
    pub(super) base: Option<(Key, Arc<Content>)>,
    pub(super) id: UploadId,
    pub(super) content: Arc<Content>,
    stream: Option<Stream>,
}

struct Stream {
    upload: Upload,
    /// What the base has, but for what is damaged.
    known: HashSet<ObjectId>,
    /// Objects of the content that were asked about, or need not be.
    done: usize,
}

/// What opening came to.
pub(super) enum Opened {
    Open,
    Committed(Box<VersionRecord>),
}

impl Push {
    pub(super) fn new(seed: u64, image: usize, base: Option<(Key, Arc<Content>)>, content: Arc<Content>) -> Self {
        let mut id = [0x5a; 16];
        id[..8].copy_from_slice(&seed.to_le_bytes());
        Self { image, base, id: UploadId::from_bytes(id), content, stream: None }
    }

    pub(super) const fn is_streaming(&self) -> bool {
        self.stream.is_some()
    }

    /// Opens a stream, the first or another one.
    pub(super) async fn open(&mut self, store: &Store) -> Result<Opened, Error> {
        self.stream = None;
        let base = self.base.as_ref().map(|(key, _)| key.version());
        let record = UploadRecord { id: self.id, image: image_name(self.image), base };
        match store.open_upload(record, Profile::V1).await? {
            Ok(upload) => {
                let known = self.known(&upload);
                self.stream = Some(Stream { upload, known, done: 0 });
                Ok(Opened::Open)
            }
            Err(version) => Ok(Opened::Committed(Box::new(version))),
        }
    }

    /// Damage makes all nodes unknown: it could be below any of them.
    fn known(&self, upload: &Upload) -> HashSet<ObjectId> {
        let Some((_, base)) = &self.base else { return HashSet::new() };
        let damaged: HashSet<_> = upload.damaged().iter().copied().collect();
        let is_known = |(purpose, id, _): &&(Purpose, ObjectId, Payload)| {
            !damaged.contains(id) && (damaged.is_empty() || *purpose == Purpose::Chunks)
        };
        base.objects.iter().filter(is_known).map(|(_, id, _)| *id).collect()
    }

    /// The stream ends: by itself, or with the process.
    pub(super) async fn cut_off(&mut self, is_sealed: bool) -> Result<(), Error> {
        match self.stream.take() {
            Some(mut stream) if is_sealed => stream.upload.seal().await,
            _ => Ok(()),
        }
    }

    /// What a killed process does for its streams.
    pub(super) fn abandon(&mut self) {
        self.stream = None;
    }

    /// Asks about the next objects and sends those that are wanted. Whether there was a stream to send them on.
    pub(super) async fn send(&mut self, objects: usize) -> Result<bool, Error> {
        let Some(stream) = &mut self.stream else { return Ok(false) };
        let end = self.content.objects.len().min(stream.done + objects);
        let next = &self.content.objects[stream.done..end];
        for part in next.chunk_by(|one, other| one.0 == other.0).flat_map(|run| run.chunks(ASK)) {
            stream.send(part).await?;
        }
        stream.done = end;
        Ok(true)
    }

    /// Sends the rest and commits, as often as something is missing. `may_miss`: something was harmed.
    pub(super) async fn commit(&mut self, tag: Option<usize>, may_miss: bool) -> Result<VersionRecord, Trouble> {
        self.send(usize::MAX / 2).await?;
        let Some(stream) = &mut self.stream else { return fail("no stream") };
        let record = ContentRecord::new(self.content.root, self.content.length, Profile::V1);
        let request = CommitRequest {
            content_record: record.encode().into(),
            tags: tag.map(tag_name).into_iter().collect(),
            who: "model".into(),
        };
        for _ in 0..MAX_COMMITS {
            match stream.upload.commit(request.clone()).await? {
                UploadOutcome::Committed(version) => {
                    self.stream = None;
                    return Ok(*version);
                }
                UploadOutcome::Missing(missing) => {
                    ensure(may_miss, || format!("what the upload held, or its base has, is missing: {missing:?}"))?;
                    let chunks = missing.chunks.into_iter().map(|id| (Purpose::Chunks, id.into()));
                    let nodes = missing.nodes.into_iter().map(|id| (Purpose::Nodes, id.into()));
                    stream.resend(&self.content, chunks.chain(nodes)).await?;
                }
            }
        }
        fail("something was missing as often as it was sent")
    }

    /// From the opening to the commit.
    pub(super) async fn run(
        &mut self,
        store: &Store,
        tag: Option<usize>,
        may_miss: bool,
    ) -> Result<VersionRecord, Trouble> {
        match self.open(store).await? {
            Opened::Open => self.commit(tag, may_miss).await,
            Opened::Committed(_) => fail("a new upload was committed before"),
        }
    }
}

impl Stream {
    async fn send(&mut self, part: &[(Purpose, ObjectId, Payload)]) -> Result<(), Error> {
        let unknown: Vec<_> = part.iter().filter(|(_, id, _)| !self.known.contains(id)).collect();
        let Some((purpose, _, _)) = unknown.first() else { return Ok(()) };
        let wanted = self.upload.ask(*purpose, unknown.iter().map(|(_, id, _)| *id).collect()).await?;
        let wanted = unknown.iter().zip(wanted).filter(|(_, wanted)| *wanted);
        self.upload.store(*purpose, wanted.map(|((_, id, payload), _)| (*id, payload.clone())).collect()).await
    }

    async fn resend(
        &mut self,
        content: &Content,
        missing: impl Iterator<Item = (Purpose, ObjectId)>,
    ) -> Result<(), Trouble> {
        let has: HashMap<_, _> =
            content.objects.iter().map(|(purpose, id, payload)| ((*purpose, *id), payload)).collect();
        for (purpose, id) in missing {
            let Some(payload) = has.get(&(purpose, id)) else {
                return fail(format!("{id} is said to be missing, and is no part of the image"));
            };
            self.upload.store(purpose, vec![(id, (*payload).clone())]).await?;
        }
        Ok(())
    }
}
