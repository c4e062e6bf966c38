//! Damage in the files of a repository with real disks: `imprint scrub` and `imprint-server check` find it, blame nothing
//! else, and name the versions that suffer; the next push heals them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use imprint_tests::{
    damage::Damage,
    disks::disks,
    files::{self, assert_same, flip, length, packs},
    programs::{Ended, Home, Running, program, wait_until},
    random::Random,
    server::Server,
};
use serde_json::Value;

/// Two versions of one image that share much, and one of another image that shares nothing with them.
fn with_versions() -> (Home, [(&'static str, PathBuf); 3]) {
    let home = Home::new();
    let noise = files::write(&home.place("."), "noise.raw", &Random::fixed(7).bytes(8 << 20));
    let versions = [("lab/pc@1", disks().v1.clone()), ("lab/pc@2", disks().v2.clone()), ("lab/noise@1", noise)];
    push_all(&home, &versions);
    (home, versions)
}

fn push_all(home: &Home, versions: &[(&str, PathBuf)]) {
    for (reference, disk) in versions {
        let (image, _) = reference.split_once('@').unwrap();
        home.ok([Path::new("push"), disk, Path::new(image)]);
    }
}

fn scrub(home: &Home) -> Ended {
    let mut command = home.command(["scrub", "--json", "--quiet"]);
    Running::start(&mut command).finish()
}

fn check(data: &Path) -> Ended {
    let mut command = Command::new(program("imprint-server"));
    Running::start(command.args(["check", "--json"]).arg(data)).finish()
}

/// What was found of a kind: the values of a field, in order.
fn found(ended: &Ended, event: &str, field: impl Fn(&Value) -> String) -> Vec<String> {
    let mut found: Vec<String> = ended.events().iter().filter(|line| line["event"] == event).map(field).collect();
    found.sort();
    found
}

fn damaged_packs(ended: &Ended) -> Vec<String> {
    found(ended, "damaged_pack", |line| line["pack"].as_str().unwrap().to_owned())
}

fn damaged_versions(ended: &Ended) -> Vec<String> {
    found(ended, "damaged_version", |line| format!("{}@{}", line["image"].as_str().unwrap(), line["number"]))
}

/// Versions that cannot be restored, found out by trying.
fn unreadable(home: &Home, versions: &[(&str, PathBuf)]) -> Vec<String> {
    let is_damaged = |reference: &str| match home.run(["verify", reference]).code() {
        0 => false,
        8 => true,
        code => panic!("verify {reference} ended with {code}"),
    };
    let mut damaged: Vec<String> =
        versions.iter().filter(|(name, _)| is_damaged(name)).map(|(name, _)| (*name).to_owned()).collect();
    damaged.sort();
    damaged
}

fn pack_id(path: &Path) -> String {
    path.file_stem().unwrap().to_str().unwrap().to_owned()
}

/// All files below a directory, with times and content.
fn everything(directory: &Path) -> BTreeMap<PathBuf, (std::time::SystemTime, Vec<u8>)> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        let modified = fs::metadata(&entry).unwrap().modified().unwrap();
        if entry.is_dir() {
            files.extend(everything(&entry));
            files.insert(entry, (modified, Vec::new()));
        } else {
            let content = fs::read(&entry).unwrap();
            files.insert(entry, (modified, content));
        }
    }
    files
}

/// A check that must change nothing.
fn check_unchanged(data: &Path) -> Ended {
    let before = everything(data);
    let ended = check(data);
    let after = everything(data);
    assert!(before == after, "the check has written to the repository");
    ended
}

#[test]
fn a_healthy_repository_is_clean() {
    let (home, _) = with_versions();
    let ended = check_unchanged(&home.repository());
    assert_eq!((ended.code(), ended.events().len()), (0, 1), "{ended}");
    let checked = ended.last_event("result");
    let mut in_itself = Command::new(program("imprint-server"));
    in_itself.arg("check").arg(home.repository()).arg("--scratch").arg(home.repository().join("packs"));
    let ended = Running::start(&mut in_itself).finish();
    assert!(ended.code() == 1 && ended.stderr.contains("is in the repository"), "{ended}");

    let ended = scrub(&home);
    assert_eq!((ended.code(), ended.events().len()), (0, 1), "{ended}");
    let report = ended.last_event("result");
    let stats = home.result(["stats"]);
    assert_eq!((&report["packs"], &report["bytes"]), (&stats["packs"], &stats["pack_bytes"]), "{report}");
    assert_eq!((&report["packs"], &report["records"]), (&checked["packs"], &checked["records"]));
    assert_eq!((&report["versions"], &checked["versions"]), (&3.into(), &3.into()));
    assert!(stats["scrubbed"].is_string() && stats["unverified_packs"] == 0, "{stats}");
    let text = home.ok(["scrub"]).stdout;
    assert!(text.starts_with("read ") && text.trim_end().ends_with("3 versions, all whole"), "{text}");
}

