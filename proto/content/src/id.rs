//! Ids: BLAKE3 hashes, one type for each thing that is named by its content.

use std::fmt;

use thiserror::Error;

/// BLAKE3 `derive_key` context of node ids. Part of the format.
const NODE_CONTEXT: &str = "imprint 2026-11-23 tree node v1";
/// BLAKE3 `derive_key` context of version ids. Part of the format.
const VERSION_CONTEXT: &str = "imprint 2026-11-23 content record v1";

/// Text that is not as many hexadecimal digits as the id has. Both cases are read, lower case is written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is not an id: expected {expected} hexadecimal digits")]
pub struct ParseIdError {
    text: String,
    expected: usize,
}

/// Writes bytes as lower-case hexadecimal digits.
pub fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Parses exactly `2 * N` hexadecimal digits.
pub fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], ParseIdError> {
    let error = || ParseIdError { text: text.chars().take(80).collect(), expected: 2 * N };
    if text.len() != 2 * N {
        return Err(error());
    }
    let mut out = [0; N];
    for (byte, digits) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let high = char::from(digits[0]).to_digit(16).ok_or_else(error)?;
        let low = char::from(digits[1]).to_digit(16).ok_or_else(error)?;
        *byte = (high << 4 | low) as u8;
    }
    Ok(out)
}

/// Defines an id: a type of so many bytes, written as hexadecimal digits.
#[macro_export]
macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// The bytes as an id.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// An id from a slice, if it has as many bytes.
            #[must_use]
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                $crate::id::write_hex(&self.0, f)
            }
        }

        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                write!(f, concat!(stringify!($name), "("))?;
                $crate::id::write_hex(&self.0[..4], f)?;
                write!(f, ")")
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::id::ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::id::parse_hex(text).map(Self)
            }
        }
    };
}

byte_id! {
    /// The BLAKE3 hash of a chunk's raw bytes.
    ChunkId, 32
}
byte_id! {
    /// The keyed hash of a tree node's encoding.
    NodeId, 32
}
byte_id! {
    /// The keyed hash of a version's content record.
    VersionId, 32
}
byte_id! {
    /// A chunk id or a node id, where the store treats both alike. The two kinds cannot collide: node ids are
    /// hashed under a context of their own.
    ObjectId, 32
}

impl ChunkId {
    /// Hashes a chunk's raw bytes.
    #[must_use]
    pub fn of(raw: &[u8]) -> Self {
        Self(*blake3::hash(raw).as_bytes())
    }
}

impl NodeId {
    /// Hashes a node's encoding.
    #[must_use]
    pub fn of(encoded: &[u8]) -> Self {
        Self(blake3::derive_key(NODE_CONTEXT, encoded))
    }
}

impl VersionId {
    /// Hashes a content record's encoding.
    #[must_use]
    pub fn of(encoded: &[u8]) -> Self {
        Self(blake3::derive_key(VERSION_CONTEXT, encoded))
    }
}

impl From<ChunkId> for ObjectId {
    fn from(id: ChunkId) -> Self {
        Self(id.0)
    }
}

impl From<NodeId> for ObjectId {
    fn from(id: NodeId) -> Self {
        Self(id.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_known_bytes_do_not_change() {
        assert_eq!(
            ChunkId::of(b"imprint").to_string(),
            "914b2562a0e860042cdcba4233bd3179a657d6fe029e13d0bf88b7856119b75a"
        );
        assert_eq!(
            NodeId::of(b"imprint").to_string(),
            "54416304d45789ffb79fb15805171c1e6c87493f1a84606e6eb1e5ecd1c30a2e"
        );
        assert_eq!(
            VersionId::of(b"imprint").to_string(),
            "6a7d8622dc025024848d3169c52e3adcf0899b5295f61b81c81c416518d9afb8"
        );
    }

    #[test]
    fn text_and_bytes_agree() {
        let id = ChunkId::of(b"x");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("12".parse::<ChunkId>().is_err());
        assert!("g".repeat(64).parse::<ChunkId>().is_err());
    }
}
