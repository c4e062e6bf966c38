//! The generated client's transport: a connection, or the generated service itself.
//!
//! The embedded repository is the same service called without a connection: no HTTP/2, no socket, no port.

use std::{
    future::Future,
    path::Path,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, Uri};
use tonic::{
    body::Body,
    transport::{Channel, Endpoint},
};
use tower::Service;

use crate::{Access, Error};

#[cfg(feature = "embedded")]
type EmbeddedService = imprint_proto::v1::repository_server::RepositoryServer<imprint_server::service::Service>;

/// Carries calls to a repository.
#[derive(Clone)]
pub(crate) enum Transport {
    Connection(Channel),
    #[cfg(feature = "embedded")]
    Embedded {
        service: EmbeddedService,
    },
}

impl Transport {
    pub(crate) async fn connect(uri: &Uri) -> Result<Self, Error> {
        let endpoint = Endpoint::from(uri.clone())
            .tcp_nodelay(true)
            .connect_timeout(Duration::from_secs(15))
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(30))
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(8 << 20);
        let channel = endpoint.connect().await.map_err(|error| unreachable(uri, &error))?;
        Ok(Self::Connection(channel))
    }

    #[cfg(feature = "embedded")]
    pub(crate) async fn embedded(path: &Path, access: Access) -> Result<Self, Error> {
        use imprint_server::store::{Directory, OpenMode, StoreOptions};
        let mode = match access {
            Access::Existing => OpenMode::Existing,
            Access::OrCreate => OpenMode::OrCreate,
        };
        let directory = Directory::open(path, mode, StoreOptions::default())
            .await
            .map_err(|error| imprint_proto::Failure::from(&error))?;
        let service = imprint_server::service::server(directory.store);
        Ok(Self::Embedded { service })
    }

    #[cfg(not(feature = "embedded"))]
    pub(crate) async fn embedded(_path: &Path, _access: Access) -> Result<Self, Error> {
        Err(Error::NotEmbedded)
    }
}

fn unreachable(uri: &Uri, error: &tonic::transport::Error) -> imprint_proto::Failure {
    // Only the innermost cause says something that the address does not.
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let message = format!("cannot reach {uri}: {cause}");
    imprint_proto::Failure {
        kind: imprint_proto::Kind::Unavailable,
        reason: "UNREACHABLE".into(),
        message,
        hint: "check the address, and that imprint-server runs there".into(),
    }
}

impl Service<Request<Body>> for Transport {
    type Response = Response<Body>;
    type Error = tonic::transport::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, tonic::transport::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), tonic::transport::Error>> {
        match self {
            Self::Connection(channel) => channel.poll_ready(context),
            #[cfg(feature = "embedded")]
            Self::Embedded { .. } => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self {
            Self::Connection(channel) => Box::pin(channel.call(request)),
            #[cfg(feature = "embedded")]
            Self::Embedded { service } => {
                let answer = service.call(request);
                Box::pin(async move {
                    match answer.await {
                        Ok(response) => Ok(response),
                        Err(never) => match never {},
                    }
                })
            }
        }
    }
}
