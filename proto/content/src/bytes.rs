//! Reading and writing the fixed binary formats: little-endian integers and length-prefixed strings.
//!
//! A [`Reader`] only hands out slices of its input, so a hostile length can make it fail but not allocate.

use thiserror::Error;

/// Why bytes are not what they claim to be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The input ends inside a field.
    #[error("{what} is cut short: {needed} more bytes expected")]
    Truncated {
        /// The field that was being read.
        what: &'static str,
        /// How many bytes are missing.
        needed: usize,
    },
    /// Bytes remain after the last field.
    #[error("{what} is followed by {extra} bytes that do not belong to it")]
    Trailing {
        /// What was being decoded.
        what: &'static str,
        /// How many bytes remain.
        extra: usize,
    },
    /// A field has a value that no writer produces.
    #[error("{what} is invalid: {why}")]
    Invalid {
        /// The field.
        what: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A newer or unknown variant.
    #[error("{what} {found} is not known to this version of Imprint")]
    Unknown {
        /// The field.
        what: &'static str,
        /// The value found.
        found: u64,
    },
    /// A checksum or hash does not match.
    #[error("{what} does not match its checksum")]
    Checksum {
        /// What was being decoded.
        what: &'static str,
    },
}

impl DecodeError {
    /// Shorthand for [`DecodeError::Invalid`].
    #[must_use]
    pub const fn invalid(what: &'static str, why: &'static str) -> Self {
        Self::Invalid { what, why }
    }
}

/// Takes fields off the front of a slice.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte of `input`.
    #[must_use]
    pub const fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    /// The bytes not read yet.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        match self.rest.split_at_checked(len) {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(head)
            }
            None => Err(DecodeError::Truncated { what, needed: len - self.rest.len() }),
        }
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N, what)?);
        Ok(out)
    }

    /// One byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(self.array(what)?))
    }

    /// A little-endian `u16`.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array(what)?))
    }

    /// A little-endian `u32`.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    /// A little-endian `u64`.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A `u32` length and that many bytes.
    pub fn blob(&mut self, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let len = self.u32(what)?;
        self.take(len as usize, what)
    }

    /// A [`blob`](Self::blob) that is UTF-8.
    pub fn string(&mut self, what: &'static str) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.blob(what)?).map_err(|_| DecodeError::invalid(what, "not UTF-8"))
    }

    /// Succeeds when everything has been read.
    pub const fn finish(self, what: &'static str) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing { what, extra: self.rest.len() }) }
    }
}

/// Appends a `u32` length and the bytes.
///
/// # Panics
/// When `bytes` is 4 GiB or longer; callers bound their fields far below.
pub fn put_blob(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).expect("fields are far below 4 GiB");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(bytes);
}
