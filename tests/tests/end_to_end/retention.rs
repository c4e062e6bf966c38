//! Versions that go, and how long they can come back: rules, pins, grace, and what a damaged base does to a push.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use imprint_client::{ForgetMode, KeepRules};
use imprint_content::{ChunkId, Extent};
use imprint_proto::v1;
use imprint_server::{
    Error,
    catalog::{Damage, VersionKey},
    pack::Purpose,
    store::{
        Directory, OpenMode, Store, StoreOptions, TreePiece,
        reclaim::{CollectControl, CollectMode, CollectOptions},
    },
};
use imprint_tests::{
    client::{Client, name},
    files::{assert_same, write},
    programs::{Home, program},
    random::Random,
    server::{Loopback, Server},
    wire,
};
use serde_json::Value;
use tempfile::TempDir;

/// Pushes so many different disks, and returns them.
fn push_disks(home: &Home, count: u64) -> Vec<PathBuf> {
    let push = |n| {
        let disk = write(&home.place(""), &format!("{n}.raw"), &Random::new(n).bytes(200_000));
        home.ok(["push", disk.to_str().unwrap(), "lab/pc"]);
        disk
    };
    (1..=count).map(push).collect()
}

fn numbers(home: &Home, arguments: &[&str]) -> Vec<u64> {
    let events = home.ok([&["versions", "lab/pc", "--json"], arguments].concat()).events();
    events.iter().map(|version| version["number"].as_u64().unwrap()).collect()
}

/// Which versions `forget` says go, for good or for show.
fn removed(events: &[Value]) -> Vec<u64> {
    let is_removed = |event: &&Value| event["removed"].as_bool().unwrap();
    events.iter().filter(is_removed).map(|event| event["number"].as_u64().unwrap()).collect()
}

fn reason(home: &Home, arguments: &[&str]) -> (i32, String) {
    let ended = home.run([arguments, &["--json"]].concat());
    (ended.code(), ended.last_event("error")["reason"].as_str().unwrap().to_owned())
}

#[test]
fn rules_keep_what_they_say_and_a_dry_run_says_the_same_and_does_nothing() {
    let home = Home::new();
    push_disks(&home, 5);
    home.ok(["tag", "lab/pc@1", "golden"]);
    home.ok(["pin", "lab/pc@2"]);
    let rules = ["forget", "lab/pc", "--keep-last", "2"];
    let shown = home.ok([&rules[..], &["--dry-run"]].concat());
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let fates: Vec<String> = shown.stdout.lines().skip(1).map(|line| words(&line[line.find('@').unwrap()..])).collect();
    let fates: Vec<(&str, &str)> =
        fates.iter().map(|fate| (&fate[..2], &fate[fate.find(':').unwrap() + 4..])).collect();
    assert_eq!(
        fates,
        [
            ("@1", "keep tag golden"),
            ("@2", "keep pinned"),
            ("@3", "would remove"),
            ("@4", "keep last"),
            ("@5", "keep last")
        ]
    );
    assert_eq!(shown.stderr, "1 version would be removed, 4 kept\n");
    assert_eq!(numbers(&home, &[]), [1, 2, 3, 4, 5], "nothing was done");

    let planned = removed(&home.ok([&rules[..], &["--dry-run", "--json"]].concat()).events());
    let done = removed(&home.ok([&rules[..], &["--json"]].concat()).events());
    assert_eq!((planned, done), (vec![3], vec![3]));
    assert_eq!((numbers(&home, &[]), numbers(&home, &["--removed"])), (vec![1, 2, 4, 5], vec![3]));
    assert_eq!(removed(&home.ok([&rules[..], &["--json"]].concat()).events()), [0; 0], "again: nothing to do");
    // All of them are of the same day, unless this ran at midnight.
    let daily = removed(&home.ok(["forget", "lab/pc", "--keep-daily", "1", "--json"]).events());
    assert!(daily == [4] || daily == [0; 0], "{daily:?}");
}

