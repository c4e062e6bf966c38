//! A target as its image sees it: cut off where the target ends, with overrides where the image's bytes do not belong.

use std::{ops::Range, sync::Arc};

use crate::{
    Error,
    target::{
        Override, Target,
        overrides::{put_image_bytes, put_target_bytes, without},
    },
};

/// Clones share the target.
#[derive(Clone)]
pub(super) struct Surface {
    target: Target,
    overrides: Arc<[Override]>,
    /// Bytes of the image that the target has room for.
    end: u64,
}

impl Surface {
    pub(super) fn new(target: Target, overrides: &[Override]) -> Self {
        let end = target.length().min(target.image_length());
        Self { target, overrides: overrides.into(), end }
    }

    /// Whether `range` of the image begins behind the end of the target: there is nothing to do for it.
    pub(super) const fn lacks(&self, range: &Range<u64>) -> bool {
        range.start >= self.end
    }

    /// Fills `buf` with what the image would have at `offset`, if the target is right there.
    pub(super) fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), Error> {
        let on_target = self.on_target(offset, buf.len());
        let (there, beyond) = buf.split_at_mut(on_target);
        if !there.is_empty() {
            self.target.read_at(there, offset)?;
        }
        beyond.fill(0);
        put_image_bytes(&self.overrides, buf, offset);
        Ok(())
    }

    /// Fills `buf` with what is on the target; `false` when that ends before.
    pub(super) fn read_raw(&self, buf: &mut [u8], offset: u64) -> Result<bool, Error> {
        let is_there = self.on_target(offset, buf.len()) == buf.len();
        if is_there {
            self.target.read_at(buf, offset)?;
        }
        Ok(is_there)
    }

    /// Writes the image's bytes, and what overrides them where something does.
    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        let bytes = &bytes[..self.on_target(offset, bytes.len())];
        if bytes.is_empty() {
            return Ok(());
        }
        let range = offset..offset + bytes.len() as u64;
        if self.overrides.iter().any(|found| found.overlaps(&range)) {
            let mut bytes = bytes.to_vec();
            put_target_bytes(&self.overrides, &mut bytes, offset);
            return Ok(self.target.write_at(&bytes, offset)?);
        }
        Ok(self.target.write_at(bytes, offset)?)
    }

    /// Makes a range read as zero; returns how many bytes had to be changed for it.
    pub(super) fn zero(&self, range: Range<u64>) -> Result<u64, Error> {
        self.each_part(range, |part| Ok(self.target.zero(part)?))
    }

    /// Gives a range of free space back; returns how many bytes were discarded or changed.
    pub(super) fn discard(&self, range: Range<u64>) -> Result<u64, Error> {
        self.each_part(range, |part| Ok(self.target.discard(part)?))
    }

    /// Writes the overrides, where they are not there already. The image is complete then.
    pub(super) fn apply_overrides(&self) -> Result<(), Error> {
        for wanted in self.overrides.iter().filter(|wanted| !wanted.bytes.is_empty()) {
            let mut there = vec![0; wanted.bytes.len()];
            self.target.read_at(&mut there, wanted.offset)?;
            if there != wanted.bytes {
                self.target.write_at(&wanted.bytes, wanted.offset)?;
            }
        }
        Ok(())
    }

    /// Makes zero what former overrides left behind the end of the image, unless something else wrote there since.
    pub(super) fn clear(&self, former: &[Override]) -> Result<(), Error> {
        for left in former.iter().filter(|left| left.offset >= self.end && !left.bytes.is_empty()) {
            let range = left.range();
            if range.end > self.target.length() || self.overrides.iter().any(|wanted| wanted.overlaps(&range)) {
                continue;
            }
            let mut there = vec![0; left.bytes.len()];
            self.target.read_at(&mut there, left.offset)?;
            if there == left.bytes {
                self.target.zero(range)?;
            }
        }
        Ok(())
    }

    fn on_target(&self, offset: u64, length: usize) -> usize {
        self.end.saturating_sub(offset).min(length as u64) as usize
    }

    fn each_part(
        &self,
        range: Range<u64>,
        mut take: impl FnMut(Range<u64>) -> Result<u64, Error>,
    ) -> Result<u64, Error> {
        let range = range.start..range.end.min(self.end);
        let mut changed = 0;
        if !range.is_empty() {
            for part in without(&self.overrides, range) {
                changed += take(part)?;
            }
        }
        Ok(changed)
    }
}
