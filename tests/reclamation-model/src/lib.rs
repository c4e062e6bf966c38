//! The protocol of docs/reclamation.md as a model that stateright explores state by state.
//!
//! A repository of two objects, a node and the chunk that it refers to, in at most three packs. Uploads push versions
//! of that tree, with and without a base; collectors mark, repack, condemn and unlink; versions are removed, brought
//! back and purged; clients stall, which is any other step coming first; the process crashes and loses any part of what
//! it did not sync. The rule: what a version needs is located in a live pack that has it, in every state.
//!
//! Each [`Action`] is one transaction or one write of the implementation and [names its function](Action::implemented_in).
//! Each [`Guard`] is one of the implementation's checks; without it the rule breaks (`tests/guards.rs`).

mod action;
mod guard;
mod sets;
mod state;
mod steps;

use stateright::{Model, Property};

pub use action::Action;
pub use guard::Guard;
pub use sets::{Objects, Packs};
pub use state::{Collector, Loss, Pack, PackState, Reader, State, Stream, Upload, Version};

/// Packs of the model.
pub const PACKS: u8 = 3;
/// The chunk.
pub const CHUNK: usize = 0;
/// The node that refers to it.
pub const NODE: usize = 1;

/// What is explored.
#[derive(Debug, Clone, Copy)]
pub struct Reclamation {
    /// Uploads, at most 2.
    pub uploads: usize,
    /// Collectors, at most 2.
    pub collectors: usize,
    /// Collections that each collector begins.
    pub collections: u8,
    /// Whether collectors rewrite packs.
    pub repacks: bool,
    /// Times that the process crashes.
    pub crashes: u8,
    /// Whether somebody restores version 0 meanwhile.
    pub reads: bool,
    /// Whether an upload is closed under the stream that works on it, as where several servers share a catalog.
    pub closes_uploads_in_use: bool,
    /// Whether a second stream opens an upload that was closed under the first.
    pub second_streams: bool,
    /// The check that is left out.
    pub without: Option<Guard>,
}

impl Reclamation {
    /// Two uploads and one collector: what pushes and a collection do to each other.
    pub const PUSHES: Self = Self {
        uploads: 2,
        collectors: 1,
        collections: 1,
        repacks: false,
        crashes: 0,
        reads: false,
        closes_uploads_in_use: false,
        second_streams: false,
        without: None,
    };
    /// One upload and two collectors that rewrite: what collections do to each other.
    pub const REPACKS: Self = Self { uploads: 1, collectors: 2, repacks: true, ..Self::PUSHES };
    /// One upload, one collector, crashes.
    pub const CRASHES: Self = Self { uploads: 1, crashes: 1, repacks: true, ..Self::PUSHES };
    /// A restore while packs are rewritten.
    pub const READS: Self = Self { uploads: 0, collectors: 2, repacks: true, reads: true, ..Self::PUSHES };
    /// Two uploads, two collectors that rewrite, and a crash. Two gigabytes of memory.
    pub const FULL: Self = Self { uploads: 2, collectors: 2, repacks: true, crashes: 1, ..Self::PUSHES };
    /// Two uploads, a collector that collects twice, and two crashes.
    pub const TWO_CRASHES: Self = Self { uploads: 2, collections: 2, repacks: true, crashes: 2, ..Self::PUSHES };

    /// The same without one check.
    #[must_use]
    pub const fn without(self, guard: Guard) -> Self {
        Self { without: Some(guard), ..self }
    }

    pub(crate) fn has(&self, guard: Guard) -> bool {
        self.without != Some(guard)
    }
}

/// Name of the rule that versions are whole.
pub const WHOLE: &str = "a version is whole";
/// Name of the rule that restores of live versions end well.
pub const READABLE: &str = "a restore finds what it needs";

impl Model for Reclamation {
    type State = State;
    type Action = Action;

    /// The tree of version 0 in one pack, and in two.
    fn init_states(&self) -> Vec<State> {
        vec![State::with_tree_in_one_pack(self), State::with_tree_in_two_packs(self)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        action::possible(self, state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        steps::take(self, &mut next, action).then(|| next.in_order(self))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(WHOLE, |_, state: &State| state.versions_are_whole()),
            Property::always(READABLE, |_, state: &State| state.reader != Reader::Failed),
        ]
    }
}
