use std::{io::ErrorKind, path::Path, sync::Arc};

use super::{Call, Loss, Simulated};
use crate::files::{Access, FileSystem, Files};

const ROOT: &str = "/repository";

fn files(disk: &Simulated) -> Files {
    Files::on(Arc::new(disk.clone()))
}

fn path(name: &str) -> std::path::PathBuf {
    Path::new(ROOT).join(name)
}

fn after(disk: &Simulated, mut loss: Loss) -> Files {
    files(&disk.after_crash(&mut loss))
}

#[test]
fn what_was_not_synced_is_lost_or_not() {
    let disk = Simulated::with_root(Path::new(ROOT));
    let written = disk.create(&path("a")).unwrap();
    written.write_all_at(b"synced", 0).unwrap();
    written.sync().unwrap();
    disk.sync_directory(Path::new(ROOT)).unwrap();
    written.write_all_at(b"-not", 6).unwrap();
    disk.create(&path("b")).unwrap().sync().unwrap();

    assert_eq!(after(&disk, Loss::Nothing).read(&path("a")).unwrap(), b"synced-not");
    let least = after(&disk, Loss::Everything);
    assert_eq!(least.read(&path("a")).unwrap(), b"synced");
    assert!(!least.exists(&path("b")).unwrap(), "its name was not synced");

    let mut found = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let some = after(&disk, Loss::Random(seed));
        found.insert((some.read(&path("a")).unwrap(), some.exists(&path("b")).unwrap()));
    }
    for content in [&b"synced"[..], b"synced-", b"synced-not", b"synced\0\0\0\0", b"synced-n\0\0"] {
        for exists in [false, true] {
            assert!(found.contains(&(content.to_vec(), exists)), "{content:?} {exists} never happens");
        }
    }
    assert!(found.iter().all(|(content, _)| content.starts_with(b"synced")), "what was synced stays");
}

#[test]
fn a_rename_that_was_not_synced_may_leave_either_name_both_or_none() {
    let disk = Simulated::with_root(Path::new(ROOT));
    for directory in ["from", "to"] {
        disk.create_directory(&path(directory)).unwrap();
    }
    disk.sync_directory(Path::new(ROOT)).unwrap();
    disk.create(&path("from/x")).unwrap();
    disk.sync_directory(&path("from")).unwrap();
    disk.rename_new(&path("from/x"), &path("to/x")).unwrap();
    let mut found = [0; 4];
    for seed in 0..100 {
        let some = after(&disk, Loss::Random(seed));
        let there = |name| usize::from(some.exists(&path(name)).unwrap());
        found[there("from/x") + 2 * there("to/x")] += 1;
    }
    assert!(found.iter().all(|times| *times > 0), "{found:?}");
}

#[test]
fn a_directory_whose_name_is_lost_takes_its_files_along() {
    let disk = Simulated::with_root(Path::new(ROOT));
    disk.create_directory(&path("a")).unwrap();
    disk.create_directory(&path("a/b")).unwrap();
    disk.create(&path("a/b/c")).unwrap();
    disk.sync_directory(&path("a/b")).unwrap();
    disk.sync_directory(&path("a")).unwrap();
    assert!(after(&disk, Loss::Nothing).exists(&path("a/b/c")).unwrap());
    let least = after(&disk, Loss::Everything);
    assert_eq!(least.list(Path::new(ROOT)).unwrap(), [] as [std::path::PathBuf; 0]);
    assert!(least.list(&path("a/b")).is_err());
}

#[test]
fn nothing_happens_after_the_crash() {
    let disk = Simulated::with_root(Path::new(ROOT));
    let file = disk.create(&path("a")).unwrap();
    disk.crash_at(2);
    file.write_all_at(b"1", 0).unwrap();
    assert!(file.sync().is_err(), "the crash");
    assert!(disk.has_crashed());
    assert!(file.write_all_at(b"2", 1).is_err() && file.sync().is_err() && file.length().is_err());
    assert!(disk.create(&path("b")).is_err() && disk.open(&path("a"), Access::Read).is_err());
    assert_eq!(disk.calls(), [Call::Write(path("a")), Call::Sync(path("a"))]);
    let least = disk.after_crash(&mut Loss::Nothing);
    assert_eq!(files(&least).read(&path("a")).unwrap(), b"1");
}

#[test]
fn a_write_that_fails_may_have_written_half() {
    let disk = Simulated::with_root(Path::new(ROOT));
    let file = disk.create(&path("a")).unwrap();
    disk.set_fault(|call| matches!(call, Call::Write(_)).then_some(ErrorKind::StorageFull));
    assert_eq!(file.write_all_at(b"1234", 0).unwrap_err().kind(), ErrorKind::StorageFull);
    disk.clear_fault();
    assert_eq!(files(&disk).read(&path("a")).unwrap(), b"12");
}
