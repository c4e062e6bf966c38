//! Scrubs over the in-memory engines: what is found, what is not blamed, what goes on where.

use std::{num::NonZero, sync::Mutex, time::Duration};

use super::{
    interposed::Event,
    reclaim::{assert_whole, collect, image_of, interposed, key_of, purge, remove, reopened, try_read},
    *,
};
use crate::{
    PackId,
    catalog::Location,
    pack::{HEADER_BYTES, PackPart, RECORD_HEADER_BYTES, TRAILER_BYTES},
    store::pack_writer::PackWriter,
    store::scrub::{
        DamagedPack, DamagedVersion, PackState, ScrubControl, ScrubFinding, ScrubOptions, ScrubPhase, ScrubReport,
        ScrubScope,
    },
};

#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) packs: Vec<DamagedPack>,
    pub(super) versions: Vec<DamagedVersion>,
}

impl Found {
    pub(super) fn numbers(&self) -> Vec<u64> {
        self.versions.iter().map(|version| version.version.number).collect()
    }
}

pub(super) const ALL: ScrubOptions = ScrubOptions { scope: ScrubScope::Round, bytes_per_second: None };

pub(super) async fn try_scrub(
    store: &Store,
    options: ScrubOptions,
    control: &ScrubControl,
) -> (Result<ScrubReport, Error>, Found) {
    let found = Mutex::new(Found::default());
    let tell = |finding| {
        let mut found = found.lock().unwrap();
        match finding {
            ScrubFinding::Pack(pack) => found.packs.push(pack),
            ScrubFinding::Version(version) => found.versions.push(version),
        }
    };
    let report = store.scrub(options, control, &tell).await;
    (report, found.into_inner().unwrap())
}

pub(super) async fn scrub(store: &Store) -> (ScrubReport, Found) {
    // What was verified in the millisecond in which a round begins belongs to it.
    tokio::time::sleep(Duration::from_millis(2)).await;
    let (report, found) = try_scrub(store, ALL, &ScrubControl::new()).await;
    (report.unwrap(), found)
}

/// What a scrub finds that reads only what was not verified for so long.
pub(super) async fn scrub_older(store: &Store, age: Duration) -> Found {
    let options = ScrubOptions { scope: ScrubScope::OlderThan(age), bytes_per_second: None };
    let (report, found) = try_scrub(store, options, &ScrubControl::new()).await;
    report.unwrap();
    found
}

async fn change(store: &Store, pack: PackId, change: impl FnOnce(&mut Vec<u8>)) {
    let length = store.packs.length(pack).await.unwrap();
    let mut bytes = store.packs.read_uncached(pack, 0..length).await.unwrap().to_vec();
    change(&mut bytes);
    store.packs.delete(pack).await.unwrap();
    let mut sink = store.packs.create(pack).await.unwrap();
    sink.append(bytes.into()).await.unwrap();
    sink.seal().await.unwrap();
}

async fn place(store: &Store, kind: Purpose, id: ObjectId) -> Location {
    store.catalog().locate(kind, vec![id]).await.unwrap()[0].unwrap()
}

async fn place_of_chunk(store: &Store, n: u32) -> Location {
    place(store, Purpose::Chunks, ChunkId::of(&content(n)).into()).await
}

/// Versions of which some byte cannot be read, found out by reading them.
async fn unreadable(store: &Store, versions: &[&VersionRecord]) -> Vec<u64> {
    let mut numbers = Vec::new();
    for version in versions {
        if try_read(store, version).await.is_err() {
            numbers.push(version.number);
        }
    }
    numbers
}

#[tokio::test]
async fn nothing_is_found_in_a_healthy_repository() {
    let store = memory_store();
    let (report, found) = scrub(&store).await;
    assert!(!report.has_damage() && found.packs.is_empty());
    let first = push(&store, &image_of(0..3000), None).await;
    push(&store, &image_of(1000..4000), Some(&first)).await;
    remove(&store, &first).await;
    let (report, found) = scrub(&store).await;
    assert!(!report.has_damage() && found.packs.is_empty() && found.versions.is_empty(), "{report:?}");
    let totals = store.catalog().totals().await.unwrap();
    assert_eq!((report.packs, report.bytes), (totals.packs, totals.pack_bytes));
    assert_eq!((report.records, report.versions), (totals.chunks + totals.nodes, 2));
    let health = store.scrub_health().await.unwrap();
    assert!(health.scrubbed_unix_ms.is_some() && health.verified_unix_ms >= Some(report.since_unix_ms));
    assert_eq!((health.unverified_packs, health.damaged_objects), (0, 0));
}

