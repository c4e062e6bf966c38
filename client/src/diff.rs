//! Compares two versions by their trees.

use std::{collections::HashSet, ops::Range, sync::Arc};

use imprint_content::ChunkId;

use crate::{
    DiskLayout, Error, PartitionLayout, Progress, Repository, Version,
    extents::{ExtentCursor, ExtentMap, PlacedExtent},
    restore::blocking,
    verify::MAX_REPORTED,
};

/// How one version differs from another, in bytes of the image unless it says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiffOutcome {
    /// Length of the first version.
    pub from_bytes: u64,
    /// Length of the second version.
    pub to_bytes: u64,
    /// Bytes of the second version that the first has at the same place.
    pub same_bytes: u64,
    /// Bytes of the second version that the first does not have at the same place.
    pub changed_bytes: u64,
    /// Chunks that the second version has and the first has nowhere.
    pub fetch_chunks: u64,
    /// Their bytes, before compression.
    pub fetch_bytes: u64,
    /// Changed ranges, neighbours merged.
    pub ranges: u64,
    /// The first 1000 of them.
    pub changed: Vec<Range<u64>>,
    /// The partitions of the second version, where its layout is known.
    pub partitions: Vec<PartitionChange>,
}

/// How much of a partition changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionChange {
    /// The partition, as the second version describes it.
    pub partition: PartitionLayout,
    /// Bytes of it in changed ranges.
    pub changed_bytes: u64,
}

/// Compares `to` with `from`. Only trees are fetched.
pub async fn diff(
    repository: &Repository,
    from: &Version,
    to: &Version,
    progress: Arc<Progress>,
) -> Result<DiffOutcome, Error> {
    let from_tree = repository.tree(from, None, &progress).await?;
    let to_tree = repository.tree(to, Some((from, &from_tree)), &progress).await?;
    let layout = DiskLayout::decode(&to.content.layout);
    let partitions = layout.map_or_else(Vec::new, |layout| layout.partitions);
    blocking(move || compare(&from_tree, &to_tree, partitions)).await?
}

fn compare(from: &ExtentMap, to: &ExtentMap, partitions: Vec<PartitionLayout>) -> Result<DiffOutcome, Error> {
    let mut outcome = DiffOutcome { from_bytes: from.length(), to_bytes: to.length(), ..DiffOutcome::default() };
    let unchanged = |partition| PartitionChange { partition, changed_bytes: 0 };
    outcome.partitions = partitions.into_iter().map(unchanged).collect();
    let mut unknown: HashSet<ChunkId> = HashSet::new();
    let mut lengths = 0u64;
    let (mut ours, mut theirs) = (to.cursor_at(0)?, from.cursor_at(0)?);
    let mut last_end = None;
    while let Some(placed) = ours.read()? {
        let mut differs = false;
        each_difference(&mut theirs, &placed, |range| {
            differs = true;
            outcome.add(range, &mut last_end);
        })?;
        if let Some(id) = placed.extent.chunk()
            && differs
            && unknown.insert(id)
        {
            lengths += placed.extent.length;
        }
    }
    outcome.same_bytes = to.length() - outcome.changed_bytes;
    outcome.fetch_bytes = lengths - remove_known(from, &mut unknown)?;
    outcome.fetch_chunks = unknown.len() as u64;
    Ok(outcome)
}

impl DiffOutcome {
    fn add(&mut self, range: Range<u64>, last_end: &mut Option<u64>) {
        self.changed_bytes += range.end - range.start;
        for change in &mut self.partitions {
            let partition = change.partition.range();
            let common = range.start.max(partition.start)..range.end.min(partition.end);
            change.changed_bytes += common.end.saturating_sub(common.start);
        }
        let joins = *last_end == Some(range.start);
        *last_end = Some(range.end);
        if joins {
            if let Some(last) = self.changed.last_mut().filter(|last| last.end == range.start) {
                last.end = range.end;
            }
            return;
        }
        self.ranges += 1;
        if self.changed.len() < MAX_REPORTED {
            self.changed.push(range);
        }
    }
}

/// Calls `take` with the parts of `placed` that the other version does not have at the same place, forward.
fn each_difference(
    theirs: &mut ExtentCursor,
    placed: &PlacedExtent,
    mut take: impl FnMut(Range<u64>),
) -> Result<(), Error> {
    if placed.extent.chunk().is_some() {
        if theirs.skip_to(placed.offset)? != Some(*placed) {
            take(placed.offset..placed.end());
        }
        return Ok(());
    }
    // Runs without content are the same as far as they overlap.
    let mut at = placed.offset;
    while at < placed.end() {
        let found = theirs.skip_to(at)?;
        let end = found.map_or(placed.end(), |found| found.end().min(placed.end()));
        if found.is_none_or(|found| found.extent.kind != placed.extent.kind) {
            take(at..end);
        }
        at = end;
    }
    Ok(())
}

/// Forgets the chunks that `from` has somewhere; returns their bytes.
fn remove_known(from: &ExtentMap, unknown: &mut HashSet<ChunkId>) -> Result<u64, Error> {
    let mut known = 0;
    let mut cursor = from.cursor_at(0)?;
    while let Some(placed) = cursor.read()? {
        if let Some(id) = placed.extent.chunk()
            && unknown.remove(&id)
        {
            known += placed.extent.length;
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use imprint_content::Extent;

    use super::*;
    use crate::extents::ExtentWriter;

    const MIB: u64 = 1 << 20;

    fn map(extents: &[Extent]) -> ExtentMap {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = ExtentWriter::create(directory.path()).unwrap();
        extents.iter().for_each(|extent| writer.push(*extent, &mut Vec::new()).unwrap());
        writer.finish(&mut Vec::new()).unwrap().0
    }

    #[test]
    fn of_runs_only_what_differs_has_changed() {
        let chunk = Extent::data(ChunkId::of(b"x"), 1);
        let from = map(&[Extent::zero(100 * MIB), chunk, Extent::free(50 * MIB)]);
        let to = map(&[Extent::zero(10 * MIB), Extent::free(20 * MIB), Extent::zero(80 * MIB), Extent::free(60 * MIB)]);
        let outcome = compare(&from, &to, Vec::new()).unwrap();
        assert_eq!(outcome.changed, [10 * MIB..30 * MIB, 100 * MIB..110 * MIB, 150 * MIB + 1..170 * MIB]);
        assert_eq!(outcome.changed_bytes, 50 * MIB - 1);
        assert_eq!(outcome.same_bytes, 120 * MIB + 1);
        assert_eq!((outcome.ranges, outcome.fetch_chunks), (3, 0));
    }
}
