//! Calls of the real server that fail, by strace: the first failure of a disk ends writing, is said, and reads go on; a
//! full disk ends nothing. After a restart on a sound disk everything that was acknowledged is there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use imprint_tests::{
    files::{self, MIB, assert_same},
    programs::{Ended, Home, wait_until},
    random::Random,
    server::Server,
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// The service as health knows it.
const REPOSITORY: &str = "imprint.v1.Repository";

/// A repository with one version, made without faults.
struct Setting {
    home: Home,
    data: PathBuf,
    first: PathBuf,
    second: PathBuf,
}

impl Setting {
    fn new() -> Self {
        let mut home = Home::new();
        let data = home.place("served");
        let mut random = Random::new(1);
        let [first, second] =
            ["first", "second"].map(|name| files::write(&home.place(""), name, &random.bytes(3 * MIB as usize)));
        let server = Server::start(&data);
        home.use_repository(server.url());
        home.ok([Path::new("push"), &first, Path::new("lab/pc")]);
        assert!(server.stop().success());
        Self { home, data, first, second }
    }

    /// A server on whose files these calls fail.
    fn serve_on_faults(&mut self, inject: &str, paths: &[&str]) -> Option<Server> {
        let paths: Vec<PathBuf> = paths.iter().map(|path| self.data.join(path)).collect();
        let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        let server = Server::start_on_faults(&self.data, inject, &paths)?;
        self.home.use_repository(server.url());
        Some(server)
    }

    fn push(&self) -> Ended {
        self.home.run([Path::new("push"), &self.second, Path::new("lab/pc")])
    }

    fn assert_restores(&self, reference: &str, disk: &Path) {
        let target = self.home.place("restored.raw");
        let _ = fs::remove_file(&target);
        self.home.ok([Path::new("restore"), Path::new(reference), &target]);
        assert_same(&target, disk);
    }

    fn versions(&self) -> usize {
        self.home.ok(["versions", "lab/pc", "--json"]).events().len()
    }

    /// On a sound disk: what was acknowledged is there, what was not is whole or absent, and pushing goes on.
    fn assert_recovers(mut self, server: Server, acknowledged: usize) {
        server.kill();
        let server = Server::start(&self.data);
        self.home.use_repository(server.url());
        self.assert_restores("lab/pc@1", &self.first);
        assert!(self.versions() >= acknowledged);
        for number in 2..=self.versions() {
            self.assert_restores(&format!("lab/pc@{number}"), &self.second);
        }
        let pushed = self.push();
        assert_eq!(pushed.code(), 0, "{pushed}");
        self.assert_restores("lab/pc", &self.second);
        assert_eq!(self.home.result(["stats"])["writes_stopped"], serde_json::Value::Null);
    }
}

fn assert_says(ended: &Ended, what: &str) {
    assert_ne!(ended.code(), 0, "{ended}");
    assert!(ended.stderr.contains(what), "{what}: {ended}");
}

/// What the gRPC health service says of `service`, or of the server as a whole.
fn health(server: &Server, service: &str) -> ServingStatus {
    let ask = async {
        let channel = tonic::transport::Channel::from_shared(server.url().to_owned()).unwrap().connect().await.unwrap();
        HealthClient::new(channel)
            .check(HealthCheckRequest { service: service.into() })
            .await
            .unwrap()
            .into_inner()
            .status()
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(ask)
}

/// The first failure, of a file or directory with this in its path, ends writing for good; it is said whenever somebody wants to
/// write, and to those who ask.
fn ends_writing(inject: &str, paths: &[&str], failed: &str) {
    let mut setting = Setting::new();
    let Some(server) = setting.serve_on_faults(inject, paths) else { return };
    assert_eq!(health(&server, REPOSITORY), ServingStatus::Serving);
    // strace counts the calls of each thread.
    let acknowledged = (0..100).take_while(|_| setting.push().code() == 0).count();
    assert!(acknowledged < 100, "no fault was injected");
    for _ in 0..2 {
        assert_says(&setting.push(), "no longer accepts writes");
        assert_says(&setting.home.run(["tag", "lab/pc@1", "stable"]), "no longer accepts writes");
    }
    let why = setting.home.result(["stats"])["writes_stopped"].clone();
    assert!(why.as_str().is_some_and(|why| why.contains("os error 5") && why.contains(failed)), "{why}");
    // It is told by a task of its own.
    wait_until("health says so", || health(&server, REPOSITORY) == ServingStatus::NotServing);
    assert_eq!(health(&server, ""), ServingStatus::Serving, "reads go on");
    assert_eq!(setting.versions(), 1 + acknowledged);
    setting.assert_restores("lab/pc@1", &setting.first);
    setting.assert_recovers(server, 1 + acknowledged);
}

#[test]
fn a_failed_write_of_a_pack_ends_writing() {
    // The journal is written by position too, but later.
    ends_writing("pwrite64:error=EIO", &[], "packs/incoming/");
}

#[test]
fn a_failed_sync_of_the_journal_ends_writing() {
    ends_writing("fdatasync:error=EIO:when=2+", &["journal"], "/journal");
}

#[test]
fn a_failed_write_of_the_journal_ends_writing() {
    ends_writing("pwrite64:error=EIO", &["journal"], "/journal");
}

#[test]
fn a_failed_rename_of_a_pack_ends_writing() {
    ends_writing("renameat2:error=EIO", &[], "/packs/");
}

#[test]
fn a_failed_sync_of_a_directory_ends_writing() {
    ends_writing("fsync:error=EIO", &["packs/incoming"], "/packs/incoming");
}

#[test]
fn a_full_disk_under_the_journal_ends_one_command() {
    let mut setting = Setting::new();
    // The second attempt, after the reserve was given up, fails too. Counted for each thread.
    let Some(server) = setting.serve_on_faults("pwrite64:error=ENOSPC:when=1..2", &["journal"]) else { return };
    let mut refused = 0;
    while setting.push().code() != 0 {
        refused += 1;
        assert!(refused < 100, "a full disk must not be final");
    }
    assert!(refused > 0, "no fault was injected");
    assert_eq!(setting.versions(), 2);
    setting.assert_restores("lab/pc@2", &setting.second);
    setting.assert_recovers(server, 2);
}

#[test]
fn a_full_disk_under_a_pack_ends_one_push() {
    let mut setting = Setting::new();
    let Some(server) = setting.serve_on_faults("pwrite64:error=ENOSPC:when=1", &[]) else { return };
    let mut refused = 0;
    while setting.push().code() != 0 {
        refused += 1;
        assert!(refused < 100, "a full disk must not be final");
    }
    assert!(refused > 0, "no fault was injected");
    setting.assert_restores("lab/pc@2", &setting.second);
    setting.assert_recovers(server, 2);
}
