//! Harms packs, finds what was harmed, and heals it.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use imprint_content::ObjectId;

use super::{
    collection::wait_a_millisecond,
    content::Content,
    inspect::{is_damage, locate},
    model::{Change, Key},
    operation::{Grace, Harm},
    push::Push,
    session::{Session, Trouble, ensure, fail},
};
use crate::{
    Error, PackId,
    catalog::Location,
    files::Files,
    pack::{HEADER_BYTES, decode_record, read_index, record_length},
    store::{
        check,
        scrub::{ScrubControl, ScrubOptions, ScrubScope},
    },
};

/// What may be unreadable, and may not be anything else.
#[derive(Debug, Default)]
pub(super) struct Harmed {
    packs: HashMap<PackId, HashSet<ObjectId>>,
    /// The files as they were before.
    originals: HashMap<PackId, Vec<u8>>,
    /// The catalog may have been derived from what was left.
    is_derived: bool,
    /// Everything was sent again: nothing is excused any more.
    is_healed: bool,
}

impl Harmed {
    pub(super) fn is_any(&self) -> bool {
        !self.packs.is_empty()
    }

    /// From now on the catalog may have been derived from what was left, with other places.
    pub(super) fn catalog_was_derived(&mut self) {
        self.is_derived |= self.is_any();
    }

    pub(super) const fn is_derived(&self) -> bool {
        self.is_derived
    }

    /// Whether this place of an object explains that it cannot be read.
    fn explains(&self, id: &ObjectId, location: Option<Location>) -> bool {
        match location {
            Some(location) => self.packs.get(&location.pack).is_some_and(|objects| objects.contains(id)),
            None => self.packs.values().any(|objects| objects.contains(id)),
        }
    }
}

