//! From decisions to the index.

use imprint_content::{ImageName, ObjectId, TagName};

use super::reading::{Reading, checked};
use crate::{
    Error, PackId,
    catalog::{
        Damage, ImageRecord, IntactRecords, RemovedVersion, TagRecord, VersionKey, VersionRecord,
        journal::{Commit, Decision, Journal, Position},
        keys,
        rocks::{Batch, RocksIndex},
        values::{self, TagValue},
    },
    pack::Purpose,
};

/// What may have become of the uploads that the index says are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Uploads {
    /// The same process opened them: they are as the index says.
    Known,
    /// The index is older than the process that had it, so that some may have been closed since.
    Doubtful,
}

/// Applies the decisions that the index does not have yet.
///
/// Closing an upload is no decision. An index that lacks a condemnation may have uploads that had ended before it: their
/// bases and what they held may be gone, and a base vouches for what is below it. So all uploads end there; whoever goes on
/// with one opens it anew, and is asked for what is missing.
pub(super) fn catch_up(index: &RocksIndex, journal: &Journal, uploads: Uploads) -> Result<(), Error> {
    let applied = Reading::new(index.view()).applied()?;
    if applied == journal.end() {
        return Ok(());
    }
    tracing::info!(from = applied.sequence, to = journal.end().sequence, "replaying the journal");
    for entry in journal.read_from(applied)? {
        let (position, decision) = entry?;
        let mut batch = Batch::default();
        let reading = Reading::new(index.view());
        if applied == Position::START {
            // Derived anew: nobody knows yet whether the packs are all there.
            batch.put(&keys::trees_in_doubt(), &[]);
        }
        apply(&reading, position, &decision, &mut batch)?;
        if uploads == Uploads::Doubtful && matches!(decision, Decision::PacksCondemned { .. }) {
            for (upload, _) in reading.open_uploads()? {
                end_upload(&reading, upload, &mut batch)?;
            }
        }
        index.write(batch)?;
    }
    Ok(())
}

/// What a decision changes in the index, the applied position included.
///
/// It checks nothing: the decision was made. Applied again, it changes nothing.
pub(super) fn apply(
    reading: &Reading<'_>,
    position: Position,
    decision: &Decision,
    batch: &mut Batch,
) -> Result<(), Error> {
    match decision {
        Decision::Commit(commit) => apply_commit(reading, commit, batch)?,
        Decision::TagSet(tag) => put_tag(tag, batch),
        Decision::TagRemoved { image, name, counter } => bury_tag(image, name, *counter, batch),
        Decision::VersionRemoved { version, removed_unix_ms } => {
            remove_version(reading, version, *removed_unix_ms, batch)?;
        }
        Decision::VersionUndeleted { version, .. } => undelete_version(reading, version, batch)?,
        Decision::VersionPurged { version, .. } => purge_version(reading, version, batch)?,
        Decision::VersionPinned { version, pinned_unix_ms } => {
            batch.put(&keys::pin(&version.image, version.number), &pinned_unix_ms.to_le_bytes());
        }
        Decision::VersionUnpinned { version, .. } => batch.delete(&keys::pin(&version.image, version.number)),
        Decision::PacksCondemned { packs, .. } => {
            packs.iter().try_for_each(|pack| condemn_pack(reading, *pack, batch))?;
        }
        Decision::Quarantined(damage) => quarantine(reading, damage, batch)?,
        Decision::Readmitted(records) => readmit(reading, records, batch)?,
        Decision::GraceSet { grace_ms, .. } => batch.put(&keys::grace(), &grace_ms.to_le_bytes()),
        Decision::MarkFinished(mark) => batch.put(&keys::finished_mark(), &values::encode_finished_mark(mark)),
    }
    batch.put(&keys::applied_position(), &values::encode_position(position));
    Ok(())
}

fn apply_commit(reading: &Reading<'_>, commit: &Commit, batch: &mut Batch) -> Result<(), Error> {
    let version = &commit.version;
    put_version(reading, version, batch)?;
    let key = VersionKey { image: version.image.clone(), number: version.number };
    batch.put(&keys::committed_upload(version.upload), &values::encode_version_key(&key));
    end_upload(reading, version.upload, batch)?;
    commit.tags.iter().for_each(|tag| put_tag(tag, batch));
    Ok(())
}

/// Forgets that an upload is open, and its holds. The caller has the lock on holds.
pub(super) fn end_upload(reading: &Reading<'_>, upload: crate::UploadId, batch: &mut Batch) -> Result<(), Error> {
    batch.delete(&keys::open_upload(upload));
    for pack in reading.holds(upload)? {
        batch.delete(&keys::hold(upload, pack));
    }
    Ok(())
}

