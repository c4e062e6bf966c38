//! Cuts the bytes of one section into zero runs and chunks.
//!
//! The result depends only on the bytes, the profile and the boundaries: not on how they arrive, which of them were
//! holes, or what is cut beside them. That is what makes two captures of one disk the same tree. Layout:
//! docs/format.md, "Chunking".

mod gear;

use imprint_content::{ChunkId, Profile};

use gear::Gear;

/// A run of the image, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Cut<'a> {
    /// So many zeros.
    Zero(u64),
    /// One chunk.
    Chunk(&'a [u8]),
    /// The chunk that was expected here, with its id.
    Expected(ChunkId, &'a [u8]),
}

/// A chunk that another version, cut by the same profile, has at some place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpectedChunk {
    /// Its id.
    pub id: ChunkId,
    /// Its length in bytes.
    pub length: usize,
}

/// Takes the cuts of a section, and may know what to expect.
pub trait TakeCuts<E> {
    /// The chunk that probably starts where the cuts taken so far end.
    fn expected(&mut self) -> Result<Option<ExpectedChunk>, E> {
        Ok(None)
    }

    /// Takes the next cut.
    fn take(&mut self, cut: Cut<'_>) -> Result<(), E>;
}

impl<E, F: FnMut(Cut<'_>) -> Result<(), E>> TakeCuts<E> for F {
    fn take(&mut self, cut: Cut<'_>) -> Result<(), E> {
        self(cut)
    }
}

/// Cuts one section. Bytes go in from front to back; cuts come out as soon as they are certain.
pub struct SectionCutter {
    profile: Profile,
    gear: Gear,
    /// Data not cut yet; starts at a chunk's start.
    data: Vec<u8>,
    /// Zeros behind `data` that may still belong to a chunk.
    zeros: u64,
    /// Where `data` starts, in bytes from where the boundaries are counted.
    at: u64,
    /// Where a chunk must end, descending.
    boundaries: Vec<u64>,
}

impl SectionCutter {
    /// For a section that is cut by its bytes alone.
    #[must_use]
    pub fn new(profile: Profile) -> Self {
        Self::divided(profile, 0, Vec::new())
    }

    /// For a section that starts at `start` and whose data is divided at `boundaries`, ascending. Zero runs are not.
    #[must_use]
    pub fn divided(profile: Profile, start: u64, mut boundaries: Vec<u64>) -> Self {
        boundaries.reverse();
        Self { profile, gear: Gear::new(&profile), data: Vec::new(), zeros: 0, at: start, boundaries }
    }

    /// Adds bytes as they were read. Every call but a section's last must bring whole granules.
    pub fn add<E>(&mut self, bytes: &[u8], taker: &mut impl TakeCuts<E>) -> Result<(), E> {
        let granule = self.profile.zero_granule;
        let mut rest = bytes;
        while !rest.is_empty() {
            let zeros = count_granules(rest, granule, true);
            let (run, behind) = rest.split_at(zeros);
            self.zeros += run.len() as u64;
            let data = count_granules(behind, granule, false);
            let (run, behind) = behind.split_at(data);
            self.add_data(run, taker)?;
            rest = behind;
        }
        Ok(())
    }

    /// Adds zeros that need not be looked at, such as a hole. They must be whole granules, but for a section's end.
    pub const fn add_zeros(&mut self, length: u64) {
        self.zeros += length;
    }

    /// Leaves out `length` bytes, whole granules: what follows is cut as if a section began with it.
    pub fn leave_out<E>(&mut self, length: u64, taker: &mut impl TakeCuts<E>) -> Result<(), E> {
        self.end_run(taker)?;
        self.at += length;
        Ok(())
    }

    /// Ends the section.
    pub fn finish<E>(mut self, taker: &mut impl TakeCuts<E>) -> Result<(), E> {
        self.end_run(taker)
    }

    fn end_run<E>(&mut self, taker: &mut impl TakeCuts<E>) -> Result<(), E> {
        self.settle_zeros(taker)?;
        self.cut(Run::Over, taker)
    }

    fn add_data<E>(&mut self, run: &[u8], taker: &mut impl TakeCuts<E>) -> Result<(), E> {
        if run.is_empty() {
            return Ok(());
        }
        self.settle_zeros(taker)?;
        self.data.extend_from_slice(run);
        self.cut(Run::GoesOn, taker)
    }

    /// Zeros before data, or before the end: long ones are an extent, short ones stay in the chunk.
    fn settle_zeros<E>(&mut self, taker: &mut impl TakeCuts<E>) -> Result<(), E> {
        let zeros = std::mem::take(&mut self.zeros);
        if zeros >= self.profile.min_zero_run as u64 {
            self.cut(Run::Over, taker)?;
            self.at += zeros;
            return taker.take(Cut::Zero(zeros));
        }
        self.data.resize(self.data.len() + zeros as usize, 0);
        Ok(())
    }

    /// Cuts off the front what is certain.
    fn cut<E>(&mut self, run: Run, taker: &mut impl TakeCuts<E>) -> Result<(), E> {
        let mut start = 0;
        while start < self.data.len() {
            let (length, run) = self.part(self.data.len() - start, run);
            // With a whole maximal chunk in sight a cut does not depend on what follows.
            if run == Run::GoesOn && length < self.profile.max_chunk {
                break;
            }
            let rest = &self.data[start..start + length];
            let cut = match taker.expected()? {
                Some(expected) if is_there(&expected, rest, run, &self.gear) => {
                    Cut::Expected(expected.id, &rest[..expected.length])
                }
                _ => Cut::Chunk(&rest[..self.gear.cut(rest)]),
            };
            start += cut.length() as usize;
            self.at += cut.length();
            taker.take(cut)?;
        }
        self.data.drain(..start);
        Ok(())
    }

    /// How much of the next `length` bytes of data lies before a boundary, and whether more may follow directly.
    fn part(&mut self, length: usize, run: Run) -> (usize, Run) {
        while self.boundaries.pop_if(|boundary| *boundary <= self.at).is_some() {}
        match self.boundaries.last().map(|boundary| boundary - self.at) {
            Some(until) if until <= length as u64 => (until as usize, Run::Over),
            _ => (length, run),
        }
    }
}

impl Cut<'_> {
    const fn length(&self) -> u64 {
        match self {
            Self::Zero(length) => *length,
            Self::Chunk(bytes) | Self::Expected(_, bytes) => bytes.len() as u64,
        }
    }
}

/// Whether more data may follow directly.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Run {
    GoesOn,
    Over,
}

/// Whether these bytes start with the expected chunk, and cutting them would find it.
///
/// A chunk starts here, and the same bytes were one chunk before: so there is no natural cut inside of them. That there
/// is one at their end does not follow, because it depends on the byte behind it too.
fn is_there(expected: &ExpectedChunk, rest: &[u8], run: Run, gear: &Gear) -> bool {
    let is_rest = run == Run::Over && expected.length == rest.len();
    (is_rest || gear.cuts_at(rest, expected.length))
        && rest.get(..expected.length).is_some_and(|bytes| ChunkId::of(bytes) == expected.id)
}

/// Length of the leading granules that are all zero, or that are not.
fn count_granules(bytes: &[u8], granule: usize, zero: bool) -> usize {
    let matching = bytes.chunks(granule).take_while(|granule| is_zero(granule) == zero);
    matching.map(<[u8]>::len).sum()
}

/// Whether all bytes are zero.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|part| part == &ZEROS[..part.len()])
}

#[cfg(test)]
mod tests;
