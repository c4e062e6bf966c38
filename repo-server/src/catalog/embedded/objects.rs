//! Where objects are, and which packs are held.

use std::collections::BTreeSet;

use imprint_content::ObjectId;

use super::{Inner, lock, reading::checked, uploads::not_open};
use crate::{
    Error, UploadId,
    catalog::{Location, PackRecord, keys, rocks::Batch, values},
    pack::Purpose,
};

impl Inner {
    pub(super) fn locate(&self, kind: Purpose, ids: &[ObjectId]) -> Result<Vec<Option<Location>>, Error> {
        let keys: Vec<_> = ids.iter().map(|id| keys::object(kind, id)).collect();
        self.index.multi_get(&keys, checked(values::decode_location))
    }

    /// Looks and holds under the lock that condemning a pack takes: no pack goes in between.
    pub(super) fn locate_and_hold(
        &self,
        upload: UploadId,
        kind: Purpose,
        ids: &[ObjectId],
    ) -> Result<Vec<Option<Location>>, Error> {
        let _holds = lock(&self.holds)?;
        if self.read().open_upload(upload)?.is_none() {
            return Err(not_open(upload));
        }
        let found = self.locate(kind, ids)?;
        let packs: BTreeSet<_> = found.iter().flatten().map(|location| location.pack).collect();
        let mut batch = Batch::default();
        packs.into_iter().for_each(|pack| batch.put(&keys::hold(upload, pack), &[]));
        if !batch.is_empty() {
            self.write(batch)?;
        }
        Ok(found)
    }

    pub(super) fn add_pack(
        &self,
        pack: &PackRecord,
        objects: &[(ObjectId, Location)],
        holder: Option<UploadId>,
    ) -> Result<(), Error> {
        let _holds = lock(&self.holds)?;
        let reading = self.read();
        let mut batch = Batch::default();
        // Added again, it must not take back what a newer pack has.
        if reading.pack(pack.id)?.is_none() {
            batch.put(&keys::pack(pack.id), &values::encode_pack(pack));
            for (id, location) in objects {
                batch.put(&keys::object(pack.purpose, id), &values::encode_location(location));
            }
        }
        // The pack is known even if its upload was closed meanwhile, but nobody would end such a hold.
        if let Some(upload) = holder
            && reading.open_upload(upload)?.is_some()
        {
            batch.put(&keys::hold(upload, pack.id), &[]);
        }
        self.write(batch)
    }
}
