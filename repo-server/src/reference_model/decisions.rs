//! Removals, tags, pins and rules: what they must answer, and that they do.

use super::{
    model::{Change, Key, Standing, Tag, image_name, tag_name},
    operation::{Expected, Operation},
    session::{Session, Trouble, ensure, fail},
};
use crate::{Error, catalog::UploadRecord, clock::now_unix_ms, store::KeepRules};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Longer ago than the grace that is given to some.
const LONG_AGO_MS: i64 = 10 * DAY_MS;

/// What a decision must come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Done,
    VersionNotFound,
    ImageNotFound,
    TagNotFound,
    TagMoved,
    Tagged,
    Pinned,
}

impl Answer {
    /// An answer that was foreseen, or the error.
    fn of<T>(result: Result<T, Error>) -> Result<Self, Trouble> {
        match result {
            Ok(_) => Ok(Self::Done),
            Err(Error::VersionNotFound { .. }) => Ok(Self::VersionNotFound),
            Err(Error::ImageNotFound(_)) => Ok(Self::ImageNotFound),
            Err(Error::TagNotFound { .. }) => Ok(Self::TagNotFound),
            Err(Error::TagMoved { .. }) => Ok(Self::TagMoved),
            Err(Error::VersionTagged { .. }) => Ok(Self::Tagged),
            Err(Error::VersionPinned { .. }) => Ok(Self::Pinned),
            Err(error) => Err(error.into()),
        }
    }
}

impl Session {
    pub(super) async fn decide(&mut self, operation: &Operation) -> Result<(), Trouble> {
        match *operation {
            Operation::Repeat { version } => self.repeat(version).await,
            Operation::Remove { version, long_ago } => self.remove(version, long_ago).await,
            Operation::Undelete { version } => self.undelete(version).await,
            Operation::SetTag { version, tag, expected } => self.set_tag(version, tag, expected).await,
            Operation::RemoveTag { image, tag, expected } => self.remove_tag((image, tag), expected).await,
            Operation::SetPin { version, is_pinned } => self.set_pin(version, is_pinned).await,
            Operation::Forget { image, last } => self.forget(image, last).await,
            _ => fail("this cannot be done within a process"),
        }
    }

    /// Compares an answer; a change that was acknowledged is one of the model.
    fn answered(&mut self, what: &str, expected: Answer, answer: Answer, change: Change) -> Result<(), Trouble> {
        ensure(answer == expected, || format!("{what} came to {answer:?}, not {expected:?} ({change:?})"))?;
        match answer {
            Answer::Done => self.acknowledged(change),
            _ => self.no_longer_doubted(),
        }
        Ok(())
    }

    async fn repeat(&mut self, version: usize) -> Result<(), Trouble> {
        let Some(key) = self.model.any(version) else { return Ok(()) };
        let record = UploadRecord { id: self.model.versions[&key].upload, image: image_name(key.image), base: None };
        let state = self.process().store.catalog().open_upload(record).await;
        match (state, self.model.is_live(key)) {
            (Ok(crate::catalog::UploadState::Committed(version)), true) if version.number == key.number => Ok(()),
            (Err(Error::VersionNotFound { .. }), false) => Ok(()),
            (Err(error), _) => Err(error.into()),
            (Ok(state), _) => fail(format!("the upload of {key:?}, opened again, gives {state:?}")),
        }
    }

    async fn remove(&mut self, version: usize, long_ago: bool) -> Result<(), Trouble> {
        let Some(key) = self.model.pick(version) else { return Ok(()) };
        let expected = match () {
            () if !self.model.is_live(key) => Answer::VersionNotFound,
            () if self.model.is_tagged(key) => Answer::Tagged,
            () if self.model.pins.contains(&key) => Answer::Pinned,
            () => Answer::Done,
        };
        let unix_ms = now_unix_ms() - if long_ago { LONG_AGO_MS } else { 0 };
        let change = Change::Remove { key, unix_ms };
        self.doubt.push(change.clone());
        let removed = self.process().store.catalog().remove_version(key.version(), unix_ms).await;
        self.answered("removing", expected, Answer::of(removed)?, change)
    }

    async fn undelete(&mut self, version: usize) -> Result<(), Trouble> {
        let Some(key) = self.model.pick(version) else { return Ok(()) };
        let expected = match self.model.versions[&key].standing {
            Standing::Gone => Answer::VersionNotFound,
            _ => Answer::Done,
        };
        let change = Change::Undelete(key);
        self.doubt.push(change.clone());
        let undeleted = self.process().store.undelete_version(key.version()).await;
        self.answered("undeleting", expected, Answer::of(undeleted)?, change)
    }

    /// The counter that is given, and whether it is the right one.
    fn counter(&self, tag: Tag, expected: Expected, known: u64) -> (Option<u64>, bool) {
        // A removed tag is expected as one that does not exist.
        let known = if self.model.tags.contains_key(&tag) { known } else { 0 };
        match expected {
            Expected::Anything => (None, true),
            Expected::Known => (Some(known), true),
            Expected::Stale => (Some(known + 1_000_000), false),
        }
    }