/// Journal and catalog say the same, and neither names what is gone.
#[test]
fn a_repository_that_gave_space_back_is_clean() {
    let home = Home::new();
    let server = Server::start_with(&home.repository(), &["--grace", "0m", "--gc-every", "off"]);
    let mut client = Home::with_repository(server.url());
    for (disk, image) in [(&disks().v1, "lab/pc"), (&disks().v2, "lab/pc"), (&disks().v1, "lab/other")] {
        client.ok([Path::new("push"), disk, Path::new(image)]);
    }
    client.ok(["remove", "lab/pc@2"]);
    assert!(client.result(["gc"])["deleted_packs"].as_u64() > Some(0));
    assert!(server.stop().success());
    let ended = check_unchanged(&home.repository());
    assert_eq!((ended.code(), ended.events().len()), (0, 1), "{ended}");
    client.use_repository(home.repository().to_str().unwrap());
    assert_eq!(scrub(&client).code(), 0);
}

/// What can happen to a pack, in the middle of it or at its ends.
fn harms(pack: &Path, random: &mut Random) -> Vec<Damage> {
    let length = length(pack);
    // The lengths of header and trailer: docs/format.md.
    let inside = |random: &mut Random| 64 + random.below(length - 64 - 48);
    vec![
        Damage::Flip(inside(random)),
        Damage::Flip(20),
        Damage::Flip(length - 5),
        Damage::Flip(64 + 10),
        Damage::Truncate(inside(random)),
        Damage::Zero(inside(random)),
        Damage::Truncate(0),
        Damage::Remove,
    ]
}

#[test]
fn damage_of_packs_is_found_with_the_versions_that_suffer_and_healed_by_the_next_push() {
    let mut random = Random::new(20_261_123);
    let (home, versions) = with_versions();
    let pristine = home.place("pristine");
    copy(&home.repository(), &pristine);
    let all = packs(&home.repository());
    let mut harmed = 0;
    for (n, pack) in all.iter().enumerate() {
        for (kind, damage) in harms(pack, &mut random).into_iter().enumerate() {
            // Each pack gets some of them, all packs together all.
            if (n + kind) % all.len() > 0 {
                continue;
            }
            harmed += 1;
            let _ = fs::remove_dir_all(home.repository());
            copy(&pristine, &home.repository());
            damage.inflict(pack);
            let what = format!("{damage:?} of {}", pack.display());

            let checked = check_unchanged(&home.repository());
            assert_eq!((checked.code(), damaged_packs(&checked)), (1, vec![pack_id(pack)]), "{what}: {checked}");
            let expected = unreadable(&home, &versions);
            assert_eq!(damaged_versions(&checked), expected, "{what}: {checked}");
            let scrubbed = scrub(&home);
            assert_eq!((scrubbed.code(), damaged_packs(&scrubbed)), (8, vec![pack_id(pack)]), "{what}: {scrubbed}");
            assert_eq!(damaged_versions(&scrubbed), expected, "{what}: {scrubbed}");
            assert_eq!(scrub(&home).code(), if expected.is_empty() { 0 } else { 8 }, "{what}, again");

            push_all(&home, &versions);
            let again = scrub(&home);
            assert_eq!(again.code(), 0, "{what}: {again}");
            assert_eq!(check_unchanged(&home.repository()).code(), 0, "{what}");
            for (reference, disk) in &versions {
                let target = home.place("restored.raw");
                let _ = fs::remove_file(&target);
                home.ok([Path::new("restore"), Path::new(reference), &target]);
                assert_same(&target, disk);
            }
        }
    }
    assert!(harmed >= 8, "{harmed} damages");
}