impl Session {
    pub(super) async fn harm(&mut self, pack: usize, harm: Harm, at: u64) -> Result<(), Trouble> {
        let (store, packs) = (self.process().store.clone(), self.process().packs.clone());
        // A pack by what is in it: its id is another one each time.
        let Some(content) = self.model.pick(pack).and_then(|key| self.model.versions[&key].content()) else {
            return Ok(());
        };
        let Some((purpose, id, _)) = (at as usize).checked_rem(content.objects.len()).map(|n| &content.objects[n])
        else {
            return Ok(());
        };
        let Some(target) = store.catalog().locate(*purpose, vec![*id]).await?[0] else { return Ok(()) };
        let Some(record) = store.catalog().packs().await?.into_iter().find(|record| record.id == target.pack) else {
            return fail(format!("{id} is located in a pack that is not live"));
        };
        let path = self.path_of(record.id);
        let objects = match read_index(&packs, store.repository(), record.id).await {
            Ok(index) => index.objects,
            // Harmed before.
            Err(error) if is_damage(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let anywhere = (at >> 20) % record.bytes;
        let range = match harm {
            Harm::FlipInRecord => {
                let record = extent_of(&target);
                let byte = record.start + (at >> 20) % (record.end - record.start);
                byte..byte + 1
            }
            Harm::FlipAnywhere => anywhere..anywhere + 1,
            Harm::Truncate => anywhere..record.bytes,
            Harm::Delete => 0..record.bytes,
        };
        let original = Files::on(Arc::new(self.disk.clone()));
        let original = original.read(&path).map_err(|error| Error::io("read", &path, error))?;
        self.harmed.originals.entry(record.id).or_insert(original);
        let is_done = match harm {
            Harm::Delete => self.disk.lose_file(&path),
            Harm::Truncate => self.disk.alter(&path, |bytes| bytes.truncate(range.start as usize)),
            _ => self.disk.alter(&path, |bytes| {
                if let Some(byte) = bytes.get_mut(range.start as usize) {
                    *byte ^= 1 << (at >> 60 & 7);
                }
            }),
        };
        if is_done {
            self.counts.harms += 1;
            let hit = |location: &Location| {
                let record = extent_of(location);
                range.start < HEADER_BYTES as u64 || (record.start < range.end && range.start < record.end)
            };
            let hit = objects.iter().filter(|(_, location)| hit(location)).map(|(id, _)| *id);
            self.harmed.packs.entry(record.id).or_default().extend(hit);
        }
        Ok(())
    }

    /// Puts back the files that were harmed, but for those of packs that were given up since.
    pub(super) async fn put_back(&self) -> Result<(), Trouble> {
        let packs = self.harmed.originals.keys().copied().collect();
        let given_up = self.process().store.catalog().ever_condemned(packs).await?;
        for (pack, original) in self.harmed.originals.iter().filter(|(pack, _)| !given_up.contains(pack)) {
            let path = self.path_of(*pack);
            if !self.disk.alter(&path, |bytes| bytes.clone_from(original)) {
                self.disk.put_file(&path, original);
            }
        }
        Ok(())
    }

    /// After [`put_back`](Self::put_back) and a scrub nothing is excused any more.
    pub(super) async fn expect_mended(&mut self) -> Result<(), Trouble> {
        self.scrub().await?;
        let lost = self.process().store.catalog().unhealed_damage(8).await?;
        ensure(lost.is_empty(), || format!("everything was put back, and yet: {lost:?}"))?;
        self.harmed = Harmed::default();
        self.check_everything().await
    }

    fn path_of(&self, pack: PackId) -> PathBuf {
        let name = pack.to_string();
        self.place.path().join("packs").join(&name[..2]).join(format!("{name}.pack"))
    }

    /// Whether this content has something that may be unreadable.
    pub(super) async fn excuses(&self, content: &Arc<Content>) -> Result<bool, Trouble> {
        if !self.harmed.is_any() || self.harmed.is_healed {
            return Ok(false);
        }
        let places = locate(&self.process().store, &[content]).await?;
        Ok(places.into_iter().any(|((_, id), location)| self.harmed.explains(&id, location)))
    }

    /// A scrub finds all that was harmed and is relied on, and nothing else.
    pub(super) async fn scrub(&mut self) -> Result<(), Trouble> {
        let (store, packs) = (self.process().store.clone(), self.process().packs.clone());
        // What was verified in an earlier millisecond is verified again.
        wait_a_millisecond();
        let options = ScrubOptions { scope: ScrubScope::OlderThan(Duration::ZERO), bytes_per_second: None };
        let findings = Mutex::new(Vec::new());
        let found = |finding| findings.lock().unwrap_or_else(PoisonError::into_inner).push(finding);
        store.scrub(options, &ScrubControl::new(), &found).await?;
        let findings = findings.into_inner().unwrap_or_else(PoisonError::into_inner);
        ensure(self.harmed.is_any() || findings.is_empty(), || format!("nobody did that: {findings:?}"))?;
        let under_way = self.pushes.iter().flatten().map(|push| &push.content);
        let known: Vec<&Arc<Content>> =
            self.model.with_content().map(|(_, content)| content).chain(under_way).collect();
        let places = locate(&store, &known).await?;
        for ((purpose, id), location) in places {
            let Some(location) = location.filter(|location| self.harmed.explains(&id, Some(*location))) else {
                continue;
            };
            let is_readable = match packs.read_one(location.pack, extent_of(&location)).await {
                Ok(bytes) => match decode_record(purpose, &bytes) {
                    Ok((found, payload)) => found == id && check(purpose, id, &payload, &mut Vec::new()).is_ok(),
                    Err(_) => false,
                },
                Err(error) if is_damage(&error) => false,
                Err(error) => return Err(error.into()),
            };
            ensure(is_readable, || format!("a scrub leaves {id} where it cannot be read: {location:?}"))?;
        }
        Ok(())
    }

    /// The end of a sequence: all removed versions come back, everything is sent again where something was harmed, and
    /// then every version is whole and nothing else is left.
    pub(super) async fn heal_and_check(&mut self) -> Result<(), Trouble> {
        let removed: Vec<Key> =
            self.model.versions.keys().filter(|key| self.model.removed_at(**key).is_some()).copied().collect();
        for key in removed {
            self.process().store.undelete_version(key.version()).await?;
            self.acknowledged(Change::Undelete(key));
        }
        self.pushes = Default::default();
        if self.harmed.is_any() {
            self.scrub().await?;
            let contents: Vec<(Key, Arc<Content>)> =
                self.model.live().map(|(key, content)| (key, Arc::clone(content))).collect();
            for (n, (key, content)) in contents.into_iter().enumerate() {
                let mut push = Push::new(u64::MAX - n as u64, key.image, None, content);
                let store = self.process().store.clone();
                let change = self.commit_of(&push, None);
                let version = push.run(&store, None, true).await?;
                self.committed(&version, &push, change)?;
            }
            self.harmed.is_healed = true;
        }
        self.check_everything().await?;
        self.collect(Grace::None, true, &[], false).await
    }
}

fn extent_of(location: &Location) -> Range<u64> {
    let start = u64::from(location.offset);
    start..start + record_length(location.stored_length)
}

impl super::process::Paced {
    async fn read_one(&self, pack: PackId, range: Range<u64>) -> Result<bytes::Bytes, Error> {
        use crate::storage::PackStorage as _;
        Ok(self.read(pack, vec![range]).await?.pop().unwrap_or_default())
    }
}
