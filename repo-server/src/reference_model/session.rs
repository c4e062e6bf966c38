//! Does operations on a repository and on the model, and compares.
//!
//! The rule: whatever the repository acknowledged is in the model at once; what was under way in a crash is *in doubt*, and
//! the model follows what the repository shows afterwards, if that is one of the two.

use std::{sync::Arc, time::Duration};

use super::{
    content::Content,
    damage::Harmed,
    model::{Change, Key, Model},
    operation::{Base, Operation, PushPlan, SLOTS},
    process::Process,
    push::{Opened, Push},
    random::Random,
};
use crate::{
    Error,
    catalog::VersionRecord,
    crash_tests::index::{IndexLoss, Place},
    files::simulated::{Loss, Simulated},
};

/// Longer than any operation takes on a busy machine: a hang is a failure.
const DEADLINE: Duration = Duration::from_secs(300);
/// So many operations lie between two looks at everything.
const CHECK_EVERY: usize = 64;

/// Why an operation did not end as it should.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The store said so: a crash, or a failure.
    Store(Error),
    /// Something is not as it must be.
    Failed(String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

pub(super) fn fail<T>(why: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble::Failed(why.into()))
}

pub(super) fn ensure(is_so: bool, why: impl FnOnce() -> String) -> Result<(), Trouble> {
    if is_so { Ok(()) } else { fail(why()) }
}

/// What was done.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) operations: usize,
    pub(super) commits: usize,
    pub(super) collections: usize,
    pub(super) deleted_packs: u64,
    pub(super) restores: usize,
    /// Restores that failed because of damage.
    pub(super) refused_restores: usize,
    pub(super) crashes: usize,
    pub(super) harms: usize,
}

impl Counts {
    pub(super) const fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.commits += other.commits;
        self.collections += other.collections;
        self.deleted_packs += other.deleted_packs;
        self.restores += other.restores;
        self.refused_restores += other.refused_restores;
        self.crashes += other.crashes;
        self.harms += other.harms;
    }
}

/// How the next crash goes.
#[derive(Debug, Clone, Copy)]
struct CrashPlan {
    again: Option<usize>,
    seed: u64,
}

pub(super) struct Session {
    pub(super) model: Model,
    pub(super) pushes: [Option<Push>; SLOTS],
    pub(super) harmed: Harmed,
    pub(super) counts: Counts,
    /// Under way, and not acknowledged.
    pub(super) doubt: Vec<Change>,
    pub(super) random: Random,
    process: Option<Process>,
    pub(super) disk: Simulated,
    pub(super) place: Place,
    crash: Option<CrashPlan>,
}

impl Session {
    pub(super) fn new(seed: u64) -> Result<Self, Trouble> {
        let place = Place::new();
        let disk = Simulated::with_root(&place.path());
        let process = Some(Process::open(&disk, &place.path())?);
        Ok(Self {
            model: Model::default(),
            pushes: Default::default(),
            harmed: Harmed::default(),
            counts: Counts::default(),
            doubt: Vec::new(),
            random: Random::new(seed),
            process,
            disk,
            place,
            crash: None,
        })
    }

    pub(super) fn process(&self) -> &Process {
        self.process.as_ref().expect("there is one between operations")
    }

    /// Does all of it, and looks at everything in the end.
    pub(super) fn run(&mut self, operations: &[Operation]) -> Result<(), (usize, String)> {
        for (n, operation) in operations.iter().enumerate() {
            self.step(operation, n).map_err(|why| (n, why))?;
        }
        self.end().map_err(|why| (operations.len(), why))
    }

    fn step(&mut self, operation: &Operation, n: usize) -> Result<(), String> {
        self.counts.operations += operation.count();
        let done = self.dispatch(operation);
        self.settle(done)?;
        let checked = match n % CHECK_EVERY {
            0 => self.wait_for(async |session| session.check_everything().await),
            _ => self.wait_for(async |session| session.check_something().await),
        };
        self.settle(checked)
    }

