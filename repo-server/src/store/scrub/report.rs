//! What a scrub found.

use std::fmt;

use crate::{
    PackId,
    catalog::VersionKey,
    pack::{PackDamage, Purpose},
};

/// Stretches of one pack that are listed; the rest is counted.
pub(super) const MAX_LISTED: usize = 64;

/// Something that a scrub found, as soon as it is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScrubFinding {
    /// A pack is damaged.
    Pack(DamagedPack),
    /// A version needs what is damaged.
    Version(DamagedVersion),
}

/// A pack with damage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedPack {
    /// The pack.
    pub pack: PackId,
    /// What its records hold, if that is known.
    pub kind: Option<Purpose>,
    /// What is wrong.
    pub state: PackState,
    /// Where it is wrong: the first of them, by offset. None of a missing one.
    pub damage: Vec<PackDamage>,
    /// All of them.
    pub damaged_parts: u64,
    /// Objects of which this scrub found that they cannot be read from this pack; they are asked for again now.
    pub new_objects: u64,
    /// Objects that had been located in this pack intact, and were copied to another one.
    pub copied_objects: u64,
    /// Whether nothing was found that was not known: what is damaged is not used, and nothing intact is in danger.
    pub is_known: bool,
}

/// What is wrong with a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackState {
    /// There is no file.
    Missing,
    /// A part of the file is damaged.
    Damaged,
    /// It needs a newer Imprint: nothing can be said of it.
    TooNew,
}

/// A version that cannot be restored whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedVersion {
    /// The version.
    pub version: VersionKey,
    /// Whether it was removed; it can still be brought back.
    pub is_removed: bool,
    /// Data extents whose chunk is damaged or missing.
    pub chunks: u64,
    /// Nodes that are damaged or missing; what is below them is not known.
    pub nodes: u64,
    /// Bytes of the image that cannot be restored.
    pub bytes: u64,
    /// Where in the image the first of them is.
    pub first_offset: u64,
}

/// What a scrub came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// Every pack that existed when it began was verified since then. The server's clock, milliseconds since 1970.
    pub since_unix_ms: i64,
    /// Packs that it verified.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Intact records in them.
    pub records: u64,
    /// Packs that were verified recently enough.
    pub recent_packs: u64,
    /// Packs that are damaged or missing, but for those of which all of that was known.
    pub damaged_packs: u64,
    /// Of them, those that have no file.
    pub missing_packs: u64,
    /// Packs whose damage was known: it is not used. They wait for a collection.
    pub known_packs: u64,
    /// Packs that need a newer Imprint.
    pub too_new_packs: u64,
    /// Objects that were found damaged or missing now.
    pub new_objects: u64,
    /// Objects that are damaged or missing and that no push has brought again.
    pub unhealed_objects: u64,
    /// Objects that had been found damaged or missing, and are intact where they were.
    pub readmitted_objects: u64,
    /// Versions whose trees were walked: live ones, and those that can be brought back.
    pub versions: u64,
    /// Of them, those that need what is damaged.
    pub damaged_versions: u64,
}

impl ScrubReport {
    /// Whether damage was found, or versions suffer from damage that was found before.
    #[must_use]
    pub const fn has_damage(&self) -> bool {
        self.damaged_packs > 0 || self.new_objects > 0 || self.damaged_versions > 0
    }
}

impl fmt::Display for ScrubReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { packs, bytes, damaged_packs, new_objects, versions, damaged_versions, .. } = self;
        write!(f, "{packs} packs, {bytes} bytes; {damaged_packs} packs damaged, {new_objects} objects newly found; ")?;
        write!(f, "{damaged_versions} of {versions} versions damaged")
    }
}
