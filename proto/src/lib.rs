//! The wire: the messages and service of `imprint.v1`, the limits both sides keep, and how failures travel.

pub mod failure;
pub mod limits;
mod period;

/// Messages and service, generated from `imprint/v1/repository.proto`.
#[allow(missing_docs, clippy::all, clippy::needless_pass_by_value, clippy::cloned_instead_of_copied, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("imprint.v1");
}

pub use failure::{Failure, Kind};
pub use period::parse_period;
