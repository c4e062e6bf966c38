//! Marks, and what they let be condemned.
//!
//! Condemning and committing are serialised by the lock of decisions, holding and condemning by the lock on holds. So
//! of a commit and a condemnation that concern one pack either comes first and the other one sees it. The pack leaves
//! the set of live packs under both locks, before the journal says so: nobody comes to rely on it meanwhile.

use std::collections::{BTreeSet, HashSet};

use imprint_content::ObjectId;

use super::{
    Inner, lock,
    reading::{Reading, bad, checked},
    replay,
};
use crate::{
    Error, PackId,
    catalog::{
        Candidate, Condemnation, FinishedMark, Mark, MarkEnd, MarkId, Refusal, Root, RootKind, VersionCounts,
        VersionKey, VersionRecord,
        journal::{Decision, Position},
        keys::{self, Table},
        rocks::Batch,
        values,
    },
    pack::Purpose,
};

impl Inner {
    /// Roots are listed from a view of the moment at which stamping began; the locks are not kept for that.
    pub(super) fn begin_mark(&self) -> Result<Mark, Error> {
        let (id, reading) = {
            let _decisions = self.decisions()?;
            let _holds = lock(&self.holds)?;
            (lock(&self.marks)?.begin(), self.read())
        };
        let mark = reading.mark(id);
        let mut marks = lock(&self.marks)?;
        match &mark {
            Ok(mark) => marks.counted(id, mark.counts),
            Err(_) => _ = marks.end(id),
        }
        mark
    }

    pub(super) fn end_mark(&self, mark: MarkId, end: MarkEnd) -> Result<(), Error> {
        let Some(counts) = lock(&self.marks)?.end(mark) else { return Ok(()) };
        match end {
            MarkEnd::Abandoned => Ok(()),
            MarkEnd::Finished(finished_unix_ms) => {
                self.decide_anyway(Decision::MarkFinished(FinishedMark { finished_unix_ms, counts }))
            }
        }
    }

    pub(super) fn condemn(
        &self,
        mark: MarkId,
        candidates: &[Candidate],
        condemned_unix_ms: i64,
    ) -> Result<Vec<Condemnation>, Error> {
        let mut journal = self.decisions()?;
        let answers = self.take_from_live(mark, candidates)?;
        let is_condemned = |(_, answer): &(&Candidate, &Condemnation)| **answer == Condemnation::Condemned;
        let condemned: Vec<&Candidate> =
            candidates.iter().zip(&answers).filter(is_condemned).map(|(candidate, _)| candidate).collect();
        if condemned.is_empty() {
            return Ok(answers);
        }
        let packs: Vec<PackId> = condemned.iter().map(|candidate| candidate.pack).collect();
        let decision = Decision::PacksCondemned { packs: packs.clone(), condemned_unix_ms };
        let position = journal.append(&decision).inspect_err(|_| {
            // Not decided, and nobody was told.
            self.live_packs_mut().extend(packs);
        })?;
        self.apply(position, &decision, |reading, batch| {
            condemned.iter().try_for_each(|candidate| forget_locations(reading, candidate, batch))
        })?;
        Ok(answers)
    }