fn put_version(reading: &Reading<'_>, version: &VersionRecord, batch: &mut Batch) -> Result<(), Error> {
    let name = &version.image;
    let mut image = reading.image(name)?.unwrap_or(ImageRecord { name: name.clone(), versions: 0, highest_number: 0 });
    let is_new = reading.live_version(name, version.number)?.is_none();
    image.versions = image.versions.saturating_add(u64::from(is_new));
    image.highest_number = image.highest_number.max(version.number);
    batch.put(&keys::image(name), &values::encode_image(&image));
    batch.put(&keys::version(name, version.number), &values::encode_version(version));
    Ok(())
}

fn remove_version(
    reading: &Reading<'_>,
    VersionKey { image: name, number }: &VersionKey,
    removed_unix_ms: i64,
    batch: &mut Batch,
) -> Result<(), Error> {
    let Some(version) = reading.live_version(name, *number)? else { return Ok(()) };
    let Some(mut image) = reading.image(name)? else { return Ok(()) };
    image.versions = image.versions.saturating_sub(1);
    batch.put(&keys::image(name), &values::encode_image(&image));
    batch.delete(&keys::version(name, *number));
    let removed = RemovedVersion { version, removed_unix_ms };
    batch.put(&keys::removed(name, *number), &values::encode_removed(&removed));
    Ok(())
}

fn undelete_version(reading: &Reading<'_>, version: &VersionKey, batch: &mut Batch) -> Result<(), Error> {
    let Some(removed) = reading.removed_version(version)? else { return Ok(()) };
    batch.delete(&keys::removed(&version.image, version.number));
    put_version(reading, &removed.version, batch)
}

/// Counted only when it is there, so that a repetition does not count.
fn purge_version(reading: &Reading<'_>, version: &VersionKey, batch: &mut Batch) -> Result<(), Error> {
    if reading.removed_version(version)?.is_none() {
        return Ok(());
    }
    batch.delete(&keys::removed(&version.image, version.number));
    batch.put(&keys::purged_count(), &reading.purged_count()?.saturating_add(1).to_le_bytes());
    Ok(())
}

/// The pack is no longer live, so that places in it do not count, whether or not they are removed too.
fn condemn_pack(reading: &Reading<'_>, pack: PackId, batch: &mut Batch) -> Result<(), Error> {
    batch.delete(&keys::pack(pack));
    batch.delete(&keys::verified(pack));
    batch.put(&keys::condemned(pack), &[]);
    for (kind, id) in reading.quarantined_in(pack)? {
        batch.delete(&keys::quarantined(pack, kind, &id));
    }
    Ok(())
}

fn quarantine(reading: &Reading<'_>, damage: &Damage, batch: &mut Batch) -> Result<(), Error> {
    for id in &damage.objects {
        batch.put(&keys::quarantined(damage.pack, damage.kind, id), damage.why.as_bytes());
        unlocate(reading, damage.pack, damage.kind, id, batch)?;
    }
    Ok(())
}

/// In a rebuild no pack is known yet: whoever adds this one places what is no longer quarantined.
fn readmit(reading: &Reading<'_>, records: &IntactRecords, batch: &mut Batch) -> Result<(), Error> {
    let IntactRecords { pack, kind, entries, objects, .. } = records;
    let known = reading.pack(*pack)?;
    if known.as_ref().is_some_and(|known| known.records != *entries) {
        // An index that was derived from what was left of the pack: its places have other ordinals. The next scrub says so.
        return Ok(());
    }
    let is_known = known.is_some();
    for (id, place) in objects {
        batch.delete(&keys::quarantined(*pack, *kind, id));
        if is_known && !is_located(reading, *kind, id)? {
            batch.put(&keys::object(*kind, id), &values::encode_location(place));
        }
    }
    Ok(())
}

/// Whether the place of an object counts.
fn is_located(reading: &Reading<'_>, kind: Purpose, id: &ObjectId) -> Result<bool, Error> {
    match reading.view.get(&keys::object(kind, id), checked(values::decode_location))? {
        Some(place) => Ok(reading.pack(place.pack)?.is_some()),
        None => Ok(false),
    }
}

/// Forgets where an object is, if that is in `pack`.
pub(super) fn unlocate(
    reading: &Reading<'_>,
    pack: PackId,
    kind: Purpose,
    id: &ObjectId,
    batch: &mut Batch,
) -> Result<(), Error> {
    let key = keys::object(kind, id);
    let found = reading.view.get(&key, checked(values::decode_location))?;
    if found.is_some_and(|location| location.pack == pack) {
        batch.delete(&key);
    }
    Ok(())
}

fn put_tag(tag: &TagRecord, batch: &mut Batch) {
    let value = TagValue { number: Some(tag.number), counter: tag.counter };
    batch.put(&keys::tag(&tag.image, &tag.name), &values::encode_tag(value));
}

/// A removed tag keeps its counter: a compare-and-set from before its removal must never succeed after it.
fn bury_tag(image: &ImageName, name: &TagName, counter: u64, batch: &mut Batch) {
    let value = TagValue { number: None, counter };
    batch.put(&keys::tag(image, name), &values::encode_tag(value));
}
