//! Push, restore and verify disk images. A library that never prints; `imprint` is a command line on top.

mod collect;
pub mod cutting;
mod diff;
mod disk;
mod error;
pub mod extents;
mod fetch;
mod file_changes;
mod ingest;
mod progress;
mod push;
mod repository;
mod restore;
mod retention;
mod retry;
mod scrub;
pub mod source;
pub mod system;
pub mod target;
mod transport;
mod tree_cache;
mod verify;
mod version_reader;

pub use collect::{CollectOptions, CollectPhase, CollectProgress, CollectReport, collect};
pub use diff::{DiffOutcome, PartitionChange, diff};
pub use disk::{DiskLayout, Division, PartitionLayout, RemnantFinder, Swap, inspect};
pub use error::Error;
pub use file_changes::{FileChange, FileChangeKind, FileChanges, file_changes};
pub use progress::{Phase, Progress};
pub use push::{PushOptions, PushOutcome, push};
pub use repository::{Access, DEFAULT_RETRY_FOR, Image, Location, Repository, Stats, Tag, Version};
pub use restore::{
    FilesystemGrowth, FreeSpace, Growing, GrownPartition, RestoreOptions, RestoreOutcome, TableFit, UpdateOptions,
    restore, rollback, update,
};
pub use retention::{ForgetMode, KeepRules, RemovedVersion, VersionFate};
pub use scrub::{
    DamagedPack, DamagedVersion, PackState, ScrubOptions, ScrubPhase, ScrubProgress, ScrubReport, ScrubStep, scrub,
};
pub use tree_cache::TreeCache;
pub use verify::{TargetReport, VersionReport, verify_target, verify_version};
