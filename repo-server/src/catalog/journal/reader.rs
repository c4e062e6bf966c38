//! Reads entries front to back, one at a time.

use std::{
    io::{BufReader, ErrorKind, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use imprint_content::DecodeError;

use super::{
    decision::Decision,
    frame::{FILE_HEADER_BYTES, FRAME_HEADER_BYTES, FileHeader, FrameHeader, Position},
    tail::{self, Tail},
};
use crate::{
    Error, RepositoryId,
    files::{Access, Files, Sequential},
};

/// Reads the journal of a repository without changing it.
///
/// # Errors
/// When it is not this repository's journal, or one of a newer Imprint. Damage is found by the iterator.
pub fn read(files: &Files, path: &Path, repository: RepositoryId) -> Result<Entries, Error> {
    let opened = files.open(path, Access::Read).and_then(|file| Sequential::new(file, 0));
    Entries::new(opened.map_err(|error| Error::io("open", path, error))?, path, repository)
}

/// The repository that a journal says it belongs to: the way out where the superblock is lost.
///
/// # Errors
/// When its header is damaged, or of a newer Imprint.
pub fn repository_in(files: &Files, path: &Path) -> Result<RepositoryId, Error> {
    let opened = files.open(path, Access::Read).and_then(|file| Sequential::new(file, 0));
    let mut input = opened.map_err(|error| Error::io("open", path, error))?;
    read_file_header(&mut input, path).map(|header| header.repository)
}

/// The decisions of a journal in their order, each with the position behind it.
///
/// Ends where the valid entries end. An unfinished entry there is passed over; damage is an error, and the last
/// item. Memory is bounded by one entry.
#[derive(Debug)]
pub struct Entries {
    input: BufReader<Sequential>,
    path: PathBuf,
    key: u32,
    position: Position,
    length: u64,
    payload: Vec<u8>,
    ended: bool,
}

/// What reading a journal to its end came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Survey {
    /// Behind the last valid entry.
    pub end: Position,
    /// Bytes behind it: an entry that a crash cut short, or one that was damaged.
    pub rest: u64,
    /// Whether an entry ends where it was asked for.
    pub has_applied: bool,
}

impl Entries {
    fn new(file: Sequential, path: &Path, repository: RepositoryId) -> Result<Self, Error> {
        let length = file.length();
        let mut input = BufReader::new(file);
        let header = read_file_header(&mut input, path)?;
        if header.repository != repository {
            let why = format!("it belongs to repository {}, not to {repository}", header.repository);
            return Err(Error::FileCorrupt { path: path.to_owned(), why });
        }
        Ok(Self {
            input,
            path: path.to_owned(),
            key: header.key,
            position: Position::START,
            length,
            payload: Vec::new(),
            ended: false,
        })
    }

    /// Reads all that is left, and whether an entry ends at `applied`, which any journal is taken to have at its start.
    ///
    /// # Errors
    /// Damage, as the iterator finds it.
    pub fn survey(&mut self, applied: Position) -> Result<Survey, Error> {
        let mut has_applied = applied == Position::START;
        for entry in &mut *self {
            has_applied |= entry?.0 == applied;
        }
        Ok(Survey { end: self.position, rest: self.length.saturating_sub(self.position.offset), has_applied })
    }

    /// Goes to a position that was read or written before.
    pub(super) fn seek(&mut self, position: Position) -> Result<(), Error> {
        self.input.seek(SeekFrom::Start(position.offset)).map_err(|error| self.io("read", error))?;
        self.position = position;
        Ok(())
    }

    /// Behind the last entry that was read.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    pub(super) const fn key(&self) -> u32 {
        self.key
    }

    /// Whether bytes stand behind the last entry that was read.
    pub(super) const fn has_rest(&self) -> bool {
        self.position.offset < self.length
    }

    fn next_decision(&mut self) -> Result<Option<Decision>, Error> {
        match self.advance()? {
            true => Decision::decode(&self.payload).map(Some).map_err(|error| self.undecodable(&error)),
            false if self.has_rest() => self.judge_rest().map(|()| None),
            false => Ok(None),
        }
    }

    /// Reads the next entry into `payload`; `false`, at the old position, when no valid one is there.
    fn advance(&mut self) -> Result<bool, Error> {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        if !self.fill(&mut bytes)? {
            return Ok(false);
        }
        let Some(header) = FrameHeader::decode(&bytes) else { return Ok(false) };
        let end = self.position.after(header.payload_length(), header.checksum);
        if header.sequence != end.sequence || end.offset > self.length {
            return Ok(false);
        }
        let mut payload = std::mem::take(&mut self.payload);
        payload.resize(header.payload_length(), 0);
        let valid = self.fill(&mut payload)? && header.matches(self.key, &payload);
        self.payload = payload;
        if valid {
            self.position = end;
        }
        Ok(valid)
    }

    /// Fills `buffer`; `false` when the file ends before.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, Error> {
        match self.input.read_exact(buffer) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(self.io("read", error)),
        }
    }

    fn judge_rest(&mut self) -> Result<(), Error> {
        self.seek(self.position)?;
        let mut rest = Vec::new();
        let judged = (&mut self.input).take(tail::JUDGED_BYTES as u64).read_to_end(&mut rest);
        judged.map_err(|error| self.io("read", error))?;
        match tail::judge(&rest, self.position, self.key) {
            Tail::Torn => Ok(()),
            Tail::Damaged { why } => Err(Error::FileCorrupt { path: self.path.clone(), why }),
        }
    }

    fn io(&self, what: &'static str, error: std::io::Error) -> Error {
        Error::io(what, &self.path, error)
    }

    fn undecodable(&self, error: &DecodeError) -> Error {
        let Position { sequence, offset, .. } = self.position;
        let why = format!("entry {sequence}, which ends at byte {offset}: {error}");
        not_understood(&self.path, error, why)
    }
}

impl Iterator for Entries {
    type Item = Result<(Position, Decision), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = self.next_decision().map(|decision| decision.map(|decision| (self.position, decision)));
        self.ended = !matches!(item, Ok(Some(_)));
        item.transpose()
    }
}

fn read_file_header(input: &mut impl Read, path: &Path) -> Result<FileHeader, Error> {
    let mut bytes = [0; FILE_HEADER_BYTES];
    input.read_exact(&mut bytes).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => {
            Error::FileCorrupt { path: path.to_owned(), why: "it ends inside its header".into() }
        }
        _ => Error::io("read", path, error),
    })?;
    FileHeader::decode(&bytes).map_err(|error| not_understood(path, &error, error.to_string()))
}

/// Unknown variants come from a newer Imprint; anything else is damage.
fn not_understood(path: &Path, error: &DecodeError, why: String) -> Error {
    match error {
        DecodeError::Unknown { .. } => Error::Incompatible { path: path.to_owned(), why },
        _ => Error::FileCorrupt { path: path.to_owned(), why },
    }
}
