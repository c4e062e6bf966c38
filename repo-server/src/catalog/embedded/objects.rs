//! Where objects are, and which packs are held.

use std::collections::{BTreeSet, HashSet};

use imprint_content::ObjectId;

use super::{
    Inner, lock,
    reading::{Reading, checked},
    uploads::note_use,
};
use crate::{
    Error, PackId, UploadId,
    catalog::{Location, PackContents, PackRecord, keys, rocks::Batch, values},
    pack::Purpose,
};

impl Inner {
    /// Only places in live packs count. A pack that was condemned may have left others behind: the journal says which
    /// packs are condemned, not what was in them, so that replaying it cannot remove them.
    pub(super) fn locate(&self, kind: Purpose, ids: &[ObjectId]) -> Result<Vec<Option<Location>>, Error> {
        let places = self.places_of(kind, ids)?;
        self.settled(kind, ids, places)
    }

    /// Places as the index has them, whether or not they count.
    pub(super) fn places_of(&self, kind: Purpose, ids: &[ObjectId]) -> Result<Vec<Option<Location>>, Error> {
        let keys: Vec<_> = ids.iter().map(|id| keys::object(kind, id)).collect();
        self.index.multi_get(&keys, checked(values::decode_location))
    }

    /// Where these objects are, of which the index said these places before.
    ///
    /// No lock is held. So an object whose place does not count may have been moved since that was read, and only then its
    /// former pack condemned: it is looked up again as long as it moves. A place that stays the same while its pack is not live is
    /// none. A pack is live before the index places anything in it, so that nothing is between two packs.
    pub(super) fn settled(
        &self,
        kind: Purpose,
        ids: &[ObjectId],
        mut places: Vec<Option<Location>>,
    ) -> Result<Vec<Option<Location>>, Error> {
        let mut open = self.not_live(&places, 0..places.len());
        while !open.is_empty() {
            let now = self.places_of(kind, &open.iter().map(|n| ids[*n]).collect::<Vec<_>>())?;
            let mut moved = Vec::new();
            for (n, now) in open.into_iter().zip(now) {
                if now == places[n] {
                    places[n] = None;
                } else {
                    places[n] = now;
                    moved.push(n);
                }
            }
            open = self.not_live(&places, moved);
        }
        Ok(places)
    }

    /// Those of these places that are in packs that are not live.
    fn not_live(&self, places: &[Option<Location>], among: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let live = self.live_packs();
        among.into_iter().filter(|n| places[*n].is_some_and(|place| !live.contains(&place.pack))).collect()
    }

    /// Looks and holds under the lock that condemning a pack takes: no pack goes in between.
    pub(super) fn locate_and_hold(
        &self,
        upload: UploadId,
        kind: Purpose,
        ids: &[ObjectId],
    ) -> Result<Vec<Option<Location>>, Error> {
        let _holds = lock(&self.holds)?;
        let open = self.read().open_upload(upload)?.ok_or(Error::UploadNotOpen(upload))?;
        let found = self.locate(kind, ids)?;
        let packs: BTreeSet<_> = found.iter().flatten().map(|location| location.pack).collect();
        let mut batch = Batch::default();
        packs.into_iter().for_each(|pack| batch.put(&keys::hold(upload, pack), &[]));
        note_use(upload, open, &mut batch);
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
        if reading.is_condemned(pack.id)? {
            return Ok(());
        }
        let is_known = reading.pack(pack.id)?.is_some();
        if is_known && !self.live_packs().contains(&pack.id) {
            // It is being condemned.
            return Ok(());
        }
        let mut batch = Batch::default();
        let quarantined = reading.quarantined_in(pack.id)?;
        let usable = objects.iter().filter(|(id, _)| !quarantined.contains(&(pack.purpose, *id)));
        let uploads = reading.open_uploads()?;
        // Who has where to look: a known pack gets what is located nowhere, and holds follow what moves.
        let former = match is_known || !uploads.is_empty() {
            true => self.locate(pack.purpose, &objects.iter().map(|(id, _)| *id).collect::<Vec<_>>())?,
            false => Vec::new(),
        };
        if is_known {
            let nowhere: HashSet<ObjectId> =
                objects.iter().zip(&former).filter(|(_, place)| place.is_none()).map(|((id, _), _)| *id).collect();
            put_locations(pack.purpose, usable.filter(|(id, _)| nowhere.contains(id)), &mut batch);
        } else {
            batch.put(&keys::pack(pack.id), &values::encode_pack(pack));
            put_locations(pack.purpose, usable, &mut batch);
            let left: BTreeSet<PackId> = former.iter().flatten().map(|location| location.pack).collect();
            for (upload, _) in &uploads {
                if reading.holds_any(*upload, &left)? {
                    batch.put(&keys::hold(*upload, pack.id), &[]);
                }
            }
        }
        // The pack is known even if its upload was closed meanwhile, but nobody would end such a hold.
        if let Some((upload, open)) = uploads.into_iter().find(|(upload, _)| Some(*upload) == holder) {
            batch.put(&keys::hold(upload, pack.id), &[]);
            note_use(upload, open, &mut batch);
        }
        lock(&self.marks)?.stamp(&[pack.id]);
        let new = if is_known { &[][..] } else { &[pack.id] };
        self.write_live(batch, new)
    }

