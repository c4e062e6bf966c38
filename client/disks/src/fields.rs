//! Numbers and names in structures whose length the caller has fixed.

use std::fmt::Write;

/// A structure as it is on the disk. Fields beyond its end read as zero, so that no offset can panic; callers read
/// whole structures, where that does not happen.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    pub(crate) fn array<const N: usize>(self, at: usize) -> [u8; N] {
        let mut out = [0; N];
        if let Some(bytes) = at.checked_add(N).and_then(|end| self.0.get(at..end)) {
            out.copy_from_slice(bytes);
        }
        out
    }

    pub(crate) fn u8(self, at: usize) -> u8 {
        u8::from_le_bytes(self.array(at))
    }

    pub(crate) fn u16(self, at: usize) -> u16 {
        u16::from_le_bytes(self.array(at))
    }

    pub(crate) fn u32(self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    pub(crate) fn u64(self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }

    /// Two halves that stand apart.
    pub(crate) fn u64_halves(self, low: usize, high: usize) -> u64 {
        u64::from(self.u32(high)) << 32 | u64::from(self.u32(low))
    }

    pub(crate) fn be32(self, at: usize) -> u32 {
        u32::from_be_bytes(self.array(at))
    }
}

/// A name that ends with its field or with the first zero; what is not UTF-8 is replaced.
pub(crate) fn name(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(&bytes[..end]);
    let text = text.trim_end();
    (!text.is_empty()).then(|| text.to_owned())
}

/// A UUID whose bytes stand in the order of its text; all zeros is none.
pub(crate) fn uuid(bytes: [u8; 16]) -> Option<String> {
    if bytes == [0; 16] {
        return None;
    }
    let mut out = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        let _ = write!(out, "{byte:02x}");
    }
    Some(out)
}

/// A GUID as UEFI stores it: its first three fields are little-endian numbers.
pub(crate) fn guid(mut bytes: [u8; 16]) -> Option<String> {
    bytes[0..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    uuid(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_beyond_the_end_are_zero() {
        let fields = Fields(&[1, 2, 3]);
        assert_eq!((fields.u16(1), fields.u16(2), fields.u8(usize::MAX)), (0x0302, 0, 0));
    }

    #[test]
    fn names_and_ids_as_tools_print_them() {
        assert_eq!(name(b"root\0rest"), Some("root".into()));
        assert_eq!(name(b"ESP        "), Some("ESP".into()));
        assert_eq!(name(&[0; 16]), None);
        let esp = *b"\x28\x73\x2a\xc1\x1f\xf8\xd2\x11\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b";
        assert_eq!(guid(esp).as_deref(), Some("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"));
    }
}
