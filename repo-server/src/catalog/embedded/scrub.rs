//! What a scrub goes through, and what it notes.

use imprint_content::ObjectId;

use super::{
    Inner, lock,
    reading::{Reading, bad, checked},
};
use crate::{
    Error, PackId,
    catalog::{
        Location, ScrubState,
        keys::{self, Table},
        rocks::Batch,
        values,
    },
    pack::Purpose,
};

impl Inner {
    pub(super) fn places(
        &self,
        kind: Purpose,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<(ObjectId, Location)>, Error> {
        let table = keys::table(match kind {
            Purpose::Chunks => Table::Chunks,
            Purpose::Nodes => Table::Nodes,
        });
        let mut from = after.map_or_else(|| table.clone(), |id| keys::after(keys::object(kind, &id)));
        let reading = self.read();
        loop {
            let mut places = Vec::new();
            reading.view.scan(&table, &from, limit, |key, value| {
                let id = keys::parse_object(key).map_err(bad)?;
                places.push((id, values::decode_location(value).map_err(bad)?));
                Ok(())
            })?;
            let Some((last, _)) = places.last() else { return Ok(places) };
            from = keys::after(keys::object(kind, last));
            let live = self.live_packs();
            places.retain(|(_, location)| live.contains(&location.pack));
            // An empty page would mean that there are no more.
            if !places.is_empty() {
                return Ok(places);
            }
        }
    }

    /// Under the lock that condemning takes, so that nothing is left behind of a pack that goes.
    pub(super) fn note_verified(&self, packs: &[PackId], verified_unix_ms: i64) -> Result<(), Error> {
        let _holds = lock(&self.holds)?;
        let reading = self.read();
        let mut batch = Batch::default();
        for pack in packs {
            if reading.pack(*pack)?.is_some() {
                batch.put(&keys::verified(*pack), &verified_unix_ms.to_le_bytes());
            }
        }
        if batch.is_empty() { Ok(()) } else { self.write(batch) }
    }

    pub(super) fn note_scrub_state(&self, state: ScrubState) -> Result<(), Error> {
        let mut batch = Batch::default();
        batch.put(&keys::scrub_state(), &values::encode_scrub_state(&state));
        self.write(batch)
    }

    pub(super) fn note_trees(&self, in_doubt: bool) -> Result<(), Error> {
        let mut batch = Batch::default();
        match in_doubt {
            true => batch.put(&keys::trees_in_doubt(), &[]),
            false => batch.delete(&keys::trees_in_doubt()),
        }
        self.write(batch)
    }
}

impl Reading<'_> {
    pub(super) fn verifications(&self) -> Result<Vec<(PackId, i64)>, Error> {
        let table = keys::table(Table::Verified);
        let mut verifications = Vec::new();
        self.view.scan(&table, &table, usize::MAX, |key, value| {
            verifications.push((keys::parse_pack(key).map_err(bad)?, values::decode_time(value).map_err(bad)?));
            Ok(())
        })?;
        Ok(verifications)
    }

    pub(super) fn scrub_state(&self) -> Result<ScrubState, Error> {
        Ok(self.view.get(&keys::scrub_state(), checked(values::decode_scrub_state))?.unwrap_or_default())
    }
}
