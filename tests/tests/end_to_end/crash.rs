//! Programs that are killed, or asked to stop, in the middle: nothing that was acknowledged is lost, nothing that was
//! not finished is believed, and the same command again comes to its end.
//!
//! Pushes are fed through a pipe that stays open, so that they cannot end before they are killed.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{ChildStdin, Stdio},
};

use imprint_tests::{
    disks::disks,
    files::{MIB, allocated, assert_same, length, packs},
    programs::{Ended, Home, Running, feed, wait_until},
    random::Random,
    server::Server,
};
use rustix::process::Signal;

/// How often a program may have ended before the signal came.
const ATTEMPTS: usize = 20;
/// More than one pack.
const FED_BYTES: u64 = 100 * MIB;

fn noise() -> &'static Path {
    &disks().noise
}

/// A push of the noise, which never ends by itself.
struct EndlessPush {
    running: Running,
    pipe: ChildStdin,
}

impl EndlessPush {
    fn start(home: &Home, options: &[&str]) -> Self {
        let mut command = home.command(["push", "-", "lab/pc"].iter().chain(options));
        let mut running = Running::start(command.stdin(Stdio::piped()));
        Self { pipe: running.stdin(), running }
    }

    /// Gives it so many bytes of the noise; false when it went away.
    fn feed(&mut self, count: u64) -> bool {
        let mut bytes = vec![0; count as usize];
        File::open(noise()).unwrap().read_exact(&mut bytes).unwrap();
        feed(&mut self.pipe, &bytes)
    }

    /// Feeds it until the repository has another pack.
    fn feed_until_stored(&mut self, repository: &Path) {
        let before = packs(repository).len();
        assert!(self.feed(FED_BYTES));
        wait_until("a pack is sealed", || packs(repository).len() > before);
    }
}

/// A home with a version in its repository, and what there is to be said about it.
fn with_version(home: &Home) -> String {
    home.ok([Path::new("push"), &disks().v1, Path::new("lab/pc"), Path::new("--tag"), Path::new("good")]);
    versions(home)
}

fn versions(home: &Home) -> String {
    home.ok(["versions", "lab/pc", "--json"]).stdout
}

fn assert_restores(home: &Home, reference: &str, disk: &Path) {
    let target = home.place("restored.raw");
    home.ok([Path::new("restore"), Path::new(reference), &target]);
    assert_same(&target, disk);
}

/// Pushes the noise to the end, with less to send than the first time, and restores everything.
fn push_again(home: &Home, before: &str) {
    assert_eq!(versions(home), before, "something was committed, or is gone");
    home.ok(["verify", "lab/pc@1"]);
    let pushed = home.result([Path::new("push"), noise(), Path::new("lab/pc")]);
    let new_bytes = pushed["new_bytes"].as_u64().unwrap();
    assert!(new_bytes <= length(noise()) - 60 * MIB, "{new_bytes} bytes were sent again");
    assert_eq!(pushed["version"]["number"], 2);
    assert_restores(home, "lab/pc@2", noise());
    assert_restores(home, "lab/pc:good", &disks().v1);
}

#[test]
fn an_embedded_push_that_is_killed_loses_nothing_and_may_be_repeated() {
    let home = Home::new();
    let before = with_version(&home);
    let mut push = EndlessPush::start(&home, &[]);
    push.feed_until_stored(&home.repository());
    assert!(push.running.kill().was_killed());
    push_again(&home, &before);
    let incoming = home.repository().join("packs/incoming");
    assert_eq!(fs::read_dir(incoming).unwrap().count(), 0, "an unsealed pack was left behind");
}

#[test]
fn the_first_push_of_all_may_be_killed() {
    let home = Home::new();
    let mut push = EndlessPush::start(&home, &[]);
    push.feed_until_stored(&home.repository());
    assert!(push.running.kill().was_killed());
    assert_eq!(home.run(["versions", "lab/pc"]).code(), 3);
    home.ok([Path::new("push"), noise(), Path::new("lab/pc")]);
    assert_restores(&home, "lab/pc@1", noise());
}

