//! What must be there: a map from versions to their content, and the rules that decide what may be done to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use imprint_content::{ImageName, TagName};

use super::{content::Content, operation::IMAGES};
use crate::{UploadId, catalog::VersionKey};

/// A version, by the number of its image and its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) image: usize,
    pub(super) number: u64,
}

/// An image's tag.
pub(super) type Tag = (usize, usize);

#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) upload: UploadId,
    pub(super) standing: Standing,
}

#[derive(Debug, Clone)]
pub(super) enum Standing {
    Live(Arc<Content>),
    Removed {
        content: Arc<Content>,
        unix_ms: i64,
    },
    /// Purged. Kept here to see that it never comes back.
    Gone,
}

/// One change of the map: one decision of the repository.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Commit { key: Key, upload: UploadId, content: Arc<Content>, tag: Option<usize> },
    Remove { key: Key, unix_ms: i64 },
    Undelete(Key),
    Purge(Key),
    SetTag { tag: Tag, number: u64 },
    RemoveTag(Tag),
    SetPin { key: Key, is_pinned: bool },
}

#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    pub(super) versions: BTreeMap<Key, Version>,
    pub(super) tags: BTreeMap<Tag, u64>,
    pub(super) pins: BTreeSet<Key>,
    /// The highest counter that each tag was seen with.
    pub(super) counters: BTreeMap<Tag, u64>,
}

/// What can be listed, of the model or of the repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) live: BTreeMap<Key, UploadId>,
    /// When they were removed, where that is known.
    pub(super) removed: BTreeMap<Key, i64>,
    pub(super) tags: BTreeMap<Tag, u64>,
    pub(super) pins: BTreeSet<Key>,
    /// Highest numbers ever given, by image.
    pub(super) highest: BTreeMap<usize, u64>,
}

impl Model {
    pub(super) fn next_number(&self, image: usize) -> u64 {
        self.highest(image) + 1
    }

    fn highest(&self, image: usize) -> u64 {
        let last = self.versions.range(..Key { image: image + 1, number: 0 }).next_back();
        last.filter(|(key, _)| key.image == image).map_or(0, |(key, _)| key.number)
    }

    /// Any version that there ever was.
    pub(super) fn any(&self, number: usize) -> Option<Key> {
        nth(self.versions.keys().copied(), self.versions.len(), number)
    }

    /// Mostly one that can be looked at.
    pub(super) fn pick(&self, number: usize) -> Option<Key> {
        let known: Vec<Key> = self.with_content().map(|(key, _)| key).collect();
        match number % 8 {
            0 => self.any(number / 8),
            _ => nth(known.iter().copied(), known.len(), number / 8),
        }
    }

    /// Live versions, and those that can be brought back.
    pub(super) fn with_content(&self) -> impl Iterator<Item = (Key, &Arc<Content>)> {
        self.versions.iter().filter_map(|(key, version)| Some((*key, version.content()?)))
    }

    pub(super) fn live(&self) -> impl Iterator<Item = (Key, &Arc<Content>)> {
        self.versions.iter().filter_map(|(key, version)| match &version.standing {
            Standing::Live(content) => Some((*key, content)),
            _ => None,
        })
    }

    pub(super) fn is_live(&self, key: Key) -> bool {
        self.live_content(key).is_some()
    }

    pub(super) fn live_content(&self, key: Key) -> Option<&Arc<Content>> {
        match self.versions.get(&key).map(|version| &version.standing) {
            Some(Standing::Live(content)) => Some(content),
            _ => None,
        }
    }

    pub(super) fn removed_at(&self, key: Key) -> Option<i64> {
        match self.versions.get(&key).map(|version| &version.standing) {
            Some(Standing::Removed { unix_ms, .. }) => Some(*unix_ms),
            _ => None,
        }
    }

    pub(super) fn is_tagged(&self, key: Key) -> bool {
        self.tags.iter().any(|((image, _), number)| (*image, *number) == (key.image, key.number))
    }

    pub(super) fn has_image(&self, image: usize) -> bool {
        self.highest(image) > 0
    }

    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Commit { key, upload, content, tag } => {
                self.versions.insert(key, Version { upload, standing: Standing::Live(content) });
                self.tags.extend(tag.map(|tag| ((key.image, tag), key.number)));
            }
            Change::Remove { key, unix_ms } => {
                self.stand(key, |content| Standing::Removed { content, unix_ms });
            }
            Change::Undelete(key) => self.stand(key, Standing::Live),
            Change::Purge(key) => self.stand(key, |_| Standing::Gone),
            Change::SetTag { tag, number } => _ = self.tags.insert(tag, number),
            Change::RemoveTag(tag) => _ = self.tags.remove(&tag),
            Change::SetPin { key, is_pinned: true } => _ = self.pins.insert(key),
            Change::SetPin { key, is_pinned: false } => _ = self.pins.remove(&key),
        }
    }

    fn stand(&mut self, key: Key, standing: impl FnOnce(Arc<Content>) -> Standing) {
        if let Some(version) = self.versions.get_mut(&key)
            && let Some(content) = version.content().cloned()
        {
            version.standing = standing(content);
        }
    }

    pub(super) fn listing(&self) -> Listing {
        let live = self.live().map(|(key, _)| (key, self.versions[&key].upload)).collect();
        let removed = self.versions.keys().filter_map(|key| Some((*key, self.removed_at(*key)?))).collect();
        let highest = (0..IMAGES).map(|image| (image, self.highest(image))).filter(|(_, highest)| *highest > 0);
        Listing { live, removed, tags: self.tags.clone(), pins: self.pins.clone(), highest: highest.collect() }
    }
}

impl Version {
    pub(super) const fn content(&self) -> Option<&Arc<Content>> {
        match &self.standing {
            Standing::Live(content) | Standing::Removed { content, .. } => Some(content),
            Standing::Gone => None,
        }
    }
}

impl Listing {
    /// Whether a change that nobody acknowledged has happened.
    pub(super) fn shows(&self, change: &Change) -> bool {
        match change {
            Change::Commit { key, .. } => self.live.contains_key(key),
            Change::Remove { key, .. } => self.removed.contains_key(key),
            Change::Undelete(key) => self.live.contains_key(key),
            Change::Purge(key) => !self.live.contains_key(key) && !self.removed.contains_key(key),
            Change::SetTag { tag, number } => self.tags.get(tag) == Some(number),
            Change::RemoveTag(tag) => !self.tags.contains_key(tag),
            Change::SetPin { key, is_pinned } => self.pins.contains(key) == *is_pinned,
        }
    }
}

impl Key {
    pub(super) fn version(self) -> VersionKey {
        VersionKey { image: image_name(self.image), number: self.number }
    }
}

pub(super) fn image_name(image: usize) -> ImageName {
    format!("lab/image-{image}").parse().expect("a name")
}

pub(super) fn tag_name(tag: usize) -> TagName {
    format!("tag-{tag}").parse().expect("a name")
}

fn nth<T>(mut items: impl Iterator<Item = T>, count: usize, number: usize) -> Option<T> {
    items.nth(number.checked_rem(count)?)
}
