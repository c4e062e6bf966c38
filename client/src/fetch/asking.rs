//! Which chunks are asked for together, and when.

use std::sync::Arc;

use imprint_proto::{limits::MAX_FETCH_OFFSETS, v1};
use tokio::sync::{
    Semaphore,
    mpsc::{Receiver, Sender},
};

use super::{Need, pending::Pending};

/// Bytes of chunks, decoded, that may be under way or waiting to be written.
const BUDGET_BYTES: usize = 64 << 20;
/// A list of offsets has at least so many bytes of chunks, if there are as many.
const LIST_BYTES: u32 = 8 << 20;

/// Makes lists of offsets as long as the byte budget lasts. A list waits until there is room for all of it: asking for
/// each chunk as soon as another one has arrived would make many small reads and messages.
pub(super) async fn list_offsets(mut needs: Receiver<Vec<Need>>, lists: Sender<Vec<u64>>, pending: Pending) {
    let budget = Arc::new(Semaphore::new(BUDGET_BYTES));
    while let Some(list) = needs.recv().await {
        let mut rest = list.into_iter().peekable();
        while rest.peek().is_some() {
            let (mut part, mut bytes) = (Vec::new(), 0);
            while let Some(need) = rest.next_if(|_| bytes < LIST_BYTES && part.len() < MAX_FETCH_OFFSETS) {
                bytes += need.length as u32;
                part.push(need);
            }
            let Ok(mut room) = budget.clone().acquire_many_owned(bytes).await else { return };
            let offsets = part.iter().map(|need| need.offset).collect();
            for need in part {
                let Some(permit) = room.split(need.length as usize) else { return };
                pending.add(need, permit);
            }
            if lists.send(offsets).await.is_err() {
                return;
            }
        }
    }
}

/// Asks on one stream, first for what is waiting from an earlier one.
pub(super) struct Asker {
    /// Until it was said.
    pub(super) version: Option<v1::VersionKey>,
    pub(super) requests: Sender<v1::FetchChunksRequest>,
    pub(super) stream: u64,
}

impl Asker {
    /// Whether all was asked for; not so when nobody takes requests any more.
    pub(super) async fn run(mut self, lists: &mut Receiver<Vec<u64>>, pending: &Pending) -> bool {
        for part in pending.offsets().chunks(MAX_FETCH_OFFSETS) {
            if !self.ask(part, pending).await {
                return false;
            }
        }
        loop {
            let list = tokio::select! {
                list = lists.recv() => list,
                () = self.requests.closed() => return false,
            };
            match list {
                Some(list) if self.ask(&list, pending).await => {}
                Some(_) => return false,
                None => return true,
            }
        }
    }

    async fn ask(&mut self, offsets: &[u64], pending: &Pending) -> bool {
        let offsets = pending.to_ask(offsets, self.stream);
        if offsets.is_empty() {
            return true;
        }
        let request = v1::FetchChunksRequest { version: self.version.take(), offsets };
        self.requests.send(request).await.is_ok()
    }
}