#[test]
fn a_client_that_is_killed_leaves_to_the_server_what_it_sent() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let home = Home::with_repository(server.url());
    let before = with_version(&home);
    let mut push = EndlessPush::start(&home, &[]);
    push.feed_until_stored(data.path());
    assert!(push.running.kill().was_killed());
    push_again(&home, &before);
}

#[test]
fn a_server_that_is_killed_while_it_takes_a_push_loses_nothing() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut home = Home::with_repository(server.url());
    let before = with_version(&home);
    let mut push = EndlessPush::start(&home, &[]);
    push.feed_until_stored(data.path());
    server.kill();
    let ended = push.running.finish();
    assert_eq!(ended.code(), 7, "{ended}");
    assert!(ended.stderr.starts_with("imprint: the connection to the repository broke: "), "{ended}");
    assert!(ended.stderr.contains("hint: check that imprint-server runs, and repeat the command"), "{ended}");
    let unreachable = home.run(["versions", "lab/pc"]);
    assert_eq!(unreachable.code(), 7, "{unreachable}");
    assert!(unreachable.stderr.contains("cannot reach http://127.0.0.1:"), "{unreachable}");

    let server = Server::start(data.path());
    home.use_repository(server.url());
    push_again(&home, &before);
}

#[test]
fn kills_at_any_moment_of_pushes_leave_what_was_committed() {
    let mut random = Random::new(41);
    let home = Home::new();
    let before = with_version(&home);
    for _ in 0..4 {
        let mut push = EndlessPush::start(&home, &[]);
        let bytes = random.below(length(noise()));
        println!("killed after {bytes} bytes");
        assert!(push.feed(bytes));
        assert!(push.running.kill().was_killed());
        assert_eq!(versions(&home), before);
    }
    for _ in 0..4 {
        let server = Server::start(&home.repository());
        let mut client = Home::with_repository(server.url());
        let mut push = EndlessPush::start(&client, &[]);
        let bytes = random.below(length(noise()));
        println!("server killed after {bytes} bytes");
        assert!(push.feed(bytes));
        server.kill();
        assert_eq!(push.running.finish().code(), 7);
        client.use_repository(home.repository().to_str().unwrap());
        assert_eq!(versions(&client), before);
    }
    home.ok(["verify", "lab/pc@1"]);
    push_again(&home, &before);
}

#[test]
fn a_push_that_is_killed_around_its_commit_is_whole_or_absent() {
    let home = Home::new();
    with_version(&home);
    let journal = home.repository().join("journal");
    let mut committed = 0;
    for round in 0..8 {
        // Something of its own in each round, small enough to be quick.
        let source = Random::new(50 + round).bytes(3_000_000);
        let known = versions(&home).lines().count();
        let before = length(&journal);
        let mut push = EndlessPush::start(&home, &[]);
        assert!(feed(&mut push.pipe, &source));
        drop(push.pipe);
        // At once; when its packs are there; when the decision is there.
        let packs_before = packs(&home.repository()).len();
        let mut running = push.running;
        match round % 3 {
            0 => {}
            1 => wait_until("its packs are sealed", || {
                packs(&home.repository()).len() >= packs_before + 2 || running.has_ended()
            }),
            _ => wait_until("its commit is written", || length(&journal) > before || running.has_ended()),
        }
        let was_decided = length(&journal) > before;
        let _ = running.kill();
        let found = versions(&home).lines().count();
        assert!(found == known || found == known + 1);
        assert!(!was_decided || found == known + 1, "a decision in the journal was dropped");
        if found > known {
            committed += 1;
            let target = home.place("whole.raw");
            home.ok([Path::new("restore"), Path::new(&format!("lab/pc@{found}")), &target]);
            assert!(fs::read(&target).unwrap() == source, "round {round}");
        }
    }
    println!("{committed} of 8 were committed");
    assert!(committed > 0, "no round came as far as the commit");
    home.ok(["verify", "lab/pc@1"]);
}

