mod damage;
mod faults;
mod format;

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::{Commit, Decision, Journal, Position, frame::FileHeader, read};
use crate::{
    Error, RepositoryId,
    catalog::{
        Damage, FinishedMark, IntactRecords, TagRecord, VersionCounts, VersionRecord,
        laws::sample::{content, image, key, object, objects, pack, pack_id, tag, upload_id},
    },
    files::Files,
    pack::Purpose,
};

const REPOSITORY: RepositoryId = RepositoryId::from_bytes([3; 16]);
/// A fixed key, so that files are the same in every run.
const HEADER: FileHeader = FileHeader { repository: REPOSITORY, key: 0x1234_5678 };

/// One decision of each kind.
fn decisions() -> Vec<Decision> {
    let version = VersionRecord {
        image: image("lab/a"),
        number: 1,
        id: content(1).id(),
        content: content(1),
        committed_unix_ms: -1,
        who: "somebody".into(),
        upload: upload_id(7),
        data_bytes: 1 << 40,
        new_chunks: 2,
        new_stored_bytes: 300,
    };
    let set = |name, counter| TagRecord { image: image("lab/a"), name: tag(name), number: 1, counter };
    vec![
        Decision::Commit(Box::new(Commit { version, tags: vec![set("new", 1), set("stable", 4)] })),
        Decision::TagSet(set("beta", 1)),
        Decision::TagRemoved { image: image("lab/a"), name: tag("beta"), counter: 2 },
        Decision::VersionRemoved { version: key("lab/a", 1), removed_unix_ms: 1_700_000_000_000 },
        Decision::VersionUndeleted { version: key("lab/a", 1), undeleted_unix_ms: 1_700_000_000_001 },
        Decision::VersionPinned { version: key("lab/a", 1), pinned_unix_ms: 1_700_000_000_002 },
        Decision::VersionUnpinned { version: key("lab/a", 1), unpinned_unix_ms: 1_700_000_000_003 },
        Decision::VersionPurged { version: key("lab/a", 1), purged_unix_ms: 1_700_000_000_004 },
        Decision::PacksCondemned { packs: vec![pack_id(8), pack_id(9)], condemned_unix_ms: 1_700_000_000_005 },
        Decision::Quarantined(Damage {
            pack: pack_id(7),
            kind: Purpose::Nodes,
            objects: vec![object(1), object(2)],
            why: "a flipped bit".into(),
            found_unix_ms: 1_700_000_000_006,
        }),
        Decision::MarkFinished(FinishedMark {
            finished_unix_ms: 1_700_000_000_007,
            counts: VersionCounts { versions: 3, purged: 1 },
        }),
        Decision::GraceSet { grace_ms: 86_400_000, set_unix_ms: 1_700_000_000_008 },
        Decision::Readmitted(IntactRecords {
            pack: pack_id(7),
            kind: Purpose::Nodes,
            entries: 3,
            objects: objects(&pack(7, Purpose::Nodes), &[2, 3]),
            read_unix_ms: 1_700_000_000_009,
        }),
    ]
}

fn file_in(dir: &TempDir) -> PathBuf {
    dir.path().join("journal")
}

/// A journal with one decision of each kind, its bytes and the position behind each entry.
fn sample(path: &Path) -> (Vec<u8>, Vec<Position>) {
    fs::write(path, HEADER.encode()).unwrap();
    let mut journal = open(path).unwrap();
    let ends = decisions().iter().map(|decision| journal.append(decision).unwrap()).collect();
    (fs::read(path).unwrap(), ends)
}

fn open(path: &Path) -> Result<Journal, Error> {
    Journal::open(path, REPOSITORY, Files::default(), Position::START)
}

/// The decisions in a file, without changing it.
fn decisions_in(path: &Path) -> Result<Vec<Decision>, Error> {
    read(&Files::default(), path, REPOSITORY)?.map(|entry| entry.map(|(_, decision)| decision)).collect()
}

#[test]
fn decisions_come_back_in_order_and_with_their_positions() {
    let dir = tempfile::tempdir().unwrap();
    let path = file_in(&dir);
    let (_, ends) = sample(&path);
    let entries: Vec<_> = read(&Files::default(), &path, REPOSITORY).unwrap().map(Result::unwrap).collect();
    assert_eq!(entries, ends.iter().copied().zip(decisions()).collect::<Vec<_>>());

    let journal = open(&path).unwrap();
    assert_eq!(journal.end(), *ends.last().unwrap());
    let rest: Vec<_> = journal.read_from(ends[1]).unwrap().map(Result::unwrap).collect();
    assert_eq!(rest, entries[2..]);
}

#[test]
fn a_new_journal_is_empty_and_goes_on_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = file_in(&dir);
    let journal = Journal::create(&path, REPOSITORY, Files::default()).unwrap();
    assert_eq!(journal.end(), Position::START);
    drop(journal);
    for decision in decisions() {
        open(&path).unwrap().append(&decision).unwrap();
    }
    assert_eq!(decisions_in(&path).unwrap(), decisions());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left behind");
}

#[test]
fn a_journal_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = file_in(&dir);
    let (bytes, _) = sample(&path);
    let again = Journal::create(&path, REPOSITORY, Files::default());
    assert!(matches!(again, Err(Error::NotEmpty(_))));
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn another_repository_and_a_newer_format_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = file_in(&dir);
    sample(&path);
    let other = read(&Files::default(), &path, RepositoryId::from_bytes([4; 16])).unwrap_err();
    assert!(other.to_string().contains("belongs to repository 0303"), "{other}");

    let mut newer = HEADER.encode();
    newer[4] = 2;
    let covered = newer.len() - 4;
    let checksum = crc32c::crc32c(&newer[..covered]).to_le_bytes();
    newer[covered..].copy_from_slice(&checksum);
    fs::write(&path, newer).unwrap();
    assert!(matches!(open(&path), Err(Error::Incompatible { .. })));
}
