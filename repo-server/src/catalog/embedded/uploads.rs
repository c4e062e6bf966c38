//! Opening and closing uploads. Not decisions: an upload that is lost with the index is pushed again.

use super::{
    Inner, lock,
    reading::{Reading, version_not_found},
    replay,
};
use crate::{
    Error, UploadId,
    catalog::{
        BaseRecord, UploadRecord, UploadState, VersionRecord, keys,
        rocks::Batch,
        values::{self, OpenUpload},
    },
    clock::now_unix_ms,
};

/// Asking notes the time no more often than this, in milliseconds.
const USE_GRAIN_MS: i64 = 10 * 60 * 1000;

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
        let base = match reading.open_upload(upload.id)? {
            Some(open) => {
                let base = open.base.as_ref().map(|base| &base.version);
                expect_same(upload.id, open.image == upload.image, "it was opened for another image")?;
                expect_same(upload.id, base == upload.base.as_ref(), "it was opened with another base")?;
                open.base
            }
            None => reading.live_base(upload)?,
        };
        let open = OpenUpload { image: upload.image.clone(), base, used_unix_ms: now_unix_ms() };
        let mut batch = Batch::default();
        batch.put(&keys::open_upload(upload.id), &values::encode_upload(&open));
        self.write(batch)?;
        Ok(UploadState::Open { base: open.base.map(Box::new) })
    }

    #[cfg(test)]
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

    /// A stream that begins to use an upload while this runs opens it again, or finds it closed; either is safe.
    pub(super) fn expire_uploads(&self, unused_since_unix_ms: i64) -> Result<Vec<UploadId>, Error> {
        let _decisions = self.decisions()?;
        let _holds = lock(&self.holds)?;
        let reading = self.read();
        let mut batch = Batch::default();
        let mut expired = Vec::new();
        for (id, open) in reading.open_uploads()? {
            if open.used_unix_ms < unused_since_unix_ms && !self.uses.contains(id) {
                replay::end_upload(&reading, id, &mut batch)?;
                expired.push(id);
            }
        }
        if !batch.is_empty() {
            self.write(batch)?;
        }
        Ok(expired)
    }
}

/// Notes that an upload was used just now, if that is worth a write.
pub(super) fn note_use(upload: UploadId, open: OpenUpload, batch: &mut Batch) {
    let now = now_unix_ms();
    if now.saturating_sub(open.used_unix_ms) > USE_GRAIN_MS {
        let used = OpenUpload { used_unix_ms: now, ..open };
        batch.put(&keys::open_upload(upload), &values::encode_upload(&used));
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

    fn live_base(&self, upload: &UploadRecord) -> Result<Option<BaseRecord>, Error> {
        let Some(key) = upload.base.clone() else { return Ok(None) };
        match self.live_version(&key.image, key.number)? {
            Some(version) => Ok(Some(BaseRecord { version: key, id: version.id, root: version.content.root })),
            None => Err(version_not_found(&key.image, &key.number)),
        }
    }
}

/// Fails with [`Error::UploadMismatch`] unless an upload is used for what it was used for before.
pub(super) fn expect_same(upload: UploadId, same: bool, why: &'static str) -> Result<(), Error> {
    if same { Ok(()) } else { Err(Error::UploadMismatch { upload, why }) }
}