/// Whether the target has this byte range of the noise already.
fn has_noise(target: &Path, offset: u64) -> bool {
    let read = |path: &Path| {
        let mut bytes = [0; 4096];
        File::open(path).and_then(|file| file.read_exact_at(&mut bytes, offset)).is_ok().then_some(bytes)
    };
    read(target).is_some_and(|bytes| Some(bytes) == read(noise()))
}

/// Starts restores of the noise until one is interrupted in the middle; how that one ended.
fn interrupt_restore(home: &Home, target: &Path, prepare: impl Fn(), interrupt: impl Fn(&Running)) -> Ended {
    for attempt in 0..ATTEMPTS {
        prepare();
        // Early and late, to be sure of both.
        let offset = [1, 20, 70, 120][attempt % 4] * MIB;
        let mut restoring = Running::start(&mut home.command([Path::new("restore"), Path::new("lab/noise"), target]));
        wait_until("something was restored", || has_noise(target, offset) || restoring.has_ended());
        interrupt(&restoring);
        let ended = restoring.finish();
        if !ended.status.success() {
            return ended;
        }
        println!("attempt {attempt} ended before it was interrupted");
    }
    panic!("every restore ended too early");
}

fn with_noise() -> (Home, PathBuf) {
    let home = Home::new();
    home.ok([Path::new("push"), noise(), Path::new("lab/noise")]);
    home.ok([Path::new("push"), &disks().v1, Path::new("lab/pc")]);
    let target = home.place("target.raw");
    (home, target)
}

/// The target is not said to hold anything, and restoring again keeps what is there.
fn assert_incomplete_then_complete(home: &Home, target: &Path) {
    let state = home.place("state/imprint/targets");
    for entry in fs::read_dir(state).into_iter().flatten() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let remembered: serde_json::Value = serde_json::from_str(&text).unwrap();
        let is_target = remembered["held"]["target"].as_str().map(Path::new) == Some(&target.canonicalize().unwrap());
        assert!(!is_target || remembered["held"]["complete"] == false, "{text}");
    }
    let verified = home.run([Path::new("verify"), target]);
    assert_eq!(verified.code(), 5, "{verified}");
    let result = home.result([Path::new("restore"), Path::new("lab/noise"), target]);
    assert_same(target, noise());
    let number = |field: &str| result[field].as_u64().unwrap();
    assert!(number("kept_bytes") > 0, "nothing of the interrupted restore was kept: {result}");
    assert_eq!(number("kept_bytes") + number("written_bytes"), length(noise()));
    let verified = home.ok([Path::new("verify"), target]);
    assert!(verified.stdout.contains("holds lab/noise@1"), "{verified}");
}

#[test]
fn a_restore_that_is_killed_is_not_believed_and_completed_by_the_next() {
    let (home, target) = with_noise();
    for _ in 0..4 {
        let prepare = || drop(fs::remove_file(&target));
        let ended = interrupt_restore(&home, &target, prepare, |restoring| restoring.signal(Signal::KILL));
        assert!(ended.was_killed(), "{ended}");
        assert!(allocated(&target) > 0);
        assert_incomplete_then_complete(&home, &target);
    }
}

#[test]
fn an_update_that_is_killed_makes_the_former_version_forgotten() {
    let (home, target) = with_noise();
    let prepare = || {
        home.ok([Path::new("restore"), Path::new("lab/pc"), &target]);
        home.ok([Path::new("verify"), &target]);
    };
    let ended = interrupt_restore(&home, &target, prepare, |restoring| restoring.signal(Signal::KILL));
    assert!(ended.was_killed(), "{ended}");
    assert_incomplete_then_complete(&home, &target);
}

