//! With all of its checks the protocol loses nothing, and it does reclaim.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that goes wrong panics

use std::path::Path;

use imprint_reclamation_model::{Action, Collector, PackState, Reclamation, State, Stream, Version};
use stateright::{Checker, Model, Property};

fn explore(name: &str, model: Reclamation, threads: usize) {
    let checker = model.checker().threads(threads).spawn_bfs().join();
    println!("{name}: {} states, {} deep", checker.unique_state_count(), checker.max_depth());
    checker.assert_properties();
}

#[test]
fn pushes_lose_nothing_to_a_collection() {
    explore("two uploads, one collector", Reclamation::PUSHES, 1);
}

#[test]
fn collections_lose_nothing_to_each_other() {
    explore("one upload, two collectors that repack", Reclamation::REPACKS, 1);
}

#[test]
fn crashes_lose_nothing() {
    explore("one upload, one collector, a crash", Reclamation::CRASHES, 1);
}

#[test]
fn restores_lose_nothing() {
    explore("a restore, two collectors that repack", Reclamation::READS, 1);
}

/// Minutes and gigabytes, as the next one: `make test-long`.
#[test]
#[ignore = "long"]
fn pushes_collections_and_a_crash_lose_nothing_to_each_other() {
    explore("two uploads, two collectors that repack, a crash", Reclamation::FULL, all_threads());
}

#[test]
#[ignore = "long"]
fn two_crashes_lose_nothing() {
    explore("two uploads, two collections that repack, two crashes", Reclamation::TWO_CRASHES, all_threads());
}

fn all_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The model with properties that some state must have: else the rule would hold because nothing happens.
#[derive(Debug, Clone, Copy)]
struct Lively(Reclamation);

impl Model for Lively {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        self.0.init_states()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.0.actions(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        self.0.next_state(last, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn deleted(state: &State) -> bool {
            state.packs.iter().any(|pack| pack.state == PackState::Deleted)
        }
        fn is_marking(state: &State) -> bool {
            state.collectors.iter().any(|collector| !matches!(collector, Collector::Idle(_)))
        }
        vec![
            Property::sometimes("a pack is deleted while an upload is open", |_, state: &State| {
                deleted(state) && state.uploads.iter().any(|upload| upload.is_open)
            }),
            Property::sometimes("a rewritten pack is deleted and its version is live", |_, state: &State| {
                deleted(state) && state.versions[0] == Version::Live
            }),
            Property::sometimes(
                "a version is committed during a mark and relies on an old pack",
                |_, state: &State| {
                    is_marking(state) && state.versions[1] == Version::Live && state.located[0] == Some(0)
                },
            ),
            Property::sometimes("what was condemned under an upload is asked for again", |_, state: &State| {
                matches!(state.streams[0], Stream::Sends(_)) && state.located == [None, None] && deleted(state)
            }),
            Property::sometimes("everything is reclaimed", |_, state: &State| {
                state.packs.iter().all(|pack| matches!(pack.state, PackState::Unused | PackState::Deleted))
            }),
        ]
    }
}

#[test]
fn space_is_reclaimed_under_the_hands_of_pushes() {
    let model = Reclamation { collectors: 1, collections: 2, ..Reclamation::REPACKS };
    Lively(model).checker().spawn_bfs().join().assert_properties();
}

#[test]
fn each_action_names_a_function_that_exists() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../repo-server/src");
    for action in Action::one_of_each() {
        let (file, function) = action.implemented_in();
        let source = std::fs::read_to_string(sources.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let is_defined = source.contains(&format!("fn {function}(")) || source.contains(&format!("fn {function}<"));
        assert!(is_defined, "{action:?}: no function {function} in {file}");
    }
}
