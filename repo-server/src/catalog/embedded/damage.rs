//! Records that are not used, and the objects that nothing has healed yet.

use std::collections::HashSet;

use imprint_content::ObjectId;

use super::{
    Inner,
    decisions::Plan,
    lock,
    reading::{Reading, bad},
};
use crate::{
    Error, PackId,
    catalog::{
        Candidate, Damage, DamagedObject, IntactRecords, Location, MAX_DAMAGE_OBJECTS, PackRecord,
        journal::Decision,
        keys::{self, Table},
        rocks::Batch,
        values,
    },
    pack::Purpose,
};

/// Quarantined records whose places are looked up at once.
const BATCH: usize = 1024;

impl Inner {
    pub(super) fn quarantine(&self, damage: Damage) -> Result<u64, Error> {
        if damage.objects.len() > MAX_DAMAGE_OBJECTS {
            return Err(Error::BadRequest(format!("more than {MAX_DAMAGE_OBJECTS} damaged records at once")));
        }
        self.decide(|reading| {
            let Damage { pack, kind, .. } = damage;
            if reading.pack(pack)?.is_none() {
                return Ok(Plan::Decided(0));
            }
            let known = reading.quarantined_in(pack)?;
            let mut objects = damage.objects;
            objects.sort_unstable();
            objects.dedup();
            objects.retain(|id| !known.contains(&(kind, *id)));
            let new = objects.len() as u64;
            if new == 0 {
                return Ok(Plan::Decided(0));
            }
            Ok(Plan::Decide(Decision::Quarantined(Damage { objects, ..damage }), new))
        })
    }

    /// Under the lock of decisions, like a condemnation: what relies on the pack from now on is noted before anybody can find
    /// anything in it. A mark that has met these objects nowhere must not let the pack go, and an upload may have been told that they
    /// are where they were before.
    pub(super) fn readmit(&self, records: &IntactRecords) -> Result<u64, Error> {
        if records.objects.len() > MAX_DAMAGE_OBJECTS {
            return Err(Error::BadRequest(format!("more than {MAX_DAMAGE_OBJECTS} records at once")));
        }
        let IntactRecords { pack, kind, entries, read_unix_ms, .. } = *records;
        let mut journal = self.decisions()?;
        let reading = self.read();
        let quarantined = reading.quarantined_in(pack)?;
        let places = self.locate(kind, &records.objects.iter().map(|(id, _)| *id).collect::<Vec<_>>())?;
        let is_news = |((id, _), place): &(&(ObjectId, Location), Option<Location>)| {
            place.is_none() || quarantined.contains(&(kind, *id))
        };
        let news: Vec<_> = records.objects.iter().zip(places).filter(is_news).map(|(object, _)| *object).collect();
        let is_as_known = reading.pack(pack)?.is_some_and(|known| known.records == entries);
        if news.is_empty() || !is_as_known || !self.live_packs().contains(&pack) {
            return Ok(0);
        }
        self.hold_by_all(pack)?;
        let count = news.iter().filter(|(id, _)| quarantined.contains(&(kind, *id))).count() as u64;
        let decision = Decision::Readmitted(IntactRecords { pack, kind, entries, objects: news, read_unix_ms });
        let position = journal.append(&decision)?;
        self.apply(position, &decision, |_, _| Ok(()))?;
        Ok(count)
    }

    fn hold_by_all(&self, pack: PackId) -> Result<(), Error> {
        let _holds = lock(&self.holds)?;
        lock(&self.marks)?.stamp(&[pack]);
        let mut batch = Batch::default();
        for (upload, _) in self.read().open_uploads()? {
            batch.put(&keys::hold(upload, pack), &[]);
        }
        if batch.is_empty() { Ok(()) } else { self.write(batch) }
    }

