//! Where packs live: the seam between the store and local files or, later, an object store.
//!
//! A pack is written once, front to back, and exists only once it is sealed; then it never changes.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Error, PackId};

#[cfg(test)]
mod laws;
mod local;
mod memory;
mod past_damage;

pub use crate::files::WriteGate;
pub use local::LocalPacks;
pub use memory::MemoryPacks;
pub(crate) use past_damage::read_past_damage;

/// Keeps packs. Every engine passes [`laws`].
#[async_trait]
pub trait PackStorage: Send + Sync + 'static {
    /// Starts a pack. Nothing of it can be read before it is sealed.
    async fn create(&self, pack: PackId) -> Result<Box<dyn PackSink>, Error>;

    /// Reads byte ranges of a sealed pack, in the order given. The caller joins neighbouring ranges.
    ///
    /// # Errors
    /// [`Error::PackMissing`] when there is no such pack, [`Error::RecordCorrupt`] when a range ends behind it.
    async fn read(&self, pack: PackId, ranges: Vec<Range<u64>>) -> Result<Vec<Bytes>, Error>;

    /// Reads a range of a sealed pack as [`read`](Self::read) does, but from the medium where that can be told apart from
    /// a cache, and without leaving it in one: for who looks at everything, once.
    async fn read_uncached(&self, pack: PackId, range: Range<u64>) -> Result<Bytes, Error> {
        Ok(self.read(pack, vec![range]).await?.pop().unwrap_or_default())
    }

    /// Keeps nothing of a sealed pack from earlier reads: those that begin later see the file that is there.
    async fn reopen(&self, _pack: PackId) -> Result<(), Error> {
        Ok(())
    }

    /// Length of a sealed pack in bytes.
    async fn length(&self, pack: PackId) -> Result<u64, Error>;

    /// All sealed packs, in no order.
    async fn list(&self) -> Result<Vec<PackId>, Error>;

    /// Removes a sealed pack; durable on return. Removing what does not exist succeeds.
    async fn delete(&self, pack: PackId) -> Result<(), Error>;
}

/// Writes one pack. Dropped without [`seal`](Self::seal), the pack never existed.
#[async_trait]
pub trait PackSink: Send {
    /// Appends bytes.
    ///
    /// # Errors
    /// After any error the pack must be abandoned: its tail is unknown.
    async fn append(&mut self, bytes: Bytes) -> Result<(), Error>;

    /// Makes the pack durable, then visible under its id.
    async fn seal(self: Box<Self>) -> Result<(), Error>;
}

/// The range as indices, if a pack of this length has it. Before anything is allocated for it.
fn range_in(pack: PackId, range: &Range<u64>, length: u64) -> Result<Range<usize>, Error> {
    if range.start > range.end || range.end > length {
        let why = format!("bytes up to {} were asked for, and the pack has {length}", range.end);
        return Err(Error::RecordCorrupt { pack, offset: range.start, why });
    }
    let index = |at| usize::try_from(at).expect("packs are far below 4 GiB");
    Ok(index(range.start)..index(range.end))
}
