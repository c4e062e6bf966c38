//! Reads packs whole, and quarantines what is not what it should be.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    num::NonZero,
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use imprint_content::{DecodeError, ObjectId, Payload};
use tracing::{info, warn};

use super::{
    ScrubControl,
    pace::Pace,
    report::{DamagedPack, MAX_LISTED, PackState},
};
use crate::{
    Error, PackId,
    catalog::{Damage, IntactRecords, Location, MAX_DAMAGE_OBJECTS},
    clock::now_unix_ms,
    pack::{MAX_PACK_BYTES, PackDamage, PackPart, Purpose, VerifiedPack, verify},
    storage::{PackStorage, read_past_damage},
    store::{Store, pack_writer::PackWriter},
};

/// Read at once.
const PIECE_BYTES: u64 = 1 << 20;
/// Places looked at at once.
const PAGE: usize = 16 << 10;

/// A pack as it was read.
pub(in crate::store) struct ReadPack {
    /// At most [`MAX_PACK_BYTES`]; zeros where the disk could not read it.
    pub(in crate::store) bytes: Bytes,
    /// Length of the file.
    pub(in crate::store) length: u64,
}

/// Sees to it that reading neither goes too fast nor beyond its end.
pub(in crate::store) struct Throttle<'a> {
    control: &'a ScrubControl,
    pace: Pace,
    started: Instant,
}

impl<'a> Throttle<'a> {
    /// As fast as it goes when no rate is given.
    pub(in crate::store) fn new(control: &'a ScrubControl, bytes_per_second: Option<NonZero<u64>>) -> Self {
        Self { control, pace: Pace::new(bytes_per_second), started: Instant::now() }
    }

    /// Waits until so much may be read.
    async fn before(&mut self, bytes: u64) -> Result<(), Error> {
        self.control.pause(self.pace.wait(bytes, self.started.elapsed())).await?;
        self.control.advance(bytes);
        Ok(())
    }
}

