//! The journal: the durable order of decisions, from which the catalog can always be rebuilt.
//!
//! One append-only file. An entry counts once it is synced; that sync is the one commit point of the repository.
//! The end of the file may be an entry that a crash cut short: it was never acknowledged, and opening cuts it off, after a
//! copy of it was made beside the journal. A bad entry anywhere else is damage, is reported with its offset, and is never
//! repaired by dropping what follows.
//! Layout: `docs/format.md`, "Journal".

mod decision;
mod file;
mod frame;
mod reader;
mod tail;
mod wire;

#[cfg(test)]
mod tests;

pub use decision::{Commit, Decision};
pub use file::Journal;
pub(super) use file::not_applied;
pub use frame::{MAX_PAYLOAD_BYTES, Position};
pub use reader::{Entries, Survey, read, repository_in};