    fn dispatch(&mut self, operation: &Operation) -> Result<(), Trouble> {
        match operation {
            Operation::Reopen => self.reopen(),
            Operation::Rebuild => self.rebuild(),
            Operation::Mend => self.mend(),
            Operation::KeepIndex => {
                // Not while RocksDB may change its files.
                self.close();
                self.place.snapshot();
                self.reopen()
            }
            Operation::Crash { calls, again, seed } => {
                self.crash = Some(CrashPlan { again: *again, seed: *seed });
                match calls {
                    0 => self.recover(),
                    calls => {
                        self.disk.crash_at(*calls);
                        Ok(())
                    }
                }
            }
            operation => self.wait_for(async |session| session.perform(operation).await),
        }
    }

    fn wait_for(&mut self, work: impl AsyncFnOnce(&mut Self) -> Result<(), Trouble>) -> Result<(), Trouble> {
        let runtime = Arc::clone(&self.process().runtime);
        runtime.block_on(async {
            tokio::time::timeout(DEADLINE, work(self)).await.unwrap_or_else(|_| fail("it does not come to an end"))
        })
    }

    /// A store whose disk died fails; after any other failure the sequence ends.
    fn settle(&mut self, done: Result<(), Trouble>) -> Result<(), String> {
        let result = match done {
            Ok(()) => {
                self.doubt.clear();
                Ok(())
            }
            Err(Trouble::Store(_)) if self.disk.has_crashed() => self.recover(),
            other => other,
        };
        result.map_err(|trouble| match trouble {
            Trouble::Store(error) => format!("an error that there is no reason for: {error} ({error:?})"),
            Trouble::Failed(why) => why,
        })
    }

    /// What may be done during a collection too.
    pub(super) async fn perform(&mut self, operation: &Operation) -> Result<(), Trouble> {
        match operation {
            Operation::Push { push, tag } => self.push(push, *tag).await,
            Operation::Begin { slot, push } => self.begin(*slot, push).await,
            Operation::Send { slot, objects } => match &mut self.pushes[*slot] {
                Some(push) => Ok(push.send(*objects).await.map(drop)?),
                None => Ok(()),
            },
            Operation::CutOff { slot, is_sealed } => match &mut self.pushes[*slot] {
                Some(push) => Ok(push.cut_off(*is_sealed).await?),
                None => Ok(()),
            },
            Operation::Resume { slot } => self.resume(*slot).await.map(drop),
            Operation::Commit { slot, tag } => self.commit(*slot, *tag).await,
            Operation::AtOnce { pushes } => self.at_once(pushes).await,
            Operation::Collect { grace, closes_uploads, during, is_stopped } => {
                Box::pin(self.collect(*grace, *closes_uploads, during, *is_stopped)).await
            }
            Operation::Harm { pack, harm, at } => self.harm(*pack, *harm, *at).await,
            Operation::Scrub => self.scrub().await,
            Operation::Restore { version } => match self.model.pick(*version).filter(|key| self.model.is_live(*key)) {
                Some(key) => self.check_version(key).await,
                None => Ok(()),
            },
            operation => self.decide(operation).await,
        }
    }

    /// A push as a client would plan it.
    pub(super) fn plan(&self, plan: &PushPlan) -> Push {
        let like = self.model.pick(plan.like);
        let like = like.and_then(|key| Some((key, Arc::clone(self.model.versions[&key].content()?))));
        let base = match plan.base {
            Base::None => None,
            Base::Like => like.clone().filter(|(key, _)| self.model.is_live(*key)),
            Base::Any(number) => self.model.pick(number).map(|key| {
                let content = self.model.versions[&key].content().cloned();
                (key, content.unwrap_or_else(|| Content::random(0, None)))
            }),
        };
        let content = Content::random(plan.seed, like.as_ref().map(|(_, content)| &**content));
        Push::new(plan.seed, plan.image, base, content)
    }