/// What the hint of a failed restore says: no scrub is needed before the push.
#[test]
fn what_a_restore_could_not_read_is_healed_by_the_next_push() {
    let (home, versions) = with_versions();
    let pristine = home.place("pristine");
    copy(&home.repository(), &pristine);
    let target = home.place("restored.raw");
    for pack in packs(&home.repository()) {
        for damage in [Damage::Remove, Damage::Truncate(0), Damage::Flip(64 + 10)] {
            let _ = fs::remove_dir_all(home.repository());
            copy(&pristine, &home.repository());
            damage.inflict(&pack);
            let what = format!("{damage:?} of {}", pack.display());
            let damaged = unreadable(&home, &versions);
            assert!(!damaged.is_empty(), "{what}");
            push_all(&home, &versions);
            for (reference, disk) in &versions {
                let _ = fs::remove_file(&target);
                home.ok([Path::new("restore"), Path::new(reference), &target]);
                assert_same(&target, disk);
            }
            assert_eq!(scrub(&home).code(), 0, "{what}");
        }
    }
}

/// From a backup of the repository, or from where somebody had moved it.
#[test]
fn a_pack_that_is_put_back_is_used_again() {
    let (home, versions) = with_versions();
    let all = packs(&home.repository());
    let pristine = home.place("pristine");
    copy(&home.repository(), &pristine);
    // Not more: a repository without most of its packs takes no notes of damage.
    let lost = &all[..all.len() / 2];
    lost.iter().for_each(|pack| Damage::Remove.inflict(pack));
    let scrubbed = scrub(&home);
    assert_eq!(scrubbed.code(), 8);
    let objects = &scrubbed.last_event("result")["new_objects"];
    assert!(objects.as_u64().unwrap() > 0 && !unreadable(&home, &versions).is_empty());
    for pack in lost {
        let name = pack.strip_prefix(home.repository()).unwrap();
        fs::copy(pristine.join(name), pack).unwrap();
    }
    let scrubbed = scrub(&home);
    assert_eq!(scrubbed.code(), 0, "{scrubbed}");
    assert_eq!(&scrubbed.last_event("result")["readmitted_objects"], objects, "{scrubbed}");
    assert_eq!(check_unchanged(&home.repository()).code(), 0);
    assert_eq!(unreadable(&home, &versions), [""; 0]);
    let rebuilt =
        Command::new(program("imprint-server")).args(["rebuild", "--data"]).arg(home.repository()).output().unwrap();
    assert!(rebuilt.status.success(), "{rebuilt:?}");
    assert_eq!(unreadable(&home, &versions), [""; 0], "the journal says so too");
}

fn copy(from: &Path, to: &Path) {
    files::run(Command::new("cp").args(["-r", "--preserve=all", "--reflink=auto"]).args([from, to]));
}

#[test]
fn a_check_finds_what_is_wrong_with_other_files_and_writes_nothing() {
    let (home, versions) = with_versions();
    let data = home.repository();
    let journal = data.join("journal");
    let good = fs::read(&journal).unwrap();
    let damaged = |ended: &Ended| found(ended, "damaged_file", |line| line["path"].as_str().unwrap().to_owned());
    let named = |name: &str| vec![data.join(name).to_str().unwrap().to_owned()];

    for at in [3, 40, good.len() as u64 / 2, good.len() as u64 - 3] {
        flip(&journal, at);
        let ended = check_unchanged(&data);
        assert_eq!((ended.code(), damaged(&ended)), (1, named("journal")), "byte {at}: {ended}");
        assert_eq!(ended.last_event("result")["versions"], 3, "the catalog knows those that the journal lost");
        fs::write(&journal, &good).unwrap();
    }
    fs::write(&journal, &good[..good.len() - 5]).unwrap();
    let ended = check_unchanged(&data);
    assert_eq!((ended.code(), damaged(&ended)), (1, named("journal")), "an acknowledged entry: {ended}");
    fs::write(&journal, [&good[..], b"unfinished"].concat()).unwrap();
    let ended = check_unchanged(&data);
    assert_eq!((ended.code(), ended.events()[0]["event"].clone()), (0, "note".into()), "{ended}");
    fs::write(&journal, &good).unwrap();

    flip(&data.join("superblock"), 12);
    let ended = check_unchanged(&data);
    assert_eq!((ended.code(), damaged(&ended)), (1, named("superblock")), "{ended}");
    assert_eq!(ended.last_event("result")["versions"], 3, "the journal says which repository it is");
    flip(&data.join("superblock"), 12);

    let manifest = data.join("catalog/CURRENT");
    let current = fs::read(&manifest).unwrap();
    fs::write(&manifest, "no manifest\n").unwrap();
    let ended = check_unchanged(&data);
    assert_eq!((ended.code(), damaged(&ended)), (1, named("catalog")), "{ended}");
    assert!(ended.stdout.contains("imprint-server rebuild"), "{ended}");
    fs::write(&manifest, current).unwrap();
    assert_eq!(check_unchanged(&data).code(), 0);

    // A catalog that is not there is no damage: opening derives it.
    fs::rename(data.join("catalog"), home.place("catalog")).unwrap();
    let ended = check_unchanged(&data);
    assert_eq!((ended.code(), ended.last_event("result")["versions"].clone()), (0, 3.into()), "{ended}");
    // Also with damage: what versions need, the trees in packs say.
    let pack = packs(&data).into_iter().max_by_key(|pack| length(pack)).unwrap();
    fs::remove_file(&pack).unwrap();
    let ended = check_unchanged(&data);
    assert_eq!(ended.code(), 1, "{ended}");
    fs::rename(home.place("catalog"), data.join("catalog")).unwrap();
    assert_eq!(damaged_versions(&ended), unreadable(&home, &versions), "{ended}");
}

