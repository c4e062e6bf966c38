//! Packs as files of a local directory.
//!
//! A pack is written under `incoming/`. Sealing it is: sync the file, rename it to its place without replacing
//! anything, sync both directories. So a file in its place is whole, and what is in `incoming/` was never sealed.

use std::{
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use bytes::Bytes;

use self::{incoming::Incoming, layout::Layout, open_packs::OpenPacks};
use super::{PackSink, PackStorage, WriteGate, durable::sync_directory};
use crate::{Error, PackId, blocking::Blocking, store::Lock};

mod incoming;
mod layout;
mod open_packs;

/// Packs as files of a local directory. One process at a time may have it open.
#[derive(Debug, Clone)]
pub struct LocalPacks {
    shared: Arc<Shared>,
    blocking: Blocking,
}

#[derive(Debug)]
struct Shared {
    layout: Layout,
    gate: WriteGate,
    open_packs: OpenPacks,
    /// The last field: released when nobody reads or writes packs any more.
    lock: OnceLock<Arc<Lock>>,
}

impl LocalPacks {
    /// Opens `dir`, creates it when it does not exist, and removes packs that were never sealed.
    ///
    /// Blocks. The caller keeps other processes away from `dir`: what they are writing looks like a leftover.
    pub fn open(dir: PathBuf, blocking: Blocking, gate: WriteGate) -> Result<Self, Error> {
        let layout = Layout::open(dir)?;
        let shared = Shared { layout, gate, open_packs: OpenPacks::default(), lock: OnceLock::new() };
        Ok(Self { shared: Arc::new(shared), blocking })
    }

    /// Keeps the directory's lock until nobody reads or writes packs any more.
    #[must_use]
    pub fn keeping(self, lock: Arc<Lock>) -> Self {
        let _ = self.shared.lock.set(lock);
        self
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Shared) -> T + Send + 'static) -> T {
        let shared = Arc::clone(&self.shared);
        self.blocking.run(move || work(&shared)).await
    }
}

#[async_trait]
impl PackStorage for LocalPacks {
    async fn create(&self, pack: PackId) -> Result<Box<dyn PackSink>, Error> {
        let incoming = self.run(move |shared| shared.create(pack)).await?;
        Ok(Box::new(LocalSink { incoming: Some(incoming), packs: self.clone(), pack }))
    }

    async fn read(&self, pack: PackId, ranges: Vec<Range<u64>>) -> Result<Vec<Bytes>, Error> {
        self.run(move |shared| shared.read(pack, &ranges)).await
    }

    async fn length(&self, pack: PackId) -> Result<u64, Error> {
        self.run(move |shared| shared.length(pack)).await
    }

    async fn list(&self) -> Result<Vec<PackId>, Error> {
        self.run(|shared| shared.layout.list()).await
    }

    async fn delete(&self, pack: PackId) -> Result<(), Error> {
        self.run(move |shared| shared.delete(pack)).await
    }
}

impl Shared {
    fn create(&self, pack: PackId) -> Result<Incoming, Error> {
        self.gate.check()?;
        // Not final when it fails: nothing was written yet, and too many open files is no broken disk.
        Incoming::create(self.layout.incoming(pack))
    }

    fn append(&self, mut incoming: Incoming, bytes: &[u8]) -> Result<Incoming, Error> {
        self.gate.check()?;
        self.gate.written(incoming.append(bytes))?;
        Ok(incoming)
    }

    fn seal(&self, pack: PackId, incoming: Incoming) -> Result<(), Error> {
        self.gate.check()?;
        // Out of space here costs this pack only: nothing relies on it before its name is durable.
        self.gate.written(incoming.sync())?;
        let place = self.layout.place(pack);
        let renamed = incoming.rename(&place);
        if is_taken(&renamed) {
            return renamed;
        }
        self.gate.written(renamed)?;
        self.gate.synced(sync_directory(parent(&place)).and_then(|()| sync_directory(&self.layout.incoming_dir())))
    }

    fn read(&self, pack: PackId, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, Error> {
        let file = self.open_packs.open(pack, &self.layout.place(pack))?;
        ranges.iter().map(|range| file.read(range)).collect()
    }

    fn length(&self, pack: PackId) -> Result<u64, Error> {
        let place = self.layout.place(pack);
        fs::metadata(&place).map(|found| found.len()).map_err(|error| missing_or_io(pack, "look at", &place, error))
    }

    fn delete(&self, pack: PackId) -> Result<(), Error> {
        self.gate.check()?;
        let place = self.layout.place(pack);
        self.gate.synced(self.open_packs.remove(pack, &place))?;
        self.gate.synced(sync_directory(parent(&place)))
    }
}

fn missing_or_io(pack: PackId, what: &'static str, path: &Path, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::PackMissing(pack),
        _ => Error::io(what, path, error),
    }
}

fn is_taken(renamed: &Result<(), Error>) -> bool {
    matches!(renamed, Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists)
}

fn parent(path: &Path) -> &Path {
    path.parent().expect("packs lie in directories")
}

