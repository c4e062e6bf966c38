//! What a fetch still waits for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::OwnedSemaphorePermit;

use super::Need;

/// What is wanted and has not arrived, by offset.
#[derive(Clone, Default)]
pub(super) struct Pending(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    needs: BTreeMap<u64, PendingNeed>,
    streams: u64,
}

struct PendingNeed {
    need: Need,
    permit: OwnedSemaphorePermit,
    /// The stream on which it was asked for.
    stream: u64,
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().needs.len()
    }

    pub(super) fn add(&self, need: Need, permit: OwnedSemaphorePermit) {
        self.lock().needs.insert(need.offset, PendingNeed { need, permit, stream: 0 });
    }

    pub(super) fn remove(&self, offset: u64) -> Option<(Need, OwnedSemaphorePermit)> {
        self.lock().needs.remove(&offset).map(|pending| (pending.need, pending.permit))
    }

    /// A number for a new stream, from 1.
    pub(super) fn next_stream(&self) -> u64 {
        let mut waiting = self.lock();
        waiting.streams += 1;
        waiting.streams
    }

    /// Those of these that were not asked for on this stream; they count as asked for from now on.
    pub(super) fn to_ask(&self, offsets: &[u64], stream: u64) -> Vec<u64> {
        let mut waiting = self.lock();
        let is_new = |offset: &&u64| {
            let pending = waiting.needs.get_mut(*offset);
            pending.is_some_and(|pending| std::mem::replace(&mut pending.stream, stream) != stream)
        };
        offsets.iter().filter(is_new).copied().collect()
    }

    pub(super) fn offsets(&self) -> Vec<u64> {
        self.lock().needs.keys().copied().collect()
    }
}
