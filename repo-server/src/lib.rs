//! The repository: packs, journal and catalog behind the `imprint.v1` gRPC service.
//!
//! [`Store`](store::Store) holds the rules; it reaches bytes through [`PackStorage`](storage::PackStorage) and
//! knowledge through [`Catalog`](catalog::Catalog). [`service`] puts it on the wire.

pub mod blocking;
pub mod catalog;
mod clock;
pub mod error;
pub mod id;
pub mod pack;
pub mod service;
pub mod storage;
pub mod store;

pub use error::Error;
pub use id::{PackId, RepositoryId, UploadId};