#[test]
fn rules_that_keep_nothing_or_are_none_are_refused() {
    let home = Home::new();
    push_disks(&home, 2);
    assert_eq!(home.run(["forget", "lab/pc"]).code(), 2);
    assert_eq!(home.run(["forget", "lab/pc", "--keep-last", "0"]).code(), 2);
    let nothing = ["forget", "lab/pc", "--keep-tag", "nowhere"];
    assert_eq!(reason(&home, &nothing), (3, "TAG_NOT_FOUND".into()), "mistyped");
    assert_eq!(reason(&home, &[&nothing[..], &["--dry-run"]].concat()), (3, "TAG_NOT_FOUND".into()));
    assert_eq!(reason(&home, &["forget", "lab/no", "--keep-last", "1"]), (3, "IMAGE_NOT_FOUND".into()));
    assert_eq!(numbers(&home, &[]), [1, 2]);
}

#[test]
fn a_pinned_version_stays_until_it_is_unpinned() {
    let home = Home::new();
    push_disks(&home, 2);
    home.ok(["pin", "lab/pc@1"]);
    assert_eq!(home.result(["show", "lab/pc@1"])["version"]["pinned"], true);
    let refused = home.run(["remove", "lab/pc@1"]);
    let said = "imprint: lab/pc@1 is pinned\n  hint: take the pin away with `imprint unpin lab/pc@1`\n";
    assert_eq!((refused.code(), refused.stderr.as_str()), (4, said));
    home.ok(["forget", "lab/pc", "--keep-last", "1"]);
    assert_eq!(numbers(&home, &[]), [1, 2]);
    home.ok(["unpin", "lab/pc@1"]);
    home.ok(["forget", "lab/pc", "--keep-last", "1"]);
    assert_eq!(numbers(&home, &[]), [2]);
    assert_eq!(reason(&home, &["pin", "lab/pc@1"]), (3, "VERSION_NOT_FOUND".into()));
}

#[test]
fn a_removed_version_comes_back_whole_also_after_a_rebuild() {
    let home = Home::new();
    let disks = push_disks(&home, 3);
    home.ok(["pin", "lab/pc@3"]);
    for removed in ["lab/pc@1", "lab/pc@2"] {
        home.ok(["remove", removed]);
    }
    let rebuilt = Command::new(program("imprint-server")).arg("rebuild").arg("--data").arg(home.repository()).output();
    assert!(rebuilt.unwrap().status.success());
    assert_eq!((numbers(&home, &[]), numbers(&home, &["--removed"])), (vec![3], vec![1, 2]));
    assert_eq!(reason(&home, &["remove", "lab/pc@3"]), (4, "VERSION_PINNED".into()));
    assert_eq!(reason(&home, &["undelete", "lab/pc:old"]), (5, "REFUSED".into()));
    assert_eq!(reason(&home, &["undelete", "lab/pc@4"]), (3, "VERSION_NOT_FOUND".into()));

    let back = home.result(["undelete", "lab/pc@1"]);
    assert_eq!((&back["version"]["ref"], &back["version"]["tags"]), (&"lab/pc@1".into(), &serde_json::json!([])));
    assert_eq!((numbers(&home, &[]), numbers(&home, &["--removed"])), (vec![1, 3], vec![2]));
    let target = home.place("target.raw");
    home.ok(["restore", "lab/pc@1", target.to_str().unwrap()]);
    assert_same(&target, &disks[0]);
    push_disks(&home, 1);
    assert_eq!(numbers(&home, &[]), [1, 3, 4], "numbers are not given again");
}

