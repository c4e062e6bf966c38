//! What a repository keeps, and what can be brought back. The repository decides, by its own clock.

use futures::TryStreamExt;
use imprint_content::{ImageName, TagName};
use imprint_proto::v1;

use crate::{Error, Repository, Version};

/// How much is kept of an image. 0 means that a rule keeps nothing; periods are those of UTC, weeks start on Monday.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeepRules {
    /// So many newest versions.
    pub last: u32,
    /// The newest version of each of so many hours.
    pub hourly: u32,
    /// The newest version of each of so many days.
    pub daily: u32,
    /// The newest version of each of so many weeks.
    pub weekly: u32,
    /// The newest version of each of so many months.
    pub monthly: u32,
    /// The newest version of each of so many years.
    pub yearly: u32,
    /// What these tags name.
    pub tags: Vec<TagName>,
}

/// Whether rules are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForgetMode {
    /// Only say what they would do.
    DryRun,
    /// Remove what they do not keep.
    Remove,
}

/// What rules decided about a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionFate {
    /// The version's number.
    pub number: u64,
    /// The repository's clock at commit, milliseconds since 1970.
    pub committed_unix_ms: i64,
    /// Why it is kept, for people; empty when it is not.
    pub kept_because: Vec<String>,
}

/// A version that was removed and can be brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedVersion {
    /// The version.
    pub version: Version,
    /// The repository's clock at its removal, milliseconds since 1970.
    pub removed_unix_ms: i64,
    /// It can be brought back until then at least.
    pub grace_end_unix_ms: i64,
}

impl Repository {
    /// Removes a version that no tag names and that is not pinned. Returns until when it can be brought back at least
    /// (the repository's clock, milliseconds since 1970).
    pub async fn remove_version(&self, version: &Version) -> Result<i64, Error> {
        let request = v1::RemoveVersionRequest { version: Some(version.key()) };
        Ok(self.client().remove_version(request).await?.into_inner().grace_end_unix_ms)
    }

    /// Removes the versions of an image that rules do not keep, or says which those are. All versions, by number.
    ///
    /// # Errors
    /// Some of them may be removed already; the same call again does the rest.
    pub async fn forget_versions(
        &self,
        image: &ImageName,
        keep: &KeepRules,
        mode: ForgetMode,
    ) -> Result<Vec<VersionFate>, Error> {
        let request = v1::ForgetVersionsRequest {
            image: image.to_string(),
            keep: Some(v1::KeepRules {
                last: keep.last,
                hourly: keep.hourly,
                daily: keep.daily,
                weekly: keep.weekly,
                monthly: keep.monthly,
                yearly: keep.yearly,
                tags: keep.tags.iter().map(TagName::to_string).collect(),
            }),
            dry_run: mode == ForgetMode::DryRun,
        };
        let fates = self.client().forget_versions(request).await?.into_inner();
        let fate = |wire: v1::VersionFate| VersionFate {
            number: wire.number,
            committed_unix_ms: wire.committed_unix_ms,
            kept_because: wire.kept_because,
        };
        fates.map_ok(fate).map_err(Error::from).try_collect().await
    }

    /// Removed versions of one image, or of all, that can be brought back.
    pub async fn removed_versions(&self, image: Option<&ImageName>) -> Result<Vec<RemovedVersion>, Error> {
        let request = v1::ListRemovedRequest { image: image.map(ImageName::to_string).unwrap_or_default() };
        let removed = self.client().list_removed(request).await?.into_inner();
        removed.map_err(Error::from).and_then(async |wire| removed_version(wire)).try_collect().await
    }

    /// Brings a removed version back, with its number and without tags. A live one is returned as it is.
    pub async fn undelete_version(&self, image: &ImageName, number: u64) -> Result<Version, Error> {
        let request = v1::UndeleteVersionRequest { version: Some(v1::VersionKey { image: image.to_string(), number }) };
        Version::from_wire(self.client().undelete_version(request).await?.into_inner())
    }

    /// Pins a version, so that it cannot be removed. Whether it was not pinned before.
    pub async fn pin_version(&self, version: &Version) -> Result<bool, Error> {
        let request = v1::PinVersionRequest { version: Some(version.key()) };
        Ok(self.client().pin_version(request).await?.into_inner().changed)
    }

    /// Takes the pin from a version. Whether it was pinned.
    pub async fn unpin_version(&self, version: &Version) -> Result<bool, Error> {
        let request = v1::UnpinVersionRequest { version: Some(version.key()) };
        Ok(self.client().unpin_version(request).await?.into_inner().changed)
    }
}

fn removed_version(wire: v1::RemovedVersion) -> Result<RemovedVersion, Error> {
    let version = wire.version.ok_or_else(|| Error::Protocol("a removed version is not described".into()))?;
    Ok(RemovedVersion {
        version: Version::from_wire(version)?,
        removed_unix_ms: wire.removed_unix_ms,
        grace_end_unix_ms: wire.grace_end_unix_ms,
    })
}
