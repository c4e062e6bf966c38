//! Messages as the service handles them: whatever a client sends, it hears of a mistake of its own or is served, and what
//! others stored stays as it was.

use std::{
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use bytes::Bytes;
use imprint_proto::v1::{self, push_request::Step, push_response};
use imprint_tests::{
    client::Client,
    files::{self, are_same},
    random::Random,
    server::Loopback,
    wire::{self, RawPush, Wire},
};
use prost::Message;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tonic::{Code, Request, Status};

use crate::{corpus, fuzz_time};

/// Bytes of input for one message.
const PART: usize = 32;

struct Fixture {
    runtime: Runtime,
    directory: TempDir,
    client: Client,
    wire: Wire,
    samples: Vec<Vec<u8>>,
    uploads: AtomicU64,
    _server: Loopback,
}

impl Fixture {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let disk = files::write(directory.path(), "disk.raw", &Random::new(31).bytes(300_000));
        let (server, client, wire) = runtime.block_on(async {
            let server = Loopback::serve(&directory.path().join("repository")).await;
            let client = Client::connect(&server.url()).await;
            for image in ["lab/pc", "honest"] {
                client.push(&disk, image).await;
            }
            let wire = wire::connect(&server.url()).await;
            (server, client, wire)
        });
        let samples = corpus::samples("wire_message");
        Self { runtime, directory, client, wire, samples, uploads: AtomicU64::new(0), _server: server }
    }

    /// A push of messages that were changed, up to its end.
    async fn push(&self, input: &[u8]) {
        let mut push = RawPush::start(&self.wire).await;
        if input.first().is_some_and(|byte| byte % 4 != 0) {
            let mut id = [9; 16];
            id[..8].copy_from_slice(&self.uploads.fetch_add(1, Relaxed).to_le_bytes());
            push.send(Step::Open(wire::open("lab/new", id))).await;
        }
        for part in input.chunks(PART).take(8) {
            let message = corpus::edited("wire_message", &self.samples, part);
            if let Some(request) = message.and_then(|message| v1::PushRequest::decode(&*message).ok()) {
                push.send_request(request).await;
            }
        }
        push.end();
        loop {
            match push.next().await {
                Ok(push_response::Step::Committed(_)) => return,
                Ok(_) => {}
                Err(status) => return assert_not_ours(&status),
            }
        }
    }

    /// A request of each kind that changes nothing, made of these bytes.
    async fn ask(&self, bytes: &Bytes) {
        let mut wire = self.wire.clone();
        macro_rules! call {
            ($($method:ident)*) => { $(
                if let Ok(request) = Message::decode(bytes.clone())
                    && let Err(status) = wire.$method(Request::new(request)).await
                {
                    assert_not_ours(&status);
                }
            )* };
        }
        call! { describe fetch_tree get_version list_versions set_tag remove_tag list_removed pin_version unpin_version undelete_version }
        if let Ok(request) = v1::FetchChunksRequest::decode(bytes.clone()) {
            let answers = wire.fetch_chunks(tokio_stream::iter([request.clone(), request])).await;
            let drained = match answers {
                Ok(answers) => drain(answers.into_inner()).await,
                Err(status) => Err(status),
            };
            drained.inspect_err(assert_not_ours).unwrap_or_default();
        }
    }

    async fn assert_nothing_changed(&self) {
        let target = self.directory.path().join("restored.raw");
        let _ = std::fs::remove_file(&target);
        self.client.restore("honest@1", &target).await;
        assert!(are_same(&target, &self.directory.path().join("disk.raw")));
        assert_eq!(self.client.versions("honest").await.len(), 1);
    }
}

async fn drain<T>(mut answers: tonic::Streaming<T>) -> Result<(), Status> {
    while answers.message().await?.is_some() {}
    Ok(())
}

/// A panic, a failed task, or damage: none of that may come from a message.
fn assert_not_ours(status: &Status) {
    assert!(!matches!(status.code(), Code::Internal | Code::Unknown | Code::DataLoss), "{status:?}");
}

#[test]
fn service() {
    let fixture = AssertUnwindSafe(Fixture::new());
    let rounds = AtomicU64::new(0);
    bolero::check!(name = "service")
        .with_iterations(usize::MAX)
        .with_test_time(fuzz_time() * 4)
        .with_max_len(8 * PART)
        .for_each(|input: &[u8]| {
            let fixture = &*fixture;
            fixture.runtime.block_on(async {
                fixture.push(input).await;
                let (kind, rest) = input.split_at(input.len().min(1));
                let bytes = match (kind, corpus::edited("wire_message", &fixture.samples, rest)) {
                    ([kind], Some(message)) if kind % 2 == 0 => message,
                    _ => rest.to_vec(),
                };
                fixture.ask(&bytes.into()).await;
                if rounds.fetch_add(1, Relaxed).is_multiple_of(256) {
                    fixture.assert_nothing_changed().await;
                }
            });
        });
    fixture.runtime.block_on(fixture.assert_nothing_changed());
    println!("{} pushes", rounds.load(Relaxed));
}
