//! Decodes and checks chunks, and hands neighbours on together.

use std::cell::RefCell;

use imprint_content::{ChunkId, Payload, profile::MAX_CHUNK_BYTES};
use tokio::sync::OwnedSemaphorePermit;

use super::{Accept, Need};
use crate::Error;

/// Neighbouring chunks are handed on together up to about this many bytes: fewer writes cost less, as long as what is
/// written is still in the core's cache.
const RUN_BYTES: usize = 256 << 10;

/// A chunk, what it was wanted for, and its part of the byte budget.
pub(super) type Arrived = (Need, OwnedSemaphorePermit, Payload);

thread_local! {
    static RUN: RefCell<Run> = RefCell::default();
}

/// Chunks that lie side by side in the image, decoded side by side.
#[derive(Default)]
struct Run {
    offset: u64,
    length: usize,
    /// Keeps its length, so that its memory is cleared once.
    buffer: Vec<u8>,
}

impl Run {
    const fn end(&self) -> u64 {
        self.offset + self.length as u64
    }

    /// Decodes and hashes a chunk behind what is there.
    fn add(&mut self, need: &Need, payload: &Payload) -> Result<(), Error> {
        let corrupt = |why: String| Error::ChunkCorrupt { offset: need.offset, why };
        if u64::from(payload.raw_length) != need.length || need.length > MAX_CHUNK_BYTES as u64 {
            return Err(corrupt(format!("it is not chunk {}", need.id)));
        }
        let end = self.length + need.length as usize;
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        let raw = &mut self.buffer[self.length..end];
        payload.decode_to(raw).map_err(|error| corrupt(error.to_string()))?;
        if ChunkId::of(raw) != need.id {
            return Err(corrupt(format!("it is not chunk {}", need.id)));
        }
        self.length = end;
        Ok(())
    }

    fn hand_over(&mut self, accept: &Accept) -> Result<(), Error> {
        match std::mem::take(&mut self.length) {
            0 => Ok(()),
            length => accept(self.offset, &self.buffer[..length]),
        }
    }
}

pub(super) fn accept_all(arrived: Vec<Arrived>, accept: &Accept) -> Result<(), Error> {
    RUN.with_borrow_mut(|run| {
        // What an error left behind is nobody's.
        run.length = 0;
        // A chunk counts as under way until it was handed over.
        let mut permits = Vec::with_capacity(arrived.len());
        for (need, permit, payload) in arrived {
            if need.offset != run.end() || run.length >= RUN_BYTES {
                run.hand_over(accept)?;
                permits.clear();
                run.offset = need.offset;
            }
            let start = run.length;
            run.add(&need, &payload)?;
            permits.push(permit);
            for offset in &need.also {
                accept(*offset, &run.buffer[start..run.length])?;
            }
        }
        run.hand_over(accept)
    })
}