/// Damage done to one of the packs of the first version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Payload,
    RecordHeader,
    Header,
    Footer,
    HeaderAndFooter,
    Truncated,
    Deleted,
    CutInHeader,
}

const HARMS: [Harm; 8] = [
    Harm::Payload,
    Harm::RecordHeader,
    Harm::Header,
    Harm::Footer,
    Harm::HeaderAndFooter,
    Harm::Truncated,
    Harm::Deleted,
    Harm::CutInHeader,
];

impl Harm {
    /// Whether records are lost by it.
    const fn costs_records(self) -> bool {
        !matches!(self, Self::Header | Self::Footer | Self::HeaderAndFooter)
    }

    async fn inflict(self, store: &Store, at: &Location) {
        let record = at.offset as usize;
        if self == Self::Deleted {
            return store.packs.delete(at.pack).await.unwrap();
        }
        change(store, at.pack, |bytes| match self {
            Self::Payload => bytes[record + RECORD_HEADER_BYTES] ^= 1,
            Self::RecordHeader => bytes[record + 20] ^= 1,
            Self::Header => bytes[30] ^= 1,
            Self::Footer => *bytes.last_mut().unwrap() ^= 1,
            Self::HeaderAndFooter => {
                bytes[30] ^= 1;
                let at = bytes.len() - TRAILER_BYTES / 2;
                bytes[at] ^= 1;
            }
            Self::Truncated => bytes.truncate(record + 1),
            Self::CutInHeader => bytes.truncate(HEADER_BYTES / 2),
            Self::Deleted => {}
        })
        .await;
    }
}

/// attic#211, borg#9218: what is lost is known, with the versions that suffer; nothing else is; and it heals.
#[tokio::test]
async fn each_damage_is_found_with_its_versions_and_healed_by_the_next_push() {
    for harm in HARMS {
        for kind in [Purpose::Chunks, Purpose::Nodes] {
            let store = memory_store();
            let images = [image_of(0..3000), image_of(1000..4000), image_of(5000..6000)];
            let first = push(&store, &images[0], None).await;
            let second = push(&store, &images[1], Some(&first)).await;
            let third = push(&store, &images[2], None).await;
            remove(&store, &second).await;
            // Of the first version alone, if it costs one record only.
            let at = match kind {
                Purpose::Chunks => place_of_chunk(&store, 100).await,
                Purpose::Nodes => place(&store, kind, first.content.root.into()).await,
            };
            harm.inflict(&store, &at).await;
            let store = reopened(&store);

            let expected = unreadable(&store, &[&first, &second, &third]).await;
            assert_eq!(!expected.is_empty(), harm.costs_records(), "{harm:?} {kind:?}");
            let (report, found) = scrub(&store).await;
            assert_eq!(found.numbers(), expected, "{harm:?} {kind:?}");
            assert!(report.has_damage());
            assert_eq!((found.packs.len(), found.packs[0].pack), (1, at.pack), "{harm:?} {kind:?}");
            assert_eq!(report.new_objects > 0, harm.costs_records(), "{harm:?} {kind:?}: {found:?}");
            assert_eq!(found.packs[0].state == PackState::Missing, harm == Harm::Deleted);
            for version in &found.versions {
                assert_eq!(version.is_removed, version.version.number == second.number);
            }

            // A scrub that finds nothing new says so, as long as nothing healed it.
            let (report, again) = scrub(&store).await;
            assert_eq!((again.numbers(), report.has_damage()), (expected, harm.costs_records()), "{harm:?} {kind:?}");
            assert_eq!(report.new_objects, 0);

            for image in &images {
                push(&store, image, None).await;
            }
            let (report, found) = scrub(&store).await;
            assert!(!report.has_damage() && found.versions.is_empty(), "{harm:?} {kind:?}: {report:?}");
            assert_eq!((report.known_packs, report.unhealed_objects), (1, 0), "the evidence stays");
            assert_whole(&store, &first, &images[0]).await;
            assert_whole(&store, &third, &images[2]).await;
        }
    }
}

