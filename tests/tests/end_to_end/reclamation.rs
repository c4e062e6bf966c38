//! Space is given back while the real server takes pushes and serves restores, and nothing is lost by it.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use imprint_tests::{
    disks::disks,
    files::{assert_same, packs},
    programs::Home,
    server::{Server, assert_checks_clean},
};
use serde_json::Value;

/// A server whose removed versions can be given up at once, and a client of it.
fn without_grace() -> (Server, Home, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("repository");
    let server = serve(&data);
    let home = Home::with_repository(server.url());
    (server, home, directory)
}

fn serve(data: &Path) -> Server {
    Server::start_with(data, &["--grace", "0m", "--gc-every", "off"])
}

fn push(home: &Home, disk: &Path, image: &str) -> Value {
    home.result([Path::new("push"), disk, Path::new(image)])
}

fn assert_restores(home: &Home, reference: &str, disk: &Path, name: &str) {
    let target: PathBuf = home.place(name);
    let _ = std::fs::remove_file(&target);
    home.ok([Path::new("restore"), Path::new(reference), &target]);
    assert_same(&target, disk);
}

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_else(|| panic!("no {field} in {value}"))
}

fn stored(home: &Home) -> u64 {
    number(&home.result(["stats"]), "pack_bytes")
}

#[test]
fn removing_versions_gives_their_space_back() {
    let (server, home, _directory) = without_grace();
    push(&home, &disks().v1, "lab/pc");
    let first = stored(&home);
    push(&home, &disks().v2, "lab/pc");
    let both = stored(&home);
    home.ok(["remove", "lab/pc@2"]);

    let dry = home.result(["gc", "--dry-run"]);
    assert!(number(&dry, "reclaimable_bytes") > 0 && number(&dry, "deleted_bytes") == 0, "{dry}");
    assert_eq!((stored(&home), number(&dry, "purged_versions")), (both, 1));

    let report = home.result(["gc"]);
    assert_eq!((number(&report, "purged_versions"), number(&report, "versions")), (1, 1), "{report}");
    let after = stored(&home);
    assert!(after <= first + first / 20, "{first} bytes, then {both}, then {after}");
    assert_restores(&home, "lab/pc@1", &disks().v1, "restored.raw");
    assert_eq!(packs(server.data()).len() as u64, number(&home.result(["stats"]), "packs"), "files and catalog agree");

    // Nothing is left to do, and what was deleted is sent again.
    let report = home.result(["gc"]);
    assert_eq!((number(&report, "deleted_packs"), number(&report, "written_bytes")), (0, 0), "{report}");
    assert!(number(&push(&home, &disks().v2, "lab/pc"), "new_chunks") > 0);
    assert_restores(&home, "lab/pc@3", &disks().v2, "restored.raw");
    let data = server.data().to_owned();
    assert!(server.stop().success());
    assert_checks_clean(&data);
}

#[test]
fn the_command_says_in_words_what_it_did() {
    let (_server, home, _directory) = without_grace();
    push(&home, &disks().v1, "lab/pc");
    home.ok(["remove", "lab/pc@1"]);
    let dry = home.ok(["gc", "--dry-run"]).stdout;
    assert!(dry.contains("could be given back") && dry.contains("1 would be given up"), "{dry}");
    let done = home.ok(["gc"]).stdout;
    assert!(done.contains("given back") && done.contains("1 given up"), "{done}");
    assert_eq!(stored(&home), 0);
}

/// restic#1141, kopia#1087, kopia#4769: pushes, restores and collections at the same time, without a lock that one of
/// them waits for or that somebody breaks.
#[test]
fn pushes_and_restores_go_on_while_space_is_given_back() {
    let (server, home, _directory) = without_grace();
    let [v1, v2] = [disks().v1.as_path(), disks().v2.as_path()];
    push(&home, v1, "lab/kept");
    let is_done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let collecting = threads.spawn(|| {
            let mut collections = 0;
            while !is_done.load(Relaxed) {
                home.ok(["gc"]);
                collections += 1;
            }
            collections
        });
        let restoring = threads.spawn(|| {
            for _ in 0..4 {
                assert_restores(&home, "lab/kept@1", v1, "kept.raw");
            }
        });
        // Each version is pushed on the one before, which is removed at once.
        for round in 1..=6_u64 {
            let disk = if round % 2 == 0 { v1 } else { v2 };
            let pushed = push(&home, disk, "lab/moving");
            assert_eq!(number(&pushed["version"], "number"), round);
            if round > 1 {
                home.ok(["remove", &format!("lab/moving@{}", round - 1)]);
            }
        }
        restoring.join().unwrap();
        is_done.store(true, Relaxed);
        println!("{} collections", collecting.join().unwrap());
    });
    home.ok(["gc"]);
    assert_restores(&home, "lab/moving@6", v1, "moving.raw");
    assert_restores(&home, "lab/kept@1", v1, "kept.raw");
    home.ok(["verify", "lab/moving@6"]);
    let data = server.data().to_owned();
    assert!(server.stop().success());
    assert_checks_clean(&data);
}

#[test]
fn without_a_server_the_same_is_done_in_the_clients_process() {
    let home = Home::new();
    push(&home, &disks().v1, "lab/pc");
    home.ok(["remove", "lab/pc@1"]);
    let report = home.result(["gc"]);
    assert_eq!((number(&report, "purged_versions"), number(&report, "versions")), (0, 1), "a week of grace: {report}");
    assert!(stored(&home) > 0);
}
