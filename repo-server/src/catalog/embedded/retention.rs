//! Versions that leave, for a while or for good, and pins that keep them.

use std::time::Duration;

use imprint_content::ImageName;

use super::{
    Inner,
    decisions::Plan,
    reading::{Reading, bad, checked, version_not_found},
};
use crate::{
    Error,
    catalog::{
        DEFAULT_GRACE, RemovedVersion, VersionKey, VersionRecord,
        journal::Decision,
        keys::{self, Table},
        values,
    },
};

impl Inner {
    pub(super) fn remove_version(&self, version: VersionKey, removed_unix_ms: i64) -> Result<(), Error> {
        self.decide(|reading| {
            reading.expect_live(&version)?;
            let VersionKey { image, number } = &version;
            reading.expect_untagged(image, *number)?;
            if reading.is_pinned(&version)? {
                return Err(Error::VersionPinned { image: image.clone(), number: *number });
            }
            Ok(Plan::Decide(Decision::VersionRemoved { version, removed_unix_ms }, ()))
        })
    }

    pub(super) fn undelete_version(&self, version: VersionKey, undeleted_unix_ms: i64) -> Result<VersionRecord, Error> {
        self.decide(|reading| {
            reading.known_image(&version.image)?;
            if let Some(live) = reading.live_version(&version.image, version.number)? {
                return Ok(Plan::Decided(live));
            }
            let wanted = format!("{} that could be brought back", version.number);
            let removed = reading.removed_version(&version)?;
            let record = removed.ok_or_else(|| version_not_found(&version.image, &wanted))?.version;
            Ok(Plan::Decide(Decision::VersionUndeleted { version, undeleted_unix_ms }, record))
        })
    }

    pub(super) fn purge_version(
        &self,
        version: VersionKey,
        removed_unix_ms: i64,
        purged_unix_ms: i64,
    ) -> Result<(), Error> {
        self.decide(|reading| {
            reading.known_image(&version.image)?;
            match reading.removed_version(&version)? {
                Some(removed) if removed.removed_unix_ms == removed_unix_ms => {
                    Ok(Plan::Decide(Decision::VersionPurged { version, purged_unix_ms }, ()))
                }
                _ => {
                    let wanted = format!("{} that was removed at that time", version.number);
                    Err(version_not_found(&version.image, &wanted))
                }
            }
        })
    }

    pub(super) fn set_grace(&self, grace: Duration, set_unix_ms: i64) -> Result<(), Error> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.decide(|reading| match reading.grace()? == Duration::from_millis(grace_ms) {
            true => Ok(Plan::Decided(())),
            false => Ok(Plan::Decide(Decision::GraceSet { grace_ms, set_unix_ms }, ())),
        })
    }

    pub(super) fn pin_version(&self, version: VersionKey, pinned_unix_ms: i64) -> Result<bool, Error> {
        self.decide(|reading| {
            reading.expect_live(&version)?;
            if reading.is_pinned(&version)? {
                return Ok(Plan::Decided(false));
            }
            Ok(Plan::Decide(Decision::VersionPinned { version, pinned_unix_ms }, true))
        })
    }

    pub(super) fn unpin_version(&self, version: VersionKey, unpinned_unix_ms: i64) -> Result<bool, Error> {
        self.decide(|reading| {
            reading.expect_live(&version)?;
            if !reading.is_pinned(&version)? {
                return Ok(Plan::Decided(false));
            }
            Ok(Plan::Decide(Decision::VersionUnpinned { version, unpinned_unix_ms }, true))
        })
    }
}

impl Reading<'_> {
    /// Fails unless the version is live.
    pub(super) fn expect_live(&self, VersionKey { image, number }: &VersionKey) -> Result<VersionRecord, Error> {
        self.known_image(image)?;
        self.live_version(image, *number)?.ok_or_else(|| version_not_found(image, number))
    }

    /// A version, if it was removed and not purged.
    pub(super) fn removed_version(&self, version: &VersionKey) -> Result<Option<RemovedVersion>, Error> {
        self.view.get(&keys::removed(&version.image, version.number), checked(values::decode_removed))
    }

    fn is_pinned(&self, version: &VersionKey) -> Result<bool, Error> {
        Ok(self.view.get(&keys::pin(&version.image, version.number), |_| Ok(()))?.is_some())
    }

    fn expect_untagged(&self, image: &ImageName, number: u64) -> Result<(), Error> {
        let tags = self.tags(image)?.into_iter().filter(|tag| tag.number == number);
        let names: Vec<_> = tags.map(|tag| tag.name.to_string()).collect();
        if names.is_empty() {
            return Ok(());
        }
        Err(Error::VersionTagged { image: image.clone(), number, tags: names.join(", ") })
    }

    pub(super) fn removed_versions(
        &self,
        image: Option<&ImageName>,
        after: Option<&VersionKey>,
        limit: usize,
    ) -> Result<Vec<RemovedVersion>, Error> {
        let prefix = match image {
            Some(image) => {
                self.known_image(image)?;
                keys::removed_of(image)
            }
            None => keys::table(Table::Removed),
        };
        let after = after.map(|key| keys::after(keys::removed(&key.image, key.number)));
        let from = after.map_or_else(|| prefix.clone(), |after| after.max(prefix.clone()));
        let mut removed = Vec::new();
        self.view.scan(&prefix, &from, limit, |_, value| {
            removed.push(values::decode_removed(value).map_err(bad)?);
            Ok(())
        })?;
        Ok(removed)
    }

    pub(super) fn grace(&self) -> Result<Duration, Error> {
        let grace_ms = self.view.get(&keys::grace(), checked(values::decode_count))?;
        Ok(grace_ms.map_or(DEFAULT_GRACE, Duration::from_millis))
    }

    pub(super) fn pins(&self, image: &ImageName) -> Result<Vec<u64>, Error> {
        self.known_image(image)?;
        let prefix = keys::pins_of(image);
        let mut numbers = Vec::new();
        self.view.scan(&prefix, &prefix, usize::MAX, |key, _| {
            numbers.push(keys::parse_number(key).map_err(bad)?);
            Ok(())
        })?;
        Ok(numbers)
    }
}
