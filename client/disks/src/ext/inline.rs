//! Content that is kept in the inode: in the room for block numbers, and in an attribute.

use std::ops::Range;

use super::inode::ROOT_BYTES;
use crate::{
    fields::Fields,
    reason::{Obstacle, require},
};

/// Where the room for block numbers is.
pub(super) const ROOT: Range<usize> = 0x28..0x28 + ROOT_BYTES;

const MAGIC: u32 = 0xea02_0000;
const ENTRY: usize = 16;
/// The namespace of attributes that are the filesystem's own.
const SYSTEM: u8 = 7;

/// Where in the inode the content goes on behind [`ROOT`]; empty when it does not.
pub(super) fn rest(raw: &[u8]) -> Result<Range<usize>, Obstacle> {
    let first = match raw.len() {
        ..=128 => return Ok(0..0),
        _ => 128 + usize::from(Fields(raw).u16(0x80)) + 4,
    };
    if first > raw.len() || Fields(raw).u32(first - 4) != MAGIC {
        return Ok(0..0);
    }
    let mut at = first;
    while at + ENTRY <= raw.len() && Fields(raw).u32(at) != 0 {
        let entry = Fields(&raw[at..]);
        let name_length = usize::from(entry.u8(0));
        if entry.u8(1) == SYSTEM && entry.0.get(ENTRY..ENTRY + name_length) == Some(b"data") {
            let start = first + usize::from(entry.u16(2));
            let length = entry.u32(8) as usize;
            let fits = entry.u32(4) == 0 && start.checked_add(length).is_some_and(|end| end <= raw.len());
            require(fits, "content in an inode", "is beyond its end")?;
            return Ok(start..start + length);
        }
        at += ENTRY + name_length.next_multiple_of(4);
    }
    Ok(0..0)
}