/// Somebody moved a file and moves it back, or brings it from a backup: what is there and right is used, whatever was
/// thought of it before.
#[tokio::test]
async fn a_pack_that_was_damaged_and_is_whole_again_is_used_again() {
    for harm in HARMS {
        for kind in [Purpose::Chunks, Purpose::Nodes] {
            let store = memory_store();
            let image = image_of(0..3000);
            let version = push(&store, &image, None).await;
            let at = match kind {
                Purpose::Chunks => place_of_chunk(&store, 100).await,
                Purpose::Nodes => place(&store, kind, version.content.root.into()).await,
            };
            let length = store.packs.length(at.pack).await.unwrap();
            let good = store.packs.read_uncached(at.pack, 0..length).await.unwrap();
            harm.inflict(&store, &at).await;
            let store = reopened(&store);
            let lost = scrub(&store).await.0.new_objects;
            assert_eq!(lost > 0, harm.costs_records(), "{harm:?} {kind:?}");

            if harm == Harm::Deleted {
                store.packs.create(at.pack).await.unwrap().seal().await.unwrap();
            }
            change(&store, at.pack, |bytes| *bytes = good.to_vec()).await;
            let (report, found) = scrub(&store).await;
            assert_eq!(report.readmitted_objects, lost, "{harm:?} {kind:?}");
            assert!(!report.has_damage() && found.packs.is_empty(), "{harm:?} {kind:?}: {report:?}");
            assert_eq!(report.unhealed_objects, 0);
            assert_whole(&store, &version, &image).await;
            assert_eq!(scrub(&store).await.0.readmitted_objects, 0);
            // And it can be given back like any other.
            purge(&store, &version).await;
            collect(&store).await;
            assert_eq!(store.catalog().totals().await.unwrap().packs, 0, "{harm:?} {kind:?}");
        }
    }
}

/// Of two records of a chunk one is found damaged: nobody asks for it, since the other is there.
#[tokio::test]
async fn an_intact_copy_of_what_is_damaged_is_used() {
    let store = memory_store();
    let image = image_of(0..100);
    let version = push(&store, &image, None).await;
    let at = place_of_chunk(&store, 7).await;
    let mut writer =
        PackWriter::new(store.repository, store.packs.clone(), store.catalog.clone(), None, Purpose::Chunks);
    writer.append(ChunkId::of(&content(7)).into(), &Payload::compress(&content(7))).await.unwrap();
    writer.seal_all().await.unwrap();
    let copy = place_of_chunk(&store, 7).await;
    assert_ne!(copy.pack, at.pack, "the last copy has the place");
    Harm::Payload.inflict(&store, &copy).await;
    let (report, found) = scrub(&store).await;
    let (second, _) = scrub(&store).await;
    assert_eq!((report.new_objects, second.unhealed_objects), (1, 0), "{found:?}");
    assert_eq!(place_of_chunk(&store, 7).await, at);
    assert_whole(&store, &version, &image).await;
}

/// The error says that a push heals it, so it has to.
#[tokio::test]
async fn what_a_reader_meets_is_quarantined_exactly() {
    for harm in HARMS.into_iter().filter(|harm| harm.costs_records()) {
        let store = memory_store();
        let images = [image_of(0..3000), image_of(5000..6000)];
        let versions = [push(&store, &images[0], None).await, push(&store, &images[1], None).await];
        let at = place_of_chunk(&store, 100).await;
        harm.inflict(&store, &at).await;
        let store = reopened(&store);
        let error = try_read(&store, &versions[0]).await.unwrap_err();
        let said = error.to_string();
        assert_eq!(store.catalog().unhealed_damage(9).await.unwrap().len(), 0);
        assert_eq!(store.met(error).await.to_string(), said, "the first reader hears what it met");
        let met = store.catalog().unhealed_damage(usize::MAX).await.unwrap().len() as u64;
        assert!(met > 0, "{harm:?}: {said}");
        let next = try_read(&store, &versions[0]).await.unwrap_err();
        assert!(matches!(store.met(next).await, Error::ObjectDamaged { pack, .. } if pack == at.pack), "{harm:?}");
        assert_whole(&store, &versions[1], &images[1]).await;
        let (report, _) = scrub(&store).await;
        assert_eq!((report.new_objects, report.unhealed_objects), (0, met), "{harm:?}: a scrub finds nothing more");
        push(&store, &images[0], Some(&versions[0])).await;
        assert_whole(&store, &versions[0], &images[0]).await;
    }
}

