//! Versions that leave, and uploads that are given up.

use imprint_content::ImageName;

use super::{Image, State, not_found};
use crate::{
    Error, UploadId,
    catalog::{RemovedVersion, VersionKey, VersionRecord},
};

impl State {
    /// The image of a version that must be live.
    pub(super) fn live_image(&mut self, version: &VersionKey) -> Result<&mut Image, Error> {
        self.image(&version.image)?;
        self.live(version)?;
        self.known_image(&version.image)
    }

    fn known_image(&mut self, name: &ImageName) -> Result<&mut Image, Error> {
        self.images.get_mut(name).ok_or_else(|| Error::ImageNotFound(name.clone()))
    }

    pub(super) fn remove_version(&mut self, key: VersionKey, removed_unix_ms: i64) -> Result<(), Error> {
        let image = self.live_image(&key)?;
        let tags = image.tags_of(key.number);
        let VersionKey { image: name, number } = key;
        if !tags.is_empty() {
            return Err(Error::VersionTagged { image: name, number, tags: tags.join(", ") });
        }
        if image.pins.contains(&number) {
            return Err(Error::VersionPinned { image: name, number });
        }
        if let Some(version) = image.versions.remove(&number) {
            image.removed.insert(number, RemovedVersion { version, removed_unix_ms });
        }
        Ok(())
    }

    pub(super) fn undelete_version(&mut self, key: &VersionKey) -> Result<VersionRecord, Error> {
        let image = self.known_image(&key.image)?;
        if let Some(removed) = image.removed.remove(&key.number) {
            image.versions.insert(key.number, removed.version);
        }
        let wanted = format!("{} that could be brought back", key.number);
        image.versions.get(&key.number).cloned().ok_or_else(|| not_found(&key.image, &wanted))
    }

    pub(super) fn purge_version(&mut self, key: &VersionKey, removed_unix_ms: i64) -> Result<(), Error> {
        let image = self.known_image(&key.image)?;
        if image.removed.get(&key.number).is_none_or(|removed| removed.removed_unix_ms != removed_unix_ms) {
            return Err(not_found(&key.image, &format!("{} that was removed at that time", key.number)));
        }
        image.removed.remove(&key.number);
        self.purged += 1;
        Ok(())
    }

    pub(super) fn removed_versions(
        &self,
        image: Option<&ImageName>,
        after: Option<&VersionKey>,
        limit: usize,
    ) -> Result<Vec<RemovedVersion>, Error> {
        image.map(|image| self.image(image)).transpose()?;
        let is_wanted = |removed: &&RemovedVersion| {
            let (name, number) = (&removed.version.image, removed.version.number);
            image.is_none_or(|image| image == name)
                && after.is_none_or(|after| (name, number) > (&after.image, after.number))
        };
        let all = self.images.values().flat_map(|image| image.removed.values());
        Ok(all.filter(is_wanted).take(limit).cloned().collect())
    }

    pub(super) fn expire_uploads(&mut self, unused_since_unix_ms: i64) -> Vec<UploadId> {
        let uses = &self.uses;
        let expired =
            self.open.iter().filter(|(id, open)| open.used_unix_ms < unused_since_unix_ms && !uses.contains(**id));
        let expired: Vec<UploadId> = expired.map(|(id, _)| *id).collect();
        self.open.retain(|id, _| !expired.contains(id));
        expired
    }
}
