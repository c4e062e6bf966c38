//! The store on the wire: `imprint.v1.Repository`.
//!
//! The same service answers on a socket and inside a client's process; it neither knows nor cares which.

mod collect;
mod convert;
mod fetch;
mod push;
mod queries;
mod retention;
mod scrub;
#[cfg(test)]
mod tests;

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures::Stream;
use imprint_proto::{
    limits::MAX_MESSAGE_BYTES,
    v1::{self, repository_server::RepositoryServer},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc::Sender, watch};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    Error,
    blocking::Blocking,
    store::{Control, Store},
};

/// How many streams are served, and how long one may be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Pushes served at once. Each keeps up to 9 messages, of 1 MiB from Imprint's own client and never above 4, two
    /// open packs with 1 MiB, and up to 150 bytes for each of at most 262 144 objects: some 15 MiB for an honest client,
    /// some 80 for a hostile one.
    pub pushes: usize,
    /// Requests for chunks served at once. Each keeps up to 4 reads and 5 answers of about 1 MiB. A stream that waits
    /// for its client's next request does not count.
    pub fetches: usize,
    /// How long a stream waits for its turn.
    pub turn: Duration,
    /// A push whose client sends nothing for so long, while nothing is expected from us, is sealed and ended. Long,
    /// because a client that hashes a large unchanged disk has nothing to say.
    pub idle_push: Duration,
    /// An upload that no stream used for so long is closed by the next collection: what it sent and relied on is then no longer
    /// kept for it. Pushing again sends what was collected.
    pub idle_upload: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pushes: 16,
            fetches: 64,
            turn: Duration::from_secs(30),
            idle_push: Duration::from_secs(3600),
            idle_upload: Duration::from_secs(24 * 3600),
        }
    }
}

/// A stream whose client takes nothing for this long is ended, so that it does not keep others out.
const STALLED: Duration = Duration::from_secs(300);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Serves one store.
#[derive(Clone)]
pub struct Service {
    store: Store,
    /// Decoding and hashing what clients send.
    checking: Blocking,
    limits: Limits,
    pushes: Arc<Semaphore>,
    fetches: Arc<Semaphore>,
    stopping: Arc<watch::Sender<bool>>,
}

/// The service of `store` with the protocol's limits, ready for a server or for a client in this process.
#[must_use]
pub fn server(store: Store) -> RepositoryServer<Service> {
    Service::new(store, Limits::default()).server()
}

impl Service {
    /// Serves `store`.
    #[must_use]
    pub fn new(store: Store, limits: Limits) -> Self {
        Self {
            store,
            checking: Blocking::for_this_machine(),
            limits,
            pushes: Arc::new(Semaphore::new(limits.pushes)),
            fetches: Arc::new(Semaphore::new(limits.fetches)),
            stopping: Arc::new(watch::Sender::new(false)),
        }
    }

    /// The same service with the protocol's limits on messages.
    #[must_use]
    pub fn server(&self) -> RepositoryServer<Self> {
        RepositoryServer::new(self.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Ends all streams with [`Error::Stopping`]; pushes seal what they received. New ones are refused.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Waits until no push is left, those included whose clients are gone: then all that was received is sealed.
    pub async fn ended(&self) {
        let pushes = u32::try_from(self.limits.pushes).unwrap_or(u32::MAX);
        let _ = self.pushes.acquire_many(pushes).await;
    }

    /// Finishes when the service is to stop; never otherwise.
    async fn stopped(&self) {
        // The sender lives as long as `self`.
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }

    /// Finishes when nobody waits for answers any more, or when the service is to stop.
    async fn wished_away<T>(&self, answers: &Sender<T>) {
        tokio::select! {
            () = answers.closed() => {}
            () = self.stopped() => {}
        }
    }

    /// Does work that is told to end when the service is to stop.
    async fn while_serving<P: Copy + Default, T>(&self, control: &Control<P>, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = self.stopped() => control.stop(),
        }
        work.await
    }

    /// Does what may take as long as a client likes, but not beyond the end of the service.
    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, Error> {
        tokio::select! {
            biased;
            () = self.stopped() => Err(Error::Stopping),
            done = work => Ok(done),
        }
    }

    async fn turn(
        &self,
        what: &'static str,
        among: &Arc<Semaphore>,
        limit: usize,
    ) -> Result<OwnedSemaphorePermit, Error> {
        let turn = tokio::time::timeout(self.limits.turn, Arc::clone(among).acquire_owned());
        match self.unless_stopped(turn).await? {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(Error::Stopping),
            Err(_) => Err(Error::Busy { what, limit }),
        }
    }
}

#[tonic::async_trait]
impl v1::repository_server::Repository for Service {
    type PushStream = Answers<v1::PushResponse>;
    type FetchTreeStream = Answers<v1::FetchTreeResponse>;
    type FetchChunksStream = Answers<v1::FetchChunksResponse>;
    type ListVersionsStream = Answers<v1::Version>;
    type ListImagesStream = Answers<v1::Image>;
    type CollectStream = Answers<v1::CollectResponse>;
    type ScrubStream = Answers<v1::ScrubResponse>;
    type ForgetVersionsStream = Answers<v1::VersionFate>;
    type ListRemovedStream = Answers<v1::RemovedVersion>;

