//! A server that lies, by defect or on purpose: the client believes nothing that it can compute itself.
//!
//! A proxy stands between the client and an honest server and changes some of its answers. Whatever it says, a restore
//! delivers exactly the version or fails, and a push never succeeds without a version.
#![allow(clippy::type_complexity)] // tables of lies

use std::{
    fs,
    path::{Path, PathBuf},
    pin::Pin,
    time::Duration,
};

use bytes::Bytes;
use imprint_client::{Error, PushOptions, source::Source};
use imprint_content::{Extent, tree::Node};
use imprint_proto::{
    Kind,
    limits::MAX_MESSAGE_BYTES,
    v1::{
        self, push_request, push_response,
        repository_server::{Repository, RepositoryServer},
        tree_piece::Piece,
    },
};
use imprint_tests::{
    client::Client,
    files::{assert_same, write},
    random::Random,
    server::Loopback,
    wire::{self, Wire},
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Chunks = v1::FetchChunksResponse;
type Tree = v1::FetchTreeResponse;

/// What is done to answers.
#[derive(Clone, Copy)]
struct Lies {
    chunks: fn(&mut Chunks),
    tree: fn(&mut Tree),
    version: fn(&mut v1::Version),
    push: fn(&mut push_response::Step),
    /// No lie, but somebody else who removes each base before the push on it is opened.
    removes_bases: bool,
}

const HONEST: Lies = Lies { chunks: |_| {}, tree: |_| {}, version: |_| {}, push: |_| {}, removes_bases: false };

struct Proxy {
    honest: Wire,
    lies: Lies,
}

fn changed<T: Send + 'static>(
    answers: Response<Streaming<T>>,
    lie: impl Fn(&mut T) + Send + 'static,
) -> Response<Answers<T>> {
    let changed = answers.into_inner().map(move |answer| {
        answer.map(|mut answer| {
            lie(&mut answer);
            answer
        })
    });
    Response::new(Box::pin(changed))
}

#[tonic::async_trait]
impl Repository for Proxy {
    type PushStream = Answers<v1::PushResponse>;
    type FetchTreeStream = Answers<Tree>;
    type FetchChunksStream = Answers<Chunks>;
    type ListVersionsStream = Answers<v1::Version>;
    type ListImagesStream = Answers<v1::Image>;
    type ForgetVersionsStream = Answers<v1::VersionFate>;
    type ListRemovedStream = Answers<v1::RemovedVersion>;
    type CollectStream = Answers<v1::CollectResponse>;
    type ScrubStream = Answers<v1::ScrubResponse>;

    async fn describe(&self, request: Request<v1::DescribeRequest>) -> Result<Response<v1::DescribeResponse>, Status> {
        self.honest.clone().describe(request.into_inner()).await
    }

    async fn push(&self, request: Request<Streaming<v1::PushRequest>>) -> Result<Response<Self::PushStream>, Status> {
        let lie = self.lies.push;
        let mut requests = request.into_inner();
        let first = requests.message().await?;
        if let Some(v1::PushRequest { step: Some(push_request::Step::Open(v1::OpenUpload { base, .. })) }) = &first
            && self.lies.removes_bases
            && base.is_some()
        {
            self.honest.clone().remove_version(v1::RemoveVersionRequest { version: base.clone() }).await?;
        }
        let requests = tokio_stream::iter(first).chain(requests.map_while(Result::ok));
        let answers = self.honest.clone().push(requests).await?;
        Ok(changed(answers, move |answer| answer.step.iter_mut().for_each(lie)))
    }

    async fn fetch_tree(
        &self,
        request: Request<v1::FetchTreeRequest>,
    ) -> Result<Response<Self::FetchTreeStream>, Status> {
        Ok(changed(self.honest.clone().fetch_tree(request.into_inner()).await?, self.lies.tree))
    }

