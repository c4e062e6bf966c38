//! Profiles: everything that cut points depend on.
//!
//! A version names its profile, and profiles are never silently mixed: one changed number here would end
//! deduplication against every older version. Adding a profile is a new constant, never an edit.

use crate::DecodeError;

/// The parameters that, with the bytes and the capture mode, determine a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// The number that records and the wire use.
    pub number: u16,
    /// FastCDC v2020 (normalization level 1): no natural cut comes earlier, in bytes.
    pub min_chunk: usize,
    /// FastCDC v2020: the average aimed at, in bytes.
    pub avg_chunk: usize,
    /// FastCDC v2020: a cut is forced here, in bytes.
    pub max_chunk: usize,
    /// Zeros are looked for in granules of this many bytes, aligned to the image.
    pub zero_granule: usize,
    /// Shortest run of zero granules, inside a section, that becomes an extent, in bytes.
    pub min_zero_run: usize,
    /// Cuts are forced at multiples of this many bytes, so that sections can be cut independently.
    pub section: u64,
    /// Cuts are forced at partitions, and where contiguous runs of files of at least so many bytes begin and end;
    /// `None`: what is on the disk is not looked at.
    pub min_file_run: Option<u64>,
    /// In free space that is captured, files are taken to have ended where a granule ends with so many zero bytes. Of no meaning
    /// where nothing is looked at.
    pub slack: usize,
}

impl Profile {
    /// FastCDC 16/64/256 KiB without layout cuts.
    pub const V1: Self = Self {
        number: 1,
        min_chunk: 16 << 10,
        avg_chunk: 64 << 10,
        max_chunk: 256 << 10,
        zero_granule: 4 << 10,
        min_zero_run: 64 << 10,
        section: 64 << 20,
        min_file_run: None,
        slack: 0,
    };

    /// The same, with cuts at partitions and at runs of files of 16 KiB and more.
    pub const V2: Self = Self { number: 2, min_file_run: Some(16 << 10), slack: 64, ..Self::V1 };

    /// All of them, ascending.
    pub const ALL: [Self; 2] = [Self::V1, Self::V2];

    /// The profile with this number.
    pub const fn from_number(number: u16) -> Result<Self, DecodeError> {
        match number {
            1 => Ok(Self::V1),
            2 => Ok(Self::V2),
            _ => Err(DecodeError::Unknown { what: "chunking profile", found: number as u64 }),
        }
    }
}

/// The largest chunk that any profile may produce, in bytes. Decoders refuse longer ones.
pub const MAX_CHUNK_BYTES: usize = 1 << 20;
