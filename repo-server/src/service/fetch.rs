//! Serves trees and chunks.

use futures::{StreamExt, TryStreamExt, stream};
use imprint_content::{Extent, tree::Node};
use imprint_proto::{
    limits::{MAX_FETCH_OFFSETS, TARGET_MESSAGE_BYTES},
    v1,
};
use tokio::sync::mpsc::{self, Sender};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::{
    Error,
    catalog::VersionRecord,
    store::{ChunkReader, FetchedChunk, Store, TreePiece, TreeWalk},
};

use super::{Answers, STALLED, Service, convert};

/// Messages of about 1 MiB that wait for a slow client.
const QUEUED_MESSAGES: usize = 4;

pub(super) async fn tree(
    service: Service,
    request: v1::FetchTreeRequest,
) -> Result<Answers<v1::FetchTreeResponse>, Error> {
    let store = &service.store;
    let version = store.version(convert::version_key(request.version)?).await?;
    let have = match request.have {
        Some(key) => Some(store.version(convert::version_key(Some(key))?).await?),
        None => None,
    };
    let walk = service.unless_stopped(noting_damage(store, store.walk_tree(&version, have.as_ref()))).await??;
    let state = (service, walk, request.with_stored_lengths);
    let messages = stream::try_unfold(state, |(service, mut walk, with_lengths)| async move {
        let pieces = noting_damage(&service.store, next_pieces(&service.store, &mut walk, with_lengths));
        let message = service.unless_stopped(pieces).await??;
        Ok::<_, Error>((!message.pieces.is_empty()).then_some((message, (service, walk, with_lengths))))
    });
    Ok(messages.map_err(Status::from).boxed())
}

/// Reads for a client. What cannot be read is quarantined before the client hears of it: it is told to push it again.
async fn noting_damage<T>(store: &Store, reading: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match reading.await {
        Ok(read) => Ok(read),
        Err(error) => Err(store.met(error).await),
    }
}

async fn next_pieces(store: &Store, walk: &mut TreeWalk, with_lengths: bool) -> Result<v1::FetchTreeResponse, Error> {
    let mut message = v1::FetchTreeResponse::default();
    let mut bytes = 0;
    while bytes < TARGET_MESSAGE_BYTES {
        let Some(piece) = walk.next().await? else { break };
        let piece = match piece {
            TreePiece::Leaf(extents) => leaf_piece(store, extents, with_lengths).await?,
            TreePiece::Shared(length) => {
                v1::TreePiece { piece: Some(v1::tree_piece::Piece::Shared(length)), stored_lengths: Vec::new() }
            }
        };
        bytes += prost::Message::encoded_len(&piece);
        message.pieces.push(piece);
    }
    Ok(message)
}

async fn leaf_piece(store: &Store, extents: Vec<Extent>, with_lengths: bool) -> Result<v1::TreePiece, Error> {
    let stored_lengths = match with_lengths {
        true => store.stored_lengths(&extents).await?,
        false => Vec::new(),
    };
    let leaf = Node::Leaf(extents).encode().into();
    Ok(v1::TreePiece { piece: Some(v1::tree_piece::Piece::Leaf(leaf)), stored_lengths })
}

pub(super) fn chunks(
    service: Service,
    requests: Streaming<v1::FetchChunksRequest>,
) -> Answers<v1::FetchChunksResponse> {
    let (answers, queue) = mpsc::channel(QUEUED_MESSAGES);
    tokio::spawn(async move {
        if let Err(status) = serve_chunks(service, requests, &answers).await {
            let _ = answers.send_timeout(Err(status), STALLED).await;
        }
    });
    ReceiverStream::new(queue).boxed()
}

async fn serve_chunks(
    service: Service,
    mut requests: Streaming<v1::FetchChunksRequest>,
    answers: &Sender<Result<v1::FetchChunksResponse, Status>>,
) -> Result<(), Status> {
    let Some(mut request) = service.unless_stopped(requests.message()).await?? else { return Ok(()) };
    let version: VersionRecord = service.store.version(convert::version_key(request.version.take())?).await?;
    let reading = noting_damage(&service.store, service.store.read_chunks(&version));
    let mut reader = service.unless_stopped(reading).await??;
    loop {
        if request.offsets.len() > MAX_FETCH_OFFSETS {
            return Err(convert::bad(format!("at most {MAX_FETCH_OFFSETS} chunks may be asked for at once")).into());
        }
        // Only while a request is served: a client that writes to a slow disk keeps nobody out.
        let turn = service.turn("fetches", &service.fetches, service.limits.fetches).await?;
        let answered = service.unless_stopped(answer(&mut reader, &request.offsets, answers)).await?;
        // Looking at what could not be read keeps nobody out either.
        drop(turn);
        if service.unless_stopped(noting_damage(&service.store, async { answered })).await?? == Reader::Gone {
            return Ok(());
        }
        match service.unless_stopped(requests.message()).await?? {
            Some(next) => request = next,
            None => return Ok(()),
        }
    }
}

#[derive(PartialEq)]
enum Reader {
    Reads,
    /// It went away or stalled.
    Gone,
}

async fn answer(
    reader: &mut ChunkReader,
    offsets: &[u64],
    answers: &Sender<Result<v1::FetchChunksResponse, Status>>,
) -> Result<Reader, Error> {
    let mut groups = Box::pin(reader.read(offsets).await?);
    while let Some(group) = groups.try_next().await? {
        let chunks = group.into_iter().map(fetched_message).collect();
        if answers.send_timeout(Ok(v1::FetchChunksResponse { chunks }), STALLED).await.is_err() {
            return Ok(Reader::Gone);
        }
    }
    Ok(Reader::Reads)
}

fn fetched_message(chunk: FetchedChunk) -> v1::FetchedChunk {
    v1::FetchedChunk {
        offset: chunk.offset,
        codec: chunk.codec.number().into(),
        raw_length: chunk.raw_length,
        stored: chunk.stored,
    }
}
