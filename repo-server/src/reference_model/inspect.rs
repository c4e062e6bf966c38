//! Looks at what the repository has, and compares it with the model.

use std::{collections::HashMap, sync::Arc};

use futures::TryStreamExt as _;
use imprint_content::{ObjectId, Payload};

use super::{
    content::Content,
    model::{Change, Key, Listing, Standing, image_name},
    operation::{IMAGES, TAGS},
    session::{Session, Trouble, ensure, fail},
};
use crate::{
    Error, PackId,
    catalog::{Location, VersionRecord},
    pack::{Purpose, record_length},
    store::{Store, TreePiece},
};

/// Header and footer of a pack with hardly anything in it.
const FRAME_BYTES: u64 = 256;

/// Everything, without what is remembered.
async fn read(store: &Store, version: &VersionRecord) -> Result<Vec<u8>, Error> {
    let (mut bytes, mut offsets) = (Vec::new(), Vec::new());
    let mut walk = store.walk_tree(version, None).await?;
    while let Some(TreePiece::Leaf(extents)) = walk.next().await? {
        for extent in extents {
            offsets.extend(extent.chunk().map(|_| bytes.len() as u64));
            bytes.resize(bytes.len() + extent.length as usize, 0);
        }
    }
    let mut chunks = store.read_chunks(version).await?;
    let groups: Vec<_> = chunks.read(&offsets).await?.try_collect().await?;
    for chunk in groups.into_iter().flatten() {
        let payload = Payload { codec: chunk.codec, raw_length: chunk.raw_length, stored: chunk.stored };
        let raw = payload.decode().map_err(|error| Error::BadRequest(error.to_string()))?;
        bytes[chunk.offset as usize..][..raw.len()].copy_from_slice(&raw);
    }
    Ok(bytes)
}

/// What a version that lost something may fail with.
pub(super) const fn is_damage(error: &Error) -> bool {
    matches!(
        error,
        Error::RecordCorrupt { .. } | Error::PackMissing(_) | Error::ObjectMissing(_) | Error::PackTooNew { .. }
    )
}

impl Session {
    /// After each operation.
    pub(super) async fn check_something(&mut self) -> Result<(), Trouble> {
        let live: Vec<Key> = self.model.live().map(|(key, _)| key).collect();
        let sample = self.random.below(live.len().max(1) as u64) as usize;
        if let Some(key) = live.get(sample) {
            self.check_version(*key).await?;
        }
        if self.random.percent(20) {
            self.check_listing().await?;
        }
        Ok(())
    }

    pub(super) async fn check_everything(&mut self) -> Result<(), Trouble> {
        self.check_listing().await?;
        let live: Vec<Key> = self.model.live().map(|(key, _)| key).collect();
        for key in live {
            self.check_version(key).await?;
        }
        Ok(())
    }

