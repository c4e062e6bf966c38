//! Files of packs that are put back where they were, with a backup for instance.

use std::{collections::BTreeMap, fs, path::Path};

use super::{
    damage::candidates,
    reclaim::{assert_whole, collect, image_of, key_of, purge, try_read},
    scrub::{ALL, scrub, try_scrub},
    *,
};
use crate::store::scrub::ScrubControl;

async fn store_in(path: &Path) -> Directory {
    let options = StoreOptions { catalog_cache_bytes: 1 << 20, reserve_bytes: 0, ..StoreOptions::default() };
    Directory::open(path, OpenMode::OrCreate, options).await.unwrap()
}

/// All packs, by their places.
fn packs_in(path: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let directories = fs::read_dir(path.join("packs")).unwrap().map(|entry| entry.unwrap().path());
    let files = directories.flat_map(|directory| fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()));
    files.map(|file| (file.clone(), fs::read(file).unwrap())).collect()
}

/// Objects would be placed in it, the pack that has them would be given back, and a rebuild would leave out the first.
#[tokio::test]
async fn a_condemned_pack_is_never_a_pack_again() {
    let dir = tempfile::tempdir().unwrap();
    let Directory { store, lock } = store_in(dir.path()).await;
    let kept = push(&store, &image_of(0..1000), None).await;
    let removed = push(&store, &image_of(500..2000), None).await;
    let backup = packs_in(dir.path());
    purge(&store, &removed).await;
    assert!(collect(&store).await.deleted.packs > 0);
    let packs = store.catalog().packs().await.unwrap();
    let after = packs_in(dir.path());
    drop((store, lock));

    backup.iter().filter(|(file, _)| !file.exists()).for_each(|(file, bytes)| fs::write(file, bytes).unwrap());
    assert!(packs_in(dir.path()).len() > after.len());
    let Directory { store, .. } = store_in(dir.path()).await;
    assert_eq!(store.catalog().packs().await.unwrap(), packs);
    assert!(packs_in(dir.path()).len() > after.len(), "nothing is deleted that somebody has put there");
    assert_whole(&store, &kept, &image_of(0..1000)).await;
}

/// Its records were read by nobody, and a collection would give up the pack whose were.
#[tokio::test]
async fn a_pack_that_comes_back_takes_over_nothing_that_another_one_has() {
    let dir = tempfile::tempdir().unwrap();
    let Directory { store, lock } = store_in(dir.path()).await;
    let version = push(&store, &image_of(0..1000), None).await;
    drop((store, lock));
    let away = packs_in(dir.path());
    away.keys().for_each(|file| fs::remove_file(file).unwrap());
    fs::remove_dir_all(dir.path().join("catalog")).unwrap();
    let Directory { store, lock } = store_in(dir.path()).await;
    push(&store, &image_of(0..1000), Some(&version)).await;
    drop((store, lock));
    for (file, mut bytes) in away {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(file, bytes).unwrap();
    }
    let Directory { store, .. } = store_in(dir.path()).await;
    collect(&store).await;
    assert_whole(&store, &version, &image_of(0..1000)).await;
}

/// A base vouches for nothing before everything was looked for: a rebuild does not know what was in packs that are gone.
#[tokio::test]
async fn after_a_rebuild_without_a_pack_the_next_push_sends_what_was_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let Directory { store, lock } = store_in(dir.path()).await;
    let version = push(&store, &image_of(0..1000), None).await;
    let at = store.catalog().locate(Purpose::Chunks, vec![ChunkId::of(&content(7)).into()]).await.unwrap()[0].unwrap();
    let name = at.pack.to_string();
    drop((store, lock));
    fs::remove_file(dir.path().join("packs").join(&name[..2]).join(format!("{name}.pack"))).unwrap();
    fs::remove_dir_all(dir.path().join("catalog")).unwrap();
    let Directory { store, .. } = store_in(dir.path()).await;
    assert!(store.catalog().are_trees_in_doubt().await.unwrap());
    // A client asks about nothing that the base has.
    let extents = extents_of(&image_of(0..1000));
    let relies_on_the_base = open(&store, Some(&version)).await.commit(request(nodes_of(&extents).0, &extents)).await;
    assert!(matches!(relies_on_the_base, Ok(UploadOutcome::Missing(missing)) if !missing.chunks.is_empty()));
    let next = push(&store, &image_of(0..1000), Some(&version)).await;
    assert_whole(&store, &next, &image_of(0..1000)).await;
    assert_whole(&store, &version, &image_of(0..1000)).await;
    assert!(!scrub(&store).await.0.has_damage());
    assert!(!store.catalog().are_trees_in_doubt().await.unwrap(), "all was found");
}

/// A journal with decisions is a repository, whatever else is gone.
#[tokio::test]
async fn a_repository_without_its_superblock_is_not_created_anew() {
    let dir = tempfile::tempdir().unwrap();
    let Directory { store, lock } = store_in(dir.path()).await;
    push(&store, &image_of(0..100), None).await;
    drop((store, lock));
    fs::remove_file(dir.path().join("superblock")).unwrap();
    fs::remove_dir_all(dir.path().join("packs")).unwrap();
    let journal = fs::read(dir.path().join("journal")).unwrap();
    let opened = Directory::open(dir.path(), OpenMode::OrCreate, StoreOptions::default()).await;
    assert!(matches!(opened, Err(Error::FileCorrupt { .. })));
    assert_eq!(fs::read(dir.path().join("journal")).unwrap(), journal);
    assert!(dir.path().join("catalog").exists());
}