    async fn fetch_chunks(
        &self,
        request: Request<Streaming<v1::FetchChunksRequest>>,
    ) -> Result<Response<Self::FetchChunksStream>, Status> {
        let requests = request.into_inner().map_while(Result::ok);
        Ok(changed(self.honest.clone().fetch_chunks(requests).await?, self.lies.chunks))
    }

    async fn get_version(&self, request: Request<v1::GetVersionRequest>) -> Result<Response<v1::Version>, Status> {
        let mut version = self.honest.clone().get_version(request.into_inner()).await?.into_inner();
        (self.lies.version)(&mut version);
        Ok(Response::new(version))
    }

    async fn list_versions(
        &self,
        request: Request<v1::ListVersionsRequest>,
    ) -> Result<Response<Self::ListVersionsStream>, Status> {
        Ok(changed(self.honest.clone().list_versions(request.into_inner()).await?, self.lies.version))
    }

    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Result<Response<Self::ListImagesStream>, Status> {
        Ok(changed(self.honest.clone().list_images(request.into_inner()).await?, |_| {}))
    }

    async fn set_tag(&self, request: Request<v1::SetTagRequest>) -> Result<Response<v1::Tag>, Status> {
        self.honest.clone().set_tag(request.into_inner()).await
    }

    async fn remove_tag(
        &self,
        request: Request<v1::RemoveTagRequest>,
    ) -> Result<Response<v1::RemoveTagResponse>, Status> {
        self.honest.clone().remove_tag(request.into_inner()).await
    }

    async fn remove_version(
        &self,
        request: Request<v1::RemoveVersionRequest>,
    ) -> Result<Response<v1::RemoveVersionResponse>, Status> {
        self.honest.clone().remove_version(request.into_inner()).await
    }

    async fn forget_versions(
        &self,
        request: Request<v1::ForgetVersionsRequest>,
    ) -> Result<Response<Self::ForgetVersionsStream>, Status> {
        Ok(changed(self.honest.clone().forget_versions(request.into_inner()).await?, |_| {}))
    }

    async fn list_removed(
        &self,
        request: Request<v1::ListRemovedRequest>,
    ) -> Result<Response<Self::ListRemovedStream>, Status> {
        Ok(changed(self.honest.clone().list_removed(request.into_inner()).await?, |_| {}))
    }

    async fn collect(&self, request: Request<v1::CollectRequest>) -> Result<Response<Self::CollectStream>, Status> {
        Ok(changed(self.honest.clone().collect(request.into_inner()).await?, |_| {}))
    }

    async fn scrub(&self, request: Request<v1::ScrubRequest>) -> Result<Response<Self::ScrubStream>, Status> {
        Ok(changed(self.honest.clone().scrub(request.into_inner()).await?, |_| {}))
    }

    async fn undelete_version(
        &self,
        request: Request<v1::UndeleteVersionRequest>,
    ) -> Result<Response<v1::Version>, Status> {
        self.honest.clone().undelete_version(request.into_inner()).await
    }

    async fn pin_version(
        &self,
        request: Request<v1::PinVersionRequest>,
    ) -> Result<Response<v1::PinVersionResponse>, Status> {
        self.honest.clone().pin_version(request.into_inner()).await
    }

    async fn unpin_version(
        &self,
        request: Request<v1::UnpinVersionRequest>,
    ) -> Result<Response<v1::UnpinVersionResponse>, Status> {
        self.honest.clone().unpin_version(request.into_inner()).await
    }

    async fn get_stats(&self, request: Request<v1::GetStatsRequest>) -> Result<Response<v1::Stats>, Status> {
        self.honest.clone().get_stats(request.into_inner()).await
    }
}

/// An honest server with `lab/pc@1`, its source, and room for more.
struct Fixture {
    directory: TempDir,
    source: PathBuf,
    server: Loopback,
}

