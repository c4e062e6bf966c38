//! What the kernel counted of a block device, from `/sys/dev/block/MAJOR:MINOR/stat`.

use std::ops::{Add, Sub};

/// How much content was changed, in sectors of 512 bytes.
///
/// Not in requests: the kernel counts a flush as a write request, and one is sent by every look at a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Sectors written, zeroed ones included.
    pub written: u64,
    /// Sectors discarded.
    pub discarded: u64,
}

impl Counters {
    /// Parses a `stat` file; `None` where the kernel does not count discards, and so cannot vouch for the content.
    // reads, merged, sectors, ms, writes, merged, sectors, ms, in flight, ms, ms, discards, merged, sectors, ...
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split_ascii_whitespace().map(str::parse);
        let written = fields.nth(6)?.ok()?;
        let discarded = fields.nth(6)?.ok()?;
        Some(Self { written, discarded })
    }
}

// Wrapping, because a sum read in the middle of an update is compared, never used as an amount.
impl Add for Counters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let written = self.written.wrapping_add(other.written);
        Self { written, discarded: self.discarded.wrapping_add(other.discarded) }
    }
}

impl Sub for Counters {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        let written = self.written.wrapping_sub(other.written);
        Self { written, discarded: self.discarded.wrapping_sub(other.discarded) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_discarded_sectors_are_found_among_the_fields() {
        let text = "       2        0      408        0        5       15      152        7        0        8       12 \
                         9        0      640        0        1        4\n";
        assert_eq!(Counters::parse(text), Some(Counters { written: 152, discarded: 640 }));
    }

    #[test]
    fn a_kernel_that_does_not_count_discards_counts_nothing() {
        assert_eq!(Counters::parse("1 2 3 4 5 6 7 8 9 10 11"), None);
        assert_eq!(Counters::parse(""), None);
        assert_eq!(Counters::parse("1 2 3 4 5 6 x 8 9 10 11 12 13 14"), None);
    }
}
