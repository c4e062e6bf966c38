use std::{
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::*;
use crate::files::simulated::{Call, Loss, Simulated};

const PATH: &str = "/repository/journal";

fn faulty() -> (Journal, Simulated, Files) {
    let disk = Simulated::with_root(Path::new("/repository"));
    let files = Files::on(Arc::new(disk.clone()));
    let journal = Journal::create(Path::new(PATH), REPOSITORY, files.clone()).unwrap();
    (journal, disk, files)
}

fn is_write(call: &Call) -> bool {
    matches!(call, Call::Write(_))
}

fn is_sync(call: &Call) -> bool {
    matches!(call, Call::Sync(_))
}

fn is_truncate(call: &Call) -> bool {
    matches!(call, Call::Truncate(_))
}

/// rustic#1731: nothing is left behind what was there before.
#[test]
fn a_full_disk_leaves_the_journal_as_it_was() {
    let (mut journal, disk, files) = faulty();
    let decisions = decisions();
    let content = || files.read(Path::new(PATH)).unwrap();
    journal.append(&decisions[0]).unwrap();
    let before = (journal.end(), content());
    for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded] {
        disk.set_fault(move |call| is_write(call).then_some(kind));
        assert!(matches!(journal.append(&decisions[1]), Err(Error::Full { .. })));
        assert_eq!((journal.end(), content()), before);
    }

    disk.clear_fault();
    files.gate().check().unwrap();
    journal.append(&decisions[2]).unwrap();
    let found = read(&files, Path::new(PATH), REPOSITORY).unwrap().map(|entry| entry.unwrap().1);
    assert_eq!(found.collect::<Vec<_>>(), [decisions[0].clone(), decisions[2].clone()]);
}

#[test]
fn the_reserve_is_given_up_to_the_journal() {
    const RESERVE: &str = "/repository/reserve";
    let disk = Simulated::with_root(Path::new("/repository"));
    let files = Files::on(Arc::new(disk.clone())).with_reserve(RESERVE.into(), 100);
    let mut journal = Journal::create(Path::new(PATH), REPOSITORY, files.clone()).unwrap();
    let reserve = || files.read(Path::new(RESERVE)).unwrap().len();
    assert_eq!(reserve(), 100);
    // Full as long as the reserve is there.
    let mut given_up = false;
    disk.set_fault(move |call| {
        given_up |= is_truncate(call) && matches!(call, Call::Truncate(path) if path == Path::new(RESERVE));
        let needs_room = is_write(call) && !given_up || matches!(call, Call::Allocate(_));
        needs_room.then_some(ErrorKind::StorageFull)
    });
    journal.append(&decisions()[0]).unwrap();
    assert_eq!(reserve(), 0);
    assert!(matches!(files.expect_reserve(), Err(Error::Full { .. })), "what was given up is not for packs");
    assert!(matches!(files.restore_reserve(), Err(Error::Full { .. })));
    journal.append(&decisions()[1]).unwrap();

    disk.clear_fault();
    files.restore_reserve().unwrap();
    files.expect_reserve().unwrap();
    assert_eq!(reserve(), 100);
    let found = read(&files, Path::new(PATH), REPOSITORY).unwrap().map(|entry| entry.unwrap().1);
    assert_eq!(found.collect::<Vec<_>>(), decisions()[..2]);
}

/// Whatever fails, nothing is written after it.
fn expect_final_failure(fault: impl Fn(&Call) -> Option<ErrorKind> + Send + 'static) {
    let (mut journal, disk, files) = faulty();
    let writes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&writes);
    disk.set_fault(move |call| {
        counted.fetch_add(usize::from(is_write(call)), Ordering::Relaxed);
        fault(call)
    });
    assert!(matches!(journal.append(&decisions()[0]), Err(Error::Io { .. })));
    assert!(files.gate().check().is_err());
    assert!(matches!(journal.append(&decisions()[0]), Err(Error::WritesStopped { .. })));
    assert_eq!(writes.load(Ordering::Relaxed), 1);
}

#[test]
fn a_failed_write_is_final() {
    expect_final_failure(|call| is_write(call).then_some(ErrorKind::Other));
}

/// fsyncgate: a sync that is tried again succeeds, and what was to be written is gone.
#[test]
fn a_failed_sync_is_final() {
    expect_final_failure(|call| is_sync(call).then_some(ErrorKind::Other));
    // Nobody knows what a sync without room has written: this is not the full disk that leaves things as they were.
    expect_final_failure(|call| is_sync(call).then_some(ErrorKind::StorageFull));
}

/// Whoever repeats a commit is told that it stands, and nothing else would sync it.
#[test]
fn what_a_process_that_died_wrote_and_never_synced_is_durable_before_it_is_believed() {
    let (mut journal, disk, files) = faulty();
    journal.append(&decisions()[0]).unwrap();
    disk.set_fault(|call| is_sync(call).then_some(ErrorKind::Other));
    journal.append(&decisions()[1]).unwrap_err();
    drop((journal, files));
    disk.clear_fault();

    let believed = |disk: &Simulated| {
        let files = Files::on(Arc::new(disk.clone()));
        drop(Journal::open(Path::new(PATH), REPOSITORY, files.clone(), Position::START).unwrap());
        read(&files, Path::new(PATH), REPOSITORY).unwrap().map(|entry| entry.unwrap().1).collect::<Vec<_>>()
    };
    assert_eq!(believed(&disk), decisions()[..2]);
    assert_eq!(believed(&disk.after_crash(&mut Loss::Everything)), decisions()[..2]);
}

#[test]
fn an_unfinished_entry_that_cannot_be_removed_is_final() {
    expect_final_failure(|call| match call {
        Call::Write(_) => Some(ErrorKind::StorageFull),
        call => is_truncate(call).then_some(ErrorKind::Other),
    });
}

#[test]
fn a_decision_that_is_too_long_is_refused_and_nothing_is_written() {
    let (mut journal, disk, files) = faulty();
    let before = disk.calls();
    let mut decision = decisions().remove(0);
    let Decision::Commit(commit) = &mut decision else { panic!("not a commit") };
    commit.version.who = "x".repeat(crate::catalog::journal::MAX_PAYLOAD_BYTES);
    assert!(matches!(journal.append(&decision), Err(Error::BadRequest(_))));
    assert_eq!(disk.calls(), before);
    files.gate().check().unwrap();
}

/// What cannot be kept is not cut off.
#[test]
fn an_unfinished_entry_that_cannot_be_copied_stays() {
    let (mut journal, disk, files) = faulty();
    journal.append(&decisions()[0]).unwrap();
    let end = journal.end();
    let file = files.open(Path::new(PATH), crate::files::Access::Write).unwrap();
    file.write_all_at(b"unfinished", end.offset).unwrap();
    let before = files.read(Path::new(PATH)).unwrap();
    for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
        disk.set_fault(move |call| is_write(call).then_some(kind));
        assert!(Journal::open(Path::new(PATH), REPOSITORY, files.clone(), Position::START).is_err());
        assert_eq!(files.read(Path::new(PATH)).unwrap(), before);
    }
    disk.clear_fault();
    let journal = Journal::open(Path::new(PATH), REPOSITORY, files.clone(), end).unwrap();
    assert_eq!((journal.end(), files.read(Path::new(PATH)).unwrap().len() as u64), (end, end.offset));
    let copy = Path::new(PATH).with_extension(format!("cut-{}", end.offset));
    assert_eq!(files.read(&copy).unwrap(), b"unfinished");
}
