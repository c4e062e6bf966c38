//! Why a version cannot be restored onto a target.

use std::{io, path::PathBuf};

use thiserror::Error;

use imprint_proto::Kind;

use crate::{
    error::kind_of_io,
    system::{SystemError, Use},
};

/// A target that is refused, or fails.
#[derive(Debug, Error)]
pub enum TargetError {
    /// A directory holds no image.
    #[error("{0} is a directory")]
    Directory(PathBuf),
    /// A new file needs a directory.
    #[error("the directory {directory} of {path} does not exist")]
    MissingDirectory {
        /// The target.
        path: PathBuf,
        /// What is missing.
        directory: PathBuf,
    },
    /// A file below `/dev` would fill the memory and be no disk.
    #[error("there is no device {0}")]
    NoSuchDevice(PathBuf),
    /// The symbolic link leads nowhere.
    #[error("{0} is a symbolic link to something that does not exist")]
    DanglingLink(PathBuf),
    /// A character device, pipe or socket.
    #[error("{path} is {what}, not a file or block device")]
    NotStorage {
        /// The path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The image does not fit on the device.
    #[error("{path} has {length} bytes, which is {} bytes too small for the image", image_length - length)]
    TooSmall {
        /// The device.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
        /// The image's length in bytes.
        image_length: u64,
    },
    /// What is on the disk of the image does not end before the target does.
    #[error("{path} has {length} bytes, which is {beyond} bytes too few: {what}")]
    DoesNotFit {
        /// The target.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
        /// How many bytes longer it would have to be.
        beyond: u64,
        /// What does not fit.
        what: String,
        /// What can be done about it.
        remedy: &'static str,
    },
    /// The last partition was to take what the target has more.
    #[error("nothing on {path} can be grown: {why}")]
    CannotGrow {
        /// The target.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// A device is as long as it is.
    #[error("{0} is a device: it cannot be given a length")]
    LengthOfDevice(PathBuf),
    /// Partition tables count in sectors, so that they mean something else on this device.
    #[error("{path} has sectors of {device} bytes, the image was made for sectors of {image}")]
    SectorSize {
        /// The device.
        path: PathBuf,
        /// Its logical sector size in bytes.
        device: u32,
        /// The image's.
        image: u32,
    },
    /// Something uses it that would be destroyed, or would destroy the image.
    #[error("{path} is in use: {found}")]
    InUse {
        /// The target.
        path: PathBuf,
        /// Who uses it.
        found: Use,
    },
    /// The kernel, or a lock, says that somebody owns it, and it could not be found out who.
    #[error("{path} is in exclusive use")]
    Claimed {
        /// The target.
        path: PathBuf,
    },
    /// It lies where no target may lie.
    #[error("{path} lies inside {directory}, which belongs to the repository")]
    Forbidden {
        /// The target.
        path: PathBuf,
        /// The forbidden directory.
        directory: PathBuf,
    },
    /// It may not be written to.
    #[error("{path} is read-only")]
    ReadOnly {
        /// The target.
        path: PathBuf,
    },
    /// The system refused to open or create it.
    #[error("cannot open {path} for writing")]
    Open {
        /// The path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Something else took its place between the checks and the opening.
    #[error("{0} was replaced while it was opened")]
    Replaced(PathBuf),
    /// The file could not be given the image's length.
    #[error("cannot give {path} the length of the image, {image_length} bytes")]
    Resize {
        /// The file.
        path: PathBuf,
        /// The length in bytes.
        image_length: u64,
        /// The system's reason.
        source: io::Error,
    },
    /// The system could not read it.
    #[error("cannot read {path} at byte {offset}")]
    Read {
        /// The target.
        path: PathBuf,
        /// Where reading started.
        offset: u64,
        /// The system's reason.
        source: io::Error,
    },
    /// The system could not write to it.
    #[error("cannot write to {path} at byte {offset}")]
    Write {
        /// The target.
        path: PathBuf,
        /// Where writing started.
        offset: u64,
        /// The system's reason.
        source: io::Error,
    },
    /// A range that the target does not have.
    #[error("{length} bytes at byte {offset} lie outside of {path}")]
    Outside {
        /// The target.
        path: PathBuf,
        /// Where the range starts.
        offset: u64,
        /// How long it is.
        length: u64,
    },
    /// What was written is not durable, and it cannot be known what is lost.
    #[error("cannot make what was written to {path} durable")]
    Sync {
        /// The target.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A sync failed earlier; see there.
    #[error("an earlier attempt to make what was written to {path} durable failed")]
    SyncFailedBefore {
        /// The target.
        path: PathBuf,
    },
    /// It could not be found out who uses it or what was written to it.
    #[error("cannot find out whether the target is in use")]
    System(#[from] SystemError),
}

impl TargetError {
    /// What the caller can do.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Resize { source, .. }
            | Self::Read { source, .. }
            | Self::Write { source, .. }
            | Self::Sync { source, .. } => kind_of_io(source),
            Self::SyncFailedBefore { .. } | Self::System(_) => Kind::Internal,
            _ => Kind::Invalid,
        }
    }

    /// What to do about it; empty when there is nothing to say.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Directory(path) => format!("name a file in it, such as {}", path.join("disk.raw").display()),
            Self::MissingDirectory { directory, .. } => format!("create it with `mkdir -p {}`", directory.display()),
            Self::NoSuchDevice(_) => "check its name: `lsblk` lists the devices there are".into(),
            Self::DanglingLink(_) => "name the file that it should lead to".into(),
            Self::NotStorage { .. } => "name a file or a block device".into(),
            Self::TooSmall { image_length, .. } => format!("use a device of at least {image_length} bytes"),
            Self::DoesNotFit { length, beyond, remedy, .. } => {
                format!("use a target of at least {} bytes, or {remedy}", length.saturating_add(*beyond))
            }
            Self::CannotGrow { .. } => "restore without --grow".into(),
            Self::LengthOfDevice(_) => "leave out --size".into(),
            Self::SectorSize { .. } => {
                "its partition table counts in sectors: restore to a file, or to a device with sectors of that size"
                    .into()
            }
            Self::InUse { found, .. } => found.way_out(),
            Self::Claimed { .. } => {
                "a program, a virtual machine, or a filesystem mounted in another container has it: end that first"
                    .into()
            }
            Self::Forbidden { .. } => "choose a target outside of the repository".into(),
            Self::ReadOnly { path } => {
                format!("make it writable (`chmod u+w {0}`, `blockdev --setrw {0}`, or remount)", path.display())
            }
            Self::Open { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "run as a user who may write to it, such as root".into()
            }
            Self::Resize { source, .. } | Self::Write { source, .. } | Self::Sync { source, .. } => {
                write_hint(source.kind()).into()
            }
            Self::Read { .. } => FAILING_DISK.into(),
            Self::SyncFailedBefore { .. } => "restore again; what is already right is kept".into(),
            Self::System(error) => error.hint(),
            Self::Open { .. } | Self::Replaced(_) | Self::Outside { .. } => String::new(),
        }
    }
}

const FAILING_DISK: &str = "the disk may be failing: look at the kernel log with `dmesg`";

fn write_hint(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room and restore again; what is already there is kept"
        }
        io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidInput => {
            "the filesystem does not take files of this length; choose another"
        }
        _ => FAILING_DISK,
    }
}
