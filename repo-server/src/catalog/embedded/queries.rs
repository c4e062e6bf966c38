//! Questions about versions, images, tags and the whole.

use imprint_content::{ImageName, Selector, TagName, name::LATEST};

use super::reading::{Reading, bad, checked, version_not_found};
use crate::{
    Error,
    catalog::{
        ImageRecord, TagRecord, Totals, VersionRecord,
        keys::{self, Table},
        values,
    },
    pack::Purpose,
};

impl Reading<'_> {
    pub(super) fn version(&self, image: &ImageName, selector: &Selector) -> Result<VersionRecord, Error> {
        self.known_image(image)?;
        match selector {
            Selector::Latest => self
                .view
                .last(&keys::versions_of(image), checked(values::decode_version))?
                .ok_or_else(|| version_not_found(image, &LATEST)),
            Selector::Tag(name) => self.tagged_version(image, name),
            Selector::Number(number) => {
                self.live_version(image, *number)?.ok_or_else(|| version_not_found(image, number))
            }
            Selector::IdPrefix(prefix) => self.version_by_id(image, prefix),
        }
    }

    fn tagged_version(&self, image: &ImageName, name: &TagName) -> Result<VersionRecord, Error> {
        let number = self.tag(image, name)?.and_then(|tag| tag.number);
        let number = number.ok_or_else(|| Error::TagNotFound { image: image.clone(), tag: name.clone() })?;
        self.live_version(image, number)?.ok_or_else(|| version_not_found(image, &number))
    }

    /// Versions with one content have one id; then the newest is meant.
    fn version_by_id(&self, image: &ImageName, prefix: &str) -> Result<VersionRecord, Error> {
        let mut newest: Option<VersionRecord> = None;
        let (mut count, mut ambiguous) = (0, false);
        self.scan_versions(image, 0, usize::MAX, |version| {
            if version.id.to_string().starts_with(prefix) {
                count += 1;
                ambiguous |= newest.as_ref().is_some_and(|other| other.id != version.id);
                newest = Some(version);
            }
        })?;
        match newest {
            Some(_) if ambiguous => Err(Error::AmbiguousId { image: image.clone(), prefix: prefix.into(), count }),
            Some(version) => Ok(version),
            None => Err(version_not_found(image, &prefix)),
        }
    }

    pub(super) fn versions(&self, image: &ImageName, after: u64, limit: usize) -> Result<Vec<VersionRecord>, Error> {
        self.known_image(image)?;
        let mut versions = Vec::new();
        self.scan_versions(image, after, limit, |version| versions.push(version))?;
        Ok(versions)
    }

    fn scan_versions(
        &self,
        image: &ImageName,
        after: u64,
        limit: usize,
        mut visit: impl FnMut(VersionRecord),
    ) -> Result<(), Error> {
        let from = keys::after(keys::version(image, after));
        self.view.scan(&keys::versions_of(image), &from, limit, |_, value| {
            visit(values::decode_version(value).map_err(bad)?);
            Ok(())
        })
    }

    pub(super) fn images(&self, after: Option<&ImageName>, limit: usize) -> Result<Vec<ImageRecord>, Error> {
        let table = keys::table(Table::Images);
        let from = after.map_or_else(|| table.clone(), |name| keys::after(keys::image(name)));
        let mut images = Vec::new();
        self.view.scan(&table, &from, limit, |key, value| {
            let name = keys::parse_name(key, "image name").map_err(bad)?;
            images.push(values::decode_image(name, value).map_err(bad)?);
            Ok(())
        })?;
        Ok(images)
    }

    pub(super) fn tags(&self, image: &ImageName) -> Result<Vec<TagRecord>, Error> {
        self.known_image(image)?;
        let prefix = keys::tags_of(image);
        let mut tags = Vec::new();
        self.view.scan(&prefix, &prefix, usize::MAX, |key, value| {
            let tag = values::decode_tag(value).map_err(bad)?;
            if let Some(number) = tag.number {
                let name = keys::parse_name(key, "tag").map_err(bad)?;
                tags.push(TagRecord { image: image.clone(), name, number, counter: tag.counter });
            }
            Ok(())
        })?;
        Ok(tags)
    }

    /// Counted, not kept: it costs a scan of versions and packs, but cannot drift.
    pub(super) fn totals(&self) -> Result<Totals, Error> {
        let mut totals = Totals::default();
        for image in self.images(None, usize::MAX)? {
            totals.images += u64::from(image.versions > 0);
        }
        let versions = keys::table(Table::Versions);
        self.view.scan(&versions, &versions, usize::MAX, |_, value| {
            let version = values::decode_version(value).map_err(bad)?;
            totals.versions += 1;
            totals.image_bytes = totals.image_bytes.saturating_add(version.content.length);
            totals.data_bytes = totals.data_bytes.saturating_add(version.data_bytes);
            Ok(())
        })?;
        for pack in self.packs()? {
            totals.packs += 1;
            totals.pack_bytes = totals.pack_bytes.saturating_add(pack.bytes);
            *match pack.purpose {
                Purpose::Chunks => &mut totals.chunks,
                Purpose::Nodes => &mut totals.nodes,
            } += u64::from(pack.records);
        }
        Ok(totals)
    }
}