#[test]
fn the_grace_is_the_repositorys_and_outlives_the_server_that_set_it() {
    let data = tempfile::tempdir().unwrap();
    let serve = |grace: &[&str]| Server::start_with(data.path(), grace);
    let grace_of_a_removal = |server: &Server| {
        let home = Home::with_repository(server.url());
        push_disks(&home, 1);
        let number = numbers(&home, &[]).pop().unwrap();
        home.ok(["remove", &format!("lab/pc@{number}")]);
        let removed = home.ok(["versions", "lab/pc", "--removed", "--json"]).events().pop().unwrap();
        let seconds = |field: &str| -> u64 {
            let date =
                Command::new("date").args(["-u", "+%s", "-d", removed[field].as_str().unwrap()]).output().unwrap();
            String::from_utf8(date.stdout).unwrap().trim().parse().unwrap()
        };
        seconds("grace_end") - seconds("removed")
    };
    const DAY: u64 = 24 * 60 * 60;
    for (options, days) in [(&[][..], 7), (&["--grace", "4w"], 28), (&[], 28)] {
        let server = serve(options);
        assert_eq!(grace_of_a_removal(&server), days * DAY, "{options:?}");
        assert!(server.stop().success());
    }
    let wrong = Command::new(program("imprint-server")).args(["serve", "--data", "x", "--grace", "soon"]).output();
    assert_eq!(wrong.unwrap().status.code(), Some(2));
}

