//! Where an image is divided before it is cut: at partitions and at runs of files; and what is left out of it.
//!
//! The same bytes, profile and capture mode must give the same division, whoever reads them. Written down in
//! docs/format.md, "Chunking: profile 2".

use std::ops::Range;

use imprint_content::{CaptureMode, Extent, Profile};
use imprint_disks::{Layout, Map, Usage};

/// What becomes of the content of swap when free space is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swap {
    /// It is captured as zeros, which a restore writes: a system that wakes up must not find old pages.
    Zero,
    /// Nothing is said of what is there, for who wants to know what a disk holds now.
    Unknown,
}

/// The division of one image.
#[derive(Debug)]
pub struct Division {
    partitions: Vec<Part>,
    mode: CaptureMode,
    swap: Swap,
    granule: u64,
}

/// A partition that is understood, or not.
#[derive(Debug)]
struct Part {
    range: Range<u64>,
    map: Option<Map>,
}

impl Division {
    /// Of an image with this layout, whose maps were made with the profile's threshold.
    #[must_use]
    pub fn new(layout: Layout, mode: CaptureMode, swap: Swap, profile: &Profile) -> Self {
        let part = |partition: imprint_disks::Partition| Part {
            range: partition.start..partition.start + partition.length,
            map: partition.content.map.ok(),
        };
        let partitions = layout.partitions.into_iter().map(part).collect();
        Self { partitions, mode, swap, granule: profile.zero_granule as u64 }
    }

    /// Where chunks must end inside of a section, ascending. In free space that is captured there are others: see
    /// [`RemnantFinder`](super::RemnantFinder).
    #[must_use]
    pub fn boundaries(&self, section: &Range<u64>) -> Vec<u64> {
        let mut boundaries = Vec::new();
        for (part, within) in self.parts_in(section) {
            boundaries.push(part.range.start);
            if let Some(map) = &part.map {
                boundaries.extend(map.boundaries(within).map(|boundary| part.range.start + boundary));
            }
            boundaries.push(part.range.end);
        }
        boundaries.retain(|at| section.start < *at && *at < section.end);
        boundaries.dedup();
        boundaries
    }

    /// What is left out of a section, ascending: where it begins, and what it is instead.
    #[must_use]
    pub fn omitted(&self, section: &Range<u64>) -> Vec<(u64, Extent)> {
        match self.mode {
            CaptureMode::Keep => Vec::new(),
            CaptureMode::Omit => self.unused(section),
        }
    }

    /// What is captured of a section although no filesystem uses it, ascending.
    #[must_use]
    pub fn captured_unused(&self, section: &Range<u64>) -> Vec<Range<u64>> {
        match self.mode {
            CaptureMode::Keep => {
                let unused = self.unused(section).into_iter();
                unused.map(|(start, extent)| start..start + extent.length).collect()
            }
            CaptureMode::Omit => Vec::new(),
        }
    }

    /// What could be left out of a section, whatever the capture mode.
    fn unused(&self, section: &Range<u64>) -> Vec<(u64, Extent)> {
        let mut found = Vec::new();
        for (part, within) in self.parts_in(section) {
            let Some(map) = &part.map else { continue };
            for unused in map.unused(within) {
                let start = (part.range.start + unused.start).next_multiple_of(self.granule);
                let end = (part.range.start + unused.end) / self.granule * self.granule;
                if start < end {
                    found.push((start, self.instead(map.usage(), end - start)));
                }
            }
        }
        found
    }

    const fn instead(&self, usage: Usage, length: u64) -> Extent {
        match (usage, self.swap) {
            (Usage::Discarded, Swap::Zero) => Extent::zero(length),
            (Usage::Discarded, Swap::Unknown) | (Usage::Free, _) => Extent::free(length),
        }
    }

    /// Partitions that touch a section, and which of their own bytes are in it.
    fn parts_in(&self, section: &Range<u64>) -> impl Iterator<Item = (&Part, Range<u64>)> {
        let section = section.clone();
        self.partitions.iter().filter_map(move |part| {
            let (start, end) = (section.start.max(part.range.start), section.end.min(part.range.end));
            (start <= end).then(|| (part, start - part.range.start..end - part.range.start))
        })
    }
}
