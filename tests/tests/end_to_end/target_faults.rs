//! Targets, and notes of them, that cannot be made durable, by strace: the restore fails, and what is noted is not believed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use imprint_client::target::{Held, Memory};
use imprint_tests::{
    faults::with_faults,
    files::{self, MIB, assert_same},
    programs::{Ended, Home, Running},
    random::Random,
};

/// Two versions of an image, and a target that has none of them.
struct Setting {
    home: Home,
    disks: [PathBuf; 2],
    target: PathBuf,
}

impl Setting {
    fn new() -> Self {
        let home = Home::new();
        let mut random = Random::new(2);
        let disks = ["first", "second"].map(|name| files::write(&home.place(""), name, &random.bytes(3 << 20)));
        for disk in &disks {
            home.ok([Path::new("push"), disk, Path::new("lab/pc")]);
        }
        let target = home.place("").canonicalize().unwrap().join("target.raw");
        Self { home, disks, target }
    }

    fn notes(&self) -> PathBuf {
        self.home.place("state/imprint/targets").canonicalize().unwrap()
    }

    fn note(&self) -> Held {
        Memory::new(self.notes()).load(&self.target).unwrap().unwrap()
    }

    fn restore(&self, reference: &str) {
        self.home.ok([Path::new("restore"), Path::new(reference), &self.target]);
    }

    /// Restores the second version while these calls fail; `None` where that cannot be done.
    fn restore_on_faults(&self, inject: &str, path: &Path) -> Option<Ended> {
        let command = self.home.command([Path::new("restore"), Path::new("lab/pc@2"), &self.target]);
        let ended = Running::start(&mut with_faults(&command, inject, &[path])?).finish();
        assert_eq!(ended.code(), 1, "{ended}");
        assert!(ended.stderr.contains("os error 5"), "{ended}");
        Some(ended)
    }

    /// What was noted says that the target is not whole, and the next restore completes it.
    fn assert_not_believed(&self) {
        let note = self.note();
        assert_eq!((note.number, note.complete, note.witness), (2, false, None));
        let verified = self.home.run(["verify", "./target.raw"]);
        assert_ne!(verified.code(), 0, "{verified}");
        self.restore("lab/pc@2");
        assert_same(&self.target, &self.disks[1]);
        assert!(self.note().complete);
    }
}

const FAILED_SYNC: &str = "fsync,fdatasync:error=EIO";

#[test]
fn a_restore_whose_target_cannot_be_synced_fails_and_is_not_believed() {
    let setting = Setting::new();
    let Some(ended) = setting.restore_on_faults(FAILED_SYNC, &setting.target) else { return };
    assert!(ended.stderr.contains("target.raw"), "{ended}");
    setting.assert_not_believed();
}

#[test]
fn a_new_target_whose_directory_cannot_be_synced_is_not_believed() {
    let setting = Setting::new();
    let Some(_) = setting.restore_on_faults(FAILED_SYNC, setting.target.parent().unwrap()) else { return };
    setting.assert_not_believed();
}

/// Something wrote to it, so that there is no witness whose sync would come first.
#[test]
fn what_a_target_held_before_is_forgotten_when_it_cannot_be_synced() {
    let setting = Setting::new();
    setting.restore("lab/pc@1");
    assert!(setting.note().complete);
    files::overwrite(&setting.target, MIB, b"other");
    if setting.restore_on_faults(FAILED_SYNC, &setting.target).is_some() {
        setting.assert_not_believed();
    }
}

/// Only the first sync fails; the kernel says of what was lost once.
#[test]
fn a_sync_that_would_succeed_after_a_failed_one_makes_nothing_whole() {
    let setting = Setting::new();
    setting.restore("lab/pc@1");
    files::overwrite(&setting.target, MIB, b"other");
    if setting.restore_on_faults("fsync,fdatasync:error=EIO:when=1", &setting.target).is_some() {
        setting.assert_not_believed();
    }
}

/// The note comes first: as long as it cannot be made durable that the target is incomplete, nothing is written to it.
#[test]
fn a_target_is_not_written_before_it_is_noted_durably() {
    let setting = Setting::new();
    setting.restore("lab/pc@1");
    files::overwrite(&setting.target, MIB, b"other");
    let before = fs::read(&setting.target).unwrap();
    let Some(_) = setting.restore_on_faults(FAILED_SYNC, &setting.notes()) else { return };
    assert!(fs::read(&setting.target).unwrap() == before, "the target was written");
    setting.restore("lab/pc@2");
    assert_same(&setting.target, &setting.disks[1]);
}
