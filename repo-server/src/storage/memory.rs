//! Packs in memory: for tests, and the shortest statement of what an engine does.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use bytes::Bytes;

use super::{PackSink, PackStorage, range_in};
use crate::{Error, PackId};

/// Packs in memory. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryPacks {
    packs: Arc<Mutex<Packs>>,
}

#[derive(Debug, Default)]
struct Packs {
    sealed: BTreeMap<PackId, Bytes>,
    incoming: BTreeSet<PackId>,
}

impl MemoryPacks {
    fn lock(&self) -> MutexGuard<'_, Packs> {
        self.packs.lock().expect("nobody panics while holding it")
    }

    fn sealed(&self, pack: PackId) -> Result<Bytes, Error> {
        self.lock().sealed.get(&pack).cloned().ok_or(Error::PackMissing(pack))
    }
}

#[async_trait]
impl PackStorage for MemoryPacks {
    async fn create(&self, pack: PackId) -> Result<Box<dyn PackSink>, Error> {
        if !self.lock().incoming.insert(pack) {
            return Err(taken("create", pack));
        }
        Ok(Box::new(MemorySink { packs: self.clone(), pack, bytes: Vec::new() }))
    }

    async fn read(&self, pack: PackId, ranges: Vec<Range<u64>>) -> Result<Vec<Bytes>, Error> {
        let bytes = self.sealed(pack)?;
        ranges.iter().map(|range| Ok(bytes.slice(range_in(pack, range, bytes.len() as u64)?))).collect()
    }

    async fn length(&self, pack: PackId) -> Result<u64, Error> {
        Ok(self.sealed(pack)?.len() as u64)
    }

    async fn list(&self) -> Result<Vec<PackId>, Error> {
        Ok(self.lock().sealed.keys().copied().collect())
    }

    async fn delete(&self, pack: PackId) -> Result<(), Error> {
        self.lock().sealed.remove(&pack);
        Ok(())
    }
}

fn taken(what: &'static str, pack: PackId) -> Error {
    Error::io(what, format!("pack {pack}"), io::ErrorKind::AlreadyExists.into())
}

struct MemorySink {
    packs: MemoryPacks,
    pack: PackId,
    bytes: Vec<u8>,
}

#[async_trait]
impl PackSink for MemorySink {
    async fn append(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn seal(mut self: Box<Self>) -> Result<(), Error> {
        let bytes = std::mem::take(&mut self.bytes).into();
        let mut packs = self.packs.lock();
        if packs.sealed.contains_key(&self.pack) {
            return Err(taken("seal", self.pack));
        }
        packs.sealed.insert(self.pack, bytes);
        Ok(())
    }
}

impl Drop for MemorySink {
    fn drop(&mut self) {
        self.packs.lock().incoming.remove(&self.pack);
    }
}