    async fn push(&mut self, plan: &PushPlan, tag: Option<usize>) -> Result<(), Trouble> {
        let mut push = self.plan(plan);
        if !self.open(&mut push, true).await? {
            return Ok(());
        }
        self.finish(&mut push, tag).await
    }

    async fn begin(&mut self, slot: usize, plan: &PushPlan) -> Result<(), Trouble> {
        let mut push = self.plan(plan);
        // The one before is never heard of again.
        self.pushes[slot] = None;
        if self.open(&mut push, true).await? {
            self.pushes[slot] = Some(push);
        }
        Ok(())
    }

    /// Whether the push can go on: not without its base, and not when a crash came between its commit and the answer.
    async fn open(&self, push: &mut Push, is_new: bool) -> Result<bool, Trouble> {
        let store = self.process().store.clone();
        let base_is_live = push.base.as_ref().is_none_or(|(key, _)| self.model.is_live(*key));
        let version = self.model.versions.iter().find(|(_, version)| version.upload == push.id).map(|(key, _)| *key);
        match (push.open(&store).await, version) {
            (Ok(Opened::Open), None) => {
                ensure(base_is_live || !is_new, || format!("a base that is not live was taken: {:?}", push.base))?;
                Ok(true)
            }
            (Ok(Opened::Committed(found)), Some(key)) if found.number == key.number && self.model.is_live(key) => {
                Ok(false)
            }
            (Err(Error::VersionNotFound { .. }), None) if !base_is_live => Ok(false),
            (Err(Error::VersionNotFound { .. }), Some(key)) if !self.model.is_live(key) => Ok(false),
            (Err(error), _) => Err(error.into()),
            (Ok(_), version) => fail(format!("an upload is opened, and was it committed? {version:?}")),
        }
    }

    async fn resume(&mut self, slot: usize) -> Result<bool, Trouble> {
        let Some(mut push) = self.pushes[slot].take() else { return Ok(false) };
        match self.open(&mut push, false).await {
            Ok(is_open) => {
                self.pushes[slot] = is_open.then_some(push);
                Ok(is_open)
            }
            Err(trouble) => {
                self.pushes[slot] = Some(push);
                Err(trouble)
            }
        }
    }

    async fn commit(&mut self, slot: usize, tag: Option<usize>) -> Result<(), Trouble> {
        if !self.pushes[slot].as_ref().is_some_and(Push::is_streaming) && !self.resume(slot).await? {
            return Ok(());
        }
        let Some(mut push) = self.pushes[slot].take() else { return Ok(()) };
        let finished = self.finish(&mut push, tag).await;
        if finished.is_err() {
            // After a crash it goes on.
            push.abandon();
            self.pushes[slot] = Some(push);
        }
        finished
    }

    async fn finish(&mut self, push: &mut Push, tag: Option<usize>) -> Result<(), Trouble> {
        let change = self.commit_of(push, tag);
        self.doubt.push(change.clone());
        let version = push.commit(tag, self.harmed.is_any()).await?;
        self.committed(&version, push, change)
    }

    pub(super) fn commit_of(&self, push: &Push, tag: Option<usize>) -> Change {
        let key = Key { image: push.image, number: self.model.next_number(push.image) };
        Change::Commit { key, upload: push.id, content: Arc::clone(&push.content), tag }
    }

    pub(super) fn committed(&mut self, version: &VersionRecord, push: &Push, change: Change) -> Result<(), Trouble> {
        let Change::Commit { key, .. } = &change else { return fail("not a commit") };
        ensure(version.number == key.number && version.upload == push.id, || {
            format!("{}@{} was given to a push, not {}", version.image, version.number, key.number)
        })?;
        self.counts.commits += 1;
        self.acknowledged(change);
        Ok(())
    }

    pub(super) fn acknowledged(&mut self, change: Change) {
        self.no_longer_doubted();
        self.model.apply(change);
    }

