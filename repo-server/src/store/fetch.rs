//! Reads chunks of a version by their position in it.
//!
//! A reader names image offsets, never chunk ids: the right to read a chunk follows from the version that holds it.

use std::ops::Range;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use imprint_content::{Codec, NodeId, ObjectId};
use imprint_proto::limits::TARGET_MESSAGE_BYTES;

use crate::{
    Error, PackId,
    catalog::{Catalog, Location},
    pack::{Purpose, decode_record, record_length},
    storage::PackStorage,
};

use super::{
    Store,
    tree_view::{LeafCursor, TreeView},
};

/// Reads are joined up to this many bytes.
const READ_BYTES: u64 = 1 << 20;
/// Records further apart than this are read one by one.
const READ_GAP_BYTES: u64 = 32 << 10;
/// What a chunk takes in a message besides its payload, at most: the fields, their tags and lengths.
const CHUNK_OVERHEAD_BYTES: usize = 32;
/// Reads of one request under way at once.
const READS_IN_FLIGHT: usize = 4;

/// A chunk as stored, for the position it was asked by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedChunk {
    /// Where the extent starts in the image, in bytes.
    pub offset: u64,
    /// How `stored` is encoded.
    pub codec: Codec,
    /// Length after decoding, in bytes.
    pub raw_length: u32,
    /// The payload; *not* hashed here: the restoring client hashes all that it writes.
    pub stored: Bytes,
}

/// Reads chunks of one version.
pub struct ChunkReader {
    store: Store,
    leaves: LeafCursor,
}

impl ChunkReader {
    pub(super) async fn open(store: &Store, root: NodeId) -> Result<Self, Error> {
        let view = TreeView::open(store.nodes.clone(), root).await?;
        Ok(Self { store: store.clone(), leaves: LeafCursor::new(view) })
    }

    /// The chunks that start at these strictly ascending offsets, in pack order, in groups that take up to about 1 MiB
    /// when they are sent. A chunk that is at several of them is read once and counts for each.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when no data extent starts at an offset, or when they are not in order; [`Error::ObjectMissing`] or
    /// [`Error::RecordCorrupt`] when the repository is damaged there.
    pub async fn read(
        &mut self,
        offsets: &[u64],
    ) -> Result<impl Stream<Item = Result<Vec<FetchedChunk>, Error>> + Send + use<>, Error> {
        let mut ids = Vec::with_capacity(offsets.len());
        if !offsets.is_sorted_by(|a, b| a < b) {
            return Err(Error::BadRequest("the offsets of a request are not in strictly ascending order".into()));
        }
        for offset in offsets {
            ids.push(self.leaves.chunk_at(*offset).await?.into());
        }
        let locations = self.store.catalog.locate(Purpose::Chunks, ids.clone()).await?;
        let mut wanted = Vec::with_capacity(offsets.len());
        for ((offset, id), location) in offsets.iter().zip(ids).zip(locations) {
            wanted.push(((*offset, id), location.ok_or(Error::ObjectMissing(id))?));
        }
        let store = self.store.clone();
        let reads = stream::iter(plan_reads(wanted)).map(move |plan| {
            let store = store.clone();
            async move {
                let mut chunks = Vec::with_capacity(plan.records.len());
                for (plan, bytes) in read_where_it_is(&*store.packs, &*store.catalog, Purpose::Chunks, plan).await? {
                    for ((offset, _), location) in &plan.records {
                        chunks.push(fetched(*offset, location, &plan, &bytes)?);
                    }
                }
                Ok(grouped(chunks))
            }
        });
        let groups = reads.buffered(READS_IN_FLIGHT);
        Ok(groups.map_ok(|groups| stream::iter(groups.into_iter().map(Ok))).try_flatten())
    }
}

/// Cuts what one read gave into groups that fit into a message each, however often a record was asked for.
fn grouped(chunks: Vec<FetchedChunk>) -> Vec<Vec<FetchedChunk>> {
    let mut groups: Vec<Vec<FetchedChunk>> = Vec::new();
    let mut bytes = 0;
    for chunk in chunks {
        let more = chunk.stored.len() + CHUNK_OVERHEAD_BYTES;
        bytes += more;
        match groups.last_mut() {
            Some(group) if bytes <= TARGET_MESSAGE_BYTES => group.push(chunk),
            _ => {
                groups.push(vec![chunk]);
                bytes = more;
            }
        }
    }
    groups
}

