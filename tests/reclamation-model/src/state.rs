//! One state of the repository: what is on the disk, in the catalog and in the memory of the process.

use crate::{CHUNK, NODE, Objects, PACKS, Packs, Reclamation};

/// A state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// The files.
    pub packs: [Pack; PACKS as usize],
    /// Where the catalog says that chunk and node are.
    pub located: [Option<u8>; 2],
    /// Version 0 is there from the start, the others are those that the uploads become.
    pub versions: [Version; 3],
    /// Uploads as the catalog knows them.
    pub uploads: [Upload; 2],
    /// The streams that work on them.
    pub streams: [Stream; 2],
    /// The collectors.
    pub collectors: [Collector; 2],
    /// Files that were condemned and are still to be removed.
    pub unlinking: Packs,
    /// Whether the node is in the cache of decoded nodes.
    pub node_is_cached: bool,
    /// Somebody who restores version 0.
    pub reader: Reader,
    /// Crashes that are still to come.
    pub crashes: u8,
}

/// A pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pack {
    /// How far it is.
    pub state: PackState,
    /// What it has.
    pub has: Objects,
}

/// The life of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PackState {
    /// Not written yet.
    Unused,
    /// Durable and in its place; the catalog does not know it yet.
    Sealed,
    /// In the catalog.
    Live,
    /// The journal gave it up; the file is still there.
    Condemned,
    /// No file.
    Deleted,
}

/// The life of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// Not committed yet.
    Absent,
    /// There.
    Live,
    /// Removed; can be brought back.
    Removed,
    /// Gone for good.
    Purged,
}

/// An upload as the catalog knows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Upload {
    /// Whether it is open.
    pub is_open: bool,
    /// Whether version 0 is its base.
    pub has_base: bool,
    /// What it holds.
    pub holds: Packs,
}

/// How far the stream of an upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Not begun, or cut off.
    None,
    /// The upload is open.
    Open,
    /// The client was told to send these, or sends them anyway.
    Sends(Objects),
    /// Its pack is sealed.
    Sealed(u8),
    /// At commit: the node is looked up next.
    ChecksNode,
    /// The chunk is looked up next.
    ChecksChunk,
    /// The closure was checked.
    Checked,
}

/// How far a collector is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Collector {
    /// Will begin so many collections.
    Idle(u8),
    /// Only without [`MarkBeginsAtOnce`](crate::Guard::MarkBeginsAtOnce): roots are listed, nothing is stamped yet.
    Listed {
        /// Collections still to begin after this one.
        left: u8,
        /// Whether the tree is reached from a root.
        is_reached: bool,
    },
    /// Walks the tree: the node, then the chunk.
    Marks {
        /// Collections still to begin after this one.
        left: u8,
        /// Where the node was located, once it was visited.
        node: Option<u8>,
        /// Packs that this mark must not condemn.
        stamped: Packs,
    },
    /// Repacks and condemns.
    Sweeps {
        /// Collections still to begin after this one.
        left: u8,
        /// Where chunk and node were located when the mark came by; nothing when no root reaches them.
        marked: [Option<u8>; 2],
        /// Packs that this mark must not condemn.
        stamped: Packs,
        /// Packs whose marked objects it copied.
        copied: Packs,
        /// The copy that is sealed and not added.
        sealed: Option<u8>,
        /// Only without [`CondemnIsAtomic`](crate::Guard::CondemnIsAtomic): found fit to be condemned.
        judged: Option<u8>,
    },
}

/// Somebody who restores version 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reader {
    /// Nobody.
    None,
    /// Has located the chunk in this pack, and did so before.
    At {
        /// The pack.
        pack: u8,
        /// Whether it had to look again.
        again: bool,
    },
    /// Found nothing, though the version is live.
    Failed,
}

/// What a crash takes from the catalog's index, which is not synced. The journal replays the decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Loss {
    /// Nothing.
    Nothing,
    /// The latest holds.
    Holds,
    /// All but the decisions. Places come from the packs again: of two records, the first one's.
    FirstRecordWins,
    /// The same, of two records the last one's.
    LastRecordWins,
}

const UNUSED: Pack = Pack { state: PackState::Unused, has: Objects::NONE };

impl State {
    fn with_tree_in(model: &Reclamation, packs: [Pack; PACKS as usize], located: [Option<u8>; 2]) -> Self {
        let collector = |index| Collector::Idle(if index < model.collectors { model.collections } else { 0 });
        Self {
            packs,
            located,
            versions: [Version::Live, Version::Absent, Version::Absent],
            uploads: [Upload::default(); 2],
            streams: [Stream::None; 2],
            collectors: [collector(0), collector(1)],
            unlinking: Packs::default(),
            node_is_cached: false,
            reader: Reader::None,
            crashes: model.crashes,
        }
    }

    pub(crate) fn with_tree_in_one_pack(model: &Reclamation) -> Self {
        let both = Pack { state: PackState::Live, has: Objects::BOTH };
        Self::with_tree_in(model, [both, UNUSED, UNUSED], [Some(0), Some(0)])
    }

    pub(crate) fn with_tree_in_two_packs(model: &Reclamation) -> Self {
        let only = |object: usize| Pack { state: PackState::Live, has: Objects::default().with(object as u8) };
        Self::with_tree_in(model, [only(CHUNK), only(NODE), UNUSED], [Some(0), Some(1)])
    }

    /// Whether the file of a pack can be read.
    #[must_use]
    pub fn is_readable(&self, pack: u8) -> bool {
        !matches!(self.packs[pack as usize].state, PackState::Unused | PackState::Deleted)
    }

    /// The rule. A version that can be brought back counts too.
    #[must_use]
    pub fn versions_are_whole(&self) -> bool {
        let needed = self.versions.iter().any(|version| matches!(version, Version::Live | Version::Removed));
        !needed || [CHUNK, NODE].into_iter().all(|object| self.is_there(object))
    }

    fn is_there(&self, object: usize) -> bool {
        self.located[object].is_some_and(|pack| {
            let Pack { state, has } = self.packs[pack as usize];
            state == PackState::Live && has.contains(object as u8)
        })
    }

    /// The same state with uploads and collectors in one order: which of two that are alike is the first makes no
    /// difference, and a quarter of the states is left. The indices of later actions are those of this order.
    pub(crate) fn in_order(mut self, model: &Reclamation) -> Self {
        let upload = |state: &Self, n: usize| (state.uploads[n], state.streams[n], state.versions[n + 1]);
        if model.uploads == 2 && upload(&self, 1) < upload(&self, 0) {
            self.uploads.swap(0, 1);
            self.streams.swap(0, 1);
            self.versions.swap(1, 2);
        }
        if model.collectors == 2 && self.collectors[1] < self.collectors[0] {
            self.collectors.swap(0, 1);
        }
        self
    }

    /// Whether a stream works on this upload.
    pub(crate) fn is_in_use(&self, upload: usize) -> bool {
        self.streams[upload] != Stream::None
    }
}
