//! Packs in memory, and something that happens at one call to them: another client's doing, or an error.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;

use crate::{
    Error, PackId,
    storage::{MemoryPacks, PackSink, PackStorage},
};

/// What happens when a call comes, before it is done.
pub(super) enum Event {
    Happens(BoxFuture<'static, ()>),
    Fails(Error),
}

/// Counts calls; at one of them the event takes place.
#[derive(Clone, Default)]
pub(super) struct Interposed {
    pub(super) packs: MemoryPacks,
    calls: Arc<AtomicUsize>,
    event: Arc<Mutex<Option<(usize, Event)>>>,
}

impl Interposed {
    /// Calls from now on count from 0.
    pub(super) fn at(&self, call: usize, event: Event) {
        self.calls.store(0, Relaxed);
        *self.event.lock().unwrap() = Some((call, event));
    }

    /// Whether the event took place; if not, it never will.
    pub(super) fn has_happened(&self) -> bool {
        self.event.lock().unwrap().take().is_none()
    }

    async fn call(&self) -> Result<(), Error> {
        let call = self.calls.fetch_add(1, Relaxed);
        let event = self.event.lock().unwrap().take_if(|(at, _)| *at == call);
        match event {
            None => Ok(()),
            Some((_, Event::Fails(error))) => Err(error),
            Some((_, Event::Happens(event))) => {
                event.await;
                Ok(())
            }
        }
    }
}

#[async_trait]
impl PackStorage for Interposed {
    async fn create(&self, pack: PackId) -> Result<Box<dyn PackSink>, Error> {
        self.call().await?;
        let sink = self.packs.create(pack).await?;
        Ok(Box::new(InterposedSink { sink, packs: self.clone() }))
    }

    async fn read(&self, pack: PackId, ranges: Vec<Range<u64>>) -> Result<Vec<Bytes>, Error> {
        self.call().await?;
        self.packs.read(pack, ranges).await
    }

    async fn length(&self, pack: PackId) -> Result<u64, Error> {
        self.call().await?;
        self.packs.length(pack).await
    }

    async fn list(&self) -> Result<Vec<PackId>, Error> {
        self.packs.list().await
    }

    async fn delete(&self, pack: PackId) -> Result<(), Error> {
        self.call().await?;
        self.packs.delete(pack).await
    }
}

struct InterposedSink {
    sink: Box<dyn PackSink>,
    packs: Interposed,
}

#[async_trait]
impl PackSink for InterposedSink {
    async fn append(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.packs.call().await?;
        self.sink.append(bytes).await
    }

    async fn seal(self: Box<Self>) -> Result<(), Error> {
        self.packs.call().await?;
        self.sink.seal().await
    }
}
