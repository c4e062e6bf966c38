//! Tells a torn end from damage.
//!
//! An append is one write, and the next one starts only after it was synced. So a crash can leave at most one
//! unfinished entry, at the very end, and no valid entry behind it. Anything else is damage, and cutting it off
//! would drop decisions that were acknowledged. A damaged *last* entry looks exactly like a torn one; the catalog
//! tells them apart when it has applied that entry (see [`Journal::open`](super::Journal::open)).

use super::frame::{FrameHeader, MAX_ENTRY_BYTES, MIN_ENTRY_BYTES, Position};

/// What stands behind the last valid entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// An entry that a crash cut short, or nothing.
    Torn,
    /// More than an unfinished entry.
    Damaged { why: String },
}

/// Longest tail that has to be read to judge it.
pub(super) const JUDGED_BYTES: usize = MAX_ENTRY_BYTES + 1;

/// Judges up to [`JUDGED_BYTES`] bytes that stand at `end`, where the valid entries end.
pub(super) fn judge(tail: &[u8], end: Position, key: u32) -> Tail {
    let entry = end.sequence + 1;
    let offset = end.offset;
    if tail.len() > MAX_ENTRY_BYTES {
        let why = format!("entry {entry} at byte {offset} is bad, and more follows than one unfinished entry");
        return Tail::Damaged { why };
    }
    match find_entry(tail, entry, key) {
        None => Tail::Torn,
        Some(at) => {
            let later = offset + at as u64;
            let why = format!("entry {entry} at byte {offset} is bad, but a valid entry follows at byte {later}");
            Tail::Damaged { why }
        }
    }
}

/// Where a valid entry with at least this sequence starts, at whatever offset but the first.
///
/// The work is bounded by the square of the tail's length, and only a tail full of look-alikes comes near that:
/// in any other, next to no offset has a sequence in the narrow range that is possible.
fn find_entry(tail: &[u8], sequence: u64, key: u32) -> Option<usize> {
    let possible = sequence..=sequence + (tail.len() / MIN_ENTRY_BYTES) as u64;
    (1..tail.len()).find(|&start| {
        let Some(header) = FrameHeader::decode(&tail[start..]) else { return false };
        let payload = start + super::frame::FRAME_HEADER_BYTES;
        possible.contains(&header.sequence)
            && tail.get(payload..payload + header.payload_length()).is_some_and(|bytes| header.matches(key, bytes))
    })
}
