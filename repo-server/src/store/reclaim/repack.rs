//! Copies what is needed of some packs into new ones.
//!
//! Every record is decoded and hashed on its way: a copy must not turn damage into something that looks intact.

use std::collections::HashMap;

use bytes::Bytes;
use imprint_content::{ObjectId, Payload};

use super::{CollectControl, Store, order::in_image_order};
use crate::{
    Error, PackId,
    catalog::{Candidate, Damage, Location, MAX_DAMAGE_OBJECTS, Root},
    clock::now_unix_ms,
    pack::{Purpose, decode_record},
    store::{
        check,
        fetch::{ReadPlan, plan_reads},
        pack_writer::PackWriter,
    },
};

/// Read, checked and written at once, in bytes as stored.
const WINDOW_BYTES: u64 = 16 << 20;
/// Located at once.
const BATCH: usize = 2048;

/// What rewriting came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Repacked {
    /// Bytes of new packs.
    pub(super) written_bytes: u64,
    /// Records that turned out to be damaged; they were quarantined and not copied.
    pub(super) damaged_records: u64,
}

/// Copies the marked records that are still located in these packs. On return the copies are durable and known, so that
/// the packs may be condemned.
pub(super) async fn repack(
    store: &Store,
    purpose: Purpose,
    packs: &[Candidate],
    roots: &[Root],
    control: &CollectControl,
) -> Result<Repacked, Error> {
    let wanted = still_located(store, purpose, packs).await?;
    let order = in_image_order(store, purpose, roots, wanted, control).await?;
    let writer = PackWriter::new(store.repository, store.packs.clone(), store.catalog.clone(), None, purpose);
    let mut copier = Copier { store, purpose, writer, outcome: Repacked::default() };
    for window in windows(order) {
        control.expect_going_on()?;
        let bytes = window.iter().map(|(_, at)| u64::from(at.stored_length)).sum();
        copier.copy(window).await?;
        control.advance(bytes);
    }
    let sealed = copier.writer.seal_all().await?;
    copier.outcome.written_bytes += sealed.bytes;
    Ok(copier.outcome)
}

/// The marked records of these packs that no other pack took over since they were marked.
async fn still_located(
    store: &Store,
    purpose: Purpose,
    packs: &[Candidate],
) -> Result<HashMap<ObjectId, Location>, Error> {
    let mut wanted = HashMap::new();
    for pack in packs {
        for ids in pack.objects.chunks(BATCH) {
            let locations = store.catalog.locate(purpose, ids.to_vec()).await?;
            let here = ids.iter().zip(locations).filter_map(|(id, location)| Some((*id, location?)));
            wanted.extend(here.filter(|(_, at)| at.pack == pack.pack && pack.marked.contains(at.ordinal)));
        }
    }
    Ok(wanted)
}

fn windows(order: Vec<(ObjectId, Location)>) -> Vec<Vec<(ObjectId, Location)>> {
    let mut windows: Vec<Vec<_>> = Vec::new();
    let mut bytes = 0;
    for record in order {
        bytes += u64::from(record.1.stored_length);
        match windows.last_mut() {
            Some(window) if bytes <= WINDOW_BYTES => window.push(record),
            _ => {
                bytes = record.1.stored_length.into();
                windows.push(vec![record]);
            }
        }
    }
    windows
}

struct Copier<'a> {
    store: &'a Store,
    purpose: Purpose,
    writer: PackWriter,
    outcome: Repacked,
}

type Checked = Result<Payload, String>;

impl Copier<'_> {
    /// Reads in pack order, writes in the order given.
    async fn copy(&mut self, window: Vec<(ObjectId, Location)>) -> Result<(), Error> {
        let order: Vec<_> = window.iter().map(|(id, at)| (*id, at.pack)).collect();
        let mut read = HashMap::with_capacity(order.len());
        for plan in plan_reads(window) {
            read.extend(read_records(self.store, self.purpose, plan).await?);
        }
        let mut damage: HashMap<PackId, (Vec<ObjectId>, String)> = HashMap::new();
        for (id, pack) in order {
            match read.remove(&id) {
                Some(Ok(payload)) => {
                    let sealed = self.writer.append(id, &payload).await?;
                    self.outcome.written_bytes += sealed.bytes;
                }
                Some(Err(why)) => damage.entry(pack).or_insert_with(|| (Vec::new(), why)).0.push(id),
                // Read once, wanted once.
                None => {}
            }
        }
        for (pack, (objects, why)) in damage {
            self.quarantine(pack, &objects, &why).await?;
        }
        Ok(())
    }

    async fn quarantine(&mut self, pack: PackId, objects: &[ObjectId], why: &str) -> Result<(), Error> {
        tracing::warn!(%pack, records = objects.len(), why, "damaged records were found while a pack was rewritten");
        for objects in objects.chunks(MAX_DAMAGE_OBJECTS) {
            let (objects, why) = (objects.to_vec(), why.to_owned());
            let damage = Damage { pack, kind: self.purpose, objects, why, found_unix_ms: now_unix_ms() };
            self.outcome.damaged_records += self.store.catalog.quarantine(damage).await?;
        }
        Ok(())
    }
}

async fn read_records(
    store: &Store,
    purpose: Purpose,
    plan: ReadPlan<ObjectId>,
) -> Result<Vec<(ObjectId, Checked)>, Error> {
    let mut records = Vec::with_capacity(plan.records.len());
    let mut plans = vec![plan];
    while let Some(plan) = plans.pop() {
        match store.packs.read(plan.pack, vec![plan.range()]).await {
            Ok(mut bytes) => {
                let bytes = bytes.pop().unwrap_or_default();
                records.extend(store.blocking.run(move || decode_all(purpose, &plan, &bytes)).await);
            }
            Err(error @ Error::PackMissing(_)) => records.extend(lost(&plan, &error)),
            // The disk cannot read it, or it is shorter than the catalog says: that need not cost every record of this read.
            Err(error) if error.is_unreadable() || matches!(error, Error::RecordCorrupt { .. }) => match plan.apart() {
                Ok(parts) => plans.extend(parts),
                Err(record) => records.extend(lost(&record, &error)),
            },
            Err(error) => return Err(error),
        }
    }
    Ok(records)
}

fn lost(plan: &ReadPlan<ObjectId>, error: &Error) -> Vec<(ObjectId, Checked)> {
    let why = error.with_cause();
    plan.records.iter().map(|(id, _)| (*id, Err(why.clone()))).collect()
}

fn decode_all(purpose: Purpose, plan: &ReadPlan<ObjectId>, bytes: &Bytes) -> Vec<(ObjectId, Checked)> {
    let mut scratch = Vec::new();
    let decode = |(id, at): &(ObjectId, Location)| {
        let checked = decode_record(purpose, &plan.slice(bytes, at)).map_err(|error| error.to_string());
        let checked = checked.and_then(|(found, payload)| {
            let same = if found == *id { Ok(()) } else { Err(format!("it is a record of {found}")) };
            same.and_then(|()| check(purpose, *id, &payload, &mut scratch).map_err(|error| error.to_string()))?;
            Ok(payload)
        });
        (*id, checked)
    };
    plan.records.iter().map(decode).collect()
}
