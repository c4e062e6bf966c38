//! The store on the wire: `imprint.v1.Repository`.
//!
//! The same service answers on a socket and inside a client's process; it neither knows nor cares which.

mod convert;
mod fetch;
mod push;
mod queries;

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::Stream;
use imprint_proto::{
    limits::MAX_MESSAGE_BYTES,
    v1::{self, repository_server::RepositoryServer},
};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use crate::{blocking::Blocking, store::Store};

/// Pushes served at once; further ones wait. Each needs up to about 16 MiB.
const MAX_PUSHES: usize = 16;
/// Fetches of chunks served at once; further ones wait. Each needs up to about 16 MiB.
const MAX_FETCHES: usize = 64;
/// A stream whose client takes nothing for this long is ended, so that it does not keep others out.
const STALLED: Duration = Duration::from_secs(300);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Serves one store.
#[derive(Clone)]
pub struct Service {
    store: Store,
    /// Decoding and hashing what clients send.
    checking: Blocking,
    pushes: Arc<Semaphore>,
    fetches: Arc<Semaphore>,
}

/// The service of `store` with the protocol's limits, ready for a server or for a client in this process.
#[must_use]
pub fn server(store: Store) -> RepositoryServer<Service> {
    let service = Service {
        store,
        checking: Blocking::for_this_machine(),
        pushes: Arc::new(Semaphore::new(MAX_PUSHES)),
        fetches: Arc::new(Semaphore::new(MAX_FETCHES)),
    };
    RepositoryServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

#[tonic::async_trait]
impl v1::repository_server::Repository for Service {
    type PushStream = Answers<v1::PushResponse>;
    type FetchTreeStream = Answers<v1::FetchTreeResponse>;
    type FetchChunksStream = Answers<v1::FetchChunksResponse>;
    type ListVersionsStream = Answers<v1::Version>;
    type ListImagesStream = Answers<v1::Image>;

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
        Ok(Response::new(fetch::tree(&self.store, request.into_inner()).await?))
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
        let key = convert::version_key(request.into_inner().version)?;
        self.store.catalog().remove_version(key).await?;
        Ok(Response::new(v1::RemoveVersionResponse {}))
    }

    async fn get_stats(&self, _request: Request<v1::GetStatsRequest>) -> Result<Response<v1::Stats>, Status> {
        Ok(Response::new(convert::stats(self.store.catalog().totals().await?)))
    }
}
