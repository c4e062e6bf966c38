//! What can go wrong in the client, and what its caller can do about it.

use std::{io, path::PathBuf};

use imprint_content::{DecodeError, NameError, NodeId};
use imprint_proto::{Failure, Kind};
use thiserror::Error;
use tonic::Status;

use crate::{
    source::SourceError,
    target::{MemoryError, TargetError},
};

/// A failure of any operation of this library.
#[derive(Debug, Error)]
pub enum Error {
    /// The repository said no, or could not be reached.
    #[error(transparent)]
    Repository(#[from] Failure),
    /// The source of a push.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Reading what is on a disk.
    #[error(transparent)]
    Disk(#[from] imprint_disks::ReadError),
    /// The target of a restore.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The notes about what targets hold.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A name or ref.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The repository sent something that cannot be decoded.
    #[error("the repository sent something that cannot be decoded")]
    Decode(#[from] DecodeError),
    /// The repository's answers do not fit together.
    #[error("the repository broke the protocol: {0}")]
    Protocol(String),
    /// The tree that was fetched is not the version's tree.
    #[error("the tree that was fetched has root {actual}, the version has {expected}")]
    WrongTree {
        /// The version's root.
        expected: NodeId,
        /// What was received.
        actual: NodeId,
    },
    /// A chunk that was fetched is damaged.
    #[error("the chunk for byte {offset} of the image arrived damaged: {why}")]
    ChunkCorrupt {
        /// Where the extent starts.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// The repository ended a stream early and did not say why.
    #[error("the repository ended the connection")]
    StreamClosed,
    /// The source changed between two looks.
    #[error("the source changed at byte {offset} while it was pushed")]
    SourceChanged {
        /// Where.
        offset: u64,
    },
    /// The repository lacks objects that only the source has, and the source cannot be read twice.
    #[error("the repository lost data that this push relies on, and a stream cannot be read again")]
    CannotResend,
    /// The repository keeps asking for the same objects.
    #[error("the repository still misses objects after {0} attempts to send them")]
    NeverComplete(usize),
    /// A file of the client's own: cache or spool.
    #[error("cannot {what} {path}")]
    Io {
        /// A verb.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A stream is written to a file before it is pushed.
    #[error("cannot write standard input to a file in {directory}")]
    Spool {
        /// Where the file is.
        directory: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A location that is neither a directory nor a URL.
    #[error("{0:?} is not a repository: expected a directory or a URL such as http://host:7070")]
    Location(String),
    /// The sector sizes, lengths or profiles do not fit.
    #[error("{0}")]
    Unsupported(String),
    /// An update without a ref needs a target that was restored before.
    #[error("it is not known what {0} holds or follows")]
    NotKnown(PathBuf),
    /// A device whose name may mean another disk since.
    #[error("{path} was restored from {following}, but was written to or changed its name since")]
    AnotherDisk {
        /// The device.
        path: PathBuf,
        /// What the target of that name follows.
        following: String,
    },
    /// An update goes forward.
    #[error("{version} is older than what the target holds, number {held}")]
    Older {
        /// Where the update would go.
        version: imprint_content::Ref,
        /// The number of the version that the target holds.
        held: u64,
    },
    /// A rollback without a ref needs a version to go back to.
    #[error("it is not known what {0} held before")]
    NothingBefore(PathBuf),
    /// Built without the embedded repository.
    #[error("this imprint can only reach repositories by URL: it was built without the embedded one")]
    NotEmbedded,
    /// A worker thread died.
    #[error("a worker stopped unexpectedly")]
    WorkerStopped,
}

impl Error {
    /// What the caller can do.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Repository(failure) => failure.kind,
            Self::Source(error) => error.kind(),
            Self::Target(error) => error.kind(),
            Self::Io { source, .. } | Self::Spool { source, .. } => kind_of_io(source),
            Self::Disk(error) => kind_of_io(&error.source),
            Self::Name(_) | Self::Location(_) | Self::Unsupported(_) => Kind::Invalid,
            Self::NotEmbedded
            | Self::SourceChanged { .. }
            | Self::NotKnown(_)
            | Self::AnotherDisk { .. }
            | Self::Older { .. }
            | Self::NothingBefore(_) => Kind::Invalid,
            Self::StreamClosed => Kind::Unavailable,
            Self::Decode(_) | Self::Protocol(_) | Self::WrongTree { .. } | Self::ChunkCorrupt { .. } => Kind::Corrupt,
            Self::CannotResend | Self::NeverComplete(_) => Kind::Corrupt,
            Self::Memory(_) | Self::WorkerStopped => Kind::Internal,
        }
    }

    /// Whether the same may succeed a little later: the connection broke, or the server is restarted or busy.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.kind() == Kind::Unavailable && !LASTING.contains(&self.reason())
    }

    /// The machine-readable reason: upper-case words joined by `_`.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Repository(failure) => &failure.reason,
            Self::Source(_) | Self::Disk(_) => "SOURCE",
            Self::SourceChanged { .. } => "SOURCE_CHANGED",
            Self::Target(_) => "TARGET",
            Self::Memory(_) => "MEMORY",
            Self::Name(_) => "NAME",
            Self::Location(_) => "LOCATION",
            Self::Unsupported(_) => "UNSUPPORTED",
            Self::NotKnown(_) => "NOT_KNOWN",
            Self::AnotherDisk { .. } => "ANOTHER_DISK",
            Self::Older { .. } => "OLDER",
            Self::NothingBefore(_) => "NOTHING_BEFORE",
            Self::NotEmbedded => "NOT_EMBEDDED",
            Self::Decode(_) | Self::Protocol(_) => "PROTOCOL",
            Self::WrongTree { .. } => "WRONG_TREE",
            Self::ChunkCorrupt { .. } => "CHUNK_CORRUPT",
            Self::StreamClosed => "STREAM_CLOSED",
            Self::CannotResend => "CANNOT_RESEND",
            Self::NeverComplete(_) => "NEVER_COMPLETE",
            Self::Io { .. } | Self::Spool { .. } => "IO",
            Self::WorkerStopped => "WORKER_STOPPED",
        }
    }

    /// What to do about it; empty when there is nothing to say.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Repository(failure) => failure.hint.clone(),
            Self::Source(error) => error.hint(),
            Self::Target(error) => error.hint(),
            Self::ChunkCorrupt { .. } | Self::WrongTree { .. } => {
                "try again; if it stays, push an image that holds the same data, or use another version".into()
            }
            Self::NotKnown(_) => "name the version: `imprint update TARGET REF`, or restore it once".into(),
            Self::AnotherDisk { following, .. } => {
                format!("if it is the same disk, say so by naming the version: `imprint update TARGET {following}`")
            }
            Self::Older { .. } => "to go back use `imprint rollback`, or add --allow-older".into(),
            Self::NothingBefore(_) => "name the version: `imprint rollback TARGET REF`".into(),
            Self::Spool { .. } => {
                "set TMPDIR to a directory with room for the data of the image, or push a file or device".into()
            }
            Self::CannotResend => "push again: what was lost will be sent then".into(),
            Self::NotEmbedded => "give a URL, or build with the feature `embedded`".into(),
            _ => String::new(),
        }
    }
}

/// Reasons why a repository is unavailable that do not pass by themselves.
const LASTING: [&str; 3] = ["WRITES_STOPPED", "LOCKED", "IDLE"];

/// What the caller can do about a failed operation on a file or device.
pub(crate) fn kind_of_io(error: &io::Error) -> Kind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Kind::Exhausted,
        _ => Kind::Internal,
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        // A status that came from the repository has no source; one that has was made here, when the connection broke.
        match std::error::Error::source(&status) {
            Some(cause) => Self::Repository(connection_lost(cause)),
            None => Self::Repository(status.into()),
        }
    }
}

fn connection_lost(cause: &(dyn std::error::Error + 'static)) -> Failure {
    // The outer ones only say that something went wrong below.
    let mut innermost = cause;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    Failure {
        kind: Kind::Unavailable,
        reason: "CONNECTION_LOST".into(),
        message: format!("the connection to the repository broke: {innermost}"),
        hint: "check that imprint-server runs, and repeat the command: what has arrived is not moved again".into(),
    }
}
