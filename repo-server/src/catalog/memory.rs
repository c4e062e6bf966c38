//! A catalog in memory, for tests of what stands on top of one. Nothing outlives it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use imprint_content::{ImageName, ObjectId, Selector, TagName, name::LATEST};

use super::{
    Catalog, ImageRecord, Location, NewVersion, PackRecord, TagRecord, Totals, UploadRecord, UploadState, VersionKey,
    VersionRecord,
};
use crate::{Error, PackId, UploadId, pack::Purpose};

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
}

#[derive(Debug)]
struct Open {
    upload: UploadRecord,
    holds: BTreeSet<PackId>,
}

#[derive(Debug, Default)]
struct Image {
    highest_number: u64,
    versions: BTreeMap<u64, VersionRecord>,
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
        match self.open.get(&upload.id) {
            Some(open) if open.upload.image != upload.image => mismatch("it was opened for another image"),
            Some(open) if open.upload.base != upload.base => mismatch("it was opened with another base"),
            Some(_) => Ok(UploadState::Open),
            None => {
                upload.base.as_ref().map(|base| self.live(base)).transpose()?;
                self.open.insert(upload.id, Open { upload, holds: BTreeSet::new() });
                Ok(UploadState::Open)
            }
        }
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
            None => return Err(not_open(new.upload)),
            Some(open) if open.upload.image != new.image => return mismatch("it was opened for another image"),
            Some(_) => self.open.remove(&new.upload),
        };
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

fn not_open(upload: UploadId) -> Error {
    Error::BadRequest(format!("upload {upload} is not open"))
}

#[async_trait]
impl Catalog for MemoryCatalog {
    async fn locate(&self, kind: Purpose, ids: Vec<ObjectId>) -> Result<Vec<Option<Location>>, Error> {
        Ok(self.state().locate(kind, &ids))
    }

    async fn locate_and_hold(
        &self,
        upload: UploadId,
        kind: Purpose,
        ids: Vec<ObjectId>,
    ) -> Result<Vec<Option<Location>>, Error> {
        let mut state = self.state();
        let found = state.locate(kind, &ids);
        let open = state.open.get_mut(&upload).ok_or_else(|| not_open(upload))?;
        open.holds.extend(found.iter().flatten().map(|location| location.pack));
        Ok(found)
    }

    async fn add_pack(
        &self,
        pack: PackRecord,
        objects: Vec<(ObjectId, Location)>,
        holder: Option<UploadId>,
    ) -> Result<(), Error> {
        let mut state = self.state();
        if let Some(open) = holder.and_then(|upload| state.open.get_mut(&upload)) {
            open.holds.insert(pack.id);
        }
        let kind = pack.purpose;
        if state.packs.insert(pack.id, pack).is_none() {
            match kind {
                Purpose::Chunks => state.chunks.extend(objects),
                Purpose::Nodes => state.nodes.extend(objects),
            }
        }
        Ok(())
    }

    async fn packs(&self) -> Result<Vec<PackRecord>, Error> {
        Ok(self.state().packs.values().cloned().collect())
    }

    async fn open_upload(&self, upload: UploadRecord) -> Result<UploadState, Error> {
        self.state().open_upload(upload)
    }

    async fn close_upload(&self, upload: UploadId) -> Result<(), Error> {
        self.state().open.remove(&upload);
        Ok(())
    }

    async fn commit(&self, version: NewVersion) -> Result<VersionRecord, Error> {
        self.state().commit(version)
    }

    async fn set_tag(&self, to: VersionKey, tag: TagName, expected: Option<u64>) -> Result<TagRecord, Error> {
        let mut state = self.state();
        state.image(&to.image)?;
        state.live(&to)?;
        let counter = state.change_tag(&to.image, &tag, expected, Some(to.number))?;
        Ok(TagRecord { image: to.image, name: tag, number: to.number, counter })
    }

    async fn remove_tag(&self, image: ImageName, tag: TagName, expected: Option<u64>) -> Result<(), Error> {
        let mut state = self.state();
        if state.image(&image)?.tags.get(&tag).is_none_or(|tag| tag.number.is_none()) {
            return Err(Error::TagNotFound { image, tag });
        }
        state.change_tag(&image, &tag, expected, None).map(drop)
    }

    async fn remove_version(&self, version: VersionKey) -> Result<(), Error> {
        let mut state = self.state();
        let tags = state.image(&version.image)?.tags_of(version.number);
        state.live(&version)?;
        let VersionKey { image, number } = version;
        if !tags.is_empty() {
            return Err(Error::VersionTagged { image, number, tags: tags.join(", ") });
        }
        state.images.get_mut(&image).and_then(|image| image.versions.remove(&number));
        Ok(())
    }

    async fn version(&self, image: ImageName, selector: Selector) -> Result<VersionRecord, Error> {
        self.state().version(image, &selector)
    }

    async fn versions(&self, image: ImageName, after: u64, limit: usize) -> Result<Vec<VersionRecord>, Error> {
        let state = self.state();
        let above = (Bound::Excluded(after), Bound::Unbounded);
        Ok(state.image(&image)?.versions.range(above).take(limit).map(|(_, version)| version.clone()).collect())
    }

    async fn images(&self, after: Option<ImageName>, limit: usize) -> Result<Vec<ImageRecord>, Error> {
        let record = |(name, image): (&ImageName, &Image)| ImageRecord {
            name: name.clone(),
            versions: image.versions.len() as u64,
            highest_number: image.highest_number,
        };
        let above = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        Ok(self.state().images.range(above).take(limit).map(record).collect())
    }

    async fn tags(&self, image: ImageName) -> Result<Vec<TagRecord>, Error> {
        let state = self.state();
        let record = |(name, tag): (&TagName, &Tag)| {
            let (image, name) = (image.clone(), name.clone());
            tag.number.map(|number| TagRecord { image, name, number, counter: tag.counter })
        };
        Ok(state.image(&image)?.tags.iter().filter_map(record).collect())
    }

    async fn totals(&self) -> Result<Totals, Error> {
        Ok(self.state().totals())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::laws::every_law;

    every_law!(((), MemoryCatalog::new()));
}
