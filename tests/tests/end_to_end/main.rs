//! The real service and the real programs, on real disks. One program, because linking each of these takes longer than running it.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that goes wrong panics

mod crash;
mod damage;
mod disks;
mod documents;
mod far_away;
mod faults;
mod free_space;
mod full_disk;
mod golden;
mod hostile;
mod kills;
mod lying_server;
mod push_restore;
mod rebuild;
mod reclamation;
mod reconnect;
mod resize;
mod retention;
mod scrub;
mod server_and_cli;
mod source;
mod target_faults;
mod update;
