//! Typed reads of the index as it was at one moment.

use imprint_content::{DecodeError, ImageName, TagName};

use crate::{
    Error, PackId, UploadId,
    catalog::{
        ImageRecord, PackRecord, VersionKey, VersionRecord,
        journal::Position,
        keys::{self, Table},
        rocks::View,
        values::{self, OpenUpload, TagValue},
    },
};

/// One moment of the index. Everything read through it fits together.
pub(super) struct Reading<'a> {
    pub(super) view: View<'a>,
}

impl<'a> Reading<'a> {
    pub(super) const fn new(view: View<'a>) -> Self {
        Self { view }
    }

    /// Whether the index was written with the keys of this version.
    pub(super) fn has_known_format(&self) -> Result<bool, Error> {
        let found = self.view.get(&keys::format(), |value| Ok(value == keys::FORMAT.to_le_bytes()))?;
        Ok(found == Some(true))
    }

    /// How far the index has read the journal.
    pub(super) fn applied(&self) -> Result<Position, Error> {
        let position = self.view.get(&keys::applied_position(), checked(values::decode_position))?;
        Ok(position.unwrap_or(Position::START))
    }

    pub(super) fn image(&self, name: &ImageName) -> Result<Option<ImageRecord>, Error> {
        let decode = |value: &[u8]| values::decode_image(name.clone(), value);
        self.view.get(&keys::image(name), checked(decode))
    }

    /// Fails with [`Error::ImageNotFound`] when the image never had a version.
    pub(super) fn known_image(&self, name: &ImageName) -> Result<ImageRecord, Error> {
        self.image(name)?.ok_or_else(|| Error::ImageNotFound(name.clone()))
    }

    /// A version, if it is live.
    pub(super) fn live_version(&self, image: &ImageName, number: u64) -> Result<Option<VersionRecord>, Error> {
        self.view.get(&keys::version(image, number), checked(values::decode_version))
    }

    pub(super) fn tag(&self, image: &ImageName, name: &TagName) -> Result<Option<TagValue>, Error> {
        self.view.get(&keys::tag(image, name), checked(values::decode_tag))
    }

    pub(super) fn open_upload(&self, id: UploadId) -> Result<Option<OpenUpload>, Error> {
        self.view.get(&keys::open_upload(id), checked(values::decode_upload))
    }

    pub(super) fn open_uploads(&self) -> Result<Vec<(UploadId, OpenUpload)>, Error> {
        let prefix = keys::table(Table::OpenUploads);
        let mut uploads = Vec::new();
        self.view.scan(&prefix, &prefix, usize::MAX, |key, value| {
            uploads.push((keys::parse_upload(key).map_err(bad)?, values::decode_upload(value).map_err(bad)?));
            Ok(())
        })?;
        Ok(uploads)
    }

    /// What an upload became.
    pub(super) fn committed_upload(&self, id: UploadId) -> Result<Option<VersionKey>, Error> {
        self.view.get(&keys::committed_upload(id), checked(values::decode_version_key))
    }

    pub(super) fn pack(&self, id: PackId) -> Result<Option<PackRecord>, Error> {
        let decode = |value: &[u8]| values::decode_pack(id, value);
        self.view.get(&keys::pack(id), checked(decode))
    }

    pub(super) fn holds_pack(&self, upload: UploadId, pack: PackId) -> Result<bool, Error> {
        Ok(self.view.get(&keys::hold(upload, pack), |_| Ok(()))?.is_some())
    }

    /// The packs that an upload holds.
    pub(super) fn holds(&self, upload: UploadId) -> Result<Vec<PackId>, Error> {
        let prefix = keys::holds_of(upload);
        let mut packs = Vec::new();
        self.view.scan(&prefix, &prefix, usize::MAX, |key, _| {
            packs.push(keys::parse_pack(key).map_err(bad)?);
            Ok(())
        })?;
        Ok(packs)
    }

    pub(super) fn packs(&self) -> Result<Vec<PackRecord>, Error> {
        let prefix = keys::table(Table::Packs);
        let mut packs = Vec::new();
        self.view.scan(&prefix, &prefix, usize::MAX, |key, value| {
            packs.push(keys::parse_pack(key).and_then(|id| values::decode_pack(id, value)).map_err(bad)?);
            Ok(())
        })?;
        Ok(packs)
    }
}

/// Turns a decoder of the format into one that reports the catalog as broken.
pub(super) fn checked<T>(decode: impl Fn(&[u8]) -> Result<T, DecodeError>) -> impl Fn(&[u8]) -> Result<T, Error> {
    move |value| decode(value).map_err(bad)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err passes")]
pub(super) fn bad(error: DecodeError) -> Error {
    Error::Catalog(format!("a value in its index is bad: {error}"))
}

pub(super) fn version_not_found(image: &ImageName, wanted: &impl ToString) -> Error {
    Error::VersionNotFound { image: image.clone(), wanted: wanted.to_string() }
}
