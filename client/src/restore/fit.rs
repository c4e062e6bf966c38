//! Fits a version onto a target of another length: decides, before anything is written, what has to stand there
//! instead of the version's bytes, or why it cannot be.
//!
//! A partition table that is not understood is not touched, and nothing is cut off that may be data.

use std::{collections::VecDeque, ops::Range, path::Path, sync::Arc};

use imprint_content::ExtentKind;
use imprint_disks::{Grown, Growth, Misfit, PartitionTable, Patch, Reason, Slot, TableKind};

use crate::{
    Error, Progress, Repository, Version,
    extents::{ExtentMap, PlacedExtent},
    target::{Override, Shape, TargetError},
};

use super::{
    Growing, blocking,
    image_bytes::{ImageBytes, cause, open_local},
};

/// Data extents at the end of an image that are looked into for its last byte.
const LOOKED_INTO: usize = 64;
/// What to do about an image that is too long.
const SHRINK: &str = "shrink the partition and its filesystem on the source (`resize2fs`, `sfdisk`) and push again";

/// And where the target is a file, which an update leaves at the length that it was given.
const LENGTHEN_OR_SHRINK: &str = "give the file another length with `imprint restore --size`, or shrink the partition and its \
    filesystem on the source (`resize2fs`, `sfdisk`) and push again";

/// How a version goes onto a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fit {
    /// The target's length, where that is not the image's.
    pub(super) length: Option<u64>,
    /// What the version's partition table counts in, or the version itself.
    pub(super) sector_size: u32,
    /// In the order in which to write them.
    pub(super) overrides: Vec<Override>,
    pub(super) table: TableFit,
    pub(super) grown: Option<Grown>,
}

/// What became of the partition table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum TableFit {
    /// It is as in the image.
    #[default]
    Unchanged,
    /// It was made to fit the target's length.
    Refitted,
    /// It should fit another length, and was left as it is, because of this.
    Left(String),
}

/// What is wanted of a target, besides the version.
pub(super) struct Wish<'a> {
    pub(super) path: &'a Path,
    /// The length that a file is to get.
    pub(super) size: Option<u64>,
    pub(super) growing: Growing,
    /// What the target is remembered to differ in from the version it holds.
    pub(super) overrides: &'a [Override],
}

impl Fit {
    /// Looks at the target's length, and at the version's partition table if that is another one.
    ///
    /// # Errors
    /// Refusals: the version cannot go there.
    pub(super) async fn plan(
        repository: &Repository,
        version: &Version,
        extents: &ExtentMap,
        wish: Wish<'_>,
        progress: &Arc<Progress>,
    ) -> Result<Self, Error> {
        let path = wish.path.to_owned();
        let device = blocking(move || Shape::of_device(&path)).await??;
        let sector_size = version.content.sector_size;
        let length = match (device, wish.size) {
            (Some(_), Some(_)) => return Err(TargetError::LengthOfDevice(wish.path.to_owned()).into()),
            (Some(device), None) => device.length,
            (None, size) => size.unwrap_or(version.content.length),
        };
        let device_sectors = device.map(|device| device.sector_size);
        let has_room = length > version.content.length;
        if wish.growing == Growing::Requested && !has_room {
            let why = "it is not longer than the image".to_owned();
            return Err(TargetError::CannotGrow { path: wish.path.to_owned(), why }.into());
        }
        if length == version.content.length && device_sectors.is_none_or(|sectors| sectors == sector_size) {
            return Ok(Self::exact(sector_size));
        }
        let path = wish.path.to_owned();
        let local = blocking(move || open_local(&path)).await?;
        let image = ImageBytes::new(repository, version, extents, local, wish.overrides, progress);
        let fitter = Fitter {
            image,
            extents: extents.clone(),
            path: wish.path.to_owned(),
            length,
            device_sectors,
            growing: wish.growing,
        };
        blocking(move || fitter.fit(sector_size)).await?
    }

    const fn exact(sector_size: u32) -> Self {
        Self { length: None, sector_size, overrides: Vec::new(), table: TableFit::Unchanged, grown: None }
    }
}