    /// Exact, or an error that has a reason.
    pub(super) async fn check_version(&mut self, key: Key) -> Result<(), Trouble> {
        let content = Arc::clone(self.model.live_content(key).expect("it is live"));
        // Half of them through what is remembered.
        let store = self.process().store.clone();
        let store = if self.random.percent(50) { store } else { store.interposed(|packs| packs) };
        let version = store.version(key.version()).await?;
        self.counts.restores += 1;
        match read(&store, &version).await {
            Ok(bytes) => ensure(bytes == content.bytes(), || format!("{key:?} restores to other bytes")),
            Err(error) if is_damage(&error) && self.excuses(&content).await? => {
                self.counts.refused_restores += 1;
                Ok(())
            }
            Err(error) if is_damage(&error) && !self.disk.has_crashed() => {
                fail(format!("{key:?} cannot be restored: {error}"))
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn check_listing(&mut self) -> Result<(), Trouble> {
        let (found, expected) = (self.listing().await?, self.model.listing());
        ensure(found == expected, || format!("the repository has\n{found:?}, the model\n{expected:?}"))
    }

    async fn listing(&self) -> Result<Listing, Trouble> {
        let store = self.process().store.clone();
        let mut listing = Listing::default();
        for image in store.catalog().images(None, usize::MAX).await? {
            let of_name = (0..IMAGES).find(|number| image_name(*number) == image.name);
            let Some(number) = of_name else { return fail(format!("there is an image {}", image.name)) };
            listing.highest.insert(number, image.highest_number);
            let key = |version| Key { image: number, number: version };
            let versions = store.catalog().versions(image.name.clone(), 0, usize::MAX).await?;
            ensure(versions.len() as u64 == image.versions, || format!("{} versions are counted", image.versions))?;
            listing.live.extend(versions.iter().map(|version| (key(version.number), version.upload)));
            let removed = store.catalog().removed_versions(Some(image.name.clone()), None, usize::MAX).await?;
            listing
                .removed
                .extend(removed.iter().map(|removed| (key(removed.version.number), removed.removed_unix_ms)));
            for tag in store.catalog().tags(image.name.clone()).await? {
                let of_name = (0..TAGS).find(|number| super::model::tag_name(*number) == tag.name);
                let Some(name) = of_name else { return fail(format!("there is a tag {}", tag.name)) };
                listing.tags.insert((number, name), tag.number);
            }
            listing.pins.extend(store.catalog().pins(image.name).await?.into_iter().map(key));
        }
        Ok(listing)
    }

    /// After a crash: what was under way has happened, or it has not.
    pub(super) async fn resolve(&mut self, doubt: Vec<Change>) -> Result<(), Trouble> {
        let found = self.listing().await?;
        for change in doubt {
            if found.shows(&change) {
                self.model.apply(change);
            }
        }
        self.learn_removal_times().await?;
        self.check_listing().await
    }

    /// Where the server took the time itself.
    pub(super) async fn learn_removal_times(&mut self) -> Result<(), Trouble> {
        let found = self.listing().await?.removed;
        for (key, version) in &mut self.model.versions {
            if let (Standing::Removed { unix_ms, .. }, Some(time)) = (&mut version.standing, found.get(key)) {
                *unix_ms = *time;
            }
        }
        Ok(())
    }

    /// After a collection without grace, with nobody around: nothing is left but what versions need, less than half of
    /// each pack being dead, in as few packs as may be.
    pub(super) async fn check_space(&self) -> Result<(), Trouble> {
        let store = &self.process().store;
        let needed: Vec<&Arc<Content>> = self.model.with_content().map(|(_, content)| content).collect();
        let places = locate(store, &needed).await?;
        let mut live: HashMap<PackId, u64> = HashMap::new();
        for ((purpose, id), location) in &places {
            let Some(location) = location else { return fail(format!("{purpose:?} {id} is located nowhere")) };
            *live.entry(location.pack).or_default() += record_length(location.stored_length);
        }
        let packs = store.catalog().packs().await?;
        for purpose in [Purpose::Chunks, Purpose::Nodes] {
            let small = packs.iter().filter(|pack| pack.purpose == purpose && pack.bytes < 8 << 20).count();
            ensure(small <= 1, || format!("{small} small packs of {purpose:?} are left"))?;
        }
        for pack in &packs {
            let live = live.get(&pack.id).copied().unwrap_or(0);
            ensure(live * 2 + FRAME_BYTES >= pack.bytes, || {
                format!("of {} bytes of a pack {live} are needed: {pack:?}", pack.bytes)
            })?;
        }
        let mut stored = self.process().packs.list_all().await?;
        stored.sort_unstable();
        let known: Vec<PackId> = packs.iter().map(|pack| pack.id).collect();
        ensure(stored == known, || format!("there are files {stored:?}, and packs {known:?}"))
    }
}

pub(super) type Places = HashMap<(Purpose, ObjectId), Option<Location>>;

/// Where everything of these is.
pub(super) async fn locate(store: &Store, contents: &[&Arc<Content>]) -> Result<Places, Error> {
    let mut places = Places::new();
    for purpose in [Purpose::Chunks, Purpose::Nodes] {
        let objects = contents.iter().flat_map(|content| &content.objects).filter(|object| object.0 == purpose);
        let ids: Vec<ObjectId> = objects.map(|object| object.1).collect();
        let locations = store.catalog().locate(purpose, ids.clone()).await?;
        places.extend(ids.into_iter().map(|id| (purpose, id)).zip(locations));
    }
    Ok(places)
}
