//! What a check found.

use std::path::PathBuf;

use crate::store::scrub::{DamagedPack, DamagedVersion};

/// Something that a check found, as soon as it is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckFinding {
    /// Superblock, journal or catalog is damaged.
    File(DamagedFile),
    /// A pack is damaged, at this path.
    Pack(PathBuf, DamagedPack),
    /// A version cannot be restored whole.
    Version(DamagedVersion),
    /// Something that is not as it was left, and no damage: what it is, for people.
    Note(String),
}

/// A damaged file that is no pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedFile {
    /// The file, or the directory of the catalog.
    pub path: PathBuf,
    /// Where it begins, in bytes, if that is known.
    pub offset: Option<u64>,
    /// What is wrong, for people.
    pub why: String,
}

/// What to do about what a check found, most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remedy {
    /// Superblock or journal cannot be mended: take them from a backup.
    Backup,
    /// Run `imprint-server rebuild`.
    Rebuild,
    /// Run `imprint scrub`, and push images that hold the same data.
    Push,
}

impl Remedy {
    /// For people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Backup => {
                "superblock and journal cannot be derived from anything else: keep all files as they are, and take these from a \
                 backup (docs/operations.md)"
            }
            Self::Rebuild => {
                "run `imprint-server rebuild`, which derives the catalog from packs and journal and keeps the old one"
            }
            Self::Push => {
                "run `imprint scrub`, then push images that hold the same data, which heals versions, or restore other versions"
            }
        }
    }
}

/// What a check came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Valid entries of the journal.
    pub journal_entries: u64,
    /// Entries of the catalog's index; `None` when it could not be read.
    pub catalog_entries: Option<u64>,
    /// Packs that were read.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Intact records in them.
    pub records: u64,
    /// Damaged files that are no packs.
    pub damaged_files: u64,
    /// Packs that are damaged or missing, but for those of which all of that was known.
    pub damaged_packs: u64,
    /// Of them, those that have no file.
    pub missing_packs: u64,
    /// Packs whose damage was known: it is not used.
    pub known_packs: u64,
    /// Packs that need a newer Imprint.
    pub too_new_packs: u64,
    /// Versions whose trees were walked: live ones, and those that can be brought back.
    pub versions: u64,
    /// Of them, those that cannot be restored whole.
    pub damaged_versions: u64,
    /// What to do, most important first.
    pub remedies: Vec<Remedy>,
}

impl CheckReport {
    /// Whether anything is damaged.
    #[must_use]
    pub const fn has_damage(&self) -> bool {
        self.damaged_files > 0 || self.damaged_packs > 0 || self.damaged_versions > 0
    }

    pub(super) fn advise(&mut self, remedy: Remedy) {
        if let Err(at) = self.remedies.binary_search(&remedy) {
            self.remedies.insert(at, remedy);
        }
    }
}