async fn open(directory: &Path) -> Store {
    loop {
        match Directory::open(directory, OpenMode::OrCreate, StoreOptions::default()).await {
            Ok(opened) => return opened.store,
            // A client of this process that was dropped a moment ago is still closing it.
            Err(Error::Locked { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// A repository with so many versions of `lab/pc`, and their sources.
async fn repository(versions: u64) -> (TempDir, Vec<PathBuf>) {
    let home = tempfile::tempdir().unwrap();
    let client = Client::embedded(&home.path().join("repository")).await;
    let mut sources = Vec::new();
    for n in 1..=versions {
        let source = write(home.path(), &format!("{n}.raw"), &Random::new(n).bytes(300_000));
        client.push(&source, "lab/pc").await;
        sources.push(source);
    }
    (home, sources)
}

async fn purged_by_a_collection(store: &Store) -> u64 {
    let grace = store.catalog().grace().await.unwrap();
    let options = CollectOptions::with_grace(CollectMode::Collect, grace);
    store.collect(options, &CollectControl::new()).await.unwrap().purged_versions
}

#[tokio::test]
async fn only_what_outlived_its_grace_is_given_up() {
    let (home, _) = repository(3).await;
    let directory = home.path().join("repository");
    let key = |number| VersionKey { image: name("lab/pc"), number };
    let store = open(&directory).await;
    store.remove_version(key(1)).await.unwrap();
    assert_eq!(purged_by_a_collection(&store).await, 0);
    store.set_grace(Duration::ZERO).await.unwrap();
    store.remove_version(key(2)).await.unwrap();
    store.undelete_version(key(2)).await.unwrap();
    assert_eq!(purged_by_a_collection(&store).await, 1);
    assert_eq!(store.undelete_version(key(1)).await.unwrap_err().reason(), "VERSION_NOT_FOUND");
    assert_eq!(store.removed_after(None, None).await.unwrap(), []);
    assert_eq!(store.version(key(2)).await.unwrap().number, 2);
    assert_eq!(purged_by_a_collection(&store).await, 0);
}

/// restic#22057, rest-server#292: a client that forges time makes rules remove the real versions. Here no message has a time:
/// what a client can forge, the times of its files and its own clock, reaches nobody.
#[tokio::test]
async fn a_clock_that_a_client_forged_changes_no_rule() {
    let (home, mut sources) = repository(2).await;
    let server = Loopback::serve(&home.path().join("repository")).await;
    let client = Client::connect(&server.url()).await;
    let far = UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    for (n, time) in [(8, UNIX_EPOCH), (9, far)] {
        let source = write(home.path(), &format!("{n}.raw"), &Random::new(n).bytes(100_000));
        File::options().write(true).open(&source).unwrap().set_modified(time).unwrap();
        client.push(&source, "lab/pc").await;
        sources.push(source);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let versions = client.versions("lab/pc").await;
    let times: Vec<i64> = versions.iter().map(|version| version.committed_unix_ms).collect();
    assert!(times.is_sorted() && times[0] > now - 600_000 && times[3] <= now, "{times:?}");
    let keep = KeepRules { last: 2, yearly: 1, ..KeepRules::default() };
    let fates = client.repository.forget_versions(&name("lab/pc"), &keep, ForgetMode::Remove).await.unwrap();
    let kept: Vec<u64> = fates.iter().filter(|fate| !fate.kept_because.is_empty()).map(|fate| fate.number).collect();
    assert_eq!(kept, [3, 4]);
}

#[tokio::test]
async fn hostile_rules_are_refused() {
    let (home, _) = repository(1).await;
    let server = Loopback::serve(&home.path().join("repository")).await;
    let wire = wire::connect(&server.url()).await;
    let forget = |image: &str, keep| v1::ForgetVersionsRequest { image: image.into(), keep, dry_run: false };
    let last = |tags: Vec<String>| Some(v1::KeepRules { last: 1, tags, ..v1::KeepRules::default() });
    for request in [
        forget("lab/pc", None),
        forget("lab/pc", Some(v1::KeepRules::default())),
        forget("../pc", last(vec![])),
        forget("lab/pc", last(vec!["7".into()])),
        forget("lab/pc", last(vec!["t".into(); 65])),
    ] {
        let refused = wire.clone().forget_versions(request).await.map_err(wire::code_and_reason).err().unwrap();
        assert_eq!(refused.1, "BAD_REQUEST");
    }
    let all = forget("lab/pc", Some(v1::KeepRules { last: u32::MAX, ..v1::KeepRules::default() }));
    let mut fates = wire.clone().forget_versions(all).await.unwrap().into_inner();
    assert_eq!(fates.message().await.unwrap().unwrap().kept_because, ["last"]);
    assert!(fates.message().await.unwrap().is_none());
}

/// The first chunk of `lab/pc@1`.
async fn some_chunk(store: &Store) -> ChunkId {
    let version = store.version(VersionKey { image: name("lab/pc"), number: 1 }).await.unwrap();
    let mut walk = store.walk_tree(&version, None).await.unwrap();
    while let Some(piece) = walk.next().await.unwrap() {
        if let TreePiece::Leaf(extents) = piece
            && let Some(id) = extents.iter().find_map(Extent::chunk)
        {
            return id;
        }
    }
    panic!("a version without data");
}

async fn quarantine(store: &Store, id: ChunkId) {
    let found = store.catalog().locate(Purpose::Chunks, vec![id.into()]).await.unwrap();
    let damage = Damage {
        pack: found[0].unwrap().pack,
        kind: Purpose::Chunks,
        objects: vec![id.into()],
        why: "a test".into(),
        found_unix_ms: 0,
    };
    assert_eq!(store.catalog().quarantine(damage).await.unwrap(), 1);
}

/// attic#211: a store that believes it has a chunk that it lost cannot be healed by any client.
#[tokio::test]
async fn a_damaged_chunk_is_healed_by_a_push_whose_base_has_it() {
    let (home, sources) = repository(1).await;
    let directory = home.path().join("repository");
    let store = open(&directory).await;
    let damaged = some_chunk(&store).await;
    quarantine(&store, damaged).await;
    drop(store);

    let client = Client::embedded(&directory).await;
    assert_eq!(client.verify("lab/pc@1").await.unwrap_err().reason(), "OBJECT_DAMAGED");
    let pushed = client.push(&sources[0], "lab/pc").await;
    assert_eq!((pushed.base, pushed.new_chunks), (Some(1), 1), "only that chunk is sent");
    for version in ["lab/pc@1", "lab/pc@2"] {
        client.verify(version).await.unwrap();
    }
    drop(client);

    // A rebuild meets both records, in any order, and takes the good one.
    let rebuilt =
        Command::new(program("imprint-server")).arg("rebuild").arg("--data").arg(&directory).output().unwrap();
    assert!(rebuilt.status.success(), "{rebuilt:?}");
    let client = Client::embedded(&directory).await;
    client.verify("lab/pc@1").await.unwrap();
    assert_eq!(client.push(&sources[0], "lab/pc").await.new_chunks, 0);
    assert!(fs::exists(directory.join("catalog.old-1")).unwrap());
}