#[test]
fn a_repository_in_use_is_not_checked() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("repository");
    let server = Server::start(&data);
    let ended = check(&data);
    assert!(ended.code() == 1 && ended.stderr.contains(server.url()), "{ended}");
    assert!(server.stop().success());
    assert_eq!(check(&data).code(), 0);
    assert_eq!(check(&directory.path().join("nothing")).code(), 1);
}

/// Killed and stopped again and again, it reads each pack once.
#[test]
fn a_scrub_that_is_killed_goes_on_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("repository");
    let disks = disks();
    let mut server = Server::start(&data);
    let mut home = Home::with_repository(server.url());
    for (disk, image) in [(&disks.v1, "lab/pc"), (&disks.noise, "lab/noise")] {
        home.ok([Path::new("push"), disk, Path::new(image)]);
    }
    let unverified = |home: &Home| home.result(["stats"])["unverified_packs"].as_u64().unwrap();
    let all = unverified(&home);
    assert!(all >= 5, "{all} packs");
    let mut left = all;
    for round in 0..3 {
        let mut command = home.command(["scrub", "--rate", "40", "--json"]);
        let scrubbing = Running::start(&mut command);
        wait_until("a pack is verified", || unverified(&home) < left);
        match round {
            0 => drop(scrubbing.kill()),
            1 => {
                scrubbing.signal(rustix::process::Signal::INT);
                let ended = scrubbing.finish();
                assert!(ended.code() == 130 && ended.stdout.contains("goes on"), "{ended}");
            }
            _ => {
                // The index is not synced, but the process's death loses nothing of it.
                server.kill();
                drop(scrubbing.finish());
                server = Server::start(&data);
                home.use_repository(server.url());
            }
        }
        let now = unverified(&home);
        assert!(now < left, "round {round}: {now} of {left}");
        left = now;
        if left <= 1 {
            break;
        }
    }
    // Whoever was told to end may still be at it for a moment.
    let mut ended = scrub(&home);
    wait_until("the scrub before has ended", || {
        let is_busy = ended.stdout.contains("BUSY");
        if is_busy {
            ended = scrub(&home);
        }
        !is_busy
    });
    let report = ended.last_event("result");
    assert_eq!(ended.code(), 0, "{ended}");
    assert!(report["packs"].as_u64().unwrap() <= left && report["recent_packs"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(unverified(&home), 0);
    let report = scrub(&home).last_event("result");
    assert_eq!(report["packs"], all, "the next one reads all of them again: {report}");
    assert!(server.stop().success());
}

/// restic and others lock the repository for a check. Here everything goes on.
#[test]
fn pushes_restores_and_collections_go_on_while_it_is_scrubbed() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("repository");
    let server = Server::start_with(&data, &["--grace", "0m"]);
    let home = Home::with_repository(server.url());
    let [v1, v2] = [disks().v1.as_path(), disks().v2.as_path()];
    home.ok([Path::new("push"), v1, Path::new("lab/kept")]);
    let is_done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|threads| {
        let scrubbing = threads.spawn(|| {
            let mut scrubs = 0;
            while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
                home.ok(["scrub", "--older-than", "0m"]);
                scrubs += 1;
            }
            scrubs
        });
        for n in 1..=4 {
            home.ok([Path::new("push"), v2, Path::new("lab/passing")]);
            home.ok(["remove".to_owned(), format!("lab/passing@{n}")]);
            home.ok(["gc"]);
        }
        let target = home.place("restored.raw");
        home.ok([Path::new("restore"), Path::new("lab/kept@1"), &target]);
        assert_same(&target, v1);
        is_done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(scrubbing.join().unwrap() > 0);
    });
    assert!(server.stop().success());
}