    async fn set_tag(&mut self, version: usize, tag: usize, expected: Expected) -> Result<(), Trouble> {
        let Some(key) = self.model.pick(version) else { return Ok(()) };
        let place = (key.image, tag);
        let highest = self.model.counters.get(&place).copied().unwrap_or(0);
        let known = self.tag_counter(place).await?;
        let (counter, is_right) = self.counter(place, expected, known);
        let answer = match self.model.is_live(key) {
            false => Answer::VersionNotFound,
            true if !is_right => Answer::TagMoved,
            true => Answer::Done,
        };
        let change = Change::SetTag { tag: place, number: key.number };
        self.doubt.push(change.clone());
        let set = self.process().store.catalog().set_tag(key.version(), tag_name(tag), counter).await;
        if let Ok(record) = &set {
            ensure(record.counter > highest, || format!("{place:?} has counter {}, after {highest}", record.counter))?;
            self.model.counters.insert(place, record.counter);
        }
        self.answered("tagging", answer, Answer::of(set)?, change)
    }

    async fn remove_tag(&mut self, tag: Tag, expected: Expected) -> Result<(), Trouble> {
        let known = self.tag_counter(tag).await?;
        let (counter, is_right) = self.counter(tag, expected, known);
        let answer = match () {
            () if !self.model.has_image(tag.0) => Answer::ImageNotFound,
            () if !self.model.tags.contains_key(&tag) => Answer::TagNotFound,
            () if !is_right => Answer::TagMoved,
            () => Answer::Done,
        };
        let change = Change::RemoveTag(tag);
        self.doubt.push(change.clone());
        let removed = self.process().store.catalog().remove_tag(image_name(tag.0), tag_name(tag.1), counter).await;
        self.answered("removing a tag", answer, Answer::of(removed)?, change)
    }

    /// As the repository tells it; 0 when there is none.
    async fn tag_counter(&mut self, tag: Tag) -> Result<u64, Trouble> {
        let tags = match self.process().store.catalog().tags(image_name(tag.0)).await {
            Err(Error::ImageNotFound(_)) => Vec::new(),
            tags => tags?,
        };
        let counter = tags.iter().find(|found| found.name == tag_name(tag.1)).map_or(0, |found| found.counter);
        let highest = self.model.counters.entry(tag).or_default();
        *highest = counter.max(*highest);
        Ok(counter)
    }

    async fn set_pin(&mut self, version: usize, is_pinned: bool) -> Result<(), Trouble> {
        let Some(key) = self.model.pick(version) else { return Ok(()) };
        let expected = if self.model.is_live(key) { Answer::Done } else { Answer::VersionNotFound };
        let change = Change::SetPin { key, is_pinned };
        let was_pinned = self.model.pins.contains(&key);
        self.doubt.push(change.clone());
        let set = self.process().store.set_pin(key.version(), is_pinned).await;
        if let Ok(has_changed) = set {
            ensure(has_changed == (was_pinned != is_pinned), || format!("{key:?}: pinned was {was_pinned}"))?;
        }
        self.answered("pinning", expected, Answer::of(set)?, change)
    }

    /// The newest stay, and what is tagged or pinned.
    async fn forget(&mut self, image: usize, last: u32) -> Result<(), Trouble> {
        let store = self.process().store.clone();
        let rules = KeepRules { last, ..KeepRules::default() };
        let fates = match store.plan_forget(&image_name(image), &rules).await {
            Err(Error::ImageNotFound(_)) if !self.model.has_image(image) => return Ok(()),
            fates => fates?,
        };
        let live: Vec<Key> = self.model.live().map(|(key, _)| key).filter(|key| key.image == image).collect();
        let newest = live.len().saturating_sub(last as usize);
        for (n, (key, fate)) in live.iter().zip(&fates).enumerate() {
            let stays = n >= newest || self.model.is_tagged(*key) || self.model.pins.contains(key);
            ensure(fate.version.number == key.number && stays != fate.kept_because.is_empty(), || {
                format!("rules that keep {last} say of {key:?}: {fate:?}")
            })?;
        }
        ensure(live.len() == fates.len(), || format!("rules look at {} versions of {}", fates.len(), live.len()))?;
        for (key, fate) in live.iter().zip(fates) {
            let goes = fate.kept_because.is_empty();
            // The time is the server's; the listing tells it.
            let change = Change::Remove { key: *key, unix_ms: now_unix_ms() };
            if goes {
                self.doubt.push(change.clone());
            }
            let fate = store.forget_version(&image_name(image), fate).await?;
            ensure(goes == fate.kept_because.is_empty(), || format!("{key:?} was to go, and stays: {fate:?}"))?;
            if goes {
                self.acknowledged(change);
                self.learn_removal_times().await?;
            }
        }
        Ok(())
    }
}
