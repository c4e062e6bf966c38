//! A process that has the repository open, and that may end at any moment.

use std::{
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicIsize, Ordering::Relaxed},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{runtime::Runtime, sync::Notify};

use crate::{
    Error, PackId,
    catalog::InDoubt,
    files::{Files, simulated::Simulated},
    storage::{PackSink, PackStorage},
    store::{Directory, OpenMode, Store, StoreOptions},
};

/// The store comes first: it is closed before its threads end.
pub(super) struct Process {
    pub(super) store: Store,
    pub(super) packs: Paced,
    pub(super) runtime: Arc<Runtime>,
}

impl Process {
    pub(super) fn open(disk: &Simulated, path: &Path) -> Result<Self, Error> {
        let runtime = runtime();
        let files = Files::on(Arc::new(disk.clone()));
        let Directory { store, lock: _ } =
            runtime.block_on(Directory::open_on(files, path, OpenMode::OrCreate, options()))?;
        let mut paced = None;
        let store = store.interposed(|packs| {
            let packs = Paced::new(packs);
            paced = Some(packs.clone());
            Arc::new(packs)
        });
        let packs = paced.expect("it was made just now");
        Ok(Self { store, packs, runtime: Arc::new(runtime) })
    }

    /// What `imprint-server rebuild` does.
    pub(super) fn rebuild(disk: &Simulated, path: &Path) -> Result<(), Error> {
        let files = Files::on(Arc::new(disk.clone()));
        runtime().block_on(Directory::rebuild_on(files, path, options(), InDoubt::Refuse)).map(drop)
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn options() -> StoreOptions {
    StoreOptions { catalog_cache_bytes: 1 << 20, reserve_bytes: 512, ..StoreOptions::default() }
}

/// Packs of which one call waits until it is told to go on, so that something else happens just then.
#[derive(Clone)]
pub(super) struct Paced {
    packs: Arc<dyn PackStorage>,
    pace: Arc<Pace>,
}

struct Pace {
    /// Calls that are still made before the one that waits; below 0 none waits.
    left: AtomicIsize,
    waits: Notify,
    goes_on: Notify,
}

impl Paced {
    fn new(packs: Arc<dyn PackStorage>) -> Self {
        let pace = Pace { left: AtomicIsize::new(-1), waits: Notify::new(), goes_on: Notify::new() };
        Self { packs, pace: Arc::new(pace) }
    }

    /// The call after so many others waits.
    pub(super) fn pause_after(&self, calls: usize) {
        self.pace.left.store(calls.cast_signed(), Relaxed);
    }

    pub(super) fn never_pause(&self) {
        self.pace.left.store(-1, Relaxed);
    }

    /// Returns when a call waits.
    pub(super) async fn paused(&self) {
        self.pace.waits.notified().await;
    }

    pub(super) fn go_on(&self) {
        self.pace.goes_on.notify_one();
    }

    pub(super) async fn list_all(&self) -> Result<Vec<PackId>, Error> {
        self.packs.list().await
    }

    async fn call(&self) {
        if self.pace.left.load(Relaxed) >= 0 && self.pace.left.fetch_sub(1, Relaxed) == 0 {
            self.pace.waits.notify_one();
            self.pace.goes_on.notified().await;
        }
    }
}

#[async_trait]
impl PackStorage for Paced {
    async fn create(&self, pack: PackId) -> Result<Box<dyn PackSink>, Error> {
        self.call().await;
        self.packs.create(pack).await
    }

    async fn read(&self, pack: PackId, ranges: Vec<Range<u64>>) -> Result<Vec<Bytes>, Error> {
        self.call().await;
        self.packs.read(pack, ranges).await
    }

    async fn length(&self, pack: PackId) -> Result<u64, Error> {
        self.call().await;
        self.packs.length(pack).await
    }

    async fn list(&self) -> Result<Vec<PackId>, Error> {
        self.packs.list().await
    }

    async fn delete(&self, pack: PackId) -> Result<(), Error> {
        self.call().await;
        self.packs.delete(pack).await
    }
}