    /// What becomes of each candidate; those that are condemned are live no longer.
    fn take_from_live(&self, mark: MarkId, candidates: &[Candidate]) -> Result<Vec<Condemnation>, Error> {
        let _holds = lock(&self.holds)?;
        let reading = self.read();
        let damaged = self.unhealed_among(&reading, candidates)?;
        let mut answers = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            answers.push(match self.refusal(&reading, mark, candidate, &damaged)? {
                Some(refusal) => Condemnation::Refused(refusal),
                None => Condemnation::Condemned,
            });
        }
        // All or none: an error above leaves every pack where it was.
        let mut live = self.live_packs_mut();
        for (candidate, answer) in candidates.iter().zip(&mut answers) {
            if *answer == Condemnation::Condemned && !live.remove(&candidate.pack) {
                // Named twice.
                *answer = Condemnation::Refused(Refusal::NotLive);
            }
        }
        Ok(answers)
    }

    fn refusal(
        &self,
        reading: &Reading<'_>,
        mark: MarkId,
        candidate: &Candidate,
        damaged: &HashSet<(Purpose, ObjectId)>,
    ) -> Result<Option<Refusal>, Error> {
        let pack = candidate.pack;
        let Some(record) = reading.pack(pack)?.filter(|_| self.live_packs().contains(&pack)) else {
            return Ok(Some(Refusal::NotLive));
        };
        match lock(&self.marks)?.is_stamped(mark, pack) {
            None => return Ok(Some(Refusal::MarkEnded)),
            Some(true) => return Ok(Some(Refusal::Stamped)),
            Some(false) => {}
        }
        if reading.is_held(pack)? {
            return Ok(Some(Refusal::Held));
        }
        let distinct: HashSet<&ObjectId> = candidate.objects.iter().collect();
        if distinct.len() != candidate.objects.len() || candidate.objects.len() != record.records as usize {
            return Ok(Some(Refusal::OtherRecords));
        }
        let located = self.locate(record.purpose, &candidate.objects)?;
        let mut here = located.iter().flatten().filter(|location| location.pack == pack);
        if here.any(|location| candidate.marked.contains(location.ordinal)) {
            return Ok(Some(Refusal::Marked));
        }
        let is_damaged = candidate.objects.iter().any(|id| damaged.contains(&(record.purpose, *id)));
        Ok(is_damaged.then_some(Refusal::Damaged))
    }

    pub(super) fn forget_condemned(&self, packs: &[PackId]) -> Result<(), Error> {
        let _decisions = self.decisions()?;
        let mut batch = Batch::default();
        packs.iter().for_each(|pack| batch.delete(&keys::condemned(*pack)));
        self.write(batch)
    }

    pub(super) fn ever_condemned(&self, mut packs: Vec<PackId>) -> Result<Vec<PackId>, Error> {
        let entries = lock(&self.journal)?.read_from(Position::START)?;
        let mut condemned = HashSet::new();
        for entry in entries {
            if let (_, Decision::PacksCondemned { packs, .. }) = entry? {
                condemned.extend(packs);
            }
        }
        packs.retain(|pack| condemned.contains(pack));
        Ok(packs)
    }
}

/// Places in a pack that is condemned would never count again; they only take room.
fn forget_locations(reading: &Reading<'_>, candidate: &Candidate, batch: &mut Batch) -> Result<(), Error> {
    let Some(record) = reading.pack(candidate.pack)? else { return Ok(()) };
    for id in &candidate.objects {
        replay::unlocate(reading, candidate.pack, record.purpose, id, batch)?;
    }
    Ok(())
}

impl Reading<'_> {
    fn mark(&self, id: MarkId) -> Result<Mark, Error> {
        let mut roots = Vec::new();
        let mut versions = 0;
        let live = keys::table(Table::Versions);
        self.view.scan(&live, &live, usize::MAX, |_, value| {
            let version = values::decode_version(value).map_err(bad)?;
            let kind = RootKind::Live { committed_unix_ms: version.committed_unix_ms };
            versions += 1;
            roots.push(root(version, kind));
            Ok(())
        })?;
        let removed = keys::table(Table::Removed);
        self.view.scan(&removed, &removed, usize::MAX, |_, value| {
            let version = values::decode_removed(value).map_err(bad)?.version;
            let kind = RootKind::Removed { committed_unix_ms: version.committed_unix_ms };
            versions += 1;
            roots.push(root(version, kind));
            Ok(())
        })?;
        for base in self.open_uploads()?.into_iter().filter_map(|(_, upload)| upload.base) {
            roots.push(Root { node: base.root, version: base.version, kind: RootKind::Base });
        }
        let counts = VersionCounts { versions, purged: self.purged_count()? };
        let last_finished = self.view.get(&keys::finished_mark(), checked(values::decode_finished_mark))?;
        Ok(Mark { id, roots, counts, last_finished })
    }

    pub(super) fn purged_count(&self) -> Result<u64, Error> {
        Ok(self.view.get(&keys::purged_count(), checked(values::decode_count))?.unwrap_or(0))
    }

    pub(super) fn held_packs(&self) -> Result<BTreeSet<PackId>, Error> {
        let mut packs = BTreeSet::new();
        for (upload, _) in self.open_uploads()? {
            packs.extend(self.holds(upload)?);
        }
        Ok(packs)
    }

    fn is_held(&self, pack: PackId) -> Result<bool, Error> {
        for (upload, _) in self.open_uploads()? {
            if self.holds_pack(upload, pack)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn is_condemned(&self, pack: PackId) -> Result<bool, Error> {
        Ok(self.view.get(&keys::condemned(pack), |_| Ok(()))?.is_some())
    }

    pub(super) fn condemned_packs(&self) -> Result<Vec<PackId>, Error> {
        let table = keys::table(Table::Condemned);
        let mut packs = Vec::new();
        self.view.scan(&table, &table, usize::MAX, |key, _| {
            packs.push(keys::parse_pack(key).map_err(bad)?);
            Ok(())
        })?;
        Ok(packs)
    }
}

fn root(version: VersionRecord, kind: RootKind) -> Root {
    let VersionRecord { image, number, content, .. } = version;
    Root { node: content.root, version: VersionKey { image, number }, kind }
}
