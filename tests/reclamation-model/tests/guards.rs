//! Without any one of its checks the protocol loses data.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that goes wrong panics

use imprint_reclamation_model::{Guard, READABLE, Reclamation, WHOLE};
use stateright::{Checker, HasDiscoveries, Model};

/// Where the check matters, and which rule breaks without it.
fn where_it_matters(guard: Guard) -> (Reclamation, &'static str) {
    let model = match guard {
        Guard::AddedPackIsStamped | Guard::MarkedStays => Reclamation::REPACKS,
        Guard::HoldFollowsObject => Reclamation { collections: 2, collectors: 1, ..Reclamation::REPACKS },
        Guard::CondemnedStaysOut => Reclamation::CRASHES,
        Guard::CommitNeedsUpload => Reclamation { closes_uploads_in_use: true, ..Reclamation::PUSHES },
        Guard::UseKeepsUpload => Reclamation { second_streams: true, ..Reclamation::PUSHES },
        Guard::ReaderLocatesAgain | Guard::ReaderFollows => Reclamation::READS,
        _ => Reclamation::PUSHES,
    };
    let rule = if model.reads { READABLE } else { WHOLE };
    (model, rule)
}

#[test]
fn without_any_one_check_there_is_a_counterexample() {
    for guard in Guard::ALL {
        let (model, rule) = where_it_matters(guard);
        let checker = model.without(guard).checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let path = checker.discovery(rule).unwrap_or_else(|| panic!("{guard:?} could be left out"));
        let steps: Vec<String> = path.into_actions().iter().map(|action| format!("{action:?}")).collect();
        println!("{guard:?} ({} states): {}", checker.unique_state_count(), steps.join(", "));
    }
}

/// The model without its check breaks; with it, where it matters, it does not.
#[test]
fn with_all_checks_there_is_none_where_each_one_matters() {
    for guard in [Guard::HoldFollowsObject, Guard::CommitNeedsUpload, Guard::UseKeepsUpload] {
        let checker = where_it_matters(guard).0.checker().spawn_bfs().join();
        println!("{guard:?}: {} states", checker.unique_state_count());
        checker.assert_properties();
    }
}
