//! Proves that a version can be restored, or that a target still holds one.

use std::{collections::HashSet, ops::Range, path::Path, sync::Arc};

use imprint_content::{ChunkId, ExtentKind};
use tokio::sync::mpsc;

use crate::{
    Error, Phase, Progress, Repository, Version,
    cutting::is_zero,
    extents::{ExtentMap, PlacedExtent},
    fetch::{Need, fetch_chunks},
    restore::blocking,
    source::{Source, SourceKind},
    target::{Held, Override, overrides::put_image_bytes},
};

/// A version that was read whole and is intact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionReport {
    /// Length of the image.
    pub image_bytes: u64,
    /// Bytes in data extents, each of which was fetched and hashed.
    pub data_bytes: u64,
    /// Data extents.
    pub chunks: u64,
}

/// How a target differs from a version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetReport {
    /// Length of the image.
    pub image_bytes: u64,
    /// Bytes in extents that differ somewhere.
    pub different_bytes: u64,
    /// Those extents, neighbours merged, the first 1000 of them.
    pub different: Vec<Range<u64>>,
}

/// Ranges that a report lists.
pub(crate) const MAX_REPORTED: usize = 1000;
/// Chunks asked for at once.
const NEEDS: usize = 256;
/// Chunks that are remembered as asked for, about 40 bytes each.
const MAX_REMEMBERED: usize = 256 << 10;

/// Fetches and hashes every chunk of a version, as a restore would.
///
/// # Errors
/// The first thing that is missing or damaged.
pub async fn verify_version(
    repository: &Repository,
    version: &Version,
    progress: Arc<Progress>,
) -> Result<VersionReport, Error> {
    let extents = repository.tree_from_repository(version, &progress).await?;
    progress.set_total(extents.root().summary.data);
    progress.enter(Phase::Transferring);
    let (found, needs) = mpsc::channel(4);
    let listing = {
        let extents = extents.clone();
        let progress = Arc::clone(&progress);
        blocking(move || list_data(&extents, &found, &progress))
    };
    let counted = Arc::clone(&progress);
    let accept = Arc::new(move |_offset: u64, raw: &[u8]| {
        counted.add_done(raw.len() as u64);
        Ok(())
    });
    let fetching = fetch_chunks(repository, version, needs, accept, &progress);
    let listed = async { listing.await? };
    let (fetched, ()) = tokio::try_join!(fetching, listed)?;
    Ok(VersionReport { image_bytes: extents.length(), data_bytes: extents.root().summary.data, chunks: fetched.chunks })
}

fn list_data(extents: &ExtentMap, found: &mpsc::Sender<Vec<Need>>, progress: &Progress) -> Result<(), Error> {
    let mut cursor = extents.cursor_at(0)?;
    let mut needs = Vec::new();
    let mut listed = HashSet::new();
    while let Some(placed) = cursor.read()? {
        // Each chunk once among neighbours; to remember all would take memory that grows with the image.
        match placed.extent.chunk() {
            Some(id) if listed.insert(id) => {
                needs.push(Need { offset: placed.offset, id, length: placed.extent.length, also: Vec::new() });
            }
            Some(_) => progress.add_done(placed.extent.length),
            None => {}
        }
        if listed.len() >= MAX_REMEMBERED {
            listed.clear();
        }
        if needs.len() == NEEDS && found.blocking_send(std::mem::take(&mut needs)).is_err() {
            return Ok(()); // fetching failed; its error is the one to report
        }
    }
    let _ = found.blocking_send(needs);
    Ok(())
}

/// Reads the target and compares it with the version's tree, and with what is remembered to stand there instead of the
/// version's bytes; nothing is written.
pub async fn verify_target(
    repository: &Repository,
    version: &Version,
    path: &Path,
    held: Option<&Held>,
    progress: Arc<Progress>,
) -> Result<TargetReport, Error> {
    let held = held.filter(|held| held.complete && held.version == version.id.to_string());
    let expected = held.map(|held| Expected { overrides: held.overrides.clone(), length: held.target_length });
    let expected = expected.unwrap_or_default();
    let extents = repository.tree(version, None, &progress).await?;
    progress.set_total(extents.length());
    progress.enter(Phase::Transferring);
    let path = path.to_owned();
    blocking(move || {
        let target = Source::open(&path)?;
        compare(&target, &extents, &expected, &progress)
    })
    .await?
}

