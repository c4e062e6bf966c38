//! Packs: immutable files of records. Layout: `docs/format.md`, "Pack".
//!
//! ```text
//! header | record | record | ... | footer entries | trailer
//! ```
//!
//! Pure code on slices, except [`index`]. Decoders take any bytes: they answer with an error, never panic, and
//! allocate no more than their input justifies. Each record can be checked on its own, so that a lost footer or a
//! damaged middle costs only what was touched ([`scan()`]).

pub mod index;

mod builder;
mod footer;
mod header;
mod purpose;
mod record;
#[cfg(test)]
mod sample;
mod scan;
mod verify;

pub use builder::{FinishedPack, PackBuilder};
pub use footer::{ENTRY_BYTES, Footer, FooterEntry, TRAILER_BYTES, Trailer};
pub use header::{HEADER_BYTES, PackHeader};
pub use index::{PackIndex, read_index};
pub use purpose::Purpose;
pub use record::{RECORD_HEADER_BYTES, RecordHeader, RecordMark, decode_record, record_length};
pub use scan::{Scan, ScanItem, ScannedRecord, scan};
pub use verify::{PackDamage, PackPart, VerifiedPack, verify};

/// A pack is at most this long, footer included.
pub const MAX_PACK_BYTES: u64 = 64 << 20;
