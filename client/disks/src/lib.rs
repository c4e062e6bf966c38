//! What is on a disk: its partition table, its filesystems, which ranges they use, and where files begin and end.
//!
//! Everything here parses bytes that nobody vouches for, through [`ReadAt`], and writes nothing. The one rule: never a
//! guess. What is not understood completely, or does not agree with itself, has no map, and a [`Reason`]; its user
//! treats it as plain bytes. `docs/disks.md` says what is understood.

mod blocks;
mod checksum;
mod ext;
mod fat;
mod fields;
mod files;
mod filesystem;
mod layout;
mod map;
mod read;
mod reason;
mod swap;
mod table;

pub use files::{FileEntry, FileExtent, FileKind, FileVisitor, FilesError, files};
pub use filesystem::Identity;
pub use layout::{Content, Layout, Partition};
pub use map::{Map, MapOptions, Usage};
pub use read::{ReadAt, ReadError};
pub use reason::Reason;
pub use table::{Grown, Growth, Misfit, PartitionTable, Patch, Resized, Slot, TableKind};
