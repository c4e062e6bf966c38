//! Decisions: look, decide, append to the journal, apply.

use std::collections::BTreeSet;

use imprint_content::{ImageName, TagName};

use super::{
    Inner, lock,
    reading::{Reading, version_not_found},
    replay,
    uploads::expect_same,
};
use crate::{
    Error, UploadId,
    catalog::{
        NewVersion, TagRecord, VersionKey, VersionRecord,
        journal::{Commit, Decision, Position},
        rocks::Batch,
    },
};

/// What looking came to.
pub(super) enum Plan<T> {
    /// It was decided before.
    Decided(T),
    /// Decide this, then answer that.
    Decide(Decision, T),
}

impl Inner {
    /// Runs one decision. Nothing is decided between what `plan` reads and what the journal gets.
    pub(super) fn decide<T>(&self, plan: impl FnOnce(&Reading<'_>) -> Result<Plan<T>, Error>) -> Result<T, Error> {
        let mut journal = self.decisions()?;
        let (decision, answer) = match plan(&self.read())? {
            Plan::Decided(answer) => return Ok(answer),
            Plan::Decide(decision, answer) => (decision, answer),
        };
        let position = journal.append(&decision)?;
        self.apply(position, &decision, |_, _| Ok(()))?;
        Ok(answer)
    }

    /// Runs a decision that nothing speaks against.
    pub(super) fn decide_anyway(&self, decision: Decision) -> Result<(), Error> {
        self.decide(|_| Ok(Plan::Decide(decision, ())))
    }

    /// Changes the index as a decision says that the journal has, and in the same write as `more` says.
    ///
    /// The decision stands. If the index does not take it, nothing may be decided on top of what the index says: after
    /// a full disk the next decision applies it first, after anything else opening does. Both without `more`.
    pub(super) fn apply(
        &self,
        position: Position,
        decision: &Decision,
        more: impl FnOnce(&Reading<'_>, &mut Batch) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let apply = || {
            let _holds = lock(&self.holds)?;
            let reading = self.read();
            let mut batch = Batch::default();
            replay::apply(&reading, position, decision, &mut batch)?;
            more(&reading, &mut batch)?;
            self.index.write(batch)
        };
        apply().inspect_err(|error| {
            if !matches!(error, Error::Full { .. }) {
                self.gate.stop(format!("a decision is in the journal, but the catalog could not take it: {error}"));
            }
        })
    }

    pub(super) fn commit(&self, version: NewVersion) -> Result<VersionRecord, Error> {
        self.decide(|reading| {
            let plan = reading.plan_commit(version)?;
            // Before the decision, while its holds are still there: what it relies on was held when its tree was checked.
            if let Plan::Decide(Decision::Commit(commit), _) = &plan {
                self.stamp_what_is_held(reading, commit.version.upload)?;
            }
            Ok(plan)
        })
    }

    fn stamp_what_is_held(&self, reading: &Reading<'_>, upload: UploadId) -> Result<(), Error> {
        let mut marks = lock(&self.marks)?;
        if !marks.is_empty() {
            marks.stamp(&reading.holds(upload)?);
        }
        Ok(())
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
}

impl Reading<'_> {
    fn plan_commit(&self, new: NewVersion) -> Result<Plan<VersionRecord>, Error> {
        if let Some(version) = self.committed_version(new.upload)? {
            expect_same(new.upload, version.image == new.image, "it was committed to another image")?;
            expect_same(new.upload, version.content == new.content, "it was committed with another content")?;
            return Ok(Plan::Decided(version));
        }
        let open = self.open_upload(new.upload)?.ok_or(Error::UploadNotOpen(new.upload))?;
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
}
