//! What is on a source: partitions, filesystems, free space, boundaries of files; and how that divides an image.

mod division;
mod layout;
mod remnants;

use std::{io, ops::Range, sync::Arc};

use imprint_content::{CaptureMode, Extent, Profile};
use imprint_disks::{Layout, MapOptions, ReadAt};

pub use division::{Division, Swap};
pub use layout::{DiskLayout, PartitionLayout};
pub use remnants::RemnantFinder;

use crate::{
    Error,
    restore::blocking,
    source::{Source, SourceError},
};

/// A source whose length is known, for the reader of disks.
struct Seekable {
    source: Source,
    length: u64,
}

impl ReadAt for Seekable {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.source.read_at(buf, offset).map_err(io::Error::other)
    }
}

/// What is on a file or device. Only the structures of its filesystems are read.
///
/// # Errors
/// Streams have no layout, and a source that cannot be read has none. Whatever is *on* a disk is no error.
pub async fn inspect(source: &Source) -> Result<DiskLayout, Error> {
    Ok(DiskLayout::from(&read(source, Profile::V2.min_file_run.unwrap_or(1)).await?))
}

async fn read(source: &Source, min_run_bytes: u64) -> Result<Layout, Error> {
    let length = source.length().ok_or(SourceError::NotSeekable)?;
    let disk = Seekable { source: source.clone(), length };
    Ok(blocking(move || Layout::read(&disk, disk.source.sector_size(), &MapOptions::new(min_run_bytes))).await??)
}

/// How one image is cut: by which profile, and divided where.
#[derive(Debug, Clone)]
pub(crate) struct Cutting {
    pub(crate) profile: Profile,
    division: Option<Arc<Division>>,
}

impl Cutting {
    /// For a push. Looks at the disk if the profile does; says what is on it as well.
    ///
    /// # Errors
    /// A profile that looks at disks cannot cut a stream, which has to be spooled first.
    pub(crate) async fn of_push(
        source: &Source,
        profile: Profile,
        mode: CaptureMode,
    ) -> Result<(Self, Option<DiskLayout>), Error> {
        let Some(min_run_bytes) = profile.min_file_run else { return Ok((Self::undivided(profile), None)) };
        let layout = read(source, min_run_bytes).await?;
        let described = DiskLayout::from(&layout);
        let division = Division::new(layout, mode, Swap::Zero, &profile);
        Ok((Self { profile, division: Some(Arc::new(division)) }, Some(described)))
    }

    /// For whoever looks for the chunks of a version on a disk: cut as a push would, but nothing is said of what a
    /// push would not have captured as it is.
    pub(crate) async fn of_survey(source: &Source, profile: Profile, mode: CaptureMode) -> Result<Self, Error> {
        let Some(min_run_bytes) = profile.min_file_run else { return Ok(Self::undivided(profile)) };
        let division = Division::new(read(source, min_run_bytes).await?, mode, Swap::Unknown, &profile);
        Ok(Self { profile, division: Some(Arc::new(division)) })
    }

    /// By the bytes alone.
    pub(crate) const fn undivided(profile: Profile) -> Self {
        Self { profile, division: None }
    }

    /// Where chunks must end inside of a section, ascending.
    pub(crate) fn boundaries(&self, section: &Range<u64>) -> Vec<u64> {
        self.division.as_ref().map_or_else(Vec::new, |division| division.boundaries(section))
    }

    /// What is left out of a section, ascending: where it begins, and what it is instead.
    pub(crate) fn omitted(&self, section: &Range<u64>) -> Vec<(u64, Extent)> {
        self.division.as_ref().map_or_else(Vec::new, |division| division.omitted(section))
    }

    /// What is captured of a section although no filesystem uses it, ascending.
    pub(crate) fn captured_unused(&self, section: &Range<u64>) -> Vec<Range<u64>> {
        self.division.as_ref().map_or_else(Vec::new, |division| division.captured_unused(section))
    }

    /// For a range of free space that is captured.
    pub(crate) const fn remnant_finder(&self, start: u64) -> RemnantFinder {
        let Profile { zero_granule, slack, min_file_run, .. } = self.profile;
        let min_run = match min_file_run {
            Some(bytes) => bytes,
            None => u64::MAX,
        };
        RemnantFinder::new(start, zero_granule, slack, min_run)
    }
}
