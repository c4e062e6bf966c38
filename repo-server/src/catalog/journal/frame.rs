//! Frames: the file header, and what stands around each payload. On slices; all integers are little-endian.
//!
//! ```text
//! file header  magic 4, format u16, repository 16, key u32, crc32c u32 of the bytes before
//! entry        length u32 of the payload, crc32c u32 of sequence and payload, sequence u64, payload
//! ```
//!
//! Sequences count from 1 and payloads are never empty, so a run of zeros is never an entry.

use imprint_content::{DecodeError, bytes::Reader};

use crate::RepositoryId;

const MAGIC: [u8; 4] = *b"IJnl";
const FORMAT: u16 = 1;
/// Length of the file header.
pub(super) const FILE_HEADER_BYTES: usize = 30;
/// Length of what stands before each payload.
pub(super) const FRAME_HEADER_BYTES: usize = 16;
/// Shortest entry.
pub(super) const MIN_ENTRY_BYTES: usize = FRAME_HEADER_BYTES + 1;
/// Longest entry.
pub(super) const MAX_ENTRY_BYTES: usize = FRAME_HEADER_BYTES + MAX_PAYLOAD_BYTES;

/// Longest payload of an entry, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 2 << 20;

/// A place between two entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Byte offset behind the entry.
    pub offset: u64,
    /// The entry's sequence; 0 before the first.
    pub sequence: u64,
    /// The entry's checksum, so that another journal's position is not taken for this one's.
    pub checksum: u32,
}

impl Position {
    /// Before the first entry.
    pub const START: Self = Self { offset: FILE_HEADER_BYTES as u64, sequence: 0, checksum: 0 };

    /// Behind the entry that starts here.
    pub(super) const fn after(self, payload_length: usize, checksum: u32) -> Self {
        let offset = self.offset + (FRAME_HEADER_BYTES + payload_length) as u64;
        Self { offset, sequence: self.sequence + 1, checksum }
    }
}

/// What a journal says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub(super) repository: RepositoryId,
    /// Mixed into every checksum and told to nobody: payloads hold bytes that a client chose, and those must not
    /// pass for an entry when the end of a file is searched for one.
    pub(super) key: u32,
}

impl FileHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FILE_HEADER_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(self.repository.as_bytes());
        out.extend_from_slice(&self.key.to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8; FILE_HEADER_BYTES]) -> Result<Self, DecodeError> {
        let what = "journal header";
        let mut reader = Reader::new(bytes);
        if reader.array(what)? != MAGIC {
            return Err(DecodeError::invalid(what, "not a journal"));
        }
        let format = reader.u16(what)?;
        let repository = RepositoryId::from_bytes(reader.array(what)?);
        let key = reader.u32(what)?;
        let covered = bytes.len() - reader.remaining();
        if reader.u32(what)? != crc32c::crc32c(&bytes[..covered]) {
            return Err(DecodeError::Checksum { what });
        }
        match format {
            FORMAT => Ok(Self { repository, key }),
            found => Err(DecodeError::Unknown { what: "journal format", found: found.into() }),
        }
    }
}

/// What stands before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) length: u32,
    pub(super) checksum: u32,
    pub(super) sequence: u64,
}

impl FrameHeader {
    /// For the payload of the entry that starts at `start`.
    pub(super) fn new(key: u32, start: Position, payload: &[u8]) -> Self {
        let sequence = start.sequence + 1;
        Self { length: payload.len() as u32, checksum: checksum(key, sequence, payload), sequence }
    }

    pub(super) fn encode(&self) -> [u8; FRAME_HEADER_BYTES] {
        let mut out = [0; FRAME_HEADER_BYTES];
        out[..4].copy_from_slice(&self.length.to_le_bytes());
        out[4..8].copy_from_slice(&self.checksum.to_le_bytes());
        out[8..].copy_from_slice(&self.sequence.to_le_bytes());
        out
    }

    /// Reads a header; `None` when `bytes` is shorter than one or the length is none that a writer writes.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let header = Self {
            length: reader.u32("length").ok()?,
            checksum: reader.u32("checksum").ok()?,
            sequence: reader.u64("sequence").ok()?,
        };
        (1..=MAX_PAYLOAD_BYTES).contains(&header.payload_length()).then_some(header)
    }

    pub(super) const fn payload_length(&self) -> usize {
        self.length as usize
    }

    pub(super) fn matches(&self, key: u32, payload: &[u8]) -> bool {
        payload.len() == self.payload_length() && self.checksum == checksum(key, self.sequence, payload)
    }
}

fn checksum(key: u32, sequence: u64, payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(key, &sequence.to_le_bytes());
    crc32c::crc32c_append(crc, payload)
}
