//! The seam: one lock for each call.

use std::{
    collections::{BTreeSet, HashSet},
    ops::Bound,
    time::Duration,
};

use async_trait::async_trait;
use imprint_content::{ImageName, ObjectId, Selector, TagName};

use super::{Image, MemoryCatalog, Tag};
use crate::{
    Error, PackId, UploadId,
    catalog::{
        Candidate, Catalog, Condemnation, DEFAULT_GRACE, Damage, DamagedObject, ImageRecord, IntactRecords, Location,
        Mark, MarkEnd, MarkId, NewVersion, PackRecord, RemovedVersion, ScrubState, TagRecord, Totals, UploadRecord,
        UploadState, UploadUse, VersionKey, VersionRecord,
    },
    clock::now_unix_ms,
    pack::Purpose,
};

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
        let open = state.open.get_mut(&upload).ok_or(Error::UploadNotOpen(upload))?;
        open.holds.extend(found.iter().flatten().map(|location| location.pack));
        open.used_unix_ms = now_unix_ms();
        Ok(found)
    }

    async fn add_pack(
        &self,
        pack: PackRecord,
        objects: Vec<(ObjectId, Location)>,
        holder: Option<UploadId>,
    ) -> Result<(), Error> {
        self.state().add_pack(pack, objects, holder);
        Ok(())
    }

    async fn packs(&self) -> Result<Vec<PackRecord>, Error> {
        Ok(self.state().packs.values().cloned().collect())
    }

    fn use_upload(&self, upload: UploadId) -> UploadUse {
        self.state().uses.begin(upload)
    }

    async fn open_upload(&self, upload: UploadRecord) -> Result<UploadState, Error> {
        self.state().open_upload(upload)
    }

    #[cfg(test)]
    async fn close_upload(&self, upload: UploadId) -> Result<(), Error> {
        self.state().open.remove(&upload);
        Ok(())
    }

    async fn expire_uploads(&self, unused_since_unix_ms: i64) -> Result<Vec<UploadId>, Error> {
        Ok(self.state().expire_uploads(unused_since_unix_ms))
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

    async fn remove_version(&self, version: VersionKey, removed_unix_ms: i64) -> Result<(), Error> {
        self.state().remove_version(version, removed_unix_ms)
    }

    async fn undelete_version(&self, version: VersionKey, _undeleted_unix_ms: i64) -> Result<VersionRecord, Error> {
        self.state().undelete_version(&version)
    }

    async fn purge_version(
        &self,
        version: VersionKey,
        removed_unix_ms: i64,
        _purged_unix_ms: i64,
    ) -> Result<(), Error> {
        self.state().purge_version(&version, removed_unix_ms)
    }

    async fn removed_versions(
        &self,
        image: Option<ImageName>,
        after: Option<VersionKey>,
        limit: usize,
    ) -> Result<Vec<RemovedVersion>, Error> {
        self.state().removed_versions(image.as_ref(), after.as_ref(), limit)
    }

    async fn grace(&self) -> Result<Duration, Error> {
        Ok(self.state().grace.unwrap_or(DEFAULT_GRACE))
    }

    async fn set_grace(&self, grace: Duration, _set_unix_ms: i64) -> Result<(), Error> {
        self.state().grace = Some(Duration::from_millis(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX)));
        Ok(())
    }

    async fn pin_version(&self, version: VersionKey, _pinned_unix_ms: i64) -> Result<bool, Error> {
        Ok(self.state().live_image(&version)?.pins.insert(version.number))
    }

    async fn unpin_version(&self, version: VersionKey, _unpinned_unix_ms: i64) -> Result<bool, Error> {
        Ok(self.state().live_image(&version)?.pins.remove(&version.number))
    }

    async fn pins(&self, image: ImageName) -> Result<Vec<u64>, Error> {
        Ok(self.state().image(&image)?.pins.iter().copied().collect())
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

    async fn begin_mark(&self) -> Result<Mark, Error> {
        Ok(self.state().begin_mark())
    }

    async fn condemn(
        &self,
        mark: MarkId,
        candidates: Vec<Candidate>,
        _condemned_unix_ms: i64,
    ) -> Result<Vec<Condemnation>, Error> {
        let mut state = self.state();
        Ok(candidates.iter().map(|candidate| state.condemn(mark, candidate)).collect())
    }

    async fn end_mark(&self, mark: MarkId, end: MarkEnd) -> Result<(), Error> {
        self.state().end_mark(mark, end);
        Ok(())
    }

    async fn held_packs(&self) -> Result<BTreeSet<PackId>, Error> {
        Ok(self.state().open.values().flat_map(|open| open.holds.iter().copied()).collect())
    }

    async fn condemned_packs(&self) -> Result<Vec<PackId>, Error> {
        Ok(self.state().condemned.iter().copied().collect())
    }

    async fn forget_condemned(&self, packs: Vec<PackId>) -> Result<(), Error> {
        self.state().condemned.retain(|pack| !packs.contains(pack));
        Ok(())
    }

    async fn ever_condemned(&self, mut packs: Vec<PackId>) -> Result<Vec<PackId>, Error> {
        packs.retain(|pack| self.state().ever_condemned.contains(pack));
        Ok(packs)
    }

    async fn quarantine(&self, damage: Damage) -> Result<u64, Error> {
        self.state().quarantine(damage)
    }

    async fn quarantined_in(&self, pack: PackId) -> Result<HashSet<(Purpose, ObjectId)>, Error> {
        let state = self.state();
        let here = state.quarantined.keys().filter(|(of, ..)| *of == pack);
        Ok(here.filter_map(|(_, kind, id)| Some((Purpose::from_number(*kind).ok()?, *id))).collect())
    }

    async fn readmit(&self, records: IntactRecords) -> Result<u64, Error> {
        self.state().readmit(records)
    }

    async fn unhealed_damage(&self, limit: usize) -> Result<Vec<DamagedObject>, Error> {
        Ok(self.state().unhealed_damage().take(limit).collect())
    }

    async fn places(
        &self,
        kind: Purpose,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<(ObjectId, Location)>, Error> {
        let above = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let state = self.state();
        let places = match kind {
            Purpose::Chunks => &state.chunks,
            Purpose::Nodes => &state.nodes,
        };
        Ok(places.range(above).take(limit).map(|(id, place)| (*id, *place)).collect())
    }

    async fn note_verified(&self, packs: Vec<PackId>, verified_unix_ms: i64) -> Result<(), Error> {
        let mut state = self.state();
        for pack in packs {
            if state.packs.contains_key(&pack) {
                state.verified.insert(pack, verified_unix_ms);
            }
        }
        Ok(())
    }

    async fn verifications(&self) -> Result<Vec<(PackId, i64)>, Error> {
        Ok(self.state().verified.iter().map(|(pack, time)| (*pack, *time)).collect())
    }

    async fn scrub_state(&self) -> Result<ScrubState, Error> {
        Ok(self.state().scrub)
    }

    async fn note_scrub_state(&self, state: ScrubState) -> Result<(), Error> {
        self.state().scrub = state;
        Ok(())
    }

    async fn are_trees_in_doubt(&self) -> Result<bool, Error> {
        Ok(self.state().trees_in_doubt)
    }

    async fn note_trees(&self, in_doubt: bool) -> Result<(), Error> {
        self.state().trees_in_doubt = in_doubt;
        Ok(())
    }

    async fn totals(&self) -> Result<Totals, Error> {
        Ok(self.state().totals())
    }
}
