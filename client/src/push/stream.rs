//! One stream of a push.

use imprint_proto::v1::{self, push_request::Step, push_response};
use tokio::sync::mpsc::{self, Sender};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::{Error, Repository, Version, fetch::final_error};

/// Messages that wait to be sent.
const QUEUED_REQUESTS: usize = 4;

/// Both directions of an open upload.
pub(super) struct Stream {
    pub(super) requests: Sender<v1::PushRequest>,
    pub(super) responses: Streaming<v1::PushResponse>,
}

/// What opening an upload found.
pub(super) enum Opened {
    /// It is open.
    Stream(Box<Stream>, v1::Opened),
    /// It was committed before.
    Committed(Box<Version>),
}

impl Stream {
    pub(super) async fn open(repository: &Repository, open: v1::OpenUpload) -> Result<Opened, Error> {
        let (requests, queue) = mpsc::channel(QUEUED_REQUESTS);
        let first = v1::PushRequest { step: Some(Step::Open(open)) };
        requests.send(first).await.map_err(|_| Error::WorkerStopped)?;
        let mut responses = repository.client().push(ReceiverStream::new(queue)).await?.into_inner();
        match next(&mut responses).await? {
            push_response::Step::Opened(opened) => Ok(Opened::Stream(Box::new(Self { requests, responses }), opened)),
            push_response::Step::Committed(version) => Ok(Opened::Committed(Box::new(Version::from_wire(version)?))),
            _ => Err(Error::Protocol("an upload was not opened".into())),
        }
    }

    /// A closed stream is only the symptom: the repository has said why.
    pub(super) async fn explain(&mut self, error: Error) -> Error {
        if !matches!(error, Error::StreamClosed) {
            return error;
        }
        final_error(&mut self.responses).await.unwrap_or(error)
    }
}

pub(super) async fn send(requests: &Sender<v1::PushRequest>, step: Step) -> Result<(), Error> {
    requests.send(v1::PushRequest { step: Some(step) }).await.map_err(|_| Error::StreamClosed)
}

pub(super) async fn next(responses: &mut Streaming<v1::PushResponse>) -> Result<push_response::Step, Error> {
    match responses.message().await? {
        Some(v1::PushResponse { step: Some(step) }) => Ok(step),
        Some(_) => Err(Error::Protocol("an answer is empty or unknown".into())),
        None => Err(Error::StreamClosed),
    }
}
