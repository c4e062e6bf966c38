//! A catalog in memory, for tests of what stands on top of one. Nothing outlives it.
//!
//! Also the model of what a catalog does: it keeps no places that do not count, and one lock makes everything one moment.

mod reclamation;
mod retention;
mod seam;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use imprint_content::{ImageName, ObjectId, Selector, TagName, name::LATEST};

use super::{
    BaseRecord, FinishedMark, Location, NewVersion, PackRecord, RemovedVersion, ScrubState, Totals, UploadRecord,
    UploadState, VersionKey, VersionRecord, active_marks::ActiveMarks, uses::Uses,
};
use crate::{Error, PackId, UploadId, clock::now_unix_ms, pack::Purpose};

/// Keeps everything in maps.
#[derive(Debug, Default)]
pub struct MemoryCatalog {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    chunks: BTreeMap<ObjectId, Location>,
    nodes: BTreeMap<ObjectId, Location>,
    packs: BTreeMap<PackId, PackRecord>,
    images: BTreeMap<ImageName, Image>,
    open: BTreeMap<UploadId, Open>,
    committed: BTreeMap<UploadId, VersionKey>,
    uses: Uses,
    marks: ActiveMarks,
    finished: Option<FinishedMark>,
    purged: u64,
    grace: Option<Duration>,
    condemned: BTreeSet<PackId>,
    ever_condemned: BTreeSet<PackId>,
    trees_in_doubt: bool,
    quarantined: BTreeMap<(PackId, u8, ObjectId), String>,
    verified: BTreeMap<PackId, i64>,
    scrub: ScrubState,
}

#[derive(Debug)]
struct Open {
    image: ImageName,
    base: Option<BaseRecord>,
    used_unix_ms: i64,
    holds: BTreeSet<PackId>,
}

