//! Packs that come and go, and what is damaged.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use imprint_content::ObjectId;

use super::State;
use crate::{
    Error, UploadId,
    catalog::{
        Candidate, Condemnation, Damage, DamagedObject, FinishedMark, IntactRecords, Location, MAX_DAMAGE_OBJECTS,
        Mark, MarkEnd, MarkId, PackRecord, Refusal, Root, RootKind, VersionCounts, VersionKey, VersionRecord,
    },
    pack::Purpose,
};

impl State {
    fn objects(&mut self, kind: Purpose) -> &mut BTreeMap<ObjectId, Location> {
        match kind {
            Purpose::Chunks => &mut self.chunks,
            Purpose::Nodes => &mut self.nodes,
        }
    }

    pub(super) fn add_pack(
        &mut self,
        pack: PackRecord,
        mut objects: Vec<(ObjectId, Location)>,
        holder: Option<UploadId>,
    ) {
        let PackRecord { id, purpose: kind, .. } = pack;
        if self.condemned.contains(&id) {
            return;
        }
        objects.retain(|(object, _)| !self.quarantined.contains_key(&(id, kind.number(), *object)));
        let is_new = !self.packs.contains_key(&id);
        self.packs.entry(id).or_insert(pack);
        let places = self.objects(kind);
        let mut left = BTreeSet::new();
        for (object, place) in objects {
            if is_new {
                left.extend(places.insert(object, place).map(|former| former.pack));
            } else {
                places.entry(object).or_insert(place);
            }
        }
        for (upload, open) in &mut self.open {
            if Some(*upload) == holder || !open.holds.is_disjoint(&left) {
                open.holds.insert(id);
            }
        }
        self.marks.stamp(&[id]);
    }

    pub(super) fn begin_mark(&mut self) -> Mark {
        let root = |version: &VersionRecord, kind| Root {
            node: version.content.root,
            version: VersionKey { image: version.image.clone(), number: version.number },
            kind,
        };
        let live = self.images.values().flat_map(|image| image.versions.values());
        let live = live.map(|version| root(version, RootKind::Live { committed_unix_ms: version.committed_unix_ms }));
        let removed = self.images.values().flat_map(|image| image.removed.values().map(|removed| &removed.version));
        let removed =
            removed.map(|version| root(version, RootKind::Removed { committed_unix_ms: version.committed_unix_ms }));
        let mut roots: Vec<Root> = live.chain(removed).collect();
        let counts = VersionCounts { versions: roots.len() as u64, purged: self.purged };
        let bases = self.open.values().filter_map(|open| open.base.clone());
        roots.extend(bases.map(|base| Root { node: base.root, version: base.version, kind: RootKind::Base }));
        let id = self.marks.begin();
        self.marks.counted(id, counts);
        Mark { id, roots, counts, last_finished: self.finished }
    }

    pub(super) fn end_mark(&mut self, mark: MarkId, end: MarkEnd) {
        if let (Some(counts), MarkEnd::Finished(finished_unix_ms)) = (self.marks.end(mark), end) {
            self.finished = Some(FinishedMark { finished_unix_ms, counts });
        }
    }

    pub(super) fn condemn(&mut self, mark: MarkId, candidate: &Candidate) -> Condemnation {
        let pack = candidate.pack;
        if let Some(refusal) = self.refusal(mark, candidate) {
            return Condemnation::Refused(refusal);
        }
        self.packs.remove(&pack);
        self.verified.remove(&pack);
        self.condemned.insert(pack);
        self.ever_condemned.insert(pack);
        self.chunks.retain(|_, place| place.pack != pack);
        self.nodes.retain(|_, place| place.pack != pack);
        self.quarantined.retain(|(damaged, ..), _| *damaged != pack);
        Condemnation::Condemned
    }

    fn refusal(&mut self, mark: MarkId, candidate: &Candidate) -> Option<Refusal> {
        let pack = candidate.pack;
        let Some(record) = self.packs.get(&pack).cloned() else { return Some(Refusal::NotLive) };
        match self.marks.is_stamped(mark, pack) {
            None => return Some(Refusal::MarkEnded),
            Some(true) => return Some(Refusal::Stamped),
            Some(false) => {}
        }
        if self.open.values().any(|open| open.holds.contains(&pack)) {
            return Some(Refusal::Held);
        }
        let distinct: HashSet<&ObjectId> = candidate.objects.iter().collect();
        if distinct.len() != candidate.objects.len() || candidate.objects.len() != record.records as usize {
            return Some(Refusal::OtherRecords);
        }
        let mut here = self.objects(record.purpose).values().filter(|place| place.pack == pack);
        if here.any(|place| candidate.marked.contains(place.ordinal)) {
            return Some(Refusal::Marked);
        }
        let damaged =
            self.unhealed_damage().any(|object| object.kind == record.purpose && distinct.contains(&object.id));
        damaged.then_some(Refusal::Damaged)
    }

    pub(super) fn quarantine(&mut self, damage: Damage) -> Result<u64, Error> {
        let Damage { pack, kind, objects, why, .. } = damage;
        if objects.len() > MAX_DAMAGE_OBJECTS {
            return Err(Error::BadRequest(format!("more than {MAX_DAMAGE_OBJECTS} damaged records at once")));
        }
        if !self.packs.contains_key(&pack) {
            return Ok(0);
        }
        let mut new = 0;
        for id in objects {
            let record = (pack, kind.number(), id);
            if self.quarantined.contains_key(&record) {
                continue;
            }
            new += 1;
            self.quarantined.insert(record, why.clone());
            let places = self.objects(kind);
            if places.get(&id).is_some_and(|place| place.pack == pack) {
                places.remove(&id);
            }
        }
        Ok(new)
    }

    pub(super) fn readmit(&mut self, records: IntactRecords) -> Result<u64, Error> {
        let IntactRecords { pack, kind, entries, objects, .. } = records;
        if objects.len() > MAX_DAMAGE_OBJECTS {
            return Err(Error::BadRequest(format!("more than {MAX_DAMAGE_OBJECTS} records at once")));
        }
        if self.packs.get(&pack).is_none_or(|known| known.records != entries) {
            return Ok(0);
        }
        let mut readmitted = 0;
        for (id, place) in objects {
            let was_quarantined = self.quarantined.remove(&(pack, kind.number(), id)).is_some();
            let is_lost = self.locate(kind, &[id])[0].is_none();
            if is_lost {
                self.objects(kind).insert(id, place);
            }
            if is_lost || was_quarantined {
                readmitted += u64::from(was_quarantined);
                self.marks.stamp(&[pack]);
                self.open.values_mut().for_each(|open| _ = open.holds.insert(pack));
            }
        }
        Ok(readmitted)
    }

    pub(super) fn unhealed_damage(&self) -> impl Iterator<Item = DamagedObject> {
        self.quarantined.iter().filter_map(|((pack, kind, id), why)| {
            let kind = Purpose::from_number(*kind).ok()?;
            let is_located = self.locate(kind, &[*id])[0].is_some();
            (!is_located).then(|| DamagedObject { id: *id, kind, pack: *pack, why: why.clone() })
        })
    }
}

#[cfg(test)]
impl super::MemoryCatalog {
    /// What closing an engine does to marks.
    pub(crate) fn forget_marks(&self) {
        self.state().marks = crate::catalog::active_marks::ActiveMarks::default();
    }
}
