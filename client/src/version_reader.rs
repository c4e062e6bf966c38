//! Reads a version at any offset, through chunks of the repository: for whoever looks into it without restoring it.
//!
//! Chunks are fetched when they are needed, those behind them with them, and kept for a while. Memory is bounded.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use imprint_content::{ChunkId, ExtentKind};
use imprint_disks::ReadAt;
use tokio::{runtime::Handle, sync::mpsc};

use crate::{
    Error, Progress, Repository, Version,
    extents::{ExtentMap, PlacedExtent},
    fetch::{Need, fetch_chunks},
};

/// Bytes of chunks that are kept.
const KEPT_BYTES: usize = 64 << 20;
/// Bytes that are fetched at once, from the wanted chunk on: structures of filesystems lie side by side.
const AHEAD_BYTES: u64 = 512 << 10;
/// Extents whose place is remembered, some 100 bytes each.
const PLACES: usize = 16 << 10;
/// Extents that are looked up at once.
const LOOK_UP: usize = 64;

/// Chunks in memory; readers of several versions share them.
#[derive(Default)]
pub(crate) struct ChunkCache {
    chunks: HashMap<ChunkId, (u64, Arc<[u8]>)>,
    bytes: usize,
    clock: u64,
}

impl ChunkCache {
    fn get(&mut self, id: &ChunkId) -> Option<Arc<[u8]>> {
        self.clock += 1;
        let (used, bytes) = self.chunks.get_mut(id)?;
        *used = self.clock;
        Some(Arc::clone(bytes))
    }

    fn insert(&mut self, id: ChunkId, bytes: &[u8]) {
        self.clock += 1;
        self.bytes += bytes.len();
        if let Some((_, replaced)) = self.chunks.insert(id, (self.clock, bytes.into())) {
            self.bytes -= replaced.len();
        }
        if self.bytes > KEPT_BYTES {
            self.trim();
        }
    }

    /// Drops the half that was used longest ago.
    fn trim(&mut self) {
        let mut used: Vec<u64> = self.chunks.values().map(|(used, _)| *used).collect();
        used.sort_unstable();
        let limit = used.get(used.len() / 2).copied().unwrap_or(0);
        self.chunks.retain(|_, (used, _)| *used > limit);
        self.bytes = self.chunks.values().map(|(_, bytes)| bytes.len()).sum();
    }
}

/// One version. Reads block: not for async threads.
pub(crate) struct VersionReader {
    repository: Repository,
    version: Version,
    extents: ExtentMap,
    places: Mutex<BTreeMap<u64, PlacedExtent>>,
    cache: Arc<Mutex<ChunkCache>>,
    progress: Arc<Progress>,
    runtime: Handle,
}

impl VersionReader {
    /// To be called on an async thread.
    pub(crate) fn new(
        repository: &Repository,
        version: &Version,
        extents: ExtentMap,
        cache: Arc<Mutex<ChunkCache>>,
        progress: &Arc<Progress>,
    ) -> Self {
        Self {
            repository: repository.clone(),
            version: version.clone(),
            extents,
            places: Mutex::default(),
            cache,
            progress: Arc::clone(progress),
            runtime: Handle::current(),
        }
    }

    /// The extent that covers a byte of the image.
    fn place(&self, offset: u64) -> Result<Option<PlacedExtent>, Error> {
        let mut places = lock(&self.places);
        let known = places.range(..=offset).next_back().map(|(_, placed)| *placed);
        if let Some(placed) = known.filter(|placed| offset < placed.end()) {
            return Ok(Some(placed));
        }
        if places.len() + LOOK_UP > PLACES {
            places.clear();
        }
        let mut cursor = self.extents.cursor_at(offset)?;
        let first = cursor.peek()?;
        for _ in 0..LOOK_UP {
            let Some(placed) = cursor.read()? else { break };
            places.insert(placed.offset, placed);
        }
        Ok(first)
    }