#[test]
fn a_server_that_is_killed_while_it_serves_a_restore_ends_it_with_an_error() {
    let (embedded, target) = with_noise();
    for _ in 0..3 {
        for attempt in 0..ATTEMPTS {
            let server = Server::start(&embedded.repository());
            let mut home = Home::with_repository(server.url());
            let _ = fs::remove_file(&target);
            let mut command = home.command([Path::new("restore"), Path::new("lab/noise"), &target]);
            let mut restoring = Running::start(&mut command);
            wait_until("something was restored", || has_noise(&target, 10 * MIB) || restoring.has_ended());
            server.kill();
            let ended = restoring.finish();
            if ended.status.success() {
                assert!(attempt + 1 < ATTEMPTS, "every restore ended too early");
                continue;
            }
            assert_eq!(ended.code(), 7, "{ended}");
            assert!(ended.stderr.starts_with("imprint: the connection to the repository broke: "), "{ended}");
            let server = Server::start(&embedded.repository());
            home.use_repository(server.url());
            assert_incomplete_then_complete(&home, &target);
            break;
        }
    }
}

/// The signals that ask to stop, their exit codes and names.
const STOPS: [(Signal, i32, &str, &str); 2] =
    [(Signal::INT, 130, "interrupted", "SIGINT"), (Signal::TERM, 143, "terminated", "SIGTERM")];

#[test]
fn a_push_that_is_asked_to_stop_says_what_is_left_and_the_next_sends_the_rest() {
    for (signal, code, word, _) in STOPS {
        let home = Home::new();
        let before = with_version(&home);
        let mut push = EndlessPush::start(&home, &[]);
        push.feed_until_stored(&home.repository());
        push.running.signal(signal);
        let ended = push.running.finish();
        assert_eq!((ended.code(), ended.stdout.as_str()), (code, ""), "{ended}");
        let said = format!("imprint: {word}: nothing was committed\n  hint: push again and only the rest is sent\n");
        assert!(ended.stderr.ends_with(&said), "{ended}");
        push_again(&home, &before);
    }
}

#[test]
fn a_push_to_a_server_that_is_asked_to_stop_leaves_all_that_it_sent() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let home = Home::with_repository(server.url());
    let before = with_version(&home);
    for (signal, code, _, name) in STOPS {
        let mut push = EndlessPush::start(&home, &["--json"]);
        let sealed = packs(data.path()).len();
        assert!(push.feed(30 * MIB));
        push.running.signal(signal);
        let ended = push.running.finish();
        let error = ended.last_event("error");
        assert_eq!(
            (ended.code(), &error["kind"], &error["reason"]),
            (code, &"stopped".into(), &name.into()),
            "{ended}"
        );
        if signal == Signal::INT {
            // Less than a pack: the server seals it when the client is gone.
            wait_until("the rest is sealed", || packs(data.path()).len() > sealed);
        }
    }
    assert_eq!(versions(&home), before);
    let pushed = home.result([Path::new("push"), noise(), Path::new("lab/pc")]);
    assert!(pushed["new_bytes"].as_u64().unwrap() < length(noise()) - MIB, "{pushed}");
}

#[test]
fn a_restore_that_is_asked_to_stop_says_so_and_is_completed_by_the_next() {
    let (home, target) = with_noise();
    for (signal, code, word, _) in STOPS {
        let prepare = || drop(fs::remove_file(&target));
        let ended = interrupt_restore(&home, &target, prepare, |restoring| restoring.signal(signal));
        assert_eq!(ended.code(), code, "{ended}");
        let said =
            format!("imprint: {word}: the target is incomplete\n  hint: run the same command again to complete it\n");
        assert!(ended.stderr.ends_with(&said), "{ended}");
        assert_incomplete_then_complete(&home, &target);
    }
}

#[test]
fn two_signals_end_a_push_at_once() {
    let home = Home::new();
    let mut push = EndlessPush::start(&home, &[]);
    push.feed_until_stored(&home.repository());
    push.running.signal(Signal::INT);
    push.running.signal(Signal::INT);
    assert_eq!(push.running.finish().code(), 130);
}
