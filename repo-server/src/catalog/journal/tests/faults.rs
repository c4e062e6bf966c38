use std::{
    cell::Cell,
    fs::File,
    io::{self, ErrorKind},
    rc::Rc,
};

use super::*;
use crate::catalog::journal::Medium;

/// Which operations fail, and how.
#[derive(Default)]
struct Faults {
    write: Cell<Option<ErrorKind>>,
    sync: Cell<Option<ErrorKind>>,
    truncate: Cell<Option<ErrorKind>>,
    /// Writes that were tried.
    writes: Cell<usize>,
}

struct Faulty {
    file: File,
    faults: Rc<Faults>,
}

fn fail(fault: &Cell<Option<ErrorKind>>) -> io::Result<()> {
    fault.get().map_or(Ok(()), |kind| Err(kind.into()))
}

impl Medium for Faulty {
    /// Writes half before it fails.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.faults.writes.set(self.faults.writes.get() + 1);
        let fault = fail(&self.faults.write);
        let length = if fault.is_ok() { bytes.len() } else { bytes.len() / 2 };
        self.file.write_all_at(&bytes[..length], offset)?;
        fault
    }

    fn sync(&self) -> io::Result<()> {
        fail(&self.faults.sync)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        fail(&self.faults.truncate)?;
        self.file.truncate(length)
    }
}

fn faulty(path: &Path) -> (Journal<Faulty>, Rc<Faults>, WriteGate) {
    let (faults, gate) = (Rc::new(Faults::default()), WriteGate::default());
    let journal = Journal::create(path, REPOSITORY, gate.clone()).unwrap();
    let journal = journal.map_medium(|file| Faulty { file, faults: Rc::clone(&faults) });
    (journal, faults, gate)
}

#[test]
fn a_full_disk_leaves_the_journal_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = file_in(&dir);
    let (mut journal, faults, gate) = faulty(&path);
    let decisions = decisions();
    journal.append(&decisions[0]).unwrap();
    let before = (journal.end(), fs::read(&path).unwrap());
    for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded] {
        faults.write.set(Some(kind));
        assert!(matches!(journal.append(&decisions[1]), Err(Error::Full { .. })));
        assert_eq!((journal.end(), fs::read(&path).unwrap()), before);
    }

    faults.write.set(None);
    gate.check().unwrap();
    journal.append(&decisions[2]).unwrap();
    assert_eq!(decisions_in(&path).unwrap(), [decisions[0].clone(), decisions[2].clone()]);
}

/// Whatever fails, nothing is written after it.
fn expect_final_failure(set: impl FnOnce(&Faults)) {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, faults, gate) = faulty(&file_in(&dir));
    set(&faults);
    assert!(matches!(journal.append(&decisions()[0]), Err(Error::Io { .. })));
    assert!(gate.check().is_err());

    for fault in [&faults.write, &faults.sync, &faults.truncate] {
        fault.set(None);
    }
    assert!(matches!(journal.append(&decisions()[0]), Err(Error::WritesStopped { .. })));
    assert_eq!(faults.writes.get(), 1);
}

#[test]
fn a_failed_write_is_final() {
    expect_final_failure(|faults| faults.write.set(Some(ErrorKind::Other)));
}

#[test]
fn a_failed_sync_is_final() {
    expect_final_failure(|faults| faults.sync.set(Some(ErrorKind::Other)));
    // Nobody knows what a sync without room has written: this is not the full disk that leaves things as they were.
    expect_final_failure(|faults| faults.sync.set(Some(ErrorKind::StorageFull)));
}

#[test]
fn an_unfinished_entry_that_cannot_be_removed_is_final() {
    expect_final_failure(|faults| {
        faults.write.set(Some(ErrorKind::StorageFull));
        faults.truncate.set(Some(ErrorKind::Other));
    });
}

#[test]
fn a_decision_that_is_too_long_is_refused_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, faults, gate) = faulty(&file_in(&dir));
    let mut decision = decisions().remove(0);
    let Decision::Commit(commit) = &mut decision else { panic!("not a commit") };
    commit.version.who = "x".repeat(crate::catalog::journal::MAX_PAYLOAD_BYTES);
    assert!(matches!(journal.append(&decision), Err(Error::BadRequest(_))));
    assert_eq!(faults.writes.get(), 0);
    gate.check().unwrap();
}
