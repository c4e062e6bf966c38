//! What every engine promises. Each law runs on each engine; those about files run on the local one.

use std::{num::NonZero, ops::Range};

use bytes::Bytes;

use super::{LocalPacks, MemoryPacks, PackStorage};
use crate::{Error, PackId, blocking::Blocking, files::Files};

const PACK: PackId = PackId::from_bytes([0xab; 16]);
const OTHER: PackId = PackId::from_bytes([0x0c; 16]);

macro_rules! laws {
    ($($law:ident)*) => {
        mod memory {
            $(#[tokio::test] async fn $law() { super::$law(&super::MemoryPacks::default()).await })*
        }
        mod local {
            $(#[tokio::test] async fn $law() {
                let dir = tempfile::tempdir().unwrap();
                super::$law(&super::open(dir.path())).await
            })*
        }
    };
}

laws! {
    sealed_bytes_come_back_in_any_ranges
    an_unsealed_pack_is_invisible
    a_dropped_sink_leaves_nothing
    a_name_is_sealed_once
    a_name_is_written_by_one_at_a_time
    deleting_is_idempotent_and_final
    the_list_is_what_was_sealed
    a_range_behind_the_end_is_an_error
    what_does_not_exist_is_missing
    an_empty_pack_is_a_pack
    readers_of_many_packs_do_not_mix_them_up
}

fn open(dir: &std::path::Path) -> LocalPacks {
    let blocking = Blocking::new(NonZero::<usize>::MIN);
    LocalPacks::open(dir.join("packs"), blocking, Files::default()).unwrap()
}

