//! Packs as files of a local directory.
//!
//! A pack is written under `incoming/`. Sealing it is: sync the file, rename it to its place without replacing
//! anything, sync both directories. So a file in its place is whole, and what is in `incoming/` was never sealed.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use bytes::Bytes;

use self::{incoming::Incoming, layout::Layout, open_packs::OpenPacks};
use super::{PackSink, PackStorage};
use crate::{
    Error, PackId,
    blocking::Blocking,
    files::{Files, parent},
    store::Lock,
};

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
    files: Files,
    open_packs: OpenPacks,
    /// The last field: released when nobody reads or writes packs any more.
    lock: OnceLock<Arc<Lock>>,
}

impl LocalPacks {
    /// Opens `dir`, creates it when it does not exist, and removes packs that were never sealed.
    ///
    /// Blocks. The caller keeps other processes away from `dir`: what they are writing looks like a leftover.
    pub fn open(dir: PathBuf, blocking: Blocking, files: Files) -> Result<Self, Error> {
        let layout = Layout::open(files.clone(), dir)?;
        let open_packs = OpenPacks::new(files.clone());
        let shared = Shared { layout, files, open_packs, lock: OnceLock::new() };
        Ok(Self { shared: Arc::new(shared), blocking })
    }

    /// Opens `dir` as it is, to read only: nothing is created and nothing removed. Where it does not exist there are no packs.
    #[must_use]
    pub fn open_to_look(dir: PathBuf, blocking: Blocking, files: Files) -> Self {
        let layout = Layout::existing(files.clone(), dir);
        let open_packs = OpenPacks::new(files.clone());
        Self { shared: Arc::new(Shared { layout, files, open_packs, lock: OnceLock::new() }), blocking }
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

    async fn read_uncached(&self, pack: PackId, range: Range<u64>) -> Result<Bytes, Error> {
        self.run(move |shared| shared.read_uncached(pack, &range)).await
    }

    async fn reopen(&self, pack: PackId) -> Result<(), Error> {
        self.run(move |shared| shared.open_packs.forget(pack)).await;
        Ok(())
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
        self.files.gate().check()?;
        self.files.restore_reserve()?;
        // Not final when it fails: nothing was written yet, and too many open files is no broken disk.
        Incoming::create(&self.files, self.layout.incoming(pack))
    }

    fn append(&self, mut incoming: Incoming, bytes: &[u8]) -> Result<Incoming, Error> {
        self.files.gate().check()?;
        self.files.expect_reserve()?;
        self.files.gate().written(incoming.append(bytes))?;
        Ok(incoming)
    }

    fn seal(&self, pack: PackId, incoming: Incoming) -> Result<(), Error> {
        self.files.gate().check()?;
        // Out of space here costs this pack only: nothing relies on it before its name is durable.
        self.files.gate().written(incoming.sync())?;
        let place = self.layout.place(pack);
        let renamed = incoming.rename(&place);
        if is_taken(&renamed) {
            return renamed;
        }
        self.files.gate().written(renamed)?;
        let sync = |directory: &Path| self.files.sync_directory(directory);
        self.files.gate().synced(sync(parent(&place)).and_then(|()| sync(&self.layout.incoming_dir())))
    }

    fn read(&self, pack: PackId, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, Error> {
        let file = self.open_packs.open(pack, &self.layout.place(pack))?;
        ranges.iter().map(|range| file.read(range)).collect()
    }

    /// Opened each time: files that are read once must not drive out those that are read again and again.
    fn read_uncached(&self, pack: PackId, range: &Range<u64>) -> Result<Bytes, Error> {
        self.open_packs.open_once(pack, &self.layout.place(pack))?.read_uncached(range)
    }

    /// Opened each time, too: what a scrub reads must not end where the file ended when it was opened first.
    fn length(&self, pack: PackId) -> Result<u64, Error> {
        self.open_packs.open_once(pack, &self.layout.place(pack)).map(|file| file.length())
    }

    fn delete(&self, pack: PackId) -> Result<(), Error> {
        self.files.gate().check()?;
        let place = self.layout.place(pack);
        self.files.gate().synced(self.open_packs.remove(pack, &place))?;
        self.files.gate().synced(self.files.sync_directory(parent(&place)))
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
    use std::{num::NonZero, pin::pin};

    use super::*;
    use crate::files::simulated::{Call, Simulated};

    const PACK: PackId = PackId::from_bytes([3; 16]);

    fn opened() -> (Simulated, LocalPacks) {
        let disk = Simulated::with_root(Path::new("/repository"));
        let files = Files::on(Arc::new(disk.clone()));
        let packs = LocalPacks::open("/repository/packs".into(), Blocking::for_this_machine(), files).unwrap();
        (disk, packs)
    }

    /// Writes and seals a pack.
    async fn write(packs: &LocalPacks) -> Result<(), Error> {
        let mut sink = packs.create(PACK).await?;
        if let Err(error) = sink.append(Bytes::from_static(b"xx")).await {
            assert!(sink.append(Bytes::from_static(b"y")).await.is_err(), "its tail is unknown");
            assert!(sink.seal().await.is_err(), "its tail is unknown");
            return Err(error);
        }
        sink.seal().await
    }

    fn nothing_is_left(packs: &LocalPacks) -> bool {
        let incoming = packs.shared.files.list(&packs.shared.layout.incoming_dir()).unwrap();
        packs.shared.layout.list().unwrap().is_empty() && incoming.is_empty()
    }

    /// Found by the reference model: a scrub took what stands before the new end for lost.
    #[tokio::test]
    async fn the_length_is_that_of_the_file_as_it_is() {
        let (disk, packs) = opened();
        write(&packs).await.unwrap();
        packs.read(PACK, vec![0..1, 1..2]).await.unwrap();
        assert!(disk.alter(&packs.shared.layout.place(PACK), |bytes| bytes.truncate(1)));
        assert_eq!(packs.length(PACK).await.unwrap(), 1);
        assert_eq!(packs.read_uncached(PACK, 0..1).await.unwrap(), "x");
        assert!(disk.lose_file(&packs.shared.layout.place(PACK)));
        assert!(matches!(packs.length(PACK).await, Err(Error::PackMissing(PACK))));
    }

    #[tokio::test]
    async fn a_full_disk_costs_that_pack_only() {
        let (disk, packs) = opened();
        let steps: [fn(&Call) -> bool; 4] = [
            |call| matches!(call, Call::Create(_)),
            |call| matches!(call, Call::Write(_)),
            |call| matches!(call, Call::Sync(_)),
            |call| matches!(call, Call::Rename { .. }),
        ];
        for full in steps {
            disk.set_fault(move |call| full(call).then_some(io::ErrorKind::StorageFull));
            let error = write(&packs).await.unwrap_err();
            assert!(matches!(error, Error::Full { .. }), "{error}");
            assert!(nothing_is_left(&packs));
        }
        disk.clear_fault();
        write(&packs).await.unwrap();
    }

    #[tokio::test]
    async fn a_failed_write_is_final() {
        let (disk, packs) = opened();
        disk.set_fault(|call| matches!(call, Call::Write(_)).then_some(io::ErrorKind::Other));
        let error = write(&packs).await.unwrap_err();
        assert!(matches!(error, Error::Io { what: "write", .. }), "{error}");
        assert!(nothing_is_left(&packs));
        assert!(matches!(packs.create(PACK).await, Err(Error::WritesStopped { .. })));
    }

    #[tokio::test]
    async fn a_failed_sync_is_final_and_the_pack_does_not_appear() {
        let (disk, packs) = opened();
        disk.set_fault(|call| matches!(call, Call::Sync(_)).then_some(io::ErrorKind::Other));
        let error = write(&packs).await.unwrap_err();
        assert!(matches!(error, Error::Io { what: "sync", .. }), "{error}");
        assert!(nothing_is_left(&packs));
        assert!(matches!(packs.create(PACK).await, Err(Error::WritesStopped { .. })));
        assert!(matches!(packs.delete(PACK).await, Err(Error::WritesStopped { .. })));
    }

    #[tokio::test]
    async fn a_failed_sync_of_a_directory_is_final_and_reads_go_on() {
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Other] {
            let (disk, packs) = opened();
            disk.set_fault(move |call| matches!(call, Call::SyncDirectory(_)).then_some(kind));
            assert!(write(&packs).await.is_err());
            disk.clear_fault();
            assert!(matches!(packs.create(PACK).await, Err(Error::WritesStopped { .. })));
            assert_eq!(packs.read(PACK, vec![0..1, 1..2]).await.unwrap(), ["x", "x"]);
        }
    }

    #[tokio::test]
    async fn a_write_whose_caller_went_away_leaves_nothing_to_append_to() {
        let (_disk, mut packs) = opened();
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