    /// Writes what places objects in these new packs, which are live from before that. Under the lock on holds, so that
    /// nobody condemns them meanwhile.
    fn write_live(&self, batch: Batch, new: &[PackId]) -> Result<(), Error> {
        self.live_packs_mut().extend(new);
        self.write(batch).inspect_err(|_| {
            let mut live = self.live_packs_mut();
            new.iter().for_each(|pack| _ = live.remove(pack));
        })
    }

    /// One write in the order of the keys, which costs a fraction of writing them as they come.
    ///
    /// Only for packs that are new while no upload is open: nobody holds what could move, so that the last pack has the
    /// place. Others are added one by one.
    pub(super) fn add_packs(&self, packs: &[PackContents]) -> Result<(), Error> {
        if !self.try_add_new(packs)? {
            packs.iter().try_for_each(|(pack, objects)| self.add_pack(pack, objects, None))?;
        }
        Ok(())
    }

    /// Whether they were added: all or none.
    fn try_add_new(&self, packs: &[PackContents]) -> Result<bool, Error> {
        let _holds = lock(&self.holds)?;
        let reading = self.read();
        if !reading.open_uploads()?.is_empty() {
            return Ok(false);
        }
        let mut batch = Batch::default();
        let (mut added, mut places) = (Vec::with_capacity(packs.len()), Vec::new());
        for (pack, objects) in packs {
            if reading.is_condemned(pack.id)? {
                continue;
            }
            if reading.pack(pack.id)?.is_some() || added.contains(&pack.id) {
                return Ok(false);
            }
            let quarantined = reading.quarantined_in(pack.id)?;
            let usable = objects.iter().filter(|(id, _)| !quarantined.contains(&(pack.purpose, *id)));
            places.extend(usable.map(|(id, location)| (keys::object(pack.purpose, id), location)));
            batch.put(&keys::pack(pack.id), &values::encode_pack(pack));
            added.push(pack.id);
        }
        // Stable: of two places of one object the later one is written last.
        places.sort_by(|(one, _), (other, _)| one.cmp(other));
        places.iter().for_each(|(key, location)| batch.put(key, &values::encode_location(location)));
        if !added.is_empty() {
            lock(&self.marks)?.stamp(&added);
            self.write_live(batch, &added)?;
        }
        Ok(true)
    }
}

fn put_locations<'a>(kind: Purpose, objects: impl Iterator<Item = &'a (ObjectId, Location)>, batch: &mut Batch) {
    for (id, location) in objects {
        batch.put(&keys::object(kind, id), &values::encode_location(location));
    }
}

impl Reading<'_> {
    fn holds_any(&self, upload: UploadId, packs: &BTreeSet<PackId>) -> Result<bool, Error> {
        for pack in packs {
            if self.holds_pack(upload, *pack)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