#[derive(Debug, Default)]
struct Image {
    highest_number: u64,
    versions: BTreeMap<u64, VersionRecord>,
    removed: BTreeMap<u64, RemovedVersion>,
    pins: BTreeSet<u64>,
    tags: BTreeMap<TagName, Tag>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Tag {
    counter: u64,
    /// `None` once it was removed.
    number: Option<u64>,
}

impl MemoryCatalog {
    /// An empty catalog.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets a version as if it had never been committed: what a damaged catalog may do.
    #[cfg(test)]
    pub(crate) fn lose_version(&self, key: &VersionKey) {
        self.state()
            .images
            .get_mut(&key.image)
            .and_then(|image| image.versions.remove(&key.number))
            .expect("it is live");
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn image(&self, name: &ImageName) -> Result<&Image, Error> {
        self.images.get(name).ok_or_else(|| Error::ImageNotFound(name.clone()))
    }

    fn live(&self, key: &VersionKey) -> Result<&VersionRecord, Error> {
        let version = self.images.get(&key.image).and_then(|image| image.versions.get(&key.number));
        version.ok_or_else(|| not_found(&key.image, &key.number))
    }

    fn locate(&self, kind: Purpose, ids: &[ObjectId]) -> Vec<Option<Location>> {
        let objects = match kind {
            Purpose::Chunks => &self.chunks,
            Purpose::Nodes => &self.nodes,
        };
        ids.iter().map(|id| objects.get(id).copied()).collect()
    }

    fn open_upload(&mut self, upload: UploadRecord) -> Result<UploadState, Error> {
        let mismatch = |why| Err(Error::UploadMismatch { upload: upload.id, why });
        if let Some(key) = self.committed.get(&upload.id) {
            return match self.live(key)? {
                version if version.image == upload.image => Ok(UploadState::Committed(Box::new(version.clone()))),
                _ => mismatch("it was committed to another image"),
            };
        }
        let used_unix_ms = now_unix_ms();
        let base = match self.open.get_mut(&upload.id) {
            Some(open) if open.image != upload.image => return mismatch("it was opened for another image"),
            Some(open) if open.base.as_ref().map(|base| &base.version) != upload.base.as_ref() => {
                return mismatch("it was opened with another base");
            }
            Some(open) => {
                open.used_unix_ms = used_unix_ms;
                open.base.clone()
            }
            None => {
                let base = upload.base.map(|key| self.base(key)).transpose()?;
                let open = Open { image: upload.image, base: base.clone(), used_unix_ms, holds: BTreeSet::new() };
                self.open.insert(upload.id, open);
                base
            }
        };
        Ok(UploadState::Open { base: base.map(Box::new) })
    }

    fn base(&self, key: VersionKey) -> Result<BaseRecord, Error> {
        let version = self.live(&key)?;
        Ok(BaseRecord { id: version.id, root: version.content.root, version: key })
    }

    fn commit(&mut self, new: NewVersion) -> Result<VersionRecord, Error> {
        let mismatch = |why| Err(Error::UploadMismatch { upload: new.upload, why });
        if let Some(key) = self.committed.get(&new.upload) {
            return match self.live(key)? {
                version if version.image != new.image => mismatch("it was committed to another image"),
                version if version.content != new.content => mismatch("it was committed with another content"),
                version => Ok(version.clone()),
            };
        }
        match self.open.get(&new.upload) {
            None => return Err(Error::UploadNotOpen(new.upload)),
            Some(open) if open.image != new.image => return mismatch("it was opened for another image"),
            Some(open) => self.marks.stamp(&Vec::from_iter(open.holds.iter().copied())),
        }
        self.open.remove(&new.upload);
        let image = self.images.entry(new.image.clone()).or_default();
        image.highest_number += 1;
        let number = image.highest_number;
        for name in BTreeSet::from_iter(new.tags.clone()) {
            image.tags.entry(name).or_default().change(Some(number));
        }
        let version = new.numbered(number);
        image.versions.insert(number, version.clone());
        self.committed.insert(version.upload, VersionKey { image: version.image.clone(), number });
        Ok(version)
    }

    /// Changes a tag if its counter is the expected one.
    fn change_tag(
        &mut self,
        image: &ImageName,
        name: &TagName,
        expected: Option<u64>,
        number: Option<u64>,
    ) -> Result<u64, Error> {
        let tags = &mut self.images.get_mut(image).ok_or_else(|| Error::ImageNotFound(image.clone()))?.tags;
        let mut tag = tags.get(name).copied().unwrap_or_default();
        let actual = if tag.number.is_some() { tag.counter } else { 0 };
        if let Some(expected) = expected.filter(|expected| *expected != actual) {
            return Err(Error::TagMoved { image: image.clone(), tag: name.clone(), expected, actual });
        }
        tag.change(number);
        tags.insert(name.clone(), tag);
        Ok(tag.counter)
    }

    fn version(&self, name: ImageName, selector: &Selector) -> Result<VersionRecord, Error> {
        let image = self.image(&name)?;
        let number = match selector {
            Selector::Latest => *image.versions.keys().next_back().ok_or_else(|| not_found(&name, &LATEST))?,
            Selector::Number(number) => *number,
            Selector::Tag(tag) => match image.tags.get(tag).and_then(|tag| tag.number) {
                Some(number) => number,
                None => return Err(Error::TagNotFound { image: name, tag: tag.clone() }),
            },
            Selector::IdPrefix(prefix) => image.by_id(&name, prefix)?,
        };
        self.live(&VersionKey { image: name, number }).cloned()
    }

    fn totals(&self) -> Totals {
        let versions = || self.images.values().flat_map(|image| image.versions.values());
        let packs = |purpose| self.packs.values().filter(move |pack| pack.purpose == purpose);
        Totals {
            images: self.images.values().filter(|image| !image.versions.is_empty()).count() as u64,
            versions: versions().count() as u64,
            image_bytes: versions().map(|version| version.content.length).sum(),
            data_bytes: versions().map(|version| version.data_bytes).sum(),
            packs: self.packs.len() as u64,
            pack_bytes: self.packs.values().map(|pack| pack.bytes).sum(),
            chunks: packs(Purpose::Chunks).map(|pack| u64::from(pack.records)).sum(),
            nodes: packs(Purpose::Nodes).map(|pack| u64::from(pack.records)).sum(),
        }
    }
}

impl Image {
    fn tags_of(&self, number: u64) -> Vec<String> {
        let naming = self.tags.iter().filter(|(_, tag)| tag.number == Some(number));
        naming.map(|(name, _)| name.to_string()).collect()
    }

    /// The newest version whose id starts with these digits, if all of those have one id.
    fn by_id(&self, name: &ImageName, prefix: &str) -> Result<u64, Error> {
        let matching = || self.versions.values().filter(|version| version.id.to_string().starts_with(prefix));
        let ids: BTreeSet<_> = matching().map(|version| version.id).collect();
        match (matching().next_back(), ids.len()) {
            (None, _) => Err(not_found(name, &prefix)),
            (Some(version), 1) => Ok(version.number),
            _ => {
                let (image, prefix) = (name.clone(), prefix.to_owned());
                Err(Error::AmbiguousId { image, prefix, count: matching().count() })
            }
        }
    }
}

impl Tag {
    fn change(&mut self, number: Option<u64>) {
        *self = Self { counter: self.counter + 1, number };
    }
}

fn not_found(image: &ImageName, wanted: &impl ToString) -> Error {
    Error::VersionNotFound { image: image.clone(), wanted: wanted.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::laws::every_law;

    every_law!(((), MemoryCatalog::new()));
}