/// An error that nothing on the disk confirms takes nothing away; and a reader that tries again does not make us read it again.
#[tokio::test]
async fn a_pack_that_a_reader_blames_wrongly_stays_and_is_not_read_each_time() {
    let store = memory_store();
    let version = push(&store, &image_of(0..100), None).await;
    let at = place_of_chunk(&store, 7).await;
    for error in [
        Error::RecordCorrupt { pack: at.pack, offset: 64, why: "a cable".into() },
        Error::PackMissing(at.pack),
        Error::ObjectMissing(version.content.root.into()),
    ] {
        let again = reopened(&store);
        let said = error.to_string();
        assert_eq!(again.met(error).await.to_string(), said);
        assert_eq!(again.catalog().unhealed_damage(9).await.unwrap().len(), 0, "{said}");
        assert_whole(&again, &version, &image_of(0..100)).await;
    }
    store.met(Error::PackMissing(at.pack)).await;
    Harm::Payload.inflict(&store, &at).await;
    store.met(Error::RecordCorrupt { pack: at.pack, offset: 64, why: "a test".into() }).await;
    assert_eq!(store.catalog().unhealed_damage(9).await.unwrap().len(), 0, "it was read less than a minute ago");
}

#[tokio::test]
async fn a_damaged_chunk_is_found_where_it_is() {
    let store = memory_store();
    let mut image = image_of(0..3000);
    // Twice in the image, once behind zeros.
    image.extend([None, Some(700), None]);
    let version = push(&store, &image, None).await;
    let at = place_of_chunk(&store, 700).await;
    Harm::Payload.inflict(&store, &at).await;
    let (report, found) = scrub(&store).await;
    let expected = DamagedVersion {
        version: key_of(&version),
        is_removed: false,
        chunks: 2,
        nodes: 0,
        bytes: 8,
        first_offset: 2800,
    };
    assert_eq!(found.versions, [expected]);
    assert_eq!((report.new_objects, report.unhealed_objects, report.damaged_packs), (1, 1, 1));
    let damage = &found.packs[0].damage;
    let id: ObjectId = ChunkId::of(&content(700)).into();
    assert_eq!((damage.len(), damage[0].part, damage[0].range.start), (1, PackPart::Record(id), at.offset.into()));
    assert_eq!(store.scrub_health().await.unwrap().damaged_objects, 1);
}

/// What is shared is walked once, and yet each version that shares damage is told of.
#[tokio::test]
async fn versions_that_share_damage_are_all_listed() {
    let store = memory_store();
    let mut versions = Vec::new();
    for n in 0..5 {
        let mut image = image_of(0..3000);
        image.push(Some(9000 + n));
        versions.push(push(&store, &image, None).await);
    }
    let at = place_of_chunk(&store, 5).await;
    Harm::Payload.inflict(&store, &at).await;
    let (report, found) = scrub(&store).await;
    assert_eq!(found.numbers(), [1, 2, 3, 4, 5]);
    assert!(found.versions.iter().all(|version| (version.chunks, version.first_offset) == (1, 20)));
    assert_eq!((report.damaged_versions, report.versions), (5, 5));
}

/// A file that lost its footer is read as it is by nobody but a rebuild. What is in it is brought to safety at once.
#[tokio::test]
async fn what_is_intact_in_a_pack_without_footer_is_copied() {
    let store = memory_store();
    let image = image_of(0..3000);
    let version = push(&store, &image, None).await;
    let at = place_of_chunk(&store, 5).await;
    Harm::Footer.inflict(&store, &at).await;
    let (_, found) = scrub(&store).await;
    assert_eq!(found.packs[0].copied_objects, 3000);
    assert_ne!(place_of_chunk(&store, 5).await.pack, at.pack);
    store.packs.delete(at.pack).await.unwrap();
    assert_whole(&store, &version, &image).await;
    let (report, _) = scrub(&store).await;
    assert!(!report.has_damage(), "nothing of it is needed: {report:?}");
}

async fn verified_packs(store: &Store) -> usize {
    store.catalog().verifications().await.unwrap().len()
}

/// Scrubs until so many packs were read, and stops it there.
async fn scrub_one(store: &Store) -> Error {
    let control = ScrubControl::new();
    let mut progress = control.progress();
    let stop = async {
        progress.wait_for(|progress| progress.phase == ScrubPhase::Packs && progress.done > 0).await.unwrap();
        control.stop();
    };
    // The second pack would have to wait for years.
    let options = ScrubOptions { bytes_per_second: NonZero::new(1), ..ALL };
    tokio::join!(try_scrub(store, options, &control), stop).0.0.unwrap_err()
}

