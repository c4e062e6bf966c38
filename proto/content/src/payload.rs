//! Payloads: the bytes of a chunk or node as they are sent and stored.
//!
//! Compressed once, by whoever pushes; the same bytes are stored and served. Decoding is bounded by the length
//! that the header claims, which is itself bounded, so a hostile frame cannot make it allocate.

use std::cell::RefCell;

use ::bytes::Bytes;
use thiserror::Error;

use crate::{DecodeError, profile::MAX_CHUNK_BYTES};

/// How a payload is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// The raw bytes.
    Raw,
    /// One zstd frame.
    Zstd,
}

impl Codec {
    /// The number that packs and the wire use.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Zstd => 1,
        }
    }

    /// The codec with this number.
    pub fn from_number(number: u32) -> Result<Self, DecodeError> {
        match number {
            0 => Ok(Self::Raw),
            1 => Ok(Self::Zstd),
            _ => Err(DecodeError::Unknown { what: "codec", found: number.into() }),
        }
    }
}

/// Encoded bytes and what is needed to decode them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// How `stored` is encoded.
    pub codec: Codec,
    /// Length after decoding, in bytes.
    pub raw_length: u32,
    /// The encoded bytes.
    pub stored: Bytes,
}

/// A payload that cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PayloadError {
    /// The claimed length is 0 or above [`MAX_CHUNK_BYTES`].
    #[error("payload claims {0} raw bytes; allowed are 1 to {MAX_CHUNK_BYTES}")]
    Length(u32),
    /// It is not a valid frame, or decodes to another length than it claims.
    #[error("payload does not decode to the {0} bytes it claims")]
    Damaged(u32),
}

/// zstd level of new data: 1.5 times as fast as level 3 for 2.7 % more bytes (docs/adr/0004).
const ZSTD_LEVEL: i32 = 1;

thread_local! {
    static COMPRESSOR: RefCell<zstd::bulk::Compressor<'static>> = RefCell::new(
        zstd::bulk::Compressor::new(ZSTD_LEVEL).expect("the level is valid and the context small"));
    static DECOMPRESSOR: RefCell<zstd::bulk::Decompressor<'static>> = RefCell::new(
        zstd::bulk::Decompressor::new().expect("the context is small"));
}

impl Payload {
    /// Compresses `raw`, or keeps it when that does not make it smaller.
    ///
    /// # Panics
    /// When `raw` is longer than [`MAX_CHUNK_BYTES`].
    #[must_use]
    pub fn compress(raw: &Bytes) -> Self {
        assert!(raw.len() <= MAX_CHUNK_BYTES, "chunks and nodes are bounded");
        let raw_length = raw.len() as u32;
        let compressed = COMPRESSOR.with_borrow_mut(|zstd| zstd.compress(raw));
        match compressed {
            Ok(stored) if stored.len() < raw.len() => Self { codec: Codec::Zstd, raw_length, stored: stored.into() },
            _ => Self { codec: Codec::Raw, raw_length, stored: raw.clone() },
        }
    }

    /// The raw bytes. They are *not* checked against an id here.
    pub fn decode(&self) -> Result<Bytes, PayloadError> {
        self.check_length()?;
        match self.codec {
            Codec::Raw if self.stored.len() == self.raw_length as usize => Ok(self.stored.clone()),
            Codec::Raw => Err(PayloadError::Damaged(self.raw_length)),
            Codec::Zstd => {
                let mut raw = Vec::new();
                self.decode_into(&mut raw)?;
                Ok(raw.into())
            }
        }
    }

    fn check_length(&self) -> Result<usize, PayloadError> {
        match self.raw_length as usize {
            length @ 1..=MAX_CHUNK_BYTES => Ok(length),
            _ => Err(PayloadError::Length(self.raw_length)),
        }
    }

    /// Decodes into a buffer that the caller reuses; its former contents are replaced.
    pub fn decode_into(&self, raw: &mut Vec<u8>) -> Result<(), PayloadError> {
        raw.resize(self.check_length()?, 0);
        self.decode_to(raw)
    }

    /// Decodes to a place of exactly [`raw_length`](Self::raw_length) bytes. After an error its contents are undefined.
    pub fn decode_to(&self, raw: &mut [u8]) -> Result<(), PayloadError> {
        let damaged = || PayloadError::Damaged(self.raw_length);
        if self.check_length()? != raw.len() {
            return Err(damaged());
        }
        match self.codec {
            Codec::Raw if self.stored.len() == raw.len() => raw.copy_from_slice(&self.stored),
            Codec::Raw => return Err(damaged()),
            Codec::Zstd => {
                let length = DECOMPRESSOR.with_borrow_mut(|zstd| zstd.decompress_to_buffer(&self.stored, raw));
                if length.ok() != Some(self.raw_length as usize) {
                    return Err(damaged());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Bytes {
        b"the same words again and again, ".repeat(64).into()
    }

    #[test]
    fn compressible_bytes_shrink_and_come_back() {
        let payload = Payload::compress(&text());
        assert_eq!(payload.codec, Codec::Zstd);
        assert!(payload.stored.len() < text().len());
        assert_eq!(payload.decode().unwrap(), text());
    }

    #[test]
    fn bytes_that_do_not_shrink_are_kept_raw() {
        let raw = Bytes::from_static(&[7, 1, 9, 200, 33]);
        let payload = Payload::compress(&raw);
        assert_eq!(payload.codec, Codec::Raw);
        assert_eq!(payload.decode().unwrap(), raw);
    }

    #[test]
    fn a_wrong_length_is_an_error_and_a_huge_one_allocates_nothing() {
        let good = Payload::compress(&text());
        for raw_length in [0, 1, good.raw_length - 1, good.raw_length + 1, u32::MAX] {
            assert!(Payload { raw_length, ..good.clone() }.decode().is_err(), "{raw_length}");
        }
    }

    #[test]
    fn raw_bytes_keep_the_same_bounds_in_both_ways_to_decode() {
        for length in [0, 1, MAX_CHUNK_BYTES, MAX_CHUNK_BYTES + 1] {
            let payload =
                Payload { codec: Codec::Raw, raw_length: length as u32, stored: Bytes::from(vec![7; length]) };
            let is_allowed = (1..=MAX_CHUNK_BYTES).contains(&length);
            assert_eq!(payload.decode().is_ok(), is_allowed, "{length}");
            assert_eq!(payload.decode_into(&mut Vec::new()).is_ok(), is_allowed, "{length}");
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        let good = Payload::compress(&text());
        for end in 0..good.stored.len() {
            assert!(Payload { stored: good.stored.slice(..end), ..good.clone() }.decode().is_err());
        }
    }
}