async fn seal(storage: &dyn PackStorage, pack: PackId, pieces: &[&'static str]) -> Result<(), Error> {
    let mut sink = storage.create(pack).await?;
    for piece in pieces {
        sink.append(Bytes::from_static(piece.as_bytes())).await?;
    }
    sink.seal().await
}

async fn read(storage: &dyn PackStorage, pack: PackId, range: Range<u64>) -> Result<Bytes, Error> {
    Ok(storage.read(pack, vec![range]).await?.remove(0))
}

async fn assert_missing(storage: &dyn PackStorage, pack: PackId) {
    assert!(matches!(read(storage, pack, 0..0).await, Err(Error::PackMissing(missing)) if missing == pack));
    assert!(matches!(storage.read_uncached(pack, 0..0).await, Err(Error::PackMissing(missing)) if missing == pack));
    assert!(matches!(storage.length(pack).await, Err(Error::PackMissing(missing)) if missing == pack));
    assert!(!storage.list().await.unwrap().contains(&pack));
}

async fn sealed_bytes_come_back_in_any_ranges(storage: &dyn PackStorage) {
    seal(storage, PACK, &["0123", "", "456789"]).await.unwrap();
    assert_eq!(storage.length(PACK).await.unwrap(), 10);
    let ranges = vec![0..10, 7..9, 0..1, 3..5, 10..10, 7..9];
    let expected = ["0123456789", "78", "0", "34", "", "78"].map(Bytes::from);
    assert_eq!(storage.read(PACK, ranges).await.unwrap(), expected);
    assert!(storage.read(PACK, Vec::new()).await.unwrap().is_empty());
    for range in [0..0, 0..1, 2..5] {
        let expected = read(storage, PACK, range.clone()).await.unwrap();
        assert_eq!(storage.read_uncached(PACK, range).await.unwrap(), expected);
    }
}

async fn an_unsealed_pack_is_invisible(storage: &dyn PackStorage) {
    let mut sink = storage.create(PACK).await.unwrap();
    sink.append(Bytes::from_static(b"bytes")).await.unwrap();
    assert_missing(storage, PACK).await;
    sink.seal().await.unwrap();
    assert_eq!(read(storage, PACK, 0..5).await.unwrap(), "bytes");
}

async fn a_dropped_sink_leaves_nothing(storage: &dyn PackStorage) {
    let mut sink = storage.create(PACK).await.unwrap();
    sink.append(Bytes::from_static(b"bytes")).await.unwrap();
    drop(sink);
    assert_missing(storage, PACK).await;
    seal(storage, PACK, &["again"]).await.unwrap();
    assert_eq!(read(storage, PACK, 0..5).await.unwrap(), "again");
}

async fn a_name_is_sealed_once(storage: &dyn PackStorage) {
    seal(storage, PACK, &["first"]).await.unwrap();
    let error = seal(storage, PACK, &["second, longer"]).await.unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert_eq!(storage.length(PACK).await.unwrap(), 5);
    assert_eq!(read(storage, PACK, 0..5).await.unwrap(), "first");
    seal(storage, OTHER, &["the storage still accepts writes"]).await.unwrap();
}

async fn a_name_is_written_by_one_at_a_time(storage: &dyn PackStorage) {
    let mut sink = storage.create(PACK).await.unwrap();
    sink.append(Bytes::from_static(b"first")).await.unwrap();
    assert!(storage.create(PACK).await.is_err());
    sink.seal().await.unwrap();
    assert_eq!(read(storage, PACK, 0..5).await.unwrap(), "first");
}

async fn deleting_is_idempotent_and_final(storage: &dyn PackStorage) {
    seal(storage, PACK, &["bytes"]).await.unwrap();
    seal(storage, OTHER, &["other"]).await.unwrap();
    // Read first: an engine that keeps files open must forget this one.
    read(storage, PACK, 0..5).await.unwrap();
    for _ in 0..2 {
        storage.delete(PACK).await.unwrap();
        assert_missing(storage, PACK).await;
    }
    assert_eq!(read(storage, OTHER, 0..5).await.unwrap(), "other");
}

async fn the_list_is_what_was_sealed(storage: &dyn PackStorage) {
    assert!(storage.list().await.unwrap().is_empty());
    let mut packs: Vec<PackId> = (0..8).map(|_| PackId::random()).collect();
    for pack in &packs {
        seal(storage, *pack, &["x"]).await.unwrap();
    }
    let _unsealed = storage.create(PACK).await.unwrap();
    let mut listed = storage.list().await.unwrap();
    listed.sort();
    packs.sort();
    assert_eq!(listed, packs);
}

async fn a_range_behind_the_end_is_an_error(storage: &dyn PackStorage) {
    seal(storage, PACK, &["01234"]).await.unwrap();
    let backwards = Range { start: 3, end: 2 };
    for range in [0..6, 5..6, 6..6, 4..u64::MAX, u64::MAX..u64::MAX, backwards] {
        let error = storage.read(PACK, vec![0..5, range.clone()]).await.unwrap_err();
        let start = range.start;
        assert!(matches!(error, Error::RecordCorrupt { pack: PACK, offset, .. } if offset == start), "{error}");
    }
}

async fn what_does_not_exist_is_missing(storage: &dyn PackStorage) {
    assert_missing(storage, PACK).await;
    storage.delete(PACK).await.unwrap();
}

async fn an_empty_pack_is_a_pack(storage: &dyn PackStorage) {
    seal(storage, PACK, &[]).await.unwrap();
    assert_eq!(storage.length(PACK).await.unwrap(), 0);
    assert_eq!(storage.list().await.unwrap(), [PACK]);
}

async fn readers_of_many_packs_do_not_mix_them_up(storage: &dyn PackStorage) {
    let pack = |number: u8| PackId::from_bytes([number; 16]);
    for number in 0..70 {
        let mut sink = storage.create(pack(number)).await.unwrap();
        sink.append(Bytes::from(vec![number; 3])).await.unwrap();
        sink.seal().await.unwrap();
    }
    for number in (0..70).chain(0..70) {
        assert_eq!(read(storage, pack(number), 0..3).await.unwrap(), vec![number; 3]);
    }
}

mod files {
    use std::{fs, path::Path};

    use super::*;

    fn incoming(dir: &Path) -> usize {
        fs::read_dir(dir.join("packs/incoming")).unwrap().count()
    }

    #[tokio::test]
    async fn reopening_keeps_what_was_sealed_and_drops_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let storage = open(dir.path());
        seal(&storage, PACK, &["sealed"]).await.unwrap();
        let mut sink = storage.create(OTHER).await.unwrap();
        sink.append(Bytes::from_static(b"not sealed")).await.unwrap();
        // As a crash would: nobody cleans up.
        std::mem::forget(sink);
        assert_eq!(incoming(dir.path()), 1);

        let storage = open(dir.path());
        assert_eq!(incoming(dir.path()), 0);
        assert_eq!(read(&storage, PACK, 0..6).await.unwrap(), "sealed");
        assert_eq!(storage.list().await.unwrap(), [PACK]);
    }

    #[tokio::test]
    async fn nothing_is_left_in_incoming() {
        let dir = tempfile::tempdir().unwrap();
        let storage = open(dir.path());
        seal(&storage, PACK, &["1"]).await.unwrap();
        seal(&storage, PACK, &["2"]).await.unwrap_err();
        drop(storage.create(OTHER).await.unwrap());
        assert_eq!(incoming(dir.path()), 0);
    }

    #[tokio::test]
    async fn a_pack_is_where_the_format_says() {
        let dir = tempfile::tempdir().unwrap();
        seal(&open(dir.path()), OTHER, &["x"]).await.unwrap();
        let place = dir.path().join("packs/0c/0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c.pack");
        assert_eq!(fs::read(place).unwrap(), b"x");
    }

    #[tokio::test]
    async fn files_of_others_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let storage = open(dir.path());
        let misplaced = format!("packs/00/{PACK}.pack");
        for name in ["packs/README", "packs/ab/notes.txt", &misplaced] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        assert!(storage.list().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_stopped_gate_ends_writing_and_not_reading() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Files::default();
        let blocking = Blocking::new(NonZero::<usize>::MIN);
        let storage = LocalPacks::open(dir.path().join("packs"), blocking, directory.clone()).unwrap();
        seal(&storage, PACK, &["sealed"]).await.unwrap();
        let mut appending = storage.create(OTHER).await.unwrap();
        let sealing = storage.create(PackId::random()).await.unwrap();
        directory.gate().stop("the disk died");

        let stopped = |outcome| matches!(outcome, Err(Error::WritesStopped { why }) if why == "the disk died");
        assert!(stopped(seal(&storage, OTHER, &[]).await));
        assert!(stopped(appending.append(Bytes::from_static(b"x")).await));
        assert!(stopped(sealing.seal().await));
        assert!(stopped(storage.delete(PACK).await));
        assert_eq!(read(&storage, PACK, 0..6).await.unwrap(), "sealed");
        assert_eq!(storage.list().await.unwrap(), [PACK]);
        drop(appending);
        assert_eq!(incoming(dir.path()), 0);
    }
}
