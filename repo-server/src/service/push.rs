//! One push: reads steps from the client in one task and answers through a queue that never makes the reader wait.
//!
//! The queue has room for an answer to every ask that may be unanswered, so a client that sends without reading, as
//! long as it keeps the limits, cannot bring both sides to wait for each other.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::StreamExt;
use imprint_content::{ChunkId, NodeId, ObjectId, Payload, Profile};
use imprint_proto::{
    limits::{MAX_ASK_IDS, MAX_COMMIT_TAGS, MAX_CONTENT_RECORD_BYTES, MAX_UNANSWERED_ASKS, MAX_WHO_BYTES},
    v1::{self, push_request::Step, push_response},
};
use tokio::{
    sync::{
        OwnedSemaphorePermit,
        mpsc::{self, Sender},
    },
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::{
    Error, UploadId,
    catalog::{UploadRecord, VersionRecord},
    pack::Purpose,
    store::{self, CommitRequest, Missing, Upload, UploadOutcome},
};

use super::{Answers, STALLED, Service, convert, queries};

/// Data messages that are checked ahead of the one that is stored.
const CHECKS_IN_FLIGHT: usize = 6;

pub(super) fn start(service: Service, steps: Streaming<v1::PushRequest>) -> Answers<v1::PushResponse> {
    let (answers, queue) = mpsc::channel(MAX_UNANSWERED_ASKS + 2);
    tokio::spawn(async move {
        if let Err(status) = serve(service, steps, &answers).await {
            let _ = answers.send_timeout(Err(status), STALLED).await;
        }
    });
    ReceiverStream::new(queue).boxed()
}

async fn serve(
    service: Service,
    mut steps: Streaming<v1::PushRequest>,
    answers: &Sender<Result<v1::PushResponse, Status>>,
) -> Result<(), Status> {
    // First, so that whoever only connects keeps nobody out.
    let Some(Step::Open(open)) = first_step(&service, &mut steps).await? else {
        return Err(convert::bad("a push starts by opening an upload").into());
    };
    let permit = service.turn("pushes", &service.pushes, service.limits.pushes).await?;
    let upload = match open_upload(&service, open).await? {
        Ok(upload) => upload,
        Err(version) => return answer(answers, committed(&service, &version).await?).await,
    };
    let damaged = upload.damaged().iter().map(|id| Bytes::copy_from_slice(id.as_bytes())).collect();
    answer(answers, push_response::Step::Opened(v1::Opened { damaged })).await?;
    let mut session = Session { service, upload, checking: VecDeque::new(), _permit: permit };
    let result = session.run(steps, answers).await;
    if result.is_err() {
        // What was received is kept: the client need not send it again.
        let _ = session.finish_checks().await;
        if let Err(error) = session.upload.seal().await {
            tracing::warn!(%error, "an interrupted upload could not be sealed");
        }
    }
    result
}

async fn first_step(service: &Service, steps: &mut Streaming<v1::PushRequest>) -> Result<Option<Step>, Status> {
    match service.unless_stopped(tokio::time::timeout(service.limits.turn, next_step(steps))).await? {
        Ok(step) => step,
        Err(_) => Err(Error::Idle { seconds: service.limits.turn.as_secs() }.into()),
    }
}

async fn open_upload(service: &Service, open: v1::OpenUpload) -> Result<Result<Upload, VersionRecord>, Error> {
    let id = UploadId::from_slice(&open.upload_id).ok_or_else(|| convert::bad("an upload id has 16 bytes"))?;
    let number = u16::try_from(open.profile).map_err(|_| convert::bad("unknown chunking profile"))?;
    let profile = Profile::from_number(number).map_err(Error::BadMessage)?;
    let base = match open.base {
        Some(key) => Some(convert::version_key(Some(key))?),
        None => None,
    };
    let record = UploadRecord { id, image: convert::image(&open.image)?, base };
    service.store.open_upload(record, profile).await
}

type Checked = Result<Vec<(ObjectId, Payload)>, Error>;

struct Session {
    service: Service,
    upload: Upload,
    /// Data being checked, in the order in which it will be stored.
    checking: VecDeque<(Purpose, JoinHandle<Checked>)>,
    _permit: OwnedSemaphorePermit,
}

impl Session {
    async fn run(
        &mut self,
        mut steps: Streaming<v1::PushRequest>,
        answers: &Sender<Result<v1::PushResponse, Status>>,
    ) -> Result<(), Status> {
        loop {
            let step = tokio::select! {
                step = next_step(&mut steps) => step?,
                () = self.service.stopped() => return Err(Error::Stopping.into()),
                () = tokio::time::sleep(self.service.limits.idle_push) => {
                    return Err(Error::Idle { seconds: self.service.limits.idle_push.as_secs() }.into());
                }
                // What is wrong with the data is said at once, not with the next step.
                checked = first_checked(&mut self.checking) => {
                    self.take_checked(checked).await?;
                    continue;
                }
            };
            let Some(step) = step else { break };
            match step {
                Step::Open(_) => return Err(convert::bad("the upload is open already").into()),
                Step::Ask(ask) => answer(answers, self.ask(&ask).await?).await?,
                Step::Data(data) => self.receive(data).await?,
                Step::Commit(commit) => {
                    let (step, is_done) = self.commit(commit).await?;
                    answer(answers, step).await?;
                    if is_done {
                        return Ok(());
                    }
                }
            }
        }
        self.finish_checks().await?;
        Err(Status::cancelled("the client ended the push without a commit"))
    }

    async fn ask(&mut self, ask: &v1::Ask) -> Result<push_response::Step, Error> {
        let kind = convert::purpose(ask.kind)?;
        let send = self.upload.ask(kind, convert::ids(&ask.ids, MAX_ASK_IDS)?).await?;
        let mut bits = vec![0u8; send.len().div_ceil(8)];
        for (n, _) in send.iter().enumerate().filter(|(_, send)| **send) {
            bits[n / 8] |= 1 << (n % 8);
        }
        Ok(push_response::Step::Answer(v1::Answer { send: bits.into() }))
    }

    async fn receive(&mut self, data: v1::Data) -> Result<(), Error> {
        let purpose = convert::purpose(data.kind)?;
        let objects = data.objects.into_iter().map(convert::object).collect::<Result<Vec<_>, _>>()?;
        let checking = self.service.checking.clone();
        let check = tokio::spawn(async move { checking.run(move || check_all(purpose, objects)).await });
        self.checking.push_back((purpose, check));
        while self.checking.len() > CHECKS_IN_FLIGHT
            || self.checking.front().is_some_and(|(_, check)| check.is_finished())
        {
            self.store_next().await?;
        }
        Ok(())
    }

    async fn store_next(&mut self) -> Result<(), Error> {
        let checked = first_checked(&mut self.checking).await;
        self.take_checked(checked).await
    }

    /// Stores what the oldest check let through.
    async fn take_checked(&mut self, checked: Result<(Purpose, Vec<(ObjectId, Payload)>), Error>) -> Result<(), Error> {
        self.checking.pop_front();
        let (purpose, objects) = checked?;
        self.upload.store(purpose, objects).await
    }

    async fn finish_checks(&mut self) -> Result<(), Error> {
        while !self.checking.is_empty() {
            self.store_next().await?;
        }
        Ok(())
    }

    /// The answer to a commit, and whether the push is over.
    async fn commit(&mut self, commit: v1::Commit) -> Result<(push_response::Step, bool), Error> {
        self.finish_checks().await?;
        let request = commit_request(commit)?;
        Ok(match self.upload.commit(request).await? {
            UploadOutcome::Committed(version) => (committed(&self.service, &version).await?, true),
            UploadOutcome::Missing(missing) => (missing_step(&missing), false),
        })
    }
}

/// The outcome of the oldest check, to be taken with [`Session::take_checked`]; waits for ever when there is none.
async fn first_checked(
    checking: &mut VecDeque<(Purpose, JoinHandle<Checked>)>,
) -> Result<(Purpose, Vec<(ObjectId, Payload)>), Error> {
    let Some((purpose, check)) = checking.front_mut() else { return std::future::pending().await };
    let objects =
        check.await.map_err(|error| Error::TaskFailed { what: "checking received data", why: error.to_string() })??;
    Ok((*purpose, objects))
}

fn check_all(purpose: Purpose, objects: Vec<(ObjectId, Payload)>) -> Checked {
    let mut scratch = Vec::new();
    for (id, payload) in &objects {
        store::check(purpose, *id, payload, &mut scratch)?;
    }
    Ok(objects)
}

fn commit_request(commit: v1::Commit) -> Result<CommitRequest, Error> {
    if commit.content_record.len() > MAX_CONTENT_RECORD_BYTES
        || commit.tags.len() > MAX_COMMIT_TAGS
        || commit.who.len() > MAX_WHO_BYTES
    {
        return Err(convert::bad("the commit's record, tags or name are longer than allowed"));
    }
    let tags = commit.tags.iter().map(|tag| convert::tag(tag)).collect::<Result<_, _>>()?;
    Ok(CommitRequest { content_record: commit.content_record, tags, who: commit.who })
}

fn missing_step(missing: &Missing) -> push_response::Step {
    let join = |ids: &mut dyn Iterator<Item = &[u8; 32]>| -> Bytes { ids.flatten().copied().collect() };
    push_response::Step::Missing(v1::Missing {
        chunk_ids: join(&mut missing.chunks.iter().map(ChunkId::as_bytes)),
        node_ids: join(&mut missing.nodes.iter().map(NodeId::as_bytes)),
    })
}

async fn committed(service: &Service, version: &VersionRecord) -> Result<push_response::Step, Error> {
    Ok(push_response::Step::Committed(queries::describe_version(&service.store, version).await?))
}

async fn next_step(steps: &mut Streaming<v1::PushRequest>) -> Result<Option<Step>, Status> {
    match steps.message().await? {
        Some(v1::PushRequest { step: Some(step) }) => Ok(Some(step)),
        Some(_) => Err(convert::bad("a step of this push is empty or unknown").into()),
        None => Ok(None),
    }
}

/// Waits only for a client that breaks the limits: the queue has room for those that keep them.
async fn answer(answers: &Sender<Result<v1::PushResponse, Status>>, step: push_response::Step) -> Result<(), Status> {
    match answers.send_timeout(Ok(v1::PushResponse { step: Some(step) }), STALLED).await {
        Ok(()) => Ok(()),
        Err(_) => Err(Status::cancelled("the client does not read the answers")),
    }
}
