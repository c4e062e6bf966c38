//! Which structures have checksums, and whether they are right.

use super::superblock::feature;
use crate::{
    checksum::{crc16, crc32c},
    fields::Fields,
    reason::{Obstacle, Reason},
};

/// What the features say of checksums.
#[derive(Debug, Clone, Copy)]
pub(super) enum Checksums {
    /// There are none.
    None,
    /// CRC-16 of group descriptors, from the filesystem's UUID.
    Groups { seed: u16 },
    /// CRC-32C of everything but blocks of block numbers.
    Metadata { seed: u32 },
}

impl Checksums {
    pub(super) fn new(superblock: Fields<'_>, incompatible: u32, read_only: u32) -> Self {
        let uuid: [u8; 16] = superblock.array(0x68);
        if read_only & feature::METADATA_CHECKSUMS != 0 {
            let stored = incompatible & feature::CHECKSUM_SEED != 0;
            Self::Metadata { seed: if stored { superblock.u32(0x270) } else { crc32c(u32::MAX, &uuid) } }
        } else if read_only & feature::GROUP_CHECKSUMS != 0 {
            Self::Groups { seed: crc16(u16::MAX, &uuid) }
        } else {
            Self::None
        }
    }

    /// Checks a group descriptor.
    pub(super) fn check_descriptor(self, group: u32, raw: &[u8]) -> Result<(), Obstacle> {
        const AT: usize = 0x1e;
        let found = Fields(raw).u16(AT);
        let number = group.to_le_bytes();
        let expected = match self {
            Self::None => return Ok(()),
            Self::Groups { seed } => crc16(crc16(crc16(seed, &number), &raw[..AT]), &raw[AT + 2..]),
            Self::Metadata { seed } => {
                let head = crc32c(crc32c(seed, &number), &raw[..AT]);
                crc32c(crc32c(head, &[0; 2]), &raw[AT + 2..]) as u16
            }
        };
        check(found == expected, "group", group.into())
    }

    /// Checks a bitmap against what its group descriptor says.
    pub(super) fn check_bitmap(
        self,
        bitmap: &[u8],
        stored: BitmapChecksum,
        what: &'static str,
        group: u32,
    ) -> Result<(), Obstacle> {
        let Self::Metadata { seed } = self else { return Ok(()) };
        let expected = crc32c(seed, bitmap);
        let right = match stored {
            BitmapChecksum::Half(half) => half == expected as u16,
            BitmapChecksum::Whole(whole) => whole == expected,
        };
        check(right, what, group.into())
    }

    /// Checks an inode, and returns the seed for what belongs to it.
    pub(super) fn check_inode(self, number: u32, raw: &[u8]) -> Result<Option<u32>, Obstacle> {
        const LOW: usize = 0x7c;
        const HIGH: usize = 0x82;
        let Self::Metadata { seed } = self else { return Ok(None) };
        let fields = Fields(raw);
        let own_seed = crc32c(crc32c(seed, &number.to_le_bytes()), &fields.array::<4>(0x64));
        let head = crc32c(crc32c(own_seed, &raw[..LOW]), &[0; 2]);
        // The upper half exists when the part behind the first 128 bytes reaches it.
        let has_high = raw.len() > 128 && fields.u16(0x80) >= 4;
        let right = if has_high {
            let all = crc32c(crc32c(crc32c(head, &raw[LOW + 2..HIGH]), &[0; 2]), &raw[HIGH + 2..]);
            all == u32::from(fields.u16(HIGH)) << 16 | u32::from(fields.u16(LOW))
        } else {
            crc32c(head, &raw[LOW + 2..]) as u16 == fields.u16(LOW)
        };
        check(right, "inode", number.into())?;
        Ok(Some(own_seed))
    }
}

/// What a descriptor says of a bitmap; short descriptors have room for half of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BitmapChecksum {
    Half(u16),
    Whole(u32),
}

pub(super) fn check(right: bool, what: &'static str, number: u64) -> Result<(), Obstacle> {
    if right { Ok(()) } else { Err(Reason::Checksum { what, number }.into()) }
}
