//! Bytes of a target that are on purpose not those of its version: a partition table that was made to fit another
//! disk.
//!
//! A target's state is a version plus its overrides. Each says what the version has at that place, so that whoever
//! reads the target can put it back in memory and hash what was pushed.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// One range. Where both the target and the image have it, both sides have the same length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// First byte.
    pub offset: u64,
    /// What stands on the target; empty behind its end.
    #[serde(with = "text")]
    pub bytes: Vec<u8>,
    /// What the version has there; empty behind the end of the image.
    #[serde(with = "text")]
    pub image_bytes: Vec<u8>,
}

impl Override {
    /// Where it is, on the target or in the image.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset.saturating_add(self.bytes.len().max(self.image_bytes.len()) as u64)
    }

    /// Whether it touches `range`.
    #[must_use]
    pub fn overlaps(&self, range: &Range<u64>) -> bool {
        let own = self.range();
        own.start < range.end && range.start < own.end
    }
}

/// Puts into `buf`, which was read from `offset` of a target, what the version has there.
pub(crate) fn put_image_bytes(overrides: &[Override], buf: &mut [u8], offset: u64) {
    for found in overrides {
        copy_overlap(&found.image_bytes, found.offset, buf, offset);
    }
}

/// Puts into `buf`, which belongs at `offset` of a target, what shall stand there instead.
pub(crate) fn put_target_bytes(overrides: &[Override], buf: &mut [u8], offset: u64) {
    for found in overrides {
        copy_overlap(&found.bytes, found.offset, buf, offset);
    }
}

fn copy_overlap(from: &[u8], from_offset: u64, to: &mut [u8], to_offset: u64) {
    let start = from_offset.max(to_offset);
    let end = (from_offset.saturating_add(from.len() as u64)).min(to_offset.saturating_add(to.len() as u64));
    if start < end {
        let length = (end - start) as usize;
        let (from_start, to_start) = ((start - from_offset) as usize, (start - to_offset) as usize);
        to[to_start..to_start + length].copy_from_slice(&from[from_start..from_start + length]);
    }
}

/// The parts of `range` that no override touches, ascending.
pub(crate) fn without(overrides: &[Override], range: Range<u64>) -> Vec<Range<u64>> {
    let mut touched: Vec<_> = overrides.iter().filter(|found| found.overlaps(&range)).map(Override::range).collect();
    touched.sort_by_key(|touched| touched.start);
    let (mut left, mut at) = (Vec::new(), range.start);
    for touched in touched {
        if at < touched.start {
            left.push(at..touched.start);
        }
        at = at.max(touched.end);
    }
    if at < range.end {
        left.push(at..range.end);
    }
    left
}

/// Bytes as `LENGTH:HEX`, without the zeros at their end, of which tables have many.
mod text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Longer than any partition table.
    const MAX_BYTES: usize = 4 << 20;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        use std::fmt::Write;
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let mut text = format!("{}:", bytes.len());
        for byte in &bytes[..used] {
            let _ = write!(text, "{byte:02x}");
        }
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| D::Error::custom("not LENGTH:HEX"))
    }

    fn parse(text: &str) -> Option<Vec<u8>> {
        let (length, digits) = text.split_once(':')?;
        let length: usize = length.parse().ok().filter(|length| *length <= MAX_BYTES)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let pairs = digits.as_bytes().as_chunks::<2>();
        if !pairs.1.is_empty() || pairs.0.len() > length {
            return None;
        }
        let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let mut bytes = pairs.0.iter().map(byte).collect::<Option<Vec<u8>>>()?;
        bytes.resize(length, 0);
        Some(bytes)
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // lists of ranges, some with one
mod tests {
    use super::*;

    fn at(offset: u64, bytes: &[u8], image_bytes: &[u8]) -> Override {
        Override { offset, bytes: bytes.to_vec(), image_bytes: image_bytes.to_vec() }
    }

    #[test]
    fn bytes_are_exchanged_where_they_overlap() {
        let overrides = [at(4, b"NEW", b"old"), at(20, b"END", b""), at(30, b"", b"tail")];
        let mut buf = *b"..NEW...";
        put_image_bytes(&overrides, &mut buf, 2);
        assert_eq!(&buf, b"..old...");
        put_target_bytes(&overrides, &mut buf, 2);
        assert_eq!(&buf, b"..NEW...");
        let mut part = *b"??";
        put_image_bytes(&overrides, &mut part, 5);
        assert_eq!(&part, b"ld");
        let mut beyond = *b"????";
        put_image_bytes(&overrides, &mut beyond, 20);
        assert_eq!(&beyond, b"????");
        put_target_bytes(&overrides, &mut beyond, 30);
        assert_eq!(&beyond, b"????");
    }

    #[test]
    fn what_is_left_of_a_range() {
        let overrides = [at(20, b"bb", b"cc"), at(10, b"aaaa", b"")];
        assert_eq!(without(&overrides, 0..30), [0..10, 14..20, 22..30]);
        assert_eq!(without(&overrides, 11..21), [14..20]);
        assert_eq!(without(&overrides, 10..14), []);
        assert_eq!(without(&overrides, 30..31), [30..31]);
    }

    #[test]
    fn they_survive_being_written_down() {
        let overrides = at(512, &[1, 0, 255, 0, 0], b"");
        let text = serde_json::to_string(&overrides).unwrap();
        assert_eq!(text, r#"{"offset":512,"bytes":"5:0100ff","image_bytes":"0:"}"#);
        assert_eq!(serde_json::from_str::<Override>(&text).unwrap(), overrides);
        for damaged in ["5:0100f", "1:0100", "x:01", "99999999999:01", "5:0100+f"] {
            let text = text.replace("5:0100ff", damaged);
            assert!(serde_json::from_str::<Override>(&text).is_err(), "{damaged}");
        }
    }
}
