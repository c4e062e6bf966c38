//! Which uploads a stream of this process is working on: those do not expire, however long they are silent.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::UploadId;

/// How many streams use each upload.
#[derive(Debug, Clone, Default)]
pub(super) struct Uses(Arc<Mutex<HashMap<UploadId, usize>>>);

/// Keeps an upload from expiring until it is dropped.
#[derive(Debug)]
#[must_use = "the upload may expire as soon as this is dropped"]
pub struct UploadUse {
    uses: Uses,
    upload: UploadId,
}

impl Uses {
    pub(super) fn begin(&self, upload: UploadId) -> UploadUse {
        *self.counts().entry(upload).or_default() += 1;
        UploadUse { uses: self.clone(), upload }
    }

    pub(super) fn contains(&self, upload: UploadId) -> bool {
        self.counts().contains_key(&upload)
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<UploadId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UploadUse {
    fn drop(&mut self) {
        let mut counts = self.uses.counts();
        match counts.get_mut(&self.upload) {
            Some(count) if *count > 1 => *count -= 1,
            _ => _ = counts.remove(&self.upload),
        }
    }
}
