//! Entries of directories: in blocks, with or without a hash tree over them, and in inodes.

use super::checksums::check;
use crate::{
    checksum::crc32c,
    fields::Fields,
    reason::{Obstacle, require},
};

/// Bytes of an entry before its name.
const HEAD: usize = 8;
/// Bytes of the entry without a name that keeps a block's checksum.
const TAIL: usize = 12;

/// One entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// 0 for room that nobody uses.
    pub(super) inode: u32,
    pub(super) name: &'a [u8],
    /// Where the next one begins.
    pub(super) next: usize,
}

/// The entry at an offset of a block, or of another piece of a directory.
pub(super) fn entry(raw: &[u8], at: usize) -> Result<Entry<'_>, Obstacle> {
    let fields = Fields(raw.get(at..).unwrap_or_default());
    let length = entry_length(fields, raw.len());
    let name_length = usize::from(fields.u8(6));
    let fits = length >= HEAD + name_length && length.is_multiple_of(4) && length <= fields.0.len();
    require(fits, "an entry of a directory", "does not fit")?;
    let inode = fields.u32(0);
    let name = if inode == 0 { &[][..] } else { &fields.0[HEAD..HEAD + name_length] };
    Ok(Entry { inode, name, next: at + length })
}

/// In blocks of 64 KiB an entry may be as long as its length has no room for.
fn entry_length(fields: Fields<'_>, block_bytes: usize) -> usize {
    let raw = usize::from(fields.u16(4));
    match raw {
        _ if block_bytes < 1 << 16 => raw,
        0 | 0xffff => block_bytes,
        _ => raw & 0xfffc | (raw & 3) << 16,
    }
}

/// Checks a block of a directory, which is a whole one. Blocks of the hash tree look like entries that nobody uses; what else is in them does not
/// matter here.
pub(super) fn check_block(raw: &[u8], seed: Option<u32>, inode: u32, has_index: bool) -> Result<(), Obstacle> {
    let Some(seed) = seed else { return Ok(()) };
    if has_index && is_index(raw) {
        return Ok(());
    }
    let (entries, tail) = raw.split_at(raw.len().saturating_sub(TAIL));
    let tail = Fields(tail);
    let is_tail = tail.u32(0) == 0 && tail.u32(4) == 0xde00_000c;
    check(is_tail && crc32c(seed, entries) == tail.u32(8), "directory", inode.into())
}

/// Whether the first entry, or the second, which is `..` in a root, hides the rest of the block.
fn is_index(raw: &[u8]) -> bool {
    let fields = Fields(raw);
    let hidden = fields.u32(0) == 0 && entry_length(fields, raw.len()) == raw.len();
    let second = raw.split_at_checked(12).map(|(_, second)| Fields(second));
    let hides = |second: Fields<'_>| entry_length(second, raw.len()) == second.0.len();
    hidden || fields.u16(4) == 12 && second.is_some_and(hides)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut raw = [0; 32];
        raw[..12].copy_from_slice(&[12, 0, 0, 0, 12, 0, 1, 1, b'a', 0, 0, 0]);
        assert_eq!(entry(&raw, 0).unwrap(), Entry { inode: 12, name: b"a", next: 12 });
        assert!(entry(&raw, 12).is_err());
        raw[4] = 32;
        assert_eq!(entry(&raw, 0).unwrap().next, 32);
        raw[6] = 25;
        assert!(entry(&raw, 0).is_err());
        raw[6] = 24;
        assert_eq!(entry(&raw, 0).unwrap().name.len(), 24);
        raw[4] = 36;
        assert!(entry(&raw, 0).is_err());
        assert!(entry(&raw, 32).is_err());
    }

    #[test]
    fn blocks_of_64_kib() {
        let mut raw = vec![0; 1 << 16];
        for (stored, length) in [(0u16, 1 << 16), (0xffff, 1 << 16), (0xfff4, 0xfff4)] {
            raw[4..6].copy_from_slice(&stored.to_le_bytes());
            assert_eq!(entry(&raw, 0).unwrap().next, length);
        }
    }

    proptest! {
        /// Whatever is there, entries follow each other to the end or to an error.
        #[test]
        fn entries_come_to_an_end(raw in prop::collection::vec(prop_oneof![Just(0u8), Just(12), any::<u8>()], 0..300)) {
            let mut at = 0;
            while at < raw.len() {
                match entry(&raw, at) {
                    Ok(entry) => {
                        prop_assert!(entry.next > at && entry.next <= raw.len());
                        at = entry.next;
                    }
                    Err(_) => break,
                }
            }
            let _ = check_block(&raw, Some(1), 2, true);
        }
    }
}