struct Fitter {
    image: ImageBytes,
    extents: ExtentMap,
    path: std::path::PathBuf,
    length: u64,
    /// A file has none, and takes any.
    device_sectors: Option<u32>,
    growing: Growing,
}

impl Fitter {
    fn fit(&self, sector_size: u32) -> Result<Fit, Error> {
        let table = PartitionTable::read(&self.image, sector_size).map_err(cause)?;
        let sector_size = match (&table, self.device_sectors) {
            (Ok(Some(table)), _) => table.sector_bytes(),
            // Without a table nothing counts in sectors; only larger ones than it was made with may be too large.
            (Ok(None), Some(device)) if device < sector_size => device,
            _ => sector_size,
        };
        if let Some(device) = self.device_sectors.filter(|device| *device != sector_size) {
            return Err(TargetError::SectorSize { path: self.path.clone(), device, image: sector_size }.into());
        }
        let exact = Fit::exact(sector_size);
        match self.length.cmp(&self.extents.length()) {
            std::cmp::Ordering::Equal => Ok(exact),
            std::cmp::Ordering::Greater => self.larger(table, exact),
            std::cmp::Ordering::Less => self.smaller(table, exact),
        }
    }

    fn larger(&self, table: Result<Option<PartitionTable>, Reason>, exact: Fit) -> Result<Fit, Error> {
        let fit = Fit { length: Some(self.length), ..exact };
        let table = match table {
            Ok(Some(table)) => table,
            Ok(None) => return self.without_table(fit),
            Err(reason) => return self.left(fit, reason.to_string()),
        };
        let growth = if self.growing == Growing::No { Growth::None } else { Growth::LastPartition };
        let resized = match table.resized(self.length, growth) {
            Err(Misfit::Growth(_)) if self.growing == Growing::AsBefore => table.resized(self.length, Growth::None),
            resized => resized,
        };
        let resized = match resized {
            Ok(resized) => resized,
            Err(Misfit::Growth(why)) => return Err(self.cannot_grow(why)),
            Err(misfit) => return self.left(fit, misfit.to_string()),
        };
        if self.growing == Growing::Requested && resized.grown.is_none() {
            return Err(self.cannot_grow("the last partition ends with it"));
        }
        let overrides = self.overrides(resized.patches)?;
        let table = if overrides.is_empty() { TableFit::Unchanged } else { TableFit::Refitted };
        Ok(Fit { overrides, table, grown: resized.grown, ..fit })
    }

    /// A filesystem without a partition may have the whole target.
    fn without_table(&self, fit: Fit) -> Result<Fit, Error> {
        let slot = Slot { number: 0, name: None, range: 0..self.extents.length() };
        let grown = (self.growing != Growing::No).then_some(Grown { slot, end: self.length });
        Ok(Fit { grown, ..fit })
    }

    /// The table is as in the image, which is not right for the target's length.
    fn left(&self, fit: Fit, why: String) -> Result<Fit, Error> {
        match self.growing {
            Growing::Requested => Err(self.cannot_grow(why)),
            Growing::No | Growing::AsBefore => Ok(Fit { table: TableFit::Left(why), ..fit }),
        }
    }

    fn cannot_grow(&self, why: impl Into<String>) -> Error {
        TargetError::CannotGrow { path: self.path.clone(), why: why.into() }.into()
    }

    fn smaller(&self, table: Result<Option<PartitionTable>, Reason>, exact: Fit) -> Result<Fit, Error> {
        let image_length = self.extents.length();
        let table = match table {
            Ok(Some(table)) => table,
            Ok(None) => {
                return Err(self.refuse(image_length, "without a partition table all of the image is needed".into()));
            }
            Err(reason) => {
                return Err(self.refuse(image_length, format!("what is on it is not understood ({reason})")));
            }
        };
        let resized = match table.resized(self.length, Growth::None) {
            Ok(resized) => resized,
            Err(Misfit::Partition { slot, needed_bytes }) => {
                return Err(self.refuse(needed_bytes, format!("{} ends behind it", named(&slot))));
            }
            Err(Misfit::NoRoom { needed_bytes }) => {
                return Err(self.refuse(needed_bytes, "the partition table has no room".into()));
            }
            Err(misfit) => return Err(self.refuse(image_length, misfit.to_string())),
        };
        // The new backup takes the place of nothing but the old one.
        let reserved = match table.kind() {
            TableKind::Gpt => resized.patches.iter().map(|patch| patch.offset).take(2).min().unwrap_or(self.length),
            TableKind::Mbr | TableKind::None => self.length,
        };
        let used = self.last_used(reserved, &table.backup_ranges())?;
        if used > reserved {
            let needed = self.length.saturating_add(used - reserved);
            return Err(self.refuse(needed, "there is data behind its last partition".into()));
        }
        let mut overrides = self.overrides(resized.patches)?;
        overrides.extend(self.cut_off()?);
        Ok(Fit { length: Some(self.length), overrides, table: TableFit::Refitted, ..exact })
    }