/// Writes one pack. The file travels into each step and comes back only when that succeeded: after an error, or when
/// a step's future was dropped, there is nothing left to append to.
struct LocalSink {
    /// Before `packs`, which may hold the last of the lock: an abandoned file is removed under it.
    incoming: Option<Incoming>,
    packs: LocalPacks,
    pack: PackId,
}

impl LocalSink {
    fn take(&mut self) -> Result<Incoming, Error> {
        let abandoned = || io::Error::other("an earlier write to it failed");
        let path = || self.packs.shared.layout.incoming(self.pack);
        self.incoming.take().ok_or_else(|| Error::io("write", path(), abandoned()))
    }
}

#[async_trait]
impl PackSink for LocalSink {
    async fn append(&mut self, bytes: Bytes) -> Result<(), Error> {
        let incoming = self.take()?;
        self.incoming = Some(self.packs.run(move |shared| shared.append(incoming, &bytes)).await?);
        Ok(())
    }

    async fn seal(mut self: Box<Self>) -> Result<(), Error> {
        let (pack, incoming) = (self.pack, self.take()?);
        self.packs.run(move |shared| shared.seal(pack, incoming)).await
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{File, OpenOptions},
        num::NonZero,
        pin::pin,
    };

    use super::*;

    const PACK: PackId = PackId::from_bytes([3; 16]);

    fn opened() -> (tempfile::TempDir, LocalPacks) {
        let dir = tempfile::tempdir().unwrap();
        let blocking = Blocking::for_this_machine();
        let packs = LocalPacks::open(dir.path().join("packs"), blocking, WriteGate::default()).unwrap();
        (dir, packs)
    }

    /// Writes a byte to `file` as if it were the pack's, then seals it.
    async fn write_to(packs: &LocalPacks, file: File) -> Result<(), Error> {
        let path = packs.shared.layout.incoming(PACK);
        File::create_new(&path).unwrap();
        let incoming = Some(Incoming::on(file, path));
        let mut sink = Box::new(LocalSink { packs: packs.clone(), pack: PACK, incoming });
        if let Err(error) = sink.append(Bytes::from_static(b"x")).await {
            assert!(sink.append(Bytes::from_static(b"y")).await.is_err(), "its tail is unknown");
            assert!(sink.seal().await.is_err(), "its tail is unknown");
            return Err(error);
        }
        sink.seal().await
    }

    fn nothing_is_left(packs: &LocalPacks) -> bool {
        packs.shared.layout.list().unwrap().is_empty() && !packs.shared.layout.incoming(PACK).exists()
    }

    #[tokio::test]
    async fn a_full_disk_costs_that_pack_only() {
        let (_dir, packs) = opened();
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = write_to(&packs, full).await.unwrap_err();
        assert!(matches!(error, Error::Full { .. }), "{error}");
        assert!(nothing_is_left(&packs));
        packs.create(PACK).await.unwrap().seal().await.unwrap();
    }

    #[tokio::test]
    async fn a_failed_write_is_final() {
        let (_dir, packs) = opened();
        let read_only = File::open("/dev/null").unwrap();
        let error = write_to(&packs, read_only).await.unwrap_err();
        assert!(matches!(error, Error::Io { what: "write", .. }), "{error}");
        assert!(nothing_is_left(&packs));
        assert!(matches!(packs.create(PACK).await, Err(Error::WritesStopped { .. })));
    }

    #[tokio::test]
    async fn a_failed_sync_is_final_and_the_pack_does_not_appear() {
        let (_dir, packs) = opened();
        // Takes every write and cannot sync.
        let null = OpenOptions::new().write(true).open("/dev/null").unwrap();
        let error = write_to(&packs, null).await.unwrap_err();
        assert!(matches!(error, Error::Io { what: "sync", .. }), "{error}");
        assert!(nothing_is_left(&packs));
        assert!(matches!(packs.create(PACK).await, Err(Error::WritesStopped { .. })));
        assert!(matches!(packs.delete(PACK).await, Err(Error::WritesStopped { .. })));
    }

    #[tokio::test]
    async fn a_write_whose_caller_went_away_leaves_nothing_to_append_to() {
        let (_dir, mut packs) = opened();
        packs.blocking = Blocking::new(NonZero::<usize>::MIN);
        let mut sink = packs.create(PACK).await.unwrap();
        {
            // While the only thread is busy, the write cannot finish.
            let (release, wait) = std::sync::mpsc::channel::<()>();
            let mut busy = pin!(packs.blocking.run(move || wait.recv()));
            assert!(futures::poll!(&mut busy).is_pending());
            let mut append = sink.append(Bytes::from_static(b"x"));
            assert!(futures::poll!(&mut append).is_pending());
            drop(append);
            release.send(()).unwrap();
            busy.await.unwrap();
        }
        assert!(sink.append(Bytes::from_static(b"y")).await.is_err());
        assert!(sink.seal().await.is_err());
        assert!(nothing_is_left(&packs));
    }
}