impl Fixture {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut content = Random::new(71).bytes(3 << 20);
        content[500_000..1_500_000].fill(0);
        content[2_000_000..2_100_000].fill(b'x');
        let source = write(directory.path(), "source.raw", &content);
        let server = Loopback::serve(&directory.path().join("repository")).await;
        Client::connect(&server.url()).await.push(&source, "lab/pc").await;
        Self { directory, source, server }
    }

    /// A client whose server lies like this.
    async fn client(&self, lies: Lies) -> Client {
        let proxy = Proxy { honest: wire::connect(&self.server.url()).await, lies };
        let service = RepositoryServer::new(proxy)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let incoming = TcpListenerStream::new(listener);
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        Client::connect(&url).await
    }

    /// What a restore of the version ends with; success must be true success.
    async fn restore(&self, lies: Lies) -> Result<(), Error> {
        let client = self.client(lies).await;
        let target = client.place("target.raw");
        let restored = in_time(client.try_restore("lab/pc@1", &target)).await;
        let is_remembered = client.memory.load(&target).unwrap().is_some_and(|held| held.complete);
        assert_eq!(is_remembered, restored.is_ok(), "{restored:?}");
        if restored.is_ok() {
            assert_same(&target, &self.source);
        }
        let verified = in_time(client.verify("lab/pc@1")).await;
        assert_eq!(verified.is_ok(), restored.is_ok(), "{verified:?} {restored:?}");
        restored.map(drop)
    }

    async fn push(&self, lies: Lies, source: &Path) -> Result<(), Error> {
        let client = self.client(lies).await;
        let source = Source::open(source).unwrap();
        in_time(client.try_push(source, "lab/pushed", PushOptions::default())).await.map(drop)
    }
}

async fn in_time<T>(operation: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), operation).await.expect("it hangs")
}

