//! Support for the end-to-end tests: real disks, the real programs, servers, and repositories in this process.
//!
//! Whatever goes wrong in here is a test that failed, so it panics and says where.
#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc)] // support code of tests only

pub mod allocation;
pub mod client;
pub mod damage;
pub mod devices;
pub mod disks;
pub mod extents;
pub mod faults;
pub mod files;
pub mod programs;
pub mod proxy;
pub mod random;
pub mod server;
pub mod wire;