/// A disk that is not mounted must not cost an entry in the journal for everything that is on it, only because somebody reads.
#[tokio::test]
async fn a_reader_that_finds_most_packs_gone_blames_none() {
    let dir = tempfile::tempdir().unwrap();
    let Directory { store, .. } = store_in(dir.path()).await;
    let version = push(&store, &image_of(0..1000), None).await;
    fs::rename(dir.path().join("packs"), dir.path().join("away")).unwrap();
    fs::create_dir(dir.path().join("packs")).unwrap();
    let error = try_read(&store, &version).await.unwrap_err();
    assert!(matches!(store.met(error).await, Error::PackMissing(_)));
    assert!(store.catalog().unhealed_damage(9).await.unwrap().is_empty());
    fs::remove_dir(dir.path().join("packs")).unwrap();
    fs::rename(dir.path().join("away"), dir.path().join("packs")).unwrap();
    assert_whole(&store, &version, &image_of(0..1000)).await;
}

/// A push would rely on what is not there, and a scrub would take everything for lost.
#[tokio::test]
async fn without_most_packs_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let Directory { store, lock } = store_in(dir.path()).await;
    let version = push(&store, &image_of(0..1000), None).await;
    drop((store, lock));
    let packs = dir.path().join("packs");
    fs::rename(&packs, dir.path().join("away")).unwrap();
    fs::create_dir(&packs).unwrap();

    let Directory { store, lock } = store_in(dir.path()).await;
    let record = UploadRecord { id: UploadId::random(), image: version.image.clone(), base: None };
    let pushed = store.open_upload(record, Profile::V1).await;
    assert!(matches!(pushed, Err(Error::WritesStopped { .. })));
    let (scrubbed, _) = try_scrub(&store, ALL, &ScrubControl::new()).await;
    assert!(matches!(scrubbed, Err(Error::WritesStopped { .. })), "{scrubbed:?}");
    assert!(store.version(key_of(&version)).await.is_ok(), "what needs no pack is answered");
    drop((store, lock));

    // It was not mounted.
    fs::rename(&packs, dir.path().join("empty")).unwrap();
    fs::rename(dir.path().join("away"), &packs).unwrap();
    let Directory { store, lock } = store_in(dir.path()).await;
    assert!(store.gate().check().is_ok() && store.catalog().unhealed_damage(9).await.unwrap().is_empty());
    assert_whole(&store, &push(&store, &image_of(0..1000), Some(&version)).await, &image_of(0..1000)).await;
    drop((store, lock));

    // It is lost.
    fs::remove_dir_all(&packs).unwrap();
    Directory::rebuild(dir.path(), StoreOptions::default()).await.unwrap();
    let Directory { store, .. } = store_in(dir.path()).await;
    push(&store, &image_of(0..1000), Some(&version)).await;
    assert_whole(&store, &version, &image_of(0..1000)).await;
}

/// Nobody would delete its file when that is back.
#[tokio::test]
async fn a_condemned_pack_is_not_forgotten_because_its_disk_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let Directory { store, lock } = store_in(dir.path()).await;
    push(&store, &image_of(0..1000), None).await;
    let needed = packs_in(dir.path());
    let live = store.catalog().packs().await.unwrap();
    let removed = push(&store, &image_of(2000..2100), None).await;
    purge(&store, &removed).await;
    // As a collection that is killed before it deletes.
    let mark = store.catalog().begin_mark().await.unwrap();
    let dead = candidates(&store).await.into_iter().filter(|dead| live.iter().all(|pack| pack.id != dead.pack));
    store.catalog().condemn(mark.id, dead.collect(), 0).await.unwrap();
    assert_eq!(store.catalog().condemned_packs().await.unwrap().len(), packs_in(dir.path()).len() - needed.len());
    drop((store, lock));

    let (packs, away) = (dir.path().join("packs"), dir.path().join("away"));
    fs::rename(&packs, &away).unwrap();
    drop(store_in(dir.path()).await);
    fs::remove_dir_all(&packs).unwrap();
    fs::rename(&away, &packs).unwrap();
    let Directory { store, .. } = store_in(dir.path()).await;
    assert!(store.gate().check().is_ok());
    assert!(packs_in(dir.path()) == needed, "what was given up is deleted, and nothing else");
}

/// Also while somebody has the repository open.
#[tokio::test]
async fn lost_packs_that_are_put_back_are_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let Directory { store, lock } = store_in(dir.path()).await;
    let version = push(&store, &image_of(0..1000), None).await;
    let backup = packs_in(dir.path());
    backup.keys().for_each(|file| fs::remove_file(file).unwrap());
    let (report, found) = scrub(&store).await;
    assert_eq!((report.missing_packs, found.numbers()), (backup.len() as u64, vec![1]));
    backup.iter().for_each(|(file, bytes)| fs::write(file, bytes).unwrap());
    let (report, found) = scrub(&store).await;
    assert_eq!((report.has_damage(), found.numbers(), report.unhealed_objects), (false, vec![], 0));
    assert_whole(&store, &version, &image_of(0..1000)).await;
    drop((store, lock));
    let Directory { store, .. } = store_in(dir.path()).await;
    assert_whole(&store, &version, &image_of(0..1000)).await;
}