#[tokio::test]
async fn a_scrub_that_was_stopped_is_continued_and_reads_each_pack_once() {
    let store = memory_store();
    for n in 0..3 {
        push(&store, &image_of(n * 1000..n * 1000 + 900), None).await;
    }
    for done in 1..6 {
        let error = scrub_one(&store).await;
        assert!(matches!(error, Error::Stopping), "{error}");
        assert_eq!(verified_packs(&store).await, done, "each run reads another one");
    }
    // A pack that was written meanwhile belongs to it too: it was never read.
    push(&store, &image_of(5000..5100), None).await;
    let (report, _) = scrub(&reopened(&store)).await;
    assert_eq!((report.packs, report.recent_packs), (3, 5));
    let (report, _) = scrub(&store).await;
    assert_eq!((report.packs, report.recent_packs), (8, 0), "the round was over: a new one");
}

#[tokio::test]
async fn only_what_was_not_verified_for_long_is_read_if_that_is_wished() {
    let store = memory_store();
    push(&store, &image_of(0..900), None).await;
    scrub(&store).await;
    push(&store, &image_of(1000..1900), None).await;
    let older = |age| ScrubOptions { scope: ScrubScope::OlderThan(age), bytes_per_second: None };
    let control = ScrubControl::new();
    let day = Duration::from_secs(86_400);
    let report = try_scrub(&store, older(day), &control).await.0.unwrap();
    assert_eq!((report.packs, report.recent_packs, report.versions), (2, 2, 2), "those that never were");
    let report = try_scrub(&store, older(day), &control).await.0.unwrap();
    assert_eq!((report.packs, report.recent_packs), (0, 4));
    let packs: Vec<PackId> = store.catalog().packs().await.unwrap().into_iter().map(|pack| pack.id).collect();
    store.catalog().note_verified(vec![packs[2]], 5).await.unwrap();
    // From a clock that went back since.
    store.catalog().note_verified(vec![packs[1]], i64::MAX).await.unwrap();
    let report = try_scrub(&store, older(day), &control).await.0.unwrap();
    assert_eq!((report.packs, report.recent_packs), (2, 2));
}

#[tokio::test]
async fn one_scrub_runs_at_a_time() {
    let store = memory_store();
    push(&store, &image_of(0..900), None).await;
    let control = ScrubControl::new();
    let options = ScrubOptions { bytes_per_second: NonZero::new(1), ..ALL };
    let second = async {
        let error = try_scrub(&store, ALL, &ScrubControl::new()).await.0.unwrap_err();
        control.stop();
        error
    };
    let (first, second) = tokio::join!(try_scrub(&store, options, &control), second);
    assert!(matches!((first.0, second), (Err(Error::Stopping), Error::Busy { .. })));
    scrub(&store).await;
}

/// At every call of a scrub a version is given up and its space given back: none of that is damage.
#[tokio::test]
async fn packs_that_a_collection_takes_meanwhile_are_no_damage() {
    for call in 0.. {
        let (store, packs) = interposed();
        let gone = push(&store, &image_of(0..1000), None).await;
        let kept = push(&store, &image_of(500..2000), None).await;
        let others = store.clone();
        let event = async move {
            purge(&others, &gone).await;
            collect(&others).await;
        };
        packs.at(call, Event::Happens(Box::pin(event)));
        let (report, found) = scrub(&store).await;
        let happened = packs.has_happened();
        assert!(!report.has_damage() && found.packs.is_empty() && found.versions.is_empty(), "call {call}: {report:?}");
        assert_whole(&store, &kept, &image_of(500..2000)).await;
        if !happened {
            return;
        }
    }
}

/// At every call of a scrub a push of the same data begins and ends.
#[tokio::test]
async fn pushes_go_on_meanwhile() {
    for call in 0.. {
        let (store, packs) = interposed();
        let image = image_of(0..1000);
        let first = push(&store, &image, None).await;
        let at = place_of_chunk(&store, 7).await;
        Harm::Payload.inflict(&store, &at).await;
        let (others, again) = (store.clone(), image.clone());
        packs.at(call, Event::Happens(Box::pin(async move { drop(push(&others, &again, None).await) })));
        let (report, _) = scrub(&store).await;
        let happened = packs.has_happened();
        assert_eq!(report.new_objects, 1, "call {call}");
        push(&store, &image, None).await;
        assert!(!scrub(&store).await.0.has_damage(), "call {call}");
        assert_whole(&store, &first, &image).await;
        if !happened {
            return;
        }
    }
}