    fn refuse(&self, needed: u64, what: String) -> Error {
        let (path, length, beyond) = (self.path.clone(), self.length, needed.saturating_sub(self.length));
        let remedy = if self.device_sectors.is_some() { SHRINK } else { LENGTHEN_OR_SHRINK };
        TargetError::DoesNotFit { path, length, beyond, what, remedy }.into()
    }

    /// The byte behind the last one from `from` on that is not zero and not in `except`; `from` if there is none.
    fn last_used(&self, from: u64, except: &[Range<u64>]) -> Result<u64, Error> {
        let mut last: VecDeque<PlacedExtent> = VecDeque::with_capacity(LOOKED_INTO + 1);
        let mut cursor = self.extents.cursor_at(from)?;
        while let Some(placed) = cursor.read()? {
            if placed.extent.chunk().is_some() {
                last.push_back(placed);
            }
            if last.len() > LOOKED_INTO {
                last.pop_front();
            }
        }
        for placed in last.iter().rev() {
            let ExtentKind::Data(id) = placed.extent.kind else { continue };
            let chunk = self.image.chunk(placed, id)?;
            let offsets = (placed.offset..placed.end()).rev();
            let counts = |at: u64| at >= from && !except.iter().any(|range| range.contains(&at));
            let found = chunk.iter().rev().zip(offsets).find(|(byte, at)| **byte != 0 && counts(*at));
            if let Some((_, at)) = found {
                return Ok(at + 1);
            }
        }
        // So many chunks of nothing but zeros are no usual disk: what lies before them counts as data.
        let skipped = last.front().filter(|_| last.len() == LOOKED_INTO).map(|placed| placed.offset);
        Ok(skipped.filter(|start| *start > from).unwrap_or(from))
    }

    /// What the table needs, beside what the version has there.
    fn overrides(&self, patches: Vec<Patch>) -> Result<Vec<Override>, Error> {
        let image_end = self.extents.length();
        let mut overrides = Vec::new();
        for Patch { offset, bytes } in patches {
            let inside = image_end.saturating_sub(offset).min(bytes.len() as u64) as usize;
            let (inside, beyond) = bytes.split_at(inside);
            let mut image_bytes = vec![0; inside.len()];
            self.image.read(&mut image_bytes, offset)?;
            if image_bytes != inside {
                overrides.push(Override { offset, bytes: inside.to_vec(), image_bytes });
            }
            if !beyond.is_empty() {
                let offset = offset.max(image_end);
                overrides.push(Override { offset, bytes: beyond.to_vec(), image_bytes: Vec::new() });
            }
        }
        Ok(overrides)
    }

    /// The rest of the chunk that the end of the target cuts through, so that the part before it can be hashed.
    fn cut_off(&self) -> Result<Option<Override>, Error> {
        let Some(placed) = self.extents.cursor_at(self.length)?.read()? else { return Ok(None) };
        let ExtentKind::Data(id) = placed.extent.kind else { return Ok(None) };
        let chunk = self.image.chunk(&placed, id)?;
        let image_bytes = chunk[(self.length.max(placed.offset) - placed.offset) as usize..].to_vec();
        Ok((placed.offset < self.length).then_some(Override { offset: self.length, bytes: Vec::new(), image_bytes }))
    }
}

fn named(slot: &Slot) -> String {
    match &slot.name {
        Some(name) => format!("partition {} ({name})", slot.number),
        None => format!("partition {}", slot.number),
    }
}