fn fetched<T>(offset: u64, at: &Location, plan: &ReadPlan<T>, bytes: &Bytes) -> Result<FetchedChunk, Error> {
    let (_, payload) = decode_record(Purpose::Chunks, &plan.slice(bytes, at))
        .map_err(|error| Error::RecordCorrupt { pack: at.pack, offset: at.offset.into(), why: error.to_string() })?;
    Ok(FetchedChunk { offset, codec: payload.codec, raw_length: payload.raw_length, stored: payload.stored })
}

/// What a record was asked for, by the object that it is of.
pub(super) trait Wanted {
    fn object(&self) -> ObjectId;
}

impl Wanted for ObjectId {
    fn object(&self) -> ObjectId {
        *self
    }
}

impl Wanted for (u64, ObjectId) {
    fn object(&self) -> ObjectId {
        self.1
    }
}

/// Does a planned read. Where the pack is gone, because its objects were moved and it was deleted since they were
/// located, it reads them where they are now. Where the disk cannot read it, each record is read by itself: what cannot be read
/// may lie between them.
///
/// As long as they move, not once: two collections can follow each other (docs/reclamation.md). Each time costs a whole
/// collection, so this ends.
///
/// # Errors
/// [`Error::RecordCorrupt`] when the disk cannot read a record.
pub(super) async fn read_where_it_is<T: Wanted>(
    packs: &dyn PackStorage,
    catalog: &dyn Catalog,
    kind: Purpose,
    plan: ReadPlan<T>,
) -> Result<Vec<(ReadPlan<T>, Bytes)>, Error> {
    let mut done = Vec::with_capacity(1);
    let mut plans = vec![plan];
    while let Some(plan) = plans.pop() {
        match packs.read(plan.pack, vec![plan.range()]).await {
            Ok(mut bytes) => done.push((plan, bytes.pop().unwrap_or_default())),
            Err(Error::PackMissing(pack)) => plans.extend(plan_reads(moved(catalog, kind, plan.records, pack).await?)),
            Err(error) if error.is_unreadable() => {
                let parts = plan.apart().map_err(|record| record.corrupt(&error))?;
                plans.extend(parts.into_iter().rev());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// The same records where they are now.
///
/// # Errors
/// [`Error::PackMissing`] when one of them has not moved.
async fn moved<T: Wanted>(
    catalog: &dyn Catalog,
    kind: Purpose,
    records: Vec<(T, Location)>,
    from: PackId,
) -> Result<Vec<(T, Location)>, Error> {
    let ids = records.iter().map(|(what, _)| what.object()).collect();
    let locations = catalog.locate(kind, ids).await?;
    let now = records.into_iter().zip(locations).map(|((what, _), location)| match location {
        Some(location) if location.pack != from => Ok((what, location)),
        Some(_) => Err(Error::PackMissing(from)),
        None => Err(Error::ObjectMissing(what.object())),
    });
    now.collect()
}

/// One read of neighbouring records, each with what it was asked for.
pub(super) struct ReadPlan<T> {
    pub(super) pack: PackId,
    pub(super) records: Vec<(T, Location)>,
}

impl<T> ReadPlan<T> {
    pub(super) fn range(&self) -> Range<u64> {
        let start = self.records.first().map_or(0, |(_, first)| first.offset.into());
        let end = self.records.last().map_or(0, |(_, last)| end(last));
        start..end
    }

    /// The bytes of one record out of the bytes of [`range`](Self::range).
    pub(super) fn slice(&self, bytes: &Bytes, at: &Location) -> Bytes {
        let from = (u64::from(at.offset) - self.range().start) as usize;
        bytes.slice(from..from + record_length(at.stored_length) as usize)
    }

    /// The same records, each in a read of its own; the plan itself when it reads one record only.
    pub(super) fn apart(mut self) -> Result<Vec<Self>, Self> {
        if self.records.iter().all(|(_, at)| Some(at.offset) == self.records.first().map(|(_, first)| first.offset)) {
            return Err(self);
        }
        let mut parts: Vec<Self> = Vec::with_capacity(self.records.len());
        for (what, at) in self.records.drain(..) {
            match parts.last_mut() {
                Some(part) if part.range().start == u64::from(at.offset) => part.records.push((what, at)),
                _ => parts.push(Self { pack: self.pack, records: vec![(what, at)] }),
            }
        }
        Ok(parts)
    }

    /// What it means that the disk cannot read this.
    fn corrupt(&self, error: &Error) -> Error {
        Error::RecordCorrupt { pack: self.pack, offset: self.range().start, why: error.with_cause() }
    }
}

fn end(at: &Location) -> u64 {
    u64::from(at.offset) + record_length(at.stored_length)
}

/// Sorts into pack order and joins neighbours.
pub(super) fn plan_reads<T>(mut wanted: Vec<(T, Location)>) -> Vec<ReadPlan<T>> {
    wanted.sort_by_key(|(_, at)| (at.pack, at.offset));
    let mut plans: Vec<ReadPlan<T>> = Vec::new();
    for (what, at) in wanted {
        match plans.last_mut() {
            Some(plan) if plan.pack == at.pack && joins(&plan.range(), &at) => plan.records.push((what, at)),
            _ => plans.push(ReadPlan { pack: at.pack, records: vec![(what, at)] }),
        }
    }
    plans
}

fn joins(range: &Range<u64>, at: &Location) -> bool {
    // The same record twice ends where the range ends.
    u64::from(at.offset) <= range.end + READ_GAP_BYTES && end(at) >= range.end && end(at) - range.start <= READ_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(pack: u8, offset: u32, stored_length: u32) -> Location {
        let pack = PackId::from_bytes([pack; 16]);
        Location { pack, offset, stored_length, raw_length: stored_length, codec: Codec::Raw, ordinal: 0 }
    }

    #[test]
    fn neighbours_are_read_together_in_pack_order() {
        let next = record_length(1000) as u32;
        let plans = plan_reads(vec![('c', at(2, 64, 10)), ('b', at(1, 64 + next, 1000)), ('a', at(1, 64, 1000))]);
        let order: Vec<Vec<char>> =
            plans.iter().map(|plan| plan.records.iter().map(|(what, _)| *what).collect()).collect();
        assert_eq!(order, [vec!['a', 'b'], vec!['c']]);
        assert_eq!(plans[0].range(), 64..64 + 2 * u64::from(next));
    }

    #[test]
    fn distant_records_and_long_runs_are_read_apart() {
        assert_eq!(plan_reads(vec![((), at(1, 64, 10)), ((), at(1, 1 << 20, 10))]).len(), 2);
        let run = (0..40).map(|n| ((), at(1, n * record_length(100_000) as u32, 100_000))).collect();
        let plans = plan_reads(run);
        assert!(plans.len() >= 4 && plans.iter().all(|plan| plan.range().end - plan.range().start <= READ_BYTES));
    }

    #[test]
    fn a_read_that_fails_is_done_record_by_record() {
        let plan = |records| ReadPlan { pack: PackId::from_bytes([1; 16]), records };
        let parts = plan(vec![('a', at(1, 64, 10)), ('b', at(1, 64, 10)), ('c', at(1, 200, 10))]).apart();
        let parts = parts.unwrap_or_else(|_| panic!("two records are apart"));
        let order: Vec<Vec<char>> =
            parts.iter().map(|part| part.records.iter().map(|(what, _)| *what).collect()).collect();
        assert_eq!(order, [vec!['a', 'b'], vec!['c']]);
        for record in parts {
            assert!(record.apart().is_err(), "it cannot be cut further");
        }
    }

    #[test]
    fn the_same_record_twice_is_one_read() {
        let plans = plan_reads(vec![(1, at(1, 64, 10)), (2, at(1, 64, 10))]);
        assert_eq!((plans.len(), plans[0].records.len()), (1, 2));
        let bytes = Bytes::from(vec![7; (plans[0].range().end - plans[0].range().start) as usize]);
        assert_eq!(plans[0].slice(&bytes, &plans[0].records[1].1).len() as u64, record_length(10));
    }
}