/// Reads a pack from the medium, piece by piece.
///
/// # Errors
/// [`Error::PackMissing`] when there is none. What the disk cannot read is no error: those bytes are zero, and so are found to be wrong.
pub(in crate::store) async fn read_pack(
    packs: &dyn PackStorage,
    pack: PackId,
    throttle: &mut Throttle<'_>,
) -> Result<ReadPack, Error> {
    let length = packs.length(pack).await?;
    let wanted = length.min(MAX_PACK_BYTES);
    let mut bytes = BytesMut::new();
    for start in (0..wanted).step_by(PIECE_BYTES as usize) {
        let piece = start..(start + PIECE_BYTES).min(wanted);
        throttle.before(piece.end - piece.start).await?;
        match read_past_damage(piece, |range| packs.read_uncached(pack, range)).await {
            Ok(read) => bytes.extend_from_slice(&read),
            // It became shorter since its length was asked for.
            Err(Error::RecordCorrupt { .. }) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(ReadPack { bytes: bytes.freeze(), length })
}

/// What verifying a pack came to.
pub(super) enum PackOutcome {
    /// All of it is as it should be.
    Healthy(IntactPart),
    /// Something is wrong.
    Damaged(IntactPart, DamagedPack),
    /// The file cannot be opened, so that nothing is known of what is in it.
    Unopened(DamagedPack),
    /// A collection took it meanwhile.
    Gone,
}

/// What was read of a pack.
pub(super) struct IntactPart {
    /// All its bytes.
    pub(super) bytes: u64,
    /// Records that are intact.
    pub(super) records: u64,
    /// Of them, those that were quarantined, and are used again.
    pub(super) readmitted: u64,
}

impl IntactPart {
    const fn none(bytes: u64) -> Self {
        Self { bytes, records: 0, readmitted: 0 }
    }
}

/// Verifies packs one after the other.
pub(super) struct PackScrubber<'a> {
    pub(super) store: &'a Store,
    pub(super) control: &'a ScrubControl,
    pub(super) throttle: Throttle<'a>,
}

impl PackScrubber<'_> {
    /// Reads a pack; what of it is damaged is quarantined on return, durably.
    pub(super) async fn scrub(&mut self, pack: PackId) -> Result<PackOutcome, Error> {
        let store = self.store;
        // What is read here is what readers get from now on, also when somebody has put another file there.
        store.packs.reopen(pack).await?;
        let read = match read_pack(&*store.packs, pack, &mut self.throttle).await {
            Ok(read) => read,
            Err(Error::PackMissing(_)) if !is_live(store, pack).await? => return Ok(PackOutcome::Gone),
            Err(Error::PackMissing(_)) => {
                let mut found = missing(store, &[pack]).await?;
                let damaged = |found| PackOutcome::Damaged(IntactPart::none(0), found);
                return Ok(found.pop().map_or(PackOutcome::Gone, damaged));
            }
            Err(error @ Error::Io { .. }) => return Ok(PackOutcome::Unopened(unopened(pack, &error))),
            Err(error) => return Err(error),
        };
        let ReadPack { bytes, length } = read;
        let (repository, checked) = (store.repository, bytes.clone());
        let verified = match store.blocking.run(move || verify(repository, pack, length, &checked)).await {
            Ok(verified) => verified,
            Err(newer) => return Ok(PackOutcome::Damaged(IntactPart::none(length), too_new(pack, &newer))),
        };
        let mut intact = IntactPart { bytes: length, records: verified.intact.len() as u64, readmitted: 0 };
        if verified.damage.is_empty() {
            intact.readmitted = self.readmit(pack, &verified).await?;
            return Ok(PackOutcome::Healthy(intact));
        }
        if !is_live(store, pack).await? {
            return Ok(PackOutcome::Gone);
        }
        let damaged = self.damaged(pack, &verified, &bytes).await?;
        // After what is damaged has lost its place.
        intact.readmitted = self.readmit(pack, &verified).await?;
        Ok(PackOutcome::Damaged(intact, damaged))
    }

    /// Uses what is intact and located nowhere, or quarantined: a file that was lost is back, a disk reads again what it could not, another
    /// copy of the object was found damaged.
    async fn readmit(&self, pack: PackId, verified: &VerifiedPack) -> Result<u64, Error> {
        // What is found without header or footer has other ordinals; it is copied.
        let Some(kind) = verified.purpose.filter(|_| !verified.has_structural_damage()) else { return Ok(0) };
        let catalog = &self.store.catalog;
        let quarantined = catalog.quarantined_in(pack).await?;
        let mut news = Vec::new();
        for records in verified.intact.chunks(PAGE) {
            let places = catalog.locate(kind, records.iter().map(|(id, _)| *id).collect()).await?;
            for ((id, here), place) in records.iter().zip(places) {
                match place {
                    None => news.push((*id, *here)),
                    Some(place) if place.pack == pack && place != *here => {
                        warn!(%pack, "the catalog has other places in this pack; `imprint-server rebuild` derives it anew");
                        return Ok(0);
                    }
                    // Healed elsewhere; but nothing is wrong here any more.
                    Some(_) if quarantined.contains(&(kind, *id)) => news.push((*id, *here)),
                    Some(_) => {}
                }
            }
        }
        // With an intact footer each entry is either.
        let entries = u32::try_from(verified.intact.len() + verified.damage.len()).unwrap_or(u32::MAX);
        let mut readmitted = 0;
        for objects in news.chunks(MAX_DAMAGE_OBJECTS) {
            let (objects, read_unix_ms) = (objects.to_vec(), now_unix_ms());
            readmitted += catalog.readmit(IntactRecords { pack, kind, entries, objects, read_unix_ms }).await?;
        }
        if readmitted > 0 {
            info!(%pack, objects = readmitted, "what was quarantined in a pack is intact, and is used again");
        }
        Ok(readmitted)
    }

    async fn damaged(&self, pack: PackId, verified: &VerifiedPack, bytes: &Bytes) -> Result<DamagedPack, Error> {
        let mut found = damaged_pack(pack, verified);
        let listed = verified.damage.iter().filter_map(|damage| match damage.part {
            PackPart::Record(id) => Some(id),
            _ => None,
        });
        let listed: Vec<ObjectId> = listed.collect();
        if let (Some(kind), [first, ..]) = (verified.purpose, &verified.damage[..]) {
            found.new_objects += quarantine(self.store, pack, kind, &listed, &first.why).await?;
        }
        let mut still_here = 0;
        if verified.has_structural_damage() {
            let (lost, here) = self.places_in(pack, verified).await?;
            for (kind, ids) in lost {
                let why = "its record cannot be found in the pack";
                found.new_objects += quarantine(self.store, pack, kind, &ids, why).await?;
            }
            still_here = here.len() as u64;
            found.copied_objects = self.copy(pack, verified.purpose, here, bytes).await?;
        }
        found.is_known = found.new_objects == 0 && still_here == 0;
        Ok(found)
    }

    /// What the catalog places in this pack: what is not there, by kind, and what is.
    async fn places_in(
        &self,
        pack: PackId,
        verified: &VerifiedPack,
    ) -> Result<(Vec<(Purpose, Vec<ObjectId>)>, Vec<(ObjectId, Location)>), Error> {
        let intact: HashMap<ObjectId, Location> = verified.intact.iter().copied().collect();
        let (mut lost, mut here) = (BTreeMap::<u8, Vec<ObjectId>>::new(), Vec::new());
        for_each_place(self.store, &HashSet::from([pack]), |kind, id, at| {
            let is_intact = verified.purpose == Some(kind)
                && intact
                    .get(&id)
                    .is_some_and(|intact| (intact.offset, intact.raw_length) == (at.offset, at.raw_length));
            if is_intact { here.push((id, at)) } else { lost.entry(kind.number()).or_default().push(id) }
        })
        .await?;
        let lost = lost.into_iter().filter_map(|(kind, ids)| Some((Purpose::from_number(kind).ok()?, ids)));
        Ok((lost.collect(), here))
    }

    /// Copies what is intact in a file that has lost its header or footer to a new pack, from which it can be found again
    /// without the catalog. The file stays: it is evidence. Where there is no room, the next scrub does it.
    async fn copy(
        &self,
        pack: PackId,
        purpose: Option<Purpose>,
        mut here: Vec<(ObjectId, Location)>,
        bytes: &Bytes,
    ) -> Result<u64, Error> {
        let Some(purpose) = purpose.filter(|_| !here.is_empty()) else { return Ok(0) };
        here.sort_by_key(|(_, at)| at.offset);
        let count = here.len() as u64;
        let mut writer =
            PackWriter::new(self.store.repository, self.store.packs.clone(), self.store.catalog.clone(), None, purpose);
        let copied = async {
            for (id, at) in here {
                self.control.expect_going_on()?;
                if let Some(payload) = payload(purpose, &at, bytes) {
                    writer.append(id, &payload).await?;
                }
            }
            writer.seal_all().await.map(drop)
        };
        match copied.await {
            Ok(()) => {
                info!(%pack, objects = count, "what is intact in a damaged pack was copied to another one");
                Ok(count)
            }
            Err(error @ Error::Full { .. }) => {
                warn!(%pack, %error, "no room to copy what is intact in a damaged pack");
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }
}

/// What is wrong with a pack, without what is to be done about it.
pub(in crate::store) fn damaged_pack(pack: PackId, verified: &VerifiedPack) -> DamagedPack {
    DamagedPack {
        pack,
        kind: verified.purpose,
        state: PackState::Damaged,
        damage: verified.damage.iter().take(MAX_LISTED).cloned().collect(),
        damaged_parts: verified.damage.len() as u64,
        new_objects: 0,
        copied_objects: 0,
        is_known: false,
    }
}

/// A record that was found intact a moment ago.
fn payload(purpose: Purpose, at: &Location, bytes: &Bytes) -> Option<Payload> {
    let start = at.offset as usize;
    let end = start + crate::pack::record_length(at.stored_length) as usize;
    let record = bytes.get(start..end).map(|_| bytes.slice(start..end))?;
    crate::pack::decode_record(purpose, &record).ok().map(|(_, payload)| payload)
}

fn too_new(pack: PackId, why: &DecodeError) -> DamagedPack {
    warn!(%pack, %why, "a pack needs a newer Imprint and was not verified");
    DamagedPack {
        pack,
        kind: None,
        state: PackState::TooNew,
        damage: Vec::new(),
        damaged_parts: 0,
        new_objects: 0,
        copied_objects: 0,
        is_known: false,
    }
}

/// A pack whose file cannot be opened. Nothing is quarantined: it need not be the file's fault.
pub(in crate::store) fn unopened(pack: PackId, error: &Error) -> DamagedPack {
    let why = error.with_cause();
    warn!(%pack, why, "a pack cannot be opened and was not verified");
    let damage = vec![PackDamage { range: 0..0, part: PackPart::File, why }];
    damaged_pack(pack, &VerifiedPack { purpose: None, intact: Vec::new(), damage })
}

/// Quarantines all that the catalog places in packs that have no file.
pub(super) async fn missing(store: &Store, packs: &[PackId]) -> Result<Vec<DamagedPack>, Error> {
    let mut lost: BTreeMap<(PackId, u8), Vec<ObjectId>> = BTreeMap::new();
    for_each_place(store, &packs.iter().copied().collect(), |kind, id, at| {
        lost.entry((at.pack, kind.number())).or_default().push(id);
    })
    .await?;
    let mut found: BTreeMap<PackId, DamagedPack> = packs.iter().map(|pack| (*pack, missing_pack(*pack))).collect();
    for ((pack, kind), ids) in lost {
        let kind = Purpose::from_number(kind).map_err(|error| Error::Catalog(error.to_string()))?;
        let new = quarantine(store, pack, kind, &ids, "its pack is missing").await?;
        if let Some(found) = found.get_mut(&pack) {
            found.kind = Some(kind);
            found.new_objects += new;
            found.is_known = false;
        }
    }
    Ok(found.into_values().collect())
}

fn missing_pack(pack: PackId) -> DamagedPack {
    DamagedPack {
        pack,
        kind: None,
        state: PackState::Missing,
        damage: Vec::new(),
        damaged_parts: 0,
        new_objects: 0,
        copied_objects: 0,
        is_known: true,
    }
}

async fn quarantine(store: &Store, pack: PackId, kind: Purpose, ids: &[ObjectId], why: &str) -> Result<u64, Error> {
    let mut new = 0;
    for ids in ids.chunks(MAX_DAMAGE_OBJECTS) {
        let (objects, why) = (ids.to_vec(), why.to_owned());
        let damage = Damage { pack, kind, objects, why, found_unix_ms: now_unix_ms() };
        new += store.catalog.quarantine(damage).await?;
    }
    Ok(new)
}

/// Visits every place in these packs. It goes through all places there are.
async fn for_each_place(
    store: &Store,
    packs: &HashSet<PackId>,
    mut visit: impl FnMut(Purpose, ObjectId, Location),
) -> Result<(), Error> {
    for kind in [Purpose::Chunks, Purpose::Nodes] {
        let mut after = None;
        loop {
            let page = store.catalog.places(kind, after, PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            page.into_iter().filter(|(_, at)| packs.contains(&at.pack)).for_each(|(id, at)| visit(kind, id, at));
        }
    }
    Ok(())
}

async fn is_live(store: &Store, pack: PackId) -> Result<bool, Error> {
    Ok(store.catalog.packs().await?.iter().any(|live| live.id == pack))
}