    async fn describe(&self, _request: Request<v1::DescribeRequest>) -> Result<Response<v1::DescribeResponse>, Status> {
        Ok(Response::new(queries::describe(&self.store)))
    }

    async fn push(&self, request: Request<Streaming<v1::PushRequest>>) -> Result<Response<Self::PushStream>, Status> {
        Ok(Response::new(push::start(self.clone(), request.into_inner())))
    }

    async fn fetch_tree(
        &self,
        request: Request<v1::FetchTreeRequest>,
    ) -> Result<Response<Self::FetchTreeStream>, Status> {
        Ok(Response::new(fetch::tree(self.clone(), request.into_inner()).await?))
    }

    async fn fetch_chunks(
        &self,
        request: Request<Streaming<v1::FetchChunksRequest>>,
    ) -> Result<Response<Self::FetchChunksStream>, Status> {
        Ok(Response::new(fetch::chunks(self.clone(), request.into_inner())))
    }

    async fn get_version(&self, request: Request<v1::GetVersionRequest>) -> Result<Response<v1::Version>, Status> {
        Ok(Response::new(queries::version(&self.store, request.into_inner()).await?))
    }

    async fn list_versions(
        &self,
        request: Request<v1::ListVersionsRequest>,
    ) -> Result<Response<Self::ListVersionsStream>, Status> {
        Ok(Response::new(queries::versions(&self.store, &request.into_inner()).await?))
    }

    async fn list_images(
        &self,
        _request: Request<v1::ListImagesRequest>,
    ) -> Result<Response<Self::ListImagesStream>, Status> {
        Ok(Response::new(queries::images(&self.store)))
    }

    async fn set_tag(&self, request: Request<v1::SetTagRequest>) -> Result<Response<v1::Tag>, Status> {
        Ok(Response::new(queries::set_tag(&self.store, request.into_inner()).await?))
    }

    async fn remove_tag(
        &self,
        request: Request<v1::RemoveTagRequest>,
    ) -> Result<Response<v1::RemoveTagResponse>, Status> {
        queries::remove_tag(&self.store, request.into_inner()).await?;
        Ok(Response::new(v1::RemoveTagResponse {}))
    }

    async fn remove_version(
        &self,
        request: Request<v1::RemoveVersionRequest>,
    ) -> Result<Response<v1::RemoveVersionResponse>, Status> {
        Ok(Response::new(retention::remove(&self.store, request.into_inner()).await?))
    }

    async fn forget_versions(
        &self,
        request: Request<v1::ForgetVersionsRequest>,
    ) -> Result<Response<Self::ForgetVersionsStream>, Status> {
        Ok(Response::new(retention::forget(&self.store, request.into_inner()).await?))
    }

    async fn list_removed(
        &self,
        request: Request<v1::ListRemovedRequest>,
    ) -> Result<Response<Self::ListRemovedStream>, Status> {
        Ok(Response::new(retention::removed(&self.store, request.into_inner()).await?))
    }

    async fn undelete_version(
        &self,
        request: Request<v1::UndeleteVersionRequest>,
    ) -> Result<Response<v1::Version>, Status> {
        Ok(Response::new(retention::undelete(&self.store, request.into_inner()).await?))
    }

    async fn pin_version(
        &self,
        request: Request<v1::PinVersionRequest>,
    ) -> Result<Response<v1::PinVersionResponse>, Status> {
        Ok(Response::new(retention::pin(&self.store, request.into_inner()).await?))
    }

    async fn unpin_version(
        &self,
        request: Request<v1::UnpinVersionRequest>,
    ) -> Result<Response<v1::UnpinVersionResponse>, Status> {
        Ok(Response::new(retention::unpin(&self.store, request.into_inner()).await?))
    }

    async fn get_stats(&self, _request: Request<v1::GetStatsRequest>) -> Result<Response<v1::Stats>, Status> {
        Ok(Response::new(queries::stats(&self.store).await?))
    }

    async fn collect(&self, request: Request<v1::CollectRequest>) -> Result<Response<Self::CollectStream>, Status> {
        Ok(Response::new(collect::start(self.clone(), &request.into_inner())?))
    }

    async fn scrub(&self, request: Request<v1::ScrubRequest>) -> Result<Response<Self::ScrubStream>, Status> {
        Ok(Response::new(scrub::start(self.clone(), &request.into_inner())))
    }
}
