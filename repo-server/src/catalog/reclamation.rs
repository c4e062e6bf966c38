//! What reclaiming space asks of a catalog: marks, what may be condemned, what is damaged.
//!
//! The rule that must not be broken: a pack is condemned only if nothing rests on it, and the engine finds that out
//! itself, under the locks that commits and holds take. A collector's word is only what it marked.

use imprint_content::{NodeId, ObjectId};

use super::Location;
use super::VersionKey;
use crate::{PackId, pack::Purpose};

/// Names a mark while the engine that began it is open. Never reused by that engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MarkId(pub(super) u64);

/// A mark that was begun: everything to start from, at one moment.
///
/// From that moment on, until it is ended, every pack that is added, and every pack that a commit relies on, is
/// *stamped* for it and is not condemned by it. So whatever came to be needed after the moment is safe, and whatever was
/// needed before it is reached from the roots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Its name, for [`condemn`](super::Catalog::condemn) and [`end_mark`](super::Catalog::end_mark).
    pub id: MarkId,
    /// Live versions, removed ones that are not purged, and bases of open uploads. In no order; a node may occur several times.
    pub roots: Vec<Root>,
    /// What a later collection compares itself with.
    pub counts: VersionCounts,
    /// The last mark that was ended as finished.
    pub last_finished: Option<FinishedMark>,
}

/// A tree that must stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Its top.
    pub node: NodeId,
    /// The version that it is, or was, the tree of.
    pub version: VersionKey,
    /// Why it must stay.
    pub kind: RootKind,
}

/// Why a tree must stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootKind {
    /// The version is live.
    Live {
        /// The server's clock at commit, milliseconds since 1970.
        committed_unix_ms: i64,
    },
    /// The version was removed and can be brought back.
    Removed {
        /// The server's clock at commit, milliseconds since 1970.
        committed_unix_ms: i64,
    },
    /// An open upload relies on it, even if the version was purged since.
    Base,
}

/// How many versions there are, and how many are gone for good.
///
/// `versions + purged` is the number of versions that were ever committed; it never falls. Where it did fall, what is
/// listed is not all there is, and nothing may be condemned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VersionCounts {
    /// Live versions, and removed ones that are not purged.
    pub versions: u64,
    /// Versions purged so far.
    pub purged: u64,
}

/// A mark that led to a complete collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FinishedMark {
    /// The server's clock when the collection ended, milliseconds since 1970.
    pub finished_unix_ms: i64,
    /// As the mark had begun with.
    pub counts: VersionCounts,
}

/// How a mark ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkEnd {
    /// The collection stopped, for whatever reason.
    Abandoned,
    /// The collection did all it wanted; durable. Given the server's clock, milliseconds since 1970.
    Finished(i64),
}

/// A set of records of one pack, by ordinal: one bit each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordSet {
    words: Vec<u64>,
}

impl RecordSet {
    /// An empty set for a pack with so many records.
    #[must_use]
    pub fn with_capacity(records: u32) -> Self {
        Self { words: vec![0; records.div_ceil(64) as usize] }
    }

    /// Adds a record; whether it was new. Grows for an ordinal beyond the capacity.
    pub fn insert(&mut self, ordinal: u32) -> bool {
        let (word, bit) = place(ordinal);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let is_new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        is_new
    }

    /// Whether it has this record.
    #[must_use]
    pub fn contains(&self, ordinal: u32) -> bool {
        let (word, bit) = place(ordinal);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Records in it.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }
}

const fn place(ordinal: u32) -> (usize, u64) {
    (ordinal as usize / 64, 1 << (ordinal % 64))
}

/// A pack that a collector wants to be condemned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The pack.
    pub pack: PackId,
    /// The ids of *all* its records, as [`read_index`](crate::pack::read_index) lists them.
    pub objects: Vec<ObjectId>,
    /// The ordinals, out of [`Location`](super::Location), of what was located in it when the mark came by.
    pub marked: RecordSet,
}

/// What became of a [`Candidate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condemnation {
    /// Durable: nothing is located in it any more, and its file may be deleted.
    Condemned,
    /// Nothing changed.
    Refused(Refusal),
}

/// Why a pack is not condemned. None of them is a failure: a later collection sees to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// The mark was ended, or begun by an engine that was closed since.
    #[error("its mark has ended")]
    MarkEnded,
    /// No such pack is live.
    #[error("it is not a live pack")]
    NotLive,
    /// An open upload relies on it.
    #[error("an upload holds it")]
    Held,
    /// It was added, or a commit relied on it, since the mark began.
    #[error("something came to rely on it since the mark began")]
    Stamped,
    /// The pack has another number of records than when it was added: what is in it is not known.
    #[error("it has not the records that the catalog knows of")]
    OtherRecords,
    /// A marked object is still located in it.
    #[error("an object that was marked is still located in it")]
    Marked,
    /// It has a record of an object that is damaged and not healed: the copy may be what heals it, or is evidence.
    #[error("it has a record of a damaged object that was not healed")]
    Damaged,
}

/// Records of one pack that turned out to be damaged or missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The pack.
    pub pack: PackId,
    /// What they are records of.
    pub kind: Purpose,
    /// The objects, at most [`MAX_DAMAGE_OBJECTS`].
    pub objects: Vec<ObjectId>,
    /// What is wrong, for people.
    pub why: String,
    /// The server's clock, milliseconds since 1970.
    pub found_unix_ms: i64,
}

/// Records of one pack that were read just now, and are what they should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntactRecords {
    /// The pack.
    pub pack: PackId,
    /// What they are records of.
    pub kind: Purpose,
    /// All records that the pack lists, intact or not: ordinals go by them.
    pub entries: u32,
    /// The objects, at most [`MAX_DAMAGE_OBJECTS`], and where they are in this pack.
    pub objects: Vec<(ObjectId, Location)>,
    /// The server's clock, milliseconds since 1970.
    pub read_unix_ms: i64,
}

/// Most objects in one [`Damage`] or [`IntactRecords`]: they must fit into a journal entry.
pub const MAX_DAMAGE_OBJECTS: usize = 32 << 10;

/// A quarantined record whose object is located nowhere: every push is asked to send it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedObject {
    /// The object.
    pub id: ObjectId,
    /// What it is.
    pub kind: Purpose,
    /// The pack with the damaged record.
    pub pack: PackId,
    /// What was wrong with it.
    pub why: String,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_record_set_is_a_set(ordinals: Vec<u16>, capacity in 0u32..1000) {
            let (mut set, mut model) = (RecordSet::with_capacity(capacity), BTreeSet::new());
            for ordinal in &ordinals {
                prop_assert_eq!(set.insert(u32::from(*ordinal)), model.insert(*ordinal));
            }
            prop_assert_eq!(set.len() as usize, model.len());
            prop_assert_eq!(set.is_empty(), model.is_empty());
            for ordinal in 0..=u16::MAX {
                prop_assert_eq!(set.contains(u32::from(ordinal)), model.contains(&ordinal));
            }
        }
    }
}
