//! Why a source cannot be pushed.

use std::{io, path::PathBuf};

use thiserror::Error;

use imprint_proto::Kind;

use crate::{
    error::kind_of_io,
    system::{SystemError, Use},
};

/// A source that is refused, cannot be read, or changed.
#[derive(Debug, Error)]
pub enum SourceError {
    /// Nothing is there.
    #[error("{0} does not exist")]
    NotFound(PathBuf),
    /// A directory has no image.
    #[error("{0} is a directory, not a disk image")]
    Directory(PathBuf),
    /// A character device, pipe or socket.
    #[error("{path} is {what}, not a file or block device")]
    NotStorage {
        /// The path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// It may be written to while it is read.
    #[error("{path} may change while it is read: {found}")]
    InUse {
        /// The source.
        path: PathBuf,
        /// Who writes.
        found: Use,
    },
    /// The kernel says that somebody owns the device, and it could not be found out who.
    #[error("{path} is in exclusive use")]
    Claimed {
        /// The device.
        path: PathBuf,
    },
    /// The system refused to open it.
    #[error("cannot open {path}")]
    Open {
        /// The path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Something else took its place between the checks and the opening.
    #[error("{0} was replaced while it was opened")]
    Replaced(PathBuf),
    /// The system could not read it.
    #[error("cannot read {path} at byte {offset}")]
    Read {
        /// The source.
        path: PathBuf,
        /// Where reading started.
        offset: u64,
        /// The system's reason.
        source: io::Error,
    },
    /// The system could not read standard input.
    #[error("cannot read standard input")]
    ReadStream {
        /// The system's reason.
        source: io::Error,
    },
    /// It was written to while it was read.
    #[error("{path} changed while it was read: {what}")]
    Changed {
        /// The source.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// A stream was asked for bytes at an offset.
    #[error("standard input can only be read from front to back")]
    NotSeekable,
    /// A file or device was read like a stream.
    #[error("only standard input is read as a stream")]
    NotAStream,
    /// It could not be found out who uses it or what was written to it.
    #[error("cannot find out whether the source is in use")]
    System(#[from] SystemError),
}

impl SourceError {
    /// What the caller can do.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read { source, .. } | Self::ReadStream { source } => kind_of_io(source),
            Self::System(_) => Kind::Internal,
            _ => Kind::Invalid,
        }
    }

    /// What to do about it; empty when there is nothing to say.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::NotFound(_) => "check the path; devices are listed by `lsblk`".into(),
            Self::Directory(_) => "name a raw image file or a block device".into(),
            Self::NotStorage { path, .. } => format!("pipe it: `cat {} | imprint push - IMAGE`", path.display()),
            Self::InUse { found: found @ Use::Mounted { at, .. }, .. } => {
                format!("{}, or make it read-only with `mount -o remount,ro {}`", found.way_out(), at.display())
            }
            Self::InUse { found, .. } => found.way_out(),
            Self::Claimed { .. } => {
                "another program, a restore, or a filesystem mounted in another container has it: end that first".into()
            }
            Self::Open { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "run as a user who may read it, such as root".into()
            }
            Self::Read { .. } => "the disk may be failing: look at the kernel log with `dmesg`".into(),
            Self::Changed { .. } | Self::Replaced(_) => {
                "stop what writes to it (or push a snapshot of it) and push again; nothing was committed".into()
            }
            Self::System(error) => error.hint(),
            Self::Open { .. } | Self::ReadStream { .. } | Self::NotSeekable | Self::NotAStream => String::new(),
        }
    }
}
