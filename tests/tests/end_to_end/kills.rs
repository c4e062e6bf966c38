//! The real server is killed while clients push and restore and space is given back: nothing that was acknowledged is
//! lost, and what was under way is whole or absent.
//!
//! `IMPRINT_KILLS` says how often.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use imprint_tests::{
    disks::disks,
    files::{MIB, assert_same, copy_sparse, length, overwrite},
    programs::{Ended, Home, Running},
    random::Random,
    server::{Server, assert_checks_clean},
};
use serde_json::Value;

/// Versions of an image that are kept; what is older is removed, so that there is something to give back.
const KEPT: usize = 2;
/// The longest that anything is left alone, in milliseconds: about as long as a collection or a push takes.
const LONGEST_MS: u64 = 800;

/// An image that one client pushes to, again and again, each time with other bytes.
struct Pushed {
    image: &'static str,
    disk: PathBuf,
    home: Home,
    /// Acknowledged and not removed, or found after a kill: numbers and ids.
    versions: BTreeMap<u64, String>,
    highest: u64,
}

impl Pushed {
    fn new(image: &'static str, like: &Path, server: &Server) -> Self {
        let home = Home::with_repository(server.url());
        let disk = home.place("disk.raw");
        copy_sparse(like, &disk);
        Self { image, disk, home, versions: BTreeMap::new(), highest: 0 }
    }

    /// Changes some of the disk and begins to push it.
    fn start(&self, random: &mut Random) -> Running {
        for _ in 0..4 {
            let bytes = 1 + random.below(2 * MIB);
            let offset = random.below(length(&self.disk) - bytes);
            overwrite(&self.disk, offset, &random.bytes(bytes as usize));
        }
        let arguments = [Path::new("push"), &self.disk, Path::new(self.image), Path::new("--json")];
        Running::start(&mut self.home.command(arguments))
    }

    /// What was acknowledged is there, and at most one version more, which is whole. Whether the push was acknowledged.
    fn check(&mut self, ended: &Ended) -> bool {
        let acknowledged = ended.status.success().then(|| number(&ended.last_event("result")["version"], "number"));
        if acknowledged.is_none() {
            assert_eq!(ended.code(), 7, "{ended}");
        }
        let found = self.listed();
        for (number, id) in &self.versions {
            assert_eq!(found.get(number), Some(id), "{}@{number} is gone, or is another one", self.image);
        }
        let new: Vec<u64> = found.keys().filter(|number| !self.versions.contains_key(number)).copied().collect();
        assert!(new.len() <= 1 && new.iter().all(|number| *number > self.highest), "{new:?} after {}", self.highest);
        assert!(
            acknowledged.is_none_or(|number| new == [number]),
            "{acknowledged:?} was acknowledged, there is {new:?}"
        );
        self.highest = self.highest.max(new.first().copied().unwrap_or(0));
        self.versions = found;
        if let Some(number) = new.first() {
            self.assert_restores(*number);
        }
        acknowledged.is_some()
    }

    /// The version that was pushed last is the disk.
    fn assert_restores(&self, number: u64) {
        let target = self.home.place("restored.raw");
        let _ = fs::remove_file(&target);
        self.home.ok([Path::new("restore"), Path::new(&format!("{}@{number}", self.image)), &target]);
        assert_same(&target, &self.disk);
    }

    fn listed(&self) -> BTreeMap<u64, String> {
        let listed = self.home.run(["versions", self.image, "--json"]);
        if !listed.status.success() {
            assert_eq!((listed.code(), self.versions.len()), (3, 0), "{listed}");
            return BTreeMap::new();
        }
        let versions = listed.events().into_iter().filter(|event| event["event"] == "version");
        versions.map(|version| (number(&version, "number"), version["id"].as_str().unwrap().to_owned())).collect()
    }

    /// Reads all versions, and removes the old ones.
    fn verify_and_prune(&mut self) {
        for number in self.versions.keys() {
            self.home.ok(["verify", &format!("{}@{number}", self.image)]);
        }
        while self.versions.len() > KEPT {
            let (number, _) = self.versions.pop_first().unwrap();
            self.home.ok(["remove", &format!("{}@{number}", self.image)]);
        }
    }
}

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_else(|| panic!("no {field} in {value}"))
}

fn serve(data: &Path) -> Server {
    Server::start_with(data, &["--grace", "0m", "--gc-every", "off"])
}

/// borg#9748, kopia#1949, restic#1141: all at the same time, and killed at any moment.
#[test]
fn a_server_that_is_killed_under_load_loses_nothing() {
    let rounds: u64 = env::var("IMPRINT_KILLS").map_or(4, |rounds| rounds.parse().unwrap());
    let mut random = Random::new(8);
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("repository");
    let mut server = serve(&data);
    let mut other = Home::with_repository(server.url());
    let kept = disks().v1.as_path();
    other.ok([Path::new("push"), kept, Path::new("lab/kept")]);
    let mut pushed = [Pushed::new("lab/one", kept, &server), Pushed::new("lab/two", &disks().v2, &server)];
    let (mut acknowledged, mut restores, mut collections) = (0, 0, 0);
    for round in 0..rounds {
        let target = other.place("kept.raw");
        let _ = fs::remove_file(&target);
        let pushes = pushed.each_ref().map(|pushed| pushed.start(&mut random));
        let restoring = Running::start(&mut other.command([Path::new("restore"), Path::new("lab/kept@1"), &target]));
        let collecting = Running::start(&mut other.command(["gc"]));
        std::thread::sleep(Duration::from_millis(random.below(LONGEST_MS)));
        server.kill();
        assert_checks_clean(&data);
        let [first, second] = pushes.map(Running::finish);
        let (restored, collected) = (restoring.finish(), collecting.finish());

        server = serve(&data);
        other.use_repository(server.url());
        for (pushed, ended) in pushed.iter_mut().zip([first, second]) {
            pushed.home.use_repository(server.url());
            acknowledged += u64::from(pushed.check(&ended));
        }
        for (ended, count) in [(&restored, &mut restores), (&collected, &mut collections)] {
            assert!(ended.status.success() || ended.code() == 7, "{ended}");
            *count += u64::from(ended.status.success());
        }
        if restored.status.success() {
            assert_same(&target, kept);
        }
        other.ok(["verify", "lab/kept@1"]);
        pushed.iter_mut().for_each(Pushed::verify_and_prune);
        println!("killed in round {round}");
    }
    println!("kills: {rounds}; {acknowledged} pushes, {restores} restores and {collections} collections ended before");
    let target = other.place("kept.raw");
    let _ = fs::remove_file(&target);
    other.ok([Path::new("restore"), Path::new("lab/kept@1"), &target]);
    assert_same(&target, kept);
    let collected = other.result(["gc"]);
    pushed.iter_mut().for_each(Pushed::verify_and_prune);
    // What pushes sent that were cut off is kept until they are gone on with, or expire; nothing else is left.
    let report = other.result(["gc", "--dry-run"]);
    let left = [(&report, "dead_packs"), (&report, "reclaimable_bytes")].map(|(report, field)| number(report, field));
    assert_eq!((left, &report["busy_packs"]), ([0, 0], &collected["busy_packs"]), "{collected}\n{report}");
    server.kill();
    assert_checks_clean(&data);
}
