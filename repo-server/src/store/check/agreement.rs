//! Whether the catalog says what journal and packs say.

use std::collections::{HashMap, HashSet};

use imprint_content::{ImageName, ObjectId};

use super::super::Store;
use crate::{
    Error, PackId,
    catalog::{Catalog, Location},
    pack::{Purpose, decode_record, record_length},
};

/// Read from the catalog at once.
const PAGE: usize = 256;
/// Places compared at once.
const PLACES: usize = 4096;

/// The first decision of which a catalog does not say the same as one that was `derived` from the journal.
pub(super) async fn different_decision(a: &dyn Catalog, derived: &dyn Catalog) -> Result<Option<String>, Error> {
    let b = derived;
    if a.grace().await? != b.grace().await? {
        return Ok(Some("the grace of removed versions".into()));
    }
    // Those whose files are gone are forgotten, but never by the journal.
    let condemned: HashSet<PackId> = b.condemned_packs().await?.into_iter().collect();
    let is_known = a.condemned_packs().await?.iter().all(|pack| condemned.contains(pack));
    if !is_known || a.packs().await?.iter().any(|pack| condemned.contains(&pack.id)) {
        return Ok(Some("the condemned packs".into()));
    }
    let mut after = None;
    loop {
        let (left, right) = (a.images(after.clone(), PAGE).await?, b.images(after.clone(), PAGE).await?);
        if left != right {
            return Ok(Some("the list of images".into()));
        }
        let Some(last) = left.last() else { return Ok(None) };
        after = Some(last.name.clone());
        for image in left {
            if let Some(what) = different_image(a, b, &image.name).await? {
                return Ok(Some(format!("{what} of {}", image.name)));
            }
        }
    }
}

async fn different_image(a: &dyn Catalog, b: &dyn Catalog, image: &ImageName) -> Result<Option<&'static str>, Error> {
    if a.tags(image.clone()).await? != b.tags(image.clone()).await? {
        return Ok(Some("the tags"));
    }
    if a.pins(image.clone()).await? != b.pins(image.clone()).await? {
        return Ok(Some("the pins"));
    }
    let removed = a.removed_versions(Some(image.clone()), None, usize::MAX).await?;
    if removed != b.removed_versions(Some(image.clone()), None, usize::MAX).await? {
        return Ok(Some("the removed versions"));
    }
    let mut after = 0;
    loop {
        let (left, right) =
            (a.versions(image.clone(), after, PAGE).await?, b.versions(image.clone(), after, PAGE).await?);
        if left != right {
            return Ok(Some("the versions"));
        }
        let Some(last) = left.last() else { return Ok(None) };
        after = last.number;
    }
}

/// How the places of a catalog differ from what its packs have.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PlaceDifferences {
    /// Places in each pack.
    pub(super) in_pack: HashMap<PackId, u64>,
    /// Places, in packs that are whole, where the object is not.
    pub(super) wrong: u64,
}

/// Compares every place of `catalog` with what was found in packs, which is what `derived` has. `whole` are the packs
/// without any damage.
pub(super) async fn compare_places(
    catalog: &dyn Catalog,
    derived: &Store,
    whole: &HashSet<PackId>,
) -> Result<PlaceDifferences, Error> {
    let mut differences = PlaceDifferences::default();
    for kind in [Purpose::Chunks, Purpose::Nodes] {
        let mut after = None;
        loop {
            let page = catalog.places(kind, after, PLACES).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            let ids = page.iter().map(|(id, _)| *id).collect();
            let found = derived.catalog().locate(kind, ids).await?;
            for ((id, at), found) in page.into_iter().zip(found) {
                *differences.in_pack.entry(at.pack).or_default() += 1;
                let is_right = match found {
                    _ if !whole.contains(&at.pack) => true,
                    Some(found) if found.pack == at.pack => found == at,
                    _ => is_there(derived, kind, id, &at).await?,
                };
                differences.wrong += u64::from(!is_right);
            }
        }
    }
    Ok(differences)
}

/// An object may be in two packs, and each catalog has one of them.
async fn is_there(store: &Store, kind: Purpose, id: ObjectId, at: &Location) -> Result<bool, Error> {
    let start = u64::from(at.offset);
    match store.packs.read_uncached(at.pack, start..start + record_length(at.stored_length)).await {
        Ok(record) => {
            let decoded = decode_record(kind, &record);
            Ok(decoded.is_ok_and(|(found, payload)| {
                found == id && (payload.codec, payload.raw_length) == (at.codec, at.raw_length)
            }))
        }
        Err(Error::RecordCorrupt { .. } | Error::PackMissing(_)) => Ok(false),
        Err(error) => Err(error),
    }
}
