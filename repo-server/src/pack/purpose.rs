//! What a pack is for.

use imprint_content::DecodeError;

/// What a pack holds. Chunks and nodes lie apart, because whoever walks a tree reads nodes only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Pieces of images.
    Chunks,
    /// Pieces of the trees over them.
    Nodes,
}

impl Purpose {
    /// The number that packs use.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Chunks => 1,
            Self::Nodes => 2,
        }
    }

    /// The purpose with this number.
    pub fn from_number(number: u8) -> Result<Self, DecodeError> {
        match number {
            1 => Ok(Self::Chunks),
            2 => Ok(Self::Nodes),
            _ => Err(DecodeError::Unknown { what: "purpose", found: number.into() }),
        }
    }
}
