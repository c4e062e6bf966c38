//! What can go wrong in a repository: facts with identities, and for each what the caller can do.

use std::{io, path::PathBuf};

use imprint_content::{DecodeError, ImageName, ObjectId, TagName};
use imprint_proto::{Failure, Kind};
use rustix::io::Errno;
use thiserror::Error;

use crate::PackId;

/// A failure of the store or of one of its engines.
#[derive(Debug, Error)]
pub enum Error {
    /// No version of this image was ever pushed.
    #[error("there is no image {0}")]
    ImageNotFound(ImageName),
    /// The image has no such version.
    #[error("{image} has no version {wanted}")]
    VersionNotFound {
        /// The image.
        image: ImageName,
        /// What was asked for: a number, the start of an id, or `latest`.
        wanted: String,
    },
    /// The image has no such tag.
    #[error("{image} has no tag {tag}")]
    TagNotFound {
        /// The image.
        image: ImageName,
        /// The tag.
        tag: TagName,
    },
    /// Several versions have ids that start like this.
    #[error("{count} versions of {image} have ids that start with {prefix}")]
    AmbiguousId {
        /// The image.
        image: ImageName,
        /// The digits.
        prefix: String,
        /// How many versions match.
        count: usize,
    },
    /// Compare-and-set found another counter.
    #[error("{image}:{tag} was moved by somebody else (counter {actual}, expected {expected})")]
    TagMoved {
        /// The image.
        image: ImageName,
        /// The tag.
        tag: TagName,
        /// The counter the caller knew.
        expected: u64,
        /// The counter found; 0 when the tag does not exist.
        actual: u64,
    },
    /// A version cannot be removed while tags name it.
    #[error("{image}@{number} is tagged {tags}")]
    VersionTagged {
        /// The image.
        image: ImageName,
        /// The version.
        number: u64,
        /// The tags, joined by commas.
        tags: String,
    },
    /// A version cannot be removed while it is pinned.
    #[error("{image}@{number} is pinned")]
    VersionPinned {
        /// The image.
        image: ImageName,
        /// The version.
        number: u64,
    },
    /// Rules that would keep no version of an image.
    #[error("these rules would remove every version of {0}")]
    WouldForgetAll(ImageName),
    /// The upload was never opened, or was closed: it may have expired.
    #[error("upload {0} is not open")]
    UploadNotOpen(crate::UploadId),
    /// The upload id was used for something else.
    #[error("upload {upload} belongs to another push: {why}")]
    UploadMismatch {
        /// The upload.
        upload: crate::UploadId,
        /// What differs.
        why: &'static str,
    },
    /// A request that no correct client sends.
    #[error("{0}")]
    BadRequest(String),
    /// A message or record that cannot be decoded.
    #[error("the client sent something that cannot be decoded: {0}")]
    BadMessage(#[source] DecodeError),
    /// A received object is not what its id says.
    #[error("received bytes do not hash to their id {0}")]
    WrongBytes(ObjectId),
    /// A record in a pack is damaged.
    #[error("the record at byte {offset} of pack {pack} is damaged: {why}")]
    RecordCorrupt {
        /// The pack.
        pack: PackId,
        /// Where the record starts.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// A file of the repository is damaged.
    #[error("{path} is damaged: {why}")]
    FileCorrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Decisions that were acknowledged may be missing from the end of the journal.
    #[error("the end of {path} is in doubt: {why}; nothing was changed")]
    JournalInDoubt {
        /// The journal.
        path: PathBuf,
        /// What speaks against it.
        why: String,
    },
    /// A pack is intact, and written by a version of Imprint that this one does not understand.
    #[error("pack {pack} needs a newer Imprint: {why}")]
    PackTooNew {
        /// The pack.
        pack: PackId,
        /// Which format.
        why: String,
    },
    /// The catalog knows a pack that storage does not have.
    #[error("pack {0} is missing")]
    PackMissing(PackId),
    /// A version refers to an object that no pack has.
    #[error("object {0} is missing")]
    ObjectMissing(ObjectId),
    /// A version refers to an object whose record was quarantined, and that no other pack has.
    #[error("object {id} was found damaged or missing in pack {pack}: {why}")]
    ObjectDamaged {
        /// The object.
        id: ObjectId,
        /// The pack.
        pack: PackId,
        /// What is wrong.
        why: String,
    },
    /// A collection does not know what a version needs.
    #[error("the tree of {image}@{number} cannot be read ({why}); nothing was deleted")]
    TreeUnreadable {
        /// The image.
        image: ImageName,
        /// The version.
        number: u64,
        /// What is wrong with it.
        why: String,
    },
    /// A collection sees fewer versions than there must be.
    #[error("{known} versions were committed, and only {now} of them are accounted for; nothing was deleted")]
    VersionsVanished {
        /// Versions that existed, or were purged, when the last collection ended.
        known: u64,
        /// Those that exist, or were purged, now.
        now: u64,
    },
    /// No space left.
    #[error("the repository's disk is full ({what})")]
    Full {
        /// What could not be written.
        what: String,
    },
    /// A write or sync failed earlier; nothing is written since.
    #[error("the repository no longer accepts writes: {why}")]
    WritesStopped {
        /// The first failure.
        why: String,
    },
    /// The system refused an operation on a file.
    #[error("cannot {what} {path}")]
    Io {
        /// A verb: `read`, `sync`, ...
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The catalog's engine failed.
    #[error("the catalog failed: {0}")]
    Catalog(String),
    /// Work inside the server ended without an outcome.
    #[error("{what} was stopped: {why}")]
    TaskFailed {
        /// What was being done.
        what: &'static str,
        /// How it ended.
        why: String,
    },
    /// The server is shutting down.
    #[error("the repository's server is stopping; what it has received is kept")]
    Stopping,
    /// As many streams of a kind are served as may be.
    #[error("the repository is busy: {limit} {what} are running")]
    Busy {
        /// What kind of stream.
        what: &'static str,
        /// How many are served at once.
        limit: usize,
    },
    /// The client was silent for too long.
    #[error("the client sent nothing for {seconds} seconds; what was received is kept")]
    Idle {
        /// For how long.
        seconds: u64,
    },
    /// Another process serves this directory.
    #[error("{path} is in use by {by}")]
    Locked {
        /// The repository.
        path: PathBuf,
        /// Who has it, as it wrote itself.
        by: String,
        /// How to reach it: a URL, empty when it does not listen.
        url: String,
    },
    /// There is no repository.
    #[error("{0} is not a repository")]
    NoRepository(PathBuf),
    /// Something else is where a repository would be created.
    #[error("{0} is neither empty nor a repository")]
    NotEmpty(PathBuf),
    /// Written by a version of Imprint that this one does not understand.
    #[error("{path} needs a newer Imprint: {why}")]
    Incompatible {
        /// The repository.
        path: PathBuf,
        /// Which feature or format.
        why: String,
    },
}

impl Error {
    /// An I/O failure, with a full disk told apart.
    pub fn io(what: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { what: format!("cannot {what} {}", path.display()) }
            }
            _ => Self::Io { what, path, source },
        }
    }

    /// Whether the medium itself failed, rather than something that may be better tomorrow: what is there is damaged.
    pub(crate) fn is_unreadable(&self) -> bool {
        let Self::Io { source, .. } = self else { return false };
        // The last two: a filesystem that finds its own structures damaged.
        let is_damage = |errno| matches!(errno, Errno::IO | Errno::UCLEAN | Errno::BADMSG);
        Errno::from_io_error(source).is_some_and(is_damage) || source.kind() == io::ErrorKind::InvalidData
    }

    /// The message with its causes.
    pub(crate) fn with_cause(&self) -> String {
        let mut message = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        message
    }

    /// What the caller can do.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::ImageNotFound(_)
            | Self::VersionNotFound { .. }
            | Self::TagNotFound { .. }
            | Self::NoRepository(_) => Kind::NotFound,
            Self::TagMoved { .. }
            | Self::VersionTagged { .. }
            | Self::VersionPinned { .. }
            | Self::UploadNotOpen(_) => Kind::Conflict,
            Self::AmbiguousId { .. }
            | Self::UploadMismatch { .. }
            | Self::BadRequest(_)
            | Self::BadMessage(_)
            | Self::WrongBytes(_)
            | Self::WouldForgetAll(_)
            | Self::NotEmpty(_)
            | Self::PackTooNew { .. }
            | Self::Incompatible { .. } => Kind::Invalid,
            Self::Full { .. } => Kind::Exhausted,
            Self::WritesStopped { .. }
            | Self::Locked { .. }
            | Self::Stopping
            | Self::Busy { .. }
            | Self::Idle { .. } => Kind::Unavailable,
            Self::RecordCorrupt { .. }
            | Self::FileCorrupt { .. }
            | Self::JournalInDoubt { .. }
            | Self::PackMissing(_)
            | Self::ObjectMissing(_)
            | Self::ObjectDamaged { .. }
            | Self::TreeUnreadable { .. }
            | Self::VersionsVanished { .. } => Kind::Corrupt,
            Self::Io { .. } | Self::Catalog(_) | Self::TaskFailed { .. } => Kind::Internal,
        }
    }

    /// The machine-readable reason.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::ImageNotFound(_) => "IMAGE_NOT_FOUND",
            Self::VersionNotFound { .. } => "VERSION_NOT_FOUND",
            Self::TagNotFound { .. } => "TAG_NOT_FOUND",
            Self::AmbiguousId { .. } => "AMBIGUOUS_ID",
            Self::TagMoved { .. } => "TAG_MOVED",
            Self::VersionTagged { .. } => "VERSION_TAGGED",
            Self::VersionPinned { .. } => "VERSION_PINNED",
            Self::WouldForgetAll(_) => "WOULD_FORGET_ALL",
            Self::UploadNotOpen(_) => "UPLOAD_NOT_OPEN",
            Self::UploadMismatch { .. } => "UPLOAD_MISMATCH",
            Self::BadRequest(_) => "BAD_REQUEST",
            Self::BadMessage(_) => "BAD_MESSAGE",
            Self::WrongBytes(_) => "WRONG_BYTES",
            Self::RecordCorrupt { .. } => "RECORD_CORRUPT",
            Self::FileCorrupt { .. } => "FILE_CORRUPT",
            Self::JournalInDoubt { .. } => "JOURNAL_IN_DOUBT",
            Self::PackMissing(_) => "PACK_MISSING",
            Self::ObjectMissing(_) => "OBJECT_MISSING",
            Self::ObjectDamaged { .. } => "OBJECT_DAMAGED",
            Self::TreeUnreadable { .. } => "TREE_UNREADABLE",
            Self::VersionsVanished { .. } => "VERSIONS_VANISHED",
            Self::Full { .. } => "DISK_FULL",
            Self::WritesStopped { .. } => "WRITES_STOPPED",
            Self::Io { .. } => "IO",
            Self::Catalog(_) => "CATALOG",
            Self::TaskFailed { .. } => "TASK_FAILED",
            Self::Stopping => "STOPPING",
            Self::Busy { .. } => "BUSY",
            Self::Idle { .. } => "IDLE",
            Self::PackTooNew { .. } => "INCOMPATIBLE",
            Self::Locked { .. } => "LOCKED",
            Self::NoRepository(_) => "NO_REPOSITORY",
            Self::NotEmpty(_) => "NOT_EMPTY",
            Self::Incompatible { .. } => "INCOMPATIBLE",
        }
    }

    /// What to do about it; empty when there is nothing to say.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::ImageNotFound(_) => "`imprint images` lists the images of this repository".into(),
            Self::VersionNotFound { image, .. } | Self::TagNotFound { image, .. } => {
                format!("`imprint versions {image}` lists what there is")
            }
            Self::AmbiguousId { .. } => "give more digits, or the version's number".into(),
            Self::TagMoved { .. } => "look at it again and repeat the command".into(),
            Self::VersionTagged { image, .. } => {
                format!("remove a tag with `imprint tag {image} TAG --delete` first")
            }
            Self::VersionPinned { image, number } => format!("take the pin away with `imprint unpin {image}@{number}`"),
            Self::WouldForgetAll(_) => "keep at least one, for instance with `--keep-last 1`".into(),
            Self::UploadNotOpen(_) => "push again; what was sent and is still there is not sent again".into(),
            Self::RecordCorrupt { .. }
            | Self::PackMissing(_)
            | Self::ObjectMissing(_)
            | Self::ObjectDamaged { .. } => {
                "push an image that holds the same data again, put a good copy of the pack back and run `imprint scrub`, which \
                 also finds what else is damaged, or use another version"
                    .into()
            }
            Self::TreeUnreadable { image, number, .. } => format!(
                "run `imprint scrub` and push an image that holds the same data, or remove {image}@{number}; it is kept \
                 until its grace period is over"
            ),
            Self::VersionsVanished { .. } => {
                "stop the server and run `imprint-server rebuild`, which lists all versions anew".into()
            }
            Self::Full { .. } => "make room on the disk of the repository and repeat the command".into(),
            Self::WritesStopped { .. } => {
                "check the disk, what is mounted and the kernel log, then open the repository again; reads still work".into()
            }
            Self::Locked { url, .. } if !url.is_empty() => format!("reach it with `--repo {url}`"),
            Self::Locked { .. } => "wait until it has finished, or run imprint-server to share the repository".into(),
            Self::Stopping => "repeat the command when the server runs again".into(),
            Self::Busy { .. } => "wait until some have ended, and repeat the command".into(),
            Self::Idle { .. } => "repeat the command; what was sent is not sent again".into(),
            Self::NoRepository(_) => "push to it to create it".into(),
            Self::NotEmpty(_) => "choose an empty or new directory".into(),
            Self::FileCorrupt { path, .. } if path.ends_with("journal") || path.ends_with("superblock") => {
                "keep all files as they are, and take this one from a backup; `imprint-server check` says what else is \
                 damaged"
                    .into()
            }
            Self::FileCorrupt { .. } => {
                "`imprint-server rebuild` recreates what can be derived from packs and journal".into()
            }
            Self::JournalInDoubt { .. } => {
                "look for a better copy of the journal; `imprint-server rebuild --accept-lost-decisions` goes on without \
                 what is in doubt, and keeps a copy of it"
                    .into()
            }
            _ => String::new(),
        }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self { kind: error.kind(), reason: error.reason().into(), message: error.with_cause(), hint: error.hint() }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Failure::from(&error).into()
    }
}
