//! How long versions are kept: rules, pins, and the time in which a removal can be taken back.
//!
//! All times are this process's clock, when the decision is made: whatever a client says of time changes nothing. And no
//! time decides whether something is safe to delete, only when a version stops being kept.

mod calendar;
mod rules;

use std::time::Duration;

use imprint_content::ImageName;

use crate::{
    Error,
    catalog::{RemovedVersion, VersionKey, VersionRecord},
    clock::now_unix_ms,
};

use super::{PAGE, Store};

pub use rules::{DatedVersion, KeepReason, KeepRules, Period};

/// What rules decide about a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionFate {
    /// The version.
    pub version: DatedVersion,
    /// Why it is kept; empty when it is removed.
    pub kept_because: Vec<String>,
}

impl Store {
    /// Removes a version, and returns until when it can be brought back at least (the server's clock, milliseconds since
    /// 1970). Durable on return.
    pub async fn remove_version(&self, key: VersionKey) -> Result<i64, Error> {
        let now = now_unix_ms();
        self.catalog.remove_version(key, now).await?;
        Ok(end_of_grace(now, self.catalog.grace().await?))
    }

    /// Brings a removed version back, without tags. Durable on return.
    pub async fn undelete_version(&self, key: VersionKey) -> Result<VersionRecord, Error> {
        self.catalog.undelete_version(key, now_unix_ms()).await
    }

    /// Pins a version or takes its pin away; whether that changed anything. Durable on return.
    pub async fn set_pin(&self, key: VersionKey, is_pinned: bool) -> Result<bool, Error> {
        match is_pinned {
            true => self.catalog.pin_version(key, now_unix_ms()).await,
            false => self.catalog.unpin_version(key, now_unix_ms()).await,
        }
    }

    /// Removed versions that can be brought back, one page at a time, each with the time at which its grace ends.
    pub async fn removed_after(
        &self,
        image: Option<ImageName>,
        after: Option<VersionKey>,
    ) -> Result<Vec<(RemovedVersion, i64)>, Error> {
        let grace = self.catalog.grace().await?;
        let page = self.catalog.removed_versions(image, after, PAGE).await?;
        Ok(page.into_iter().map(|it| (it.removed_unix_ms, it)).map(|(at, it)| (it, end_of_grace(at, grace))).collect())
    }

    /// Sets how long removed versions can be brought back. Durable on return.
    pub async fn set_grace(&self, grace: Duration) -> Result<(), Error> {
        self.catalog.set_grace(grace, now_unix_ms()).await
    }

    /// What rules decide about every version of an image, by ascending numbers.
    ///
    /// # Errors
    /// [`Error::BadRequest`] without any rule, [`Error::TagNotFound`] for a tag that no version has,
    /// [`Error::WouldForgetAll`] when no version would be kept.
    pub async fn plan_forget(&self, image: &ImageName, rules: &KeepRules) -> Result<Vec<VersionFate>, Error> {
        if rules.is_empty() {
            return Err(Error::BadRequest("a rule that says what to keep is needed".into()));
        }
        let versions = self.dated_versions(image).await?;
        // A rule that was mistyped would keep nothing.
        if let Some(tag) = rules.tags.iter().find(|tag| !versions.iter().any(|version| version.tags.contains(*tag))) {
            return Err(Error::TagNotFound { image: image.clone(), tag: tag.clone() });
        }
        let fates = rules::apply(rules, versions);
        let keeps_nothing = !fates.is_empty() && fates.iter().all(|(_, reasons)| reasons.is_empty());
        if keeps_nothing {
            return Err(Error::WouldForgetAll(image.clone()));
        }
        let fate = |(version, reasons): (DatedVersion, Vec<KeepReason>)| VersionFate {
            version,
            kept_because: reasons.iter().map(KeepReason::to_string).collect(),
        };
        Ok(fates.into_iter().map(fate).collect())
    }

    async fn dated_versions(&self, image: &ImageName) -> Result<Vec<DatedVersion>, Error> {
        let tags = self.catalog.tags(image.clone()).await?;
        let pins = self.catalog.pins(image.clone()).await?;
        let (mut versions, mut after) = (Vec::new(), 0);
        loop {
            let page = self.versions_after(image.clone(), after).await?;
            let Some(last) = page.last() else { return Ok(versions) };
            after = last.number;
            versions.extend(page.iter().map(|version| DatedVersion {
                number: version.number,
                committed_unix_ms: version.committed_unix_ms,
                tags: tags.iter().filter(|tag| tag.number == version.number).map(|tag| tag.name.clone()).collect(),
                is_pinned: pins.binary_search(&version.number).is_ok(),
            }));
        }
    }

    /// Removes a version that rules do not keep. It stays when somebody tagged or pinned it meanwhile; that is the reason
    /// then. Durable on return.
    pub async fn forget_version(&self, image: &ImageName, mut fate: VersionFate) -> Result<VersionFate, Error> {
        if !fate.kept_because.is_empty() {
            return Ok(fate);
        }
        let key = VersionKey { image: image.clone(), number: fate.version.number };
        match self.catalog.remove_version(key, now_unix_ms()).await {
            // Removed meanwhile, by somebody else.
            Ok(()) | Err(Error::VersionNotFound { .. }) => {}
            Err(Error::VersionTagged { tags, .. }) => fate.kept_because.push(format!("tag {tags}")),
            Err(Error::VersionPinned { .. }) => fate.kept_because.push("pinned".into()),
            Err(error) => return Err(error),
        }
        Ok(fate)
    }
}

fn end_of_grace(removed_unix_ms: i64, grace: Duration) -> i64 {
    removed_unix_ms.saturating_add(i64::try_from(grace.as_millis()).unwrap_or(i64::MAX))
}