fn first(chunks: &mut Chunks) -> Option<&mut v1::FetchedChunk> {
    chunks.chunks.first_mut()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_can_be_honest() {
    let fixture = Fixture::new().await;
    fixture.restore(HONEST).await.unwrap();
    fixture.push(HONEST, &fixture.source).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_are_not_what_was_asked_for_are_never_written() {
    let fixture = Fixture::new().await;
    let lies: [(&str, fn(&mut Chunks)); 13] = [
        ("another byte", |chunks| {
            if let Some(chunk) = first(chunks) {
                let mut raw = match chunk.codec {
                    0 => chunk.stored.to_vec(),
                    _ => zstd::bulk::decompress(&chunk.stored, 1 << 20).unwrap(),
                };
                raw[7] ^= 1;
                (chunk.codec, chunk.stored) = (0, raw.into());
            }
        }),
        ("zeros", |chunks| {
            if let Some(chunk) = first(chunks) {
                (chunk.codec, chunk.stored) = (0, vec![0; chunk.raw_length as usize].into());
            }
        }),
        ("nothing", |chunks| first(chunks).into_iter().for_each(|chunk| chunk.stored = Bytes::new())),
        ("no length", |chunks| first(chunks).into_iter().for_each(|chunk| chunk.raw_length = 0)),
        ("a huge length", |chunks| first(chunks).into_iter().for_each(|chunk| chunk.raw_length = u32::MAX)),
        ("one byte less", |chunks| first(chunks).into_iter().for_each(|chunk| chunk.raw_length -= 1)),
        ("an unknown codec", |chunks| first(chunks).into_iter().for_each(|chunk| chunk.codec = 9)),
        ("a bomb", |chunks| {
            if let Some(chunk) = first(chunks) {
                (chunk.codec, chunk.stored) = (1, zstd::bulk::compress(&vec![0; 1 << 28], 1).unwrap().into());
            }
        }),
        ("two chunks that changed places", |chunks| {
            if let [one, .., two] = &mut chunks.chunks[..] {
                std::mem::swap(&mut one.offset, &mut two.offset);
            }
        }),
        ("a place that was not asked about", |chunks| first(chunks).into_iter().for_each(|chunk| chunk.offset += 1)),
        ("the same twice", |chunks| {
            let again = chunks.chunks.first().cloned();
            chunks.chunks.extend(again);
        }),
        ("one too few", |chunks| drop(chunks.chunks.pop())),
        ("none at all", |chunks| chunks.chunks.clear()),
    ];
    for (what, chunks) in lies {
        let error = fixture.restore(Lies { chunks, ..HONEST }).await.expect_err(what);
        println!("{what}: {error}");
        assert_eq!(error.kind(), Kind::Corrupt, "{what}: {error:?}");
    }
}

/// Changes the extents of the first leaf.
fn in_first_leaf(tree: &mut Tree, change: impl FnOnce(&mut Vec<Extent>)) {
    if let Some(v1::TreePiece { piece: Some(Piece::Leaf(encoded)), .. }) = tree.pieces.first_mut() {
        let Ok(Node::Leaf(mut extents)) = Node::decode(encoded) else { panic!("no leaf") };
        change(&mut extents);
        *encoded = Node::Leaf(extents).encode().into();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_that_are_not_the_versions_are_never_used() {
    let fixture = Fixture::new().await;
    let lies: [(&str, fn(&mut Tree)); 10] = [
        ("another chunk", |tree| in_first_leaf(tree, |extents| extents[0] = *extents.last().unwrap())),
        ("zeros for data", |tree| in_first_leaf(tree, |extents| extents[0] = Extent::zero(extents[0].length))),
        ("one extent less", |tree| in_first_leaf(tree, |extents| extents.truncate(extents.len() - 1))),
        ("one extent more", |tree| in_first_leaf(tree, |extents| extents.push(Extent::zero(5)))),
        ("no extents", |tree| in_first_leaf(tree, Vec::clear)),
        ("no leaves", |tree| tree.pieces.clear()),
        ("an empty piece", |tree| tree.pieces.push(v1::TreePiece::default())),
        ("garbage", |tree| {
            tree.pieces.push(v1::TreePiece { piece: Some(Piece::Leaf(vec![7; 99].into())), stored_lengths: vec![] });
        }),
        ("what we never said we have", |tree| {
            tree.pieces.push(v1::TreePiece { piece: Some(Piece::Shared(4096)), stored_lengths: vec![] });
        }),
        ("more than there can be", |tree| {
            tree.pieces.push(v1::TreePiece { piece: Some(Piece::Shared(u64::MAX)), stored_lengths: vec![] });
        }),
    ];
    for (what, tree) in lies {
        let error = fixture.restore(Lies { tree, ..HONEST }).await.expect_err(what);
        println!("{what}: {error}");
        assert_eq!(error.kind(), Kind::Corrupt, "{what}: {error:?}");
    }
}

/// desync#337: what a server says is no path, but an id, a name, or an error.
#[tokio::test(flavor = "multi_thread")]
async fn versions_that_are_not_what_their_id_says_are_refused() {
    let fixture = Fixture::new().await;
    let lies: [(&str, fn(&mut v1::Version)); 6] = [
        ("another record", |version| {
            let mut record = version.content_record.to_vec();
            record[10] ^= 1;
            version.content_record = record.into();
        }),
        ("no record", |version| version.content_record = Bytes::new()),
        ("another id", |version| version.version_id = vec![7; 32].into()),
        ("half an id", |version| version.version_id.truncate(16)),
        ("a record that cannot be decoded", |version| {
            version.content_record = vec![7; 50].into();
            let id = imprint_content::VersionId::of(&version.content_record);
            version.version_id = Bytes::copy_from_slice(id.as_bytes());
        }),
        ("a path as its name", |version| version.image = "../../etc/passwd".into()),
    ];
    for (what, version) in lies {
        let error = fixture.restore(Lies { version, ..HONEST }).await.expect_err(what);
        println!("{what}: {error}");
        let client = fixture.client(Lies { version, ..HONEST }).await;
        assert!(client.repository.versions(&imprint_tests::client::name("lab/pc")).await.is_err(), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_not_led_astray() {
    let fixture = Fixture::new().await;
    let lies: [(&str, fn(&mut push_response::Step)); 7] = [
        ("answers that are too short", |step| {
            if let push_response::Step::Answer(answer) = step {
                answer.send = Bytes::new();
            }
        }),
        ("answers that are too long", |step| {
            if let push_response::Step::Answer(answer) = step {
                answer.send = vec![0xFF; 1000].into();
            }
        }),
        ("an answer instead of an opened upload", |step| {
            if let push_response::Step::Opened(_) = step {
                *step = push_response::Step::Answer(v1::Answer::default());
            }
        }),
        ("chunks that it does not have", |step| {
            if let push_response::Step::Committed(_) = step {
                let chunk_ids = vec![7; 32].into();
                *step = push_response::Step::Missing(v1::Missing { chunk_ids, node_ids: Bytes::new() });
            }
        }),
        ("half an id", |step| {
            if let push_response::Step::Committed(_) = step {
                let chunk_ids = vec![7; 48].into();
                *step = push_response::Step::Missing(v1::Missing { chunk_ids, node_ids: Bytes::new() });
            }
        }),
        ("a version that is not what its id says", |step| {
            if let push_response::Step::Committed(version) = step {
                version.version_id = vec![7; 32].into();
            }
        }),
        ("a commit that nobody asked for", |step| {
            if let push_response::Step::Opened(_) = step {
                *step = push_response::Step::Committed(v1::Version::default());
            }
        }),
    ];
    for (n, (what, push)) in (0..).zip(lies) {
        // Something new each time, so that there is something to be asked about.
        let source = write(fixture.directory.path(), "pushed.raw", &Random::new(80 + n).bytes(1_000_000));
        let error = fixture.push(Lies { push, ..HONEST }, &source).await.expect_err(what);
        println!("{what}: {error}");
        assert_eq!(error.kind(), Kind::Corrupt, "{what}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_claims_to_have_everything_is_found_out_by_the_commit() {
    let fixture = Fixture::new().await;
    let source = write(fixture.directory.path(), "pushed.raw", &Random::new(90).bytes(1_000_000));
    // The answers say "do not send it"; the commit says what is missing, and the client sends it.
    let push: fn(&mut push_response::Step) = |step| {
        if let push_response::Step::Answer(answer) = step {
            answer.send = vec![0; answer.send.len()].into();
        }
    };
    fixture.push(Lies { push, ..HONEST }, &source).await.unwrap();
    let client = Client::connect(&fixture.server.url()).await;
    let target = client.place("target.raw");
    client.restore("lab/pushed", &target).await;
    assert_same(&target, &source);
    fs::remove_file(source).unwrap();
}

/// One of the field's usual races: who keeps `--keep-last 1` while others push.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_whose_base_is_removed_takes_the_one_before() {
    let fixture = Fixture::new().await;
    for n in 0..2 {
        let source = write(fixture.directory.path(), "pushed.raw", &Random::new(100 + n).bytes(1_000_000));
        fixture.push(HONEST, &source).await.unwrap();
    }
    let source = write(fixture.directory.path(), "pushed.raw", &Random::new(110).bytes(1_000_000));
    fixture.push(Lies { removes_bases: true, ..HONEST }, &source).await.unwrap();
    let client = Client::connect(&fixture.server.url()).await;
    let versions = client.repository.versions(&imprint_tests::client::name("lab/pushed")).await.unwrap();
    assert_eq!(versions.iter().map(|version| version.number).collect::<Vec<_>>(), [3], "both bases were removed");
    let target = client.place("target.raw");
    client.restore("lab/pushed@3", &target).await;
    assert_same(&target, &source);
}
