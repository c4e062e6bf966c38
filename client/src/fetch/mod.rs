//! Fetches trees and chunks, and believes neither: a tree must give the version's root, a chunk its id.

mod asking;
mod pending;
mod run;
mod taker;
mod tree;

use std::{pin::pin, sync::Arc};

use futures::TryStreamExt;
use imprint_content::ChunkId;
use imprint_proto::limits::MAX_UNANSWERED_FETCHES;
use tokio::sync::mpsc::{self, Receiver};
use tokio_stream::wrappers::ReceiverStream;

use self::{
    asking::{Asker, list_offsets},
    pending::Pending,
    taker::Taker,
};
use crate::{Error, Progress, Repository, Version};

/// A chunk that is wanted, and where in the image.
#[derive(Debug, Clone)]
pub(crate) struct Need {
    pub(crate) offset: u64,
    pub(crate) id: ChunkId,
    pub(crate) length: u64,
    /// Further places with the same chunk.
    pub(crate) also: Vec<u64>,
}

/// What a fetch moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Fetched {
    pub(crate) chunks: u64,
    pub(crate) stored_bytes: u64,
}

/// Takes bytes that were checked, and their offset in the image: one chunk, or neighbours together. Runs on a blocking
/// thread.
pub(crate) type Accept = Arc<dyn Fn(u64, &[u8]) -> Result<(), Error> + Send + Sync>;

/// Fetches all that comes through `needs`, each list in one or more requests, and gives each chunk to `accept`. When
/// the connection breaks, what was asked for and has not arrived is asked for again on the next one. When this returns,
/// also with an error, `accept` is not called any more.
pub(crate) async fn fetch_chunks(
    repository: &Repository,
    version: &Version,
    needs: Receiver<Vec<Need>>,
    accept: Accept,
    progress: &Arc<Progress>,
) -> Result<Fetched, Error> {
    let mut taker = Taker::new(accept, Arc::clone(progress));
    let asked = fetch_over_streams(repository, version, needs, &mut taker, progress).await;
    // After an error, too: who is told of it writes, or closes, what `accept` would still write to.
    let finished = taker.finish().await;
    asked.and(finished)
}

async fn fetch_over_streams(
    repository: &Repository,
    version: &Version,
    needs: Receiver<Vec<Need>>,
    taker: &mut Taker,
    progress: &Arc<Progress>,
) -> Result<(), Error> {
    let (lists, mut queue) = mpsc::channel(1);
    let pending = Pending::default();
    let listing = tokio::spawn(list_offsets(needs, lists, pending.clone()));
    let mut patience = repository.patience();
    let mut arrived = 0;
    loop {
        match fetch_over_one_stream(repository, version, &mut queue, &pending, taker).await {
            Ok(()) => break,
            Err(error) => {
                if taker.fetched.chunks > arrived {
                    patience.renew();
                }
                arrived = taker.fetched.chunks;
                if let Err(error) = patience.wait_after(error, progress).await {
                    listing.abort();
                    return Err(error);
                }
            }
        }
    }
    listing.await.map_err(|_| Error::WorkerStopped)
}

async fn fetch_over_one_stream(
    repository: &Repository,
    version: &Version,
    lists: &mut Receiver<Vec<u64>>,
    pending: &Pending,
    taker: &mut Taker,
) -> Result<(), Error> {
    let (requests, queue) = mpsc::channel(MAX_UNANSWERED_FETCHES);
    let asker = Asker { version: Some(version.key()), requests, stream: pending.next_stream() };
    let asking = asker.run(lists, pending);
    let receiving = async {
        let mut messages = repository.client().fetch_chunks(ReceiverStream::new(queue)).await?.into_inner();
        while let Some(message) = messages.message().await? {
            taker.take(message, pending).await?;
        }
        Ok::<_, Error>(())
    };
    let (mut asking, mut receiving) = (pin!(asking), pin!(receiving));
    let all_asked = tokio::select! {
        received = &mut receiving => received.map(|()| false)?,
        asked = &mut asking => {
            receiving.await?;
            asked
        }
    };
    // A connection that broke is an error above. Here the server says that it is done.
    match pending.len() {
        0 if all_asked => Ok(()),
        0 => Err(Error::Protocol("a stream of chunks ended before all were asked for".into())),
        left => Err(Error::Protocol(format!("{left} chunks were not sent"))),
    }
}

/// Reads the rest of a stream's messages for the status that ended it.
pub(crate) async fn final_error<T>(messages: &mut tonic::Streaming<T>) -> Option<Error> {
    messages.try_for_each(|_| async { Ok(()) }).await.err().map(Error::from)
}
