//! The repository: packs, journal and catalog behind the `imprint.v1` gRPC service.
//!
//! [`Store`](store::Store) holds the rules; it reaches bytes through [`PackStorage`](storage::PackStorage) and
//! knowledge through [`Catalog`](catalog::Catalog). [`service`] puts it on the wire.

pub mod blocking;
pub mod catalog;
mod clock;
#[cfg(test)]
mod crash_tests;
pub mod error;
pub mod files;
pub mod id;
pub mod pack;
#[cfg(test)]
mod reference_model;
pub mod service;
pub mod storage;
pub mod store;

pub use error::Error;
pub use id::{PackId, RepositoryId, UploadId};
