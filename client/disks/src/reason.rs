//! Why something is treated as plain bytes.

use thiserror::Error;

use crate::read::ReadError;

/// Why a partition, or a whole disk, is plain bytes to its reader.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Reason {
    /// Nothing that is known begins so.
    #[error("no known filesystem")]
    NoFilesystem,
    /// It is known what it is, and not how to read it.
    #[error("{0} is not understood")]
    NotSupported(&'static str),
    /// The signatures of two formats are there; one of them is older, and nothing says which.
    #[error("has the signatures of both {0} and {1}")]
    Ambiguous(&'static str, &'static str),
    /// A feature that may change what other structures mean.
    #[error("{filesystem} with unknown features: {set} {bits:#x}")]
    UnknownFeatures {
        /// Which filesystem.
        filesystem: &'static str,
        /// Which set of features.
        set: &'static str,
        /// The bits that are not known.
        bits: u32,
    },
    /// It was not unmounted, or its checker has something to do.
    #[error("not clean: {0}")]
    Unclean(&'static str),
    /// A structure says something that cannot be.
    #[error("{what} {why}")]
    Invalid {
        /// Which structure.
        what: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A checksum is wrong.
    #[error("checksum of {what} {number} is wrong")]
    Checksum {
        /// Which kind of structure.
        what: &'static str,
        /// Which one.
        number: u64,
    },
    /// Two structures that must agree do not.
    #[error("{what} do not agree: {one} and {other}")]
    Disagreement {
        /// What was compared.
        what: &'static str,
        /// The first.
        one: u64,
        /// The second.
        other: u64,
    },
    /// Larger than what is read in bounded memory.
    #[error("{what}: {found} are more than {limit}")]
    TooLarge {
        /// Of what there are too many.
        what: &'static str,
        /// So many.
        found: u64,
        /// The limit.
        limit: u64,
    },
}

/// What ends the reading of one structure: the disk itself, or what is on it.
#[derive(Debug)]
pub(crate) enum Obstacle {
    Read(ReadError),
    Reason(Reason),
}

impl Obstacle {
    pub(crate) const fn invalid(what: &'static str, why: &'static str) -> Self {
        Self::Reason(Reason::Invalid { what, why })
    }
}

impl From<ReadError> for Obstacle {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<Reason> for Obstacle {
    fn from(reason: Reason) -> Self {
        Self::Reason(reason)
    }
}

/// Turns what is on the disk into a value; what cannot be read stays an error.
pub(crate) fn settle<T>(result: Result<T, Obstacle>) -> Result<Result<T, Reason>, ReadError> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Obstacle::Reason(reason)) => Ok(Err(reason)),
        Err(Obstacle::Read(error)) => Err(error),
    }
}

/// Fails unless two numbers that must agree do.
pub(crate) fn agree(what: &'static str, one: u64, other: u64) -> Result<(), Obstacle> {
    if one == other { Ok(()) } else { Err(Reason::Disagreement { what, one, other }.into()) }
}

/// Fails above a limit.
pub(crate) fn limit(what: &'static str, found: u64, limit: u64) -> Result<(), Obstacle> {
    if found <= limit { Ok(()) } else { Err(Reason::TooLarge { what, found, limit }.into()) }
}

/// Fails with "`what` `why`" unless it is so.
pub(crate) fn require(holds: bool, what: &'static str, why: &'static str) -> Result<(), Obstacle> {
    if holds { Ok(()) } else { Err(Obstacle::invalid(what, why)) }
}