/// How a target may differ from its version.
#[derive(Default)]
struct Expected {
    overrides: Vec<Override>,
    /// The length that the version was fitted to.
    length: Option<u64>,
}

fn compare(
    target: &Source,
    extents: &ExtentMap,
    expected: &Expected,
    progress: &Progress,
) -> Result<TargetReport, Error> {
    let mut report = TargetReport { image_bytes: extents.length(), ..TargetReport::default() };
    let length = target.length().unwrap_or(0);
    // Of what lies behind the end of a fitted target the restore has made sure that nobody needs it.
    let end = expected.length.map_or(extents.length(), |fitted| fitted.min(extents.length()));
    let view = View { target, overrides: &expected.overrides, end };
    let mut buffer = Vec::new();
    let mut cursor = extents.cursor_at(0)?;
    while let Some(placed) = cursor.read()?.filter(|placed| placed.offset < end) {
        let is_free = placed.extent.kind == ExtentKind::Free;
        if placed.end().min(end) > length || !(is_free || view.matches(&placed, &mut buffer)?) {
            report.add(placed.offset..placed.end().min(end));
        }
        progress.add_done(placed.extent.length);
    }
    for wanted in &expected.overrides {
        if !view.has(wanted, &mut buffer)? {
            report.add(wanted.range());
        }
    }
    // A disk may be larger than its image; a longer file is another file.
    let file_end = expected.length.unwrap_or(extents.length());
    if target.kind() == SourceKind::File && length > file_end {
        report.add(file_end..length);
    }
    Ok(report)
}

impl TargetReport {
    fn add(&mut self, range: Range<u64>) {
        self.different_bytes += range.end - range.start;
        let is_full = self.different.len() >= MAX_REPORTED;
        match self.different.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ if is_full => {}
            _ => self.different.push(range),
        }
    }
}

/// The target, with what its version has where something else was put.
struct View<'a> {
    target: &'a Source,
    overrides: &'a [Override],
    end: u64,
}

impl View<'_> {
    fn matches(&self, placed: &PlacedExtent, buffer: &mut Vec<u8>) -> Result<bool, Error> {
        match placed.extent.kind {
            ExtentKind::Free => Ok(true),
            ExtentKind::Data(id) => {
                buffer.clear();
                buffer.resize(placed.extent.length as usize, 0);
                let there = (placed.end().min(self.end) - placed.offset) as usize;
                self.target.read_at(&mut buffer[..there], placed.offset)?;
                put_image_bytes(self.overrides, buffer, placed.offset);
                Ok(ChunkId::of(buffer) == id)
            }
            ExtentKind::Zero => self.is_zero(placed.offset..placed.end().min(self.end), buffer),
        }
    }

    fn is_zero(&self, range: Range<u64>, buffer: &mut Vec<u8>) -> Result<bool, Error> {
        for data in self.target.data_ranges(range)? {
            let mut at = data.start;
            while at < data.end {
                buffer.resize((data.end - at).min(1 << 20) as usize, 0);
                self.target.read_at(buffer, at)?;
                put_image_bytes(self.overrides, buffer, at);
                if !is_zero(buffer) {
                    return Ok(false);
                }
                at += buffer.len() as u64;
            }
        }
        Ok(true)
    }

    /// Whether an override stands where it should.
    fn has(&self, wanted: &Override, buffer: &mut Vec<u8>) -> Result<bool, Error> {
        let end = wanted.offset.saturating_add(wanted.bytes.len() as u64);
        if self.target.length().is_none_or(|length| length < end) {
            return Ok(wanted.bytes.is_empty());
        }
        buffer.resize(wanted.bytes.len(), 0);
        self.target.read_at(buffer, wanted.offset)?;
        Ok(*buffer == wanted.bytes)
    }
}
