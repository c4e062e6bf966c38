//! Decisions: look, decide, append to the journal, apply.

use std::{
    collections::BTreeSet,
    time::{SystemTime, UNIX_EPOCH},
};

use imprint_content::{ImageName, TagName};

use super::{
    Inner, lock,
    reading::{Reading, version_not_found},
    replay,
    uploads::{expect_same, not_open},
};
use crate::{
    Error,
    catalog::{
        NewVersion, TagRecord, VersionKey, VersionRecord,
        journal::{Commit, Decision, Position},
        rocks::Batch,
    },
};

/// What looking came to.
enum Plan<T> {
    /// It was decided before.
    Decided(T),
    /// Decide this, then answer that.
    Decide(Decision, T),
}

impl Inner {
    /// Runs one decision. Nothing is decided between what `plan` reads and what the journal gets.
    fn decide<T>(&self, plan: impl FnOnce(&Reading<'_>) -> Result<Plan<T>, Error>) -> Result<T, Error> {
        let mut journal = self.decisions()?;
        let (decision, answer) = match plan(&self.read())? {
            Plan::Decided(answer) => return Ok(answer),
            Plan::Decide(decision, answer) => (decision, answer),
        };
        let position = journal.append(&decision)?;
        // From here on the decision stands. If the index does not take it, nothing may be decided on top of what
        // the index says: after a full disk the next decision applies it first, after anything else opening does.
        self.apply(position, &decision).inspect_err(|error| {
            if !matches!(error, Error::Full { .. }) {
                self.gate.stop(format!("a decision is in the journal, but the catalog could not take it: {error}"));
            }
        })?;
        Ok(answer)
    }

    fn apply(&self, position: Position, decision: &Decision) -> Result<(), Error> {
        let _holds = lock(&self.holds)?;
        let mut batch = Batch::default();
        replay::apply(&self.read(), position, decision, &mut batch)?;
        self.index.write(batch)
    }

    pub(super) fn commit(&self, version: NewVersion) -> Result<VersionRecord, Error> {
        self.decide(|reading| reading.plan_commit(version))
    }

    pub(super) fn set_tag(&self, to: VersionKey, name: TagName, expected: Option<u64>) -> Result<TagRecord, Error> {
        self.decide(|reading| {
            reading.known_image(&to.image)?;
            if reading.live_version(&to.image, to.number)?.is_none() {
                return Err(version_not_found(&to.image, &to.number));
            }
            let counter = reading.next_counter(&to.image, &name, expected)?;
            let tag = TagRecord { image: to.image, name, number: to.number, counter };
            Ok(Plan::Decide(Decision::TagSet(tag.clone()), tag))
        })
    }

    pub(super) fn remove_tag(&self, image: ImageName, name: TagName, expected: Option<u64>) -> Result<(), Error> {
        self.decide(|reading| {
            reading.known_image(&image)?;
            if reading.tag(&image, &name)?.and_then(|tag| tag.number).is_none() {
                return Err(Error::TagNotFound { image, tag: name });
            }
            let counter = reading.next_counter(&image, &name, expected)?;
            Ok(Plan::Decide(Decision::TagRemoved { image, name, counter }, ()))
        })
    }

    pub(super) fn remove_version(&self, version: VersionKey) -> Result<(), Error> {
        self.decide(|reading| {
            let VersionKey { image, number } = &version;
            reading.known_image(image)?;
            if reading.live_version(image, *number)?.is_none() {
                return Err(version_not_found(image, number));
            }
            reading.expect_untagged(image, *number)?;
            Ok(Plan::Decide(Decision::VersionRemoved { version, removed_unix_ms: now_unix_ms() }, ()))
        })
    }
}

impl Reading<'_> {
    fn plan_commit(&self, new: NewVersion) -> Result<Plan<VersionRecord>, Error> {
        if let Some(version) = self.committed_version(new.upload)? {
            expect_same(new.upload, version.image == new.image, "it was committed to another image")?;
            expect_same(new.upload, version.content == new.content, "it was committed with another content")?;
            return Ok(Plan::Decided(version));
        }
        let open = self.open_upload(new.upload)?.ok_or_else(|| not_open(new.upload))?;
        expect_same(new.upload, open.image == new.image, "it was opened for another image")?;
        let number = self.next_number(&new.image)?;
        let tags = self.plan_tags(&new.image, number, &new.tags)?;
        let version = new.numbered(number);
        let commit = Commit { version: version.clone(), tags };
        Ok(Plan::Decide(Decision::Commit(Box::new(commit)), version))
    }

    fn next_number(&self, image: &ImageName) -> Result<u64, Error> {
        let highest = self.image(image)?.map_or(0, |image| image.highest_number);
        highest.checked_add(1).ok_or_else(|| Error::Catalog(format!("{image} has no more numbers")))
    }

    fn plan_tags(&self, image: &ImageName, number: u64, names: &[TagName]) -> Result<Vec<TagRecord>, Error> {
        let distinct: BTreeSet<&TagName> = names.iter().collect();
        let tag = |name: &TagName| {
            let counter = self.next_counter(image, name, None)?;
            Ok(TagRecord { image: image.clone(), name: name.clone(), number, counter })
        };
        distinct.into_iter().map(tag).collect()
    }

    /// Compares a tag's counter with the one its caller knows, and gives the next. A removed tag compares as 0 but
    /// counts on.
    fn next_counter(&self, image: &ImageName, name: &TagName, expected: Option<u64>) -> Result<u64, Error> {
        let tag = self.tag(image, name)?;
        let actual = tag.filter(|tag| tag.number.is_some()).map_or(0, |tag| tag.counter);
        match expected {
            Some(expected) if expected != actual => {
                Err(Error::TagMoved { image: image.clone(), tag: name.clone(), expected, actual })
            }
            _ => tag
                .map_or(0, |tag| tag.counter)
                .checked_add(1)
                .ok_or_else(|| Error::Catalog(format!("{image}:{name} has no more counters"))),
        }
    }

    fn expect_untagged(&self, image: &ImageName, number: u64) -> Result<(), Error> {
        let tags = self.tags(image)?.into_iter().filter(|tag| tag.number == number);
        let names: Vec<_> = tags.map(|tag| tag.name.to_string()).collect();
        if names.is_empty() {
            return Ok(());
        }
        Err(Error::VersionTagged { image: image.clone(), number, tags: names.join(", ") })
    }
}

fn now_unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