    pub(super) fn unhealed_damage(&self, limit: usize) -> Result<Vec<DamagedObject>, Error> {
        let reading = self.read();
        let table = keys::table(Table::Quarantined);
        let (mut unhealed, mut batch) = (Vec::new(), Vec::new());
        let mut from = table.clone();
        while unhealed.len() < limit {
            reading.view.scan(&table, &from, BATCH, |key, value| {
                batch.push(quarantined_record(key, value)?);
                Ok(())
            })?;
            let Some(last) = batch.last() else { break };
            from = keys::after(keys::quarantined(last.pack, last.kind, &last.id));
            let located = self.are_located(&batch)?;
            let missing = batch.drain(..).zip(located).filter(|(_, is_located)| !is_located);
            unhealed.extend(missing.map(|(record, _)| record));
        }
        unhealed.truncate(limit);
        Ok(unhealed)
    }

    /// Those of the objects in these packs that are damaged and that nothing has healed yet. For who holds the locks: it
    /// goes through the keys of all damage, and looks only for what is both in them and in the packs.
    pub(super) fn unhealed_among(
        &self,
        reading: &Reading<'_>,
        packs: &[Candidate],
    ) -> Result<HashSet<(Purpose, ObjectId)>, Error> {
        let mut asked = HashSet::new();
        for candidate in packs {
            let Some(PackRecord { purpose, .. }) = reading.pack(candidate.pack)? else { continue };
            asked.extend(candidate.objects.iter().map(|id| (purpose, *id)));
        }
        let table = keys::table(Table::Quarantined);
        let mut damaged = HashSet::new();
        reading.view.scan(&table, &table, usize::MAX, |key, _| {
            let (_, object) = quarantined_object(key)?;
            damaged.extend(asked.take(&object));
            Ok(())
        })?;
        for kind in [Purpose::Chunks, Purpose::Nodes] {
            let ids: Vec<ObjectId> = damaged.iter().filter(|(of, _)| *of == kind).map(|(_, id)| *id).collect();
            for (id, place) in ids.iter().zip(self.locate(kind, &ids)?) {
                if place.is_some() {
                    damaged.remove(&(kind, *id));
                }
            }
        }
        Ok(damaged)
    }

    fn are_located(&self, records: &[DamagedObject]) -> Result<Vec<bool>, Error> {
        let of_kind = |kind| -> Vec<ObjectId> {
            records.iter().filter(|record| record.kind == kind).map(|record| record.id).collect()
        };
        let mut chunks = self.locate(Purpose::Chunks, &of_kind(Purpose::Chunks))?.into_iter();
        let mut nodes = self.locate(Purpose::Nodes, &of_kind(Purpose::Nodes))?.into_iter();
        let is_located = |record: &DamagedObject| {
            let next = match record.kind {
                Purpose::Chunks => chunks.next(),
                Purpose::Nodes => nodes.next(),
            };
            next.flatten().is_some()
        };
        Ok(records.iter().map(is_located).collect())
    }
}

fn quarantined_object(key: &[u8]) -> Result<(PackId, (Purpose, ObjectId)), Error> {
    let (pack, rest) = key.split_at_checked(16).ok_or_else(|| Error::Catalog("a key in its index is bad".into()))?;
    let pack = keys::parse_pack(pack).map_err(bad)?;
    Ok((pack, keys::parse_quarantined(rest).map_err(bad)?))
}

fn quarantined_record(key: &[u8], value: &[u8]) -> Result<DamagedObject, Error> {
    let (pack, (kind, id)) = quarantined_object(key)?;
    Ok(DamagedObject { id, kind, pack, why: values::decode_why(value).map_err(bad)? })
}

impl Reading<'_> {
    /// The quarantined records of a pack.
    pub(super) fn quarantined_in(&self, pack: PackId) -> Result<HashSet<(Purpose, ObjectId)>, Error> {
        let prefix = keys::quarantined_in(pack);
        let mut records = HashSet::new();
        self.view.scan(&prefix, &prefix, usize::MAX, |key, _| {
            records.insert(keys::parse_quarantined(key).map_err(bad)?);
            Ok(())
        })?;
        Ok(records)
    }
}