    /// A decision was answered. What a collection that is under way gives up stays in doubt: the disk may be dead, and the
    /// answer one that needs no disk.
    pub(super) fn no_longer_doubted(&mut self) {
        self.doubt.retain(|change| matches!(change, Change::Purge(_)));
    }

    fn reopen(&mut self) -> Result<(), Trouble> {
        self.close();
        if self.disk.has_crashed() {
            return self.recover();
        }
        match Process::open(&self.disk, &self.place.path()) {
            Ok(process) => {
                self.process = Some(process);
                Ok(())
            }
            Err(_) if self.disk.has_crashed() => self.recover(),
            Err(error) => fail(format!("the repository cannot be opened: {error}")),
        }
    }

    fn rebuild(&mut self) -> Result<(), Trouble> {
        self.harmed.catalog_was_derived();
        self.close();
        if !self.disk.has_crashed() {
            match Process::rebuild(&self.disk, &self.place.path()) {
                Err(error) if !self.disk.has_crashed() => {
                    return fail(format!("the catalog cannot be rebuilt: {error}"));
                }
                _ => {}
            }
        }
        self.place.remove_former_indexes();
        self.reopen()
    }

    /// Somebody has a backup of the packs.
    fn mend(&mut self) -> Result<(), Trouble> {
        self.wait_for(async |session| session.put_back().await)?;
        let crashes = self.counts.crashes;
        match self.harmed.is_derived() {
            true => self.rebuild()?,
            false => self.reopen()?,
        }
        // After a crash the catalog may be another one.
        match self.counts.crashes == crashes {
            true => self.wait_for(async |session| session.expect_mended().await),
            false => Ok(()),
        }
    }

    /// Streams and process end, whatever they were doing.
    fn close(&mut self) {
        let runtime = self.process.as_ref().map(|process| Arc::clone(&process.runtime));
        for push in self.pushes.iter_mut().flatten() {
            let _within = runtime.as_ref().map(|runtime| runtime.enter());
            push.abandon();
        }
        self.process = None;
        drop(runtime);
    }

    /// The power comes back.
    fn recover(&mut self) -> Result<(), Trouble> {
        let CrashPlan { again, seed } = self.crash.take().unwrap_or(CrashPlan { again: None, seed: 0 });
        let mut random = Random::new(seed);
        self.close();
        self.counts.crashes += 1;
        self.lose(&mut random);
        if let Some(calls) = again {
            self.disk.crash_at(calls + 1);
            let opened = Process::open(&self.disk, &self.place.path());
            match (opened, self.disk.has_crashed()) {
                (Err(error), false) => return fail(format!("after a crash: {error}")),
                (Ok(process), false) => drop(process),
                (_, true) => {
                    self.counts.crashes += 1;
                    self.lose(&mut random);
                }
            }
        }
        // From here on nothing is planned to go wrong.
        self.disk.crash_at(usize::MAX);
        match Process::open(&self.disk, &self.place.path()) {
            Ok(process) => self.process = Some(process),
            Err(error) => return fail(format!("after a crash the repository cannot be opened: {error}")),
        }
        let doubt = std::mem::take(&mut self.doubt);
        self.wait_for(async |session| {
            session.resolve(doubt).await?;
            session.check_everything().await
        })
    }

    fn lose(&mut self, random: &mut Random) {
        let mut loss = match random.below(4) {
            0 => Loss::Everything,
            1 => Loss::Nothing,
            _ => Loss::Random(random.number()),
        };
        self.harmed.catalog_was_derived();
        self.disk = self.disk.after_crash(&mut loss);
        self.place.lose(IndexLoss::of(random.below(4) as usize, random.number()));
    }

    /// What was harmed is found and healed, and everything is there.
    fn end(&mut self) -> Result<(), String> {
        self.disk.crash_at(usize::MAX);
        let ended = self.wait_for(async |session| session.heal_and_check().await);
        self.settle(ended)
    }
}
