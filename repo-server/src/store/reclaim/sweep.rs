//! Does what was planned: dead packs first, because that needs no room, then group after group.

use super::{
    CollectControl, CollectPhase, CollectReport, Marks, Plan, Rewrite, Store, delete_condemned, repack::repack,
};
use crate::{
    Error, PackId,
    catalog::{Candidate, Condemnation, MarkId, Refusal, Root},
    clock::now_unix_ms,
    pack::read_index,
};

/// Records whose places are looked up in one decision. Pushes wait for that long, so it is short.
const BATCH_RECORDS: usize = 4096;
/// Files that wait for being deleted.
const BATCH_PACKS: usize = 64;

pub(super) struct Sweep<'a> {
    pub(super) store: &'a Store,
    pub(super) mark: MarkId,
    pub(super) roots: &'a [Root],
    pub(super) marks: &'a Marks,
    pub(super) control: &'a CollectControl,
    pub(super) report: &'a mut CollectReport,
}

impl Sweep<'_> {
    pub(super) async fn run(mut self, plan: &Plan) -> Result<(), Error> {
        self.delete_dead(&plan.dead).await?;
        self.control.begin(CollectPhase::Rewriting, plan.rewrites.iter().map(|group| group.live_bytes).sum());
        for group in &plan.rewrites {
            self.control.expect_going_on()?;
            match self.rewrite(group).await {
                // What is dead is gone; the rest needs room that is not there.
                Err(error @ Error::Full { .. }) => {
                    self.report.incomplete = Some(error.to_string());
                    return Ok(());
                }
                rewritten => rewritten?,
            }
        }
        Ok(())
    }

    /// A few at a time: where packs have many small records, the ids of one take as much as those of a hundred others.
    async fn delete_dead(&mut self, dead: &[PackId]) -> Result<(), Error> {
        self.control.begin(CollectPhase::Deleting, dead.len() as u64);
        let mut waiting = Vec::new();
        for (n, pack) in dead.iter().enumerate() {
            waiting.extend(self.candidates(&[*pack]).await?);
            let records: usize = waiting.iter().map(|candidate| candidate.objects.len()).sum();
            if records >= BATCH_RECORDS || waiting.len() >= BATCH_PACKS || n + 1 == dead.len() {
                self.condemn(std::mem::take(&mut waiting)).await?;
                delete_condemned(self.store).await?;
            }
            self.control.advance(1);
        }
        Ok(())
    }

    async fn rewrite(&mut self, group: &Rewrite) -> Result<(), Error> {
        let candidates = self.candidates(&group.packs).await?;
        let repacked = repack(self.store, group.purpose, &candidates, self.roots, self.control).await?;
        self.report.written_bytes += repacked.written_bytes;
        self.report.damaged_records += repacked.damaged_records;
        self.condemn(candidates).await?;
        delete_condemned(self.store).await?;
        Ok(())
    }

    /// What is in these packs, and what of it was marked. Packs whose contents cannot be known stay: they are evidence.
    async fn candidates(&mut self, packs: &[PackId]) -> Result<Vec<Candidate>, Error> {
        let mut candidates = Vec::with_capacity(packs.len());
        for pack in packs {
            self.control.expect_going_on()?;
            match read_index(&*self.store.packs, self.store.repository, *pack).await {
                Ok(index) if index.damage.is_empty() => {
                    let objects = index.objects.into_iter().map(|(id, _)| id).collect();
                    candidates.push(Candidate { pack: *pack, objects, marked: self.marks.of_pack(*pack) });
                }
                Ok(_) => self.keep(*pack, "a part of it is damaged"),
                // Also one that cannot be opened: it costs its own space, not that of all others.
                Err(
                    error @ (Error::RecordCorrupt { .. }
                    | Error::PackMissing(_)
                    | Error::PackTooNew { .. }
                    | Error::Io { .. }),
                ) => self.keep(*pack, &error.with_cause()),
                Err(error) => return Err(error),
            }
        }
        Ok(candidates)
    }

    fn keep(&mut self, pack: PackId, why: &str) {
        tracing::warn!(%pack, why, "a pack is left as it is");
        self.report.kept_packs += 1;
    }

    async fn condemn(&mut self, candidates: Vec<Candidate>) -> Result<(), Error> {
        for batch in batches(candidates) {
            self.control.expect_going_on()?;
            let packs: Vec<PackId> = batch.iter().map(|candidate| candidate.pack).collect();
            let bytes = self.bytes_of(&packs).await?;
            let answers = self.store.catalog.condemn(self.mark, batch, now_unix_ms()).await?;
            for ((pack, bytes), answer) in packs.into_iter().zip(bytes).zip(answers) {
                match answer {
                    Condemnation::Condemned => {
                        self.report.deleted.packs += 1;
                        self.report.deleted.bytes += bytes;
                    }
                    // Somebody relies on it: all in order.
                    Condemnation::Refused(Refusal::Held | Refusal::Stamped) => self.report.busy_packs += 1,
                    Condemnation::Refused(why) => self.keep(pack, &why.to_string()),
                }
            }
        }
        Ok(())
    }

    async fn bytes_of(&self, packs: &[PackId]) -> Result<Vec<u64>, Error> {
        let mut bytes = Vec::with_capacity(packs.len());
        for pack in packs {
            bytes.push(self.store.packs.length(*pack).await?);
        }
        Ok(bytes)
    }
}

fn batches(candidates: Vec<Candidate>) -> Vec<Vec<Candidate>> {
    let mut batches: Vec<Vec<Candidate>> = Vec::new();
    let mut records = 0;
    for candidate in candidates {
        records += candidate.objects.len();
        match batches.last_mut() {
            Some(batch) if records <= BATCH_RECORDS => batch.push(candidate),
            _ => {
                records = candidate.objects.len();
                batches.push(vec![candidate]);
            }
        }
    }
    batches
}