    fn chunk(&self, placed: &PlacedExtent, id: &ChunkId) -> Result<Arc<[u8]>, Error> {
        if let Some(bytes) = lock(&self.cache).get(id) {
            return Ok(bytes);
        }
        self.fetch(placed)?;
        let fetched = lock(&self.cache).get(id);
        fetched.ok_or_else(|| Error::Protocol(format!("the chunk for byte {} was not sent", placed.offset)))
    }

    /// Fetches the chunk of this extent, and those behind it that are not here.
    fn fetch(&self, placed: &PlacedExtent) -> Result<(), Error> {
        // Offsets are asked for in ascending order.
        let mut wanted = BTreeMap::new();
        let mut cursor = self.extents.cursor_at(placed.offset)?;
        // Who pushed the version chose its length: up to 2^64 - 1.
        let end = placed.offset.saturating_add(AHEAD_BYTES);
        while let Some(next) = cursor.read()?.filter(|next| next.offset < end) {
            let Some(id) = next.extent.chunk() else { continue };
            if lock(&self.cache).get(&id).is_none() {
                wanted.insert(next.offset, (id, next.extent.length));
            }
        }
        let mut needs: Vec<Need> = Vec::with_capacity(wanted.len());
        for (offset, (id, length)) in &wanted {
            if !needs.iter().any(|need| need.id == *id) {
                needs.push(Need { offset: *offset, id: *id, length: *length, also: Vec::new() });
            }
        }
        let cache = Arc::clone(&self.cache);
        // Neighbours may come together.
        let accept = Arc::new(move |offset: u64, bytes: &[u8]| {
            let mut at = 0;
            while at < bytes.len() {
                let Some((id, length)) = wanted.get(&(offset + at as u64)) else {
                    return Err(Error::Protocol(format!("a chunk for byte {offset} came unasked")));
                };
                let end = at + *length as usize;
                lock(&cache).insert(*id, &bytes[at..end]);
                at = end;
            }
            Ok(())
        });
        let (sender, queue) = mpsc::channel(1);
        self.runtime.block_on(async {
            let sending = async move { sender.send(needs).await };
            let fetching = fetch_chunks(&self.repository, &self.version, queue, accept, &self.progress);
            let (fetched, _) = tokio::join!(fetching, sending);
            fetched.map(|_| ())
        })
    }

    fn read(&self, buf: &mut [u8], offset: u64) -> Result<(), Error> {
        let mut at = 0;
        while at < buf.len() {
            let here = offset + at as u64;
            let Some(placed) = self.place(here)? else {
                let source = io::ErrorKind::UnexpectedEof.into();
                return Err(Error::Io { what: "read", path: self.version.reference().to_string().into(), source });
            };
            let length = (placed.end() - here).min((buf.len() - at) as u64) as usize;
            let part = &mut buf[at..at + length];
            match placed.extent.kind {
                ExtentKind::Data(id) => {
                    let start = (here - placed.offset) as usize;
                    part.copy_from_slice(&self.chunk(&placed, &id)?[start..start + length]);
                }
                ExtentKind::Zero | ExtentKind::Free => part.fill(0),
            }
            at += length;
        }
        Ok(())
    }
}

impl ReadAt for VersionReader {
    fn length(&self) -> u64 {
        self.extents.length()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.read(buf, offset).map_err(io::Error::other)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_keeps_what_was_used_last_and_no_more_than_it_may() {
        let mut cache = ChunkCache::default();
        let first = ChunkId::of(b"first");
        cache.insert(first, &[1; 4096]);
        for n in 0u32..1000 {
            cache.insert(ChunkId::of(&n.to_le_bytes()), &vec![0; 256 << 10]);
            assert!(cache.get(&first).is_some(), "{n}");
            assert!(cache.bytes <= KEPT_BYTES, "{}", cache.bytes);
        }
        assert_eq!(cache.bytes, cache.chunks.values().map(|(_, bytes)| bytes.len()).sum::<usize>());
    }
}
