//! A disk that cannot read some of its blocks, today and for good: that costs what stands there, and nothing else.

use std::{
    io,
    ops::Range,
    sync::{Mutex, MutexGuard},
};

use async_trait::async_trait;

use super::{
    reclaim::{assert_whole, collect, image_of, purge, reopened},
    scrub::scrub,
    *,
};
use crate::{
    PackId,
    catalog::Location,
    pack::record_length,
    storage::{PackSink, PackStorage},
};

/// Packs in memory of which the disk cannot read everything.
#[derive(Clone, Default)]
struct BadDisk {
    packs: MemoryPacks,
    bad: Arc<Mutex<Bad>>,
}

#[derive(Default)]
struct Bad {
    blocks: Vec<(PackId, Range<u64>)>,
    /// Packs that cannot be opened, and why.
    files: Vec<(PackId, i32)>,
}

const EIO: i32 = 5;
const EACCES: i32 = 13;

impl BadDisk {
    fn bad(&self) -> MutexGuard<'_, Bad> {
        self.bad.lock().unwrap()
    }

    /// The block that has this byte cannot be read from now on. Returns what of these places it costs.
    fn lose_block(&self, pack: PackId, byte: u64, places: &[(ObjectId, Location)]) -> HashSet<ObjectId> {
        let block = byte / 4096 * 4096..(byte / 4096 + 1) * 4096;
        let is_lost = |at: &Location| {
            let (start, end) = (u64::from(at.offset), u64::from(at.offset) + record_length(at.stored_length));
            at.pack == pack && start < block.end && block.start < end
        };
        let lost = places.iter().filter(|(_, at)| is_lost(at)).map(|(id, _)| *id).collect();
        self.bad().blocks.push((pack, block));
        lost
    }

    fn read_error(&self, pack: PackId, range: &Range<u64>) -> Result<(), Error> {
        self.open_error(pack)?;
        let is_bad = |(of, bad): &(PackId, Range<u64>)| *of == pack && range.start < bad.end && bad.start < range.end;
        match self.bad().blocks.iter().any(is_bad) {
            true => Err(Error::io("read", format!("pack {pack}"), io::Error::from_raw_os_error(EIO))),
            false => Ok(()),
        }
    }

    fn open_error(&self, pack: PackId) -> Result<(), Error> {
        match self.bad().files.iter().find(|(bad, _)| *bad == pack) {
            Some((_, errno)) => Err(Error::io("open", format!("pack {pack}"), io::Error::from_raw_os_error(*errno))),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl PackStorage for BadDisk {
    async fn create(&self, pack: PackId) -> Result<Box<dyn PackSink>, Error> {
        self.packs.create(pack).await
    }

    async fn read(&self, pack: PackId, ranges: Vec<Range<u64>>) -> Result<Vec<Bytes>, Error> {
        ranges.iter().try_for_each(|range| self.read_error(pack, range))?;
        self.packs.read(pack, ranges).await
    }

    async fn length(&self, pack: PackId) -> Result<u64, Error> {
        self.open_error(pack)?;
        self.packs.length(pack).await
    }

    async fn list(&self) -> Result<Vec<PackId>, Error> {
        self.packs.list().await
    }

    async fn delete(&self, pack: PackId) -> Result<(), Error> {
        self.packs.delete(pack).await
    }
}

fn store_on(disk: &BadDisk) -> Store {
    let catalog = Arc::new(MemoryCatalog::new());
    Store::new(RepositoryId::random(), Arc::new(disk.clone()), catalog, Blocking::for_this_machine())
}

async fn places(store: &Store, kind: Purpose) -> Vec<(ObjectId, Location)> {
    store.catalog().places(kind, None, usize::MAX).await.unwrap()
}

/// Where in its pack the middle of all these records is, and the pack.
fn middle(places: &[(ObjectId, Location)]) -> (PackId, u64) {
    let mut places: Vec<Location> = places.iter().map(|(_, at)| *at).collect();
    places.sort_by_key(|at| (at.pack, at.offset));
    let at = places[places.len() / 2];
    (at.pack, at.offset.into())
}

#[tokio::test]
async fn chunks_beside_an_unreadable_block_are_restored_before_and_after_a_scrub() {
    let disk = BadDisk::default();
    let store = store_on(&disk);
    let image = image_of(0..3000);
    let whole = push(&store, &image, None).await;
    let chunks = places(&store, Purpose::Chunks).await;
    let (pack, byte) = middle(&chunks);
    let lost = disk.lose_block(pack, byte, &chunks);
    assert!(lost.len() > 10, "{} records", lost.len());
    let is_left = |n: &u32| !lost.contains(&ChunkId::of(&content(*n)).into());
    let beside: Vec<Option<u32>> = (0..3000).filter(is_left).map(Some).collect();
    let rest = push(&store, &beside, None).await;
    assert_whole(&store, &rest, &beside).await;

    let (report, found) = scrub(&store).await;
    assert_eq!((report.new_objects, found.numbers()), (lost.len() as u64, vec![whole.number]));
    assert_whole(&store, &rest, &beside).await;
    // Healed elsewhere; the block stays as it is, between records that are read together.
    push(&store, &image, None).await;
    assert_whole(&store, &whole, &image).await;
    assert!(!scrub(&store).await.0.has_damage());
}

/// A scrub, a collection and a push each read nodes, and what is between them.
#[tokio::test]
async fn an_unreadable_node_costs_no_other_and_heals() {
    let disk = BadDisk::default();
    let store = store_on(&disk);
    let images = [image_of(0..8000), image_of(20_000..21_000)];
    let mut versions = Vec::new();
    for image in &images {
        versions.push(push(&store, image, None).await);
    }
    let nodes = places(&store, Purpose::Nodes).await;
    let of_first: Vec<_> = {
        let pack = store.catalog().locate(Purpose::Nodes, vec![versions[0].content.root.into()]).await.unwrap();
        nodes.iter().filter(|(_, at)| at.pack == pack[0].unwrap().pack).copied().collect()
    };
    let (pack, byte) = middle(&of_first);
    let lost = disk.lose_block(pack, byte, &nodes);
    assert!(!lost.is_empty() && !lost.contains(&versions[0].content.root.into()));

    // Found by the walk, if not by reading packs: as if they had been verified just before.
    let store = reopened(&store);
    let verified: Vec<PackId> = store.catalog().packs().await.unwrap().into_iter().map(|pack| pack.id).collect();
    store.catalog().note_verified(verified, crate::clock::now_unix_ms()).await.unwrap();
    let found = super::scrub::scrub_older(&store, std::time::Duration::from_secs(3600)).await;
    assert_eq!(found.numbers(), [versions[0].number]);
    assert_eq!(found.versions[0].nodes, lost.len() as u64);
    assert_eq!(store.catalog().unhealed_damage(99).await.unwrap().len(), lost.len());

    let store = reopened(&store);
    push(&store, &images[0], None).await;
    assert!(!scrub(&reopened(&store)).await.0.has_damage());
    for (version, image) in versions.iter().zip(&images) {
        assert_whole(&store, version, image).await;
    }
    collect(&reopened(&store)).await;
}

#[tokio::test]
async fn packs_with_an_unreadable_block_are_rewritten_but_for_what_it_costs() {
    for is_scrubbed in [false, true] {
        let disk = BadDisk::default();
        let store = store_on(&disk);
        let garbage = push(&store, &image_of(0..8000), None).await;
        let image = image_of(2000..5000);
        let version = push(&store, &image, None).await;
        purge(&store, &garbage).await;
        let chunks = places(&store, Purpose::Chunks).await;
        let (pack, byte) = middle(&chunks);
        let needed: HashSet<ObjectId> = image.iter().flatten().map(|n| ChunkId::of(&content(*n)).into()).collect();
        let lost = disk.lose_block(pack, byte, &chunks);
        assert!(lost.is_subset(&needed));
        if is_scrubbed {
            assert_eq!(scrub(&store).await.0.new_objects, lost.len() as u64);
        }
        let report = collect(&reopened(&store)).await;
        let found_now = if is_scrubbed { 0 } else { lost.len() as u64 };
        assert_eq!((report.damaged_records, report.kept_packs), (found_now, 1), "{report:?}");
        for (id, at) in places(&store, Purpose::Chunks).await {
            assert!(!needed.contains(&id) || at.pack != pack, "what can be read is copied");
        }
        push(&store, &image, None).await;
        assert_whole(&store, &version, &image).await;
        collect(&reopened(&store)).await;
        assert!(store.catalog().packs().await.unwrap().iter().all(|left| left.id != pack), "healed: it may go");
        assert_whole(&store, &version, &image).await;
    }
}

/// What the disk cannot read of a pack besides records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Header,
    Footer,
    Open(i32),
}

/// A rebuild of the catalog from the same packs.
async fn rebuilt(store: &Store) -> crate::store::RecoverOutcome {
    let (packs, catalog) = (Arc::clone(&store.packs), Arc::new(MemoryCatalog::new()));
    let rebuilt = Store::new(store.repository, packs, catalog, Blocking::for_this_machine());
    crate::store::rebuild(&rebuilt).await.unwrap()
}

#[tokio::test]
async fn a_pack_without_readable_ends_or_file_stops_nothing() {
    for harm in [Harm::Header, Harm::Footer, Harm::Open(EIO), Harm::Open(EACCES)] {
        let disk = BadDisk::default();
        let store = store_on(&disk);
        let image = image_of(0..3000);
        let version = push(&store, &image, None).await;
        let garbage = push(&store, &image_of(5000..9000), None).await;
        let dead: HashSet<PackId> = {
            let chunks = places(&store, Purpose::Chunks).await;
            let of_image: HashSet<ObjectId> =
                image.iter().flatten().map(|n| ChunkId::of(&content(*n)).into()).collect();
            chunks.iter().filter(|(id, _)| !of_image.contains(id)).map(|(_, at)| at.pack).collect()
        };
        let [pack] = dead.into_iter().collect::<Vec<_>>()[..] else { panic!("one pack of chunks") };
        purge(&store, &garbage).await;
        let length = store.packs.length(pack).await.unwrap();
        match harm {
            Harm::Header => _ = disk.lose_block(pack, 0, &[]),
            Harm::Footer => _ = disk.lose_block(pack, length - 1, &[]),
            Harm::Open(errno) => disk.bad().files.push((pack, errno)),
        }
        let before = rebuilt(&store).await;
        let expected = if matches!(harm, Harm::Open(_)) { (vec![pack], vec![]) } else { (vec![], vec![pack]) };
        assert_eq!((before.unreadable, before.damaged), expected, "{harm:?}");

        let report = collect(&store).await;
        assert_eq!((report.kept_packs, report.deleted.packs), (1, 1), "{harm:?}: {report:?}");
        assert_whole(&store, &version, &image).await;

        let (report, found) = scrub(&store).await;
        assert!(report.has_damage() && found.versions.is_empty() && report.versions == 1, "{harm:?}: {report:?}");
        assert_eq!((found.packs.len(), found.packs[0].pack), (1, pack), "{harm:?}");
        let verified = store.catalog().verifications().await.unwrap();
        let is_verified = verified.iter().any(|(verified, _)| *verified == pack);
        assert_eq!(is_verified, !matches!(harm, Harm::Open(_)), "{harm:?}: the next scrub tries again");
        assert_eq!(report.new_objects > 0, harm == Harm::Header, "{harm:?}: records were in that block only");
    }
}
