//! Opening and closing uploads. Not decisions: an upload that is lost with the index is pushed again.

use super::{
    Inner, lock,
    reading::{Reading, version_not_found},
    replay,
};
use crate::{
    Error, UploadId,
    catalog::{UploadRecord, UploadState, VersionRecord, keys, rocks::Batch, values},
};

impl Inner {
    /// Takes the lock of decisions, so that the base is live at the moment at which the upload is noted.
    pub(super) fn open_upload(&self, upload: &UploadRecord) -> Result<UploadState, Error> {
        let _decisions = self.decisions()?;
        let reading = self.read();
        if let Some(version) = reading.committed_version(upload.id)? {
            let same = version.image == upload.image;
            return expect_same(upload.id, same, "it was committed to another image")
                .map(|()| UploadState::Committed(Box::new(version)));
        }
        if let Some(open) = reading.open_upload(upload.id)? {
            expect_same(upload.id, open.image == upload.image, "it was opened for another image")?;
            expect_same(upload.id, open.base == upload.base, "it was opened with another base")?;
            return Ok(UploadState::Open);
        }
        reading.expect_base(upload)?;
        let mut batch = Batch::default();
        batch.put(&keys::open_upload(upload.id), &values::encode_upload(upload));
        self.write(batch)?;
        Ok(UploadState::Open)
    }

    pub(super) fn close_upload(&self, upload: UploadId) -> Result<(), Error> {
        let _decisions = self.decisions()?;
        let _holds = lock(&self.holds)?;
        let reading = self.read();
        if reading.open_upload(upload)?.is_none() {
            return Ok(());
        }
        let mut batch = Batch::default();
        replay::end_upload(&reading, upload, &mut batch)?;
        self.write(batch)
    }
}

impl Reading<'_> {
    /// The version that an upload became.
    ///
    /// # Errors
    /// [`Error::VersionNotFound`] when it was removed since.
    pub(super) fn committed_version(&self, upload: UploadId) -> Result<Option<VersionRecord>, Error> {
        let Some(key) = self.committed_upload(upload)? else { return Ok(None) };
        let version = self.live_version(&key.image, key.number)?;
        version.map(Some).ok_or_else(|| version_not_found(&key.image, &key.number))
    }

    fn expect_base(&self, upload: &UploadRecord) -> Result<(), Error> {
        let Some(base) = &upload.base else { return Ok(()) };
        match self.live_version(&base.image, base.number)? {
            Some(_) => Ok(()),
            None => Err(version_not_found(&base.image, &base.number)),
        }
    }
}

/// Fails with [`Error::UploadMismatch`] unless an upload is used for what it was used for before.
pub(super) fn expect_same(upload: UploadId, same: bool, why: &'static str) -> Result<(), Error> {
    if same { Ok(()) } else { Err(Error::UploadMismatch { upload, why }) }
}

pub(super) fn not_open(upload: UploadId) -> Error {
    Error::BadRequest(format!("upload {upload} is not open"))
}
