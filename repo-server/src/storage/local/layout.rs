//! Names and directories of packs: `<first two digits of the id>/<id>.pack`, and `incoming/<id>.pack` until sealed.

use std::path::{Path, PathBuf};

use crate::{
    Error, PackId,
    files::{self, Files},
};

const INCOMING: &str = "incoming";

/// Where packs lie below one directory.
#[derive(Debug)]
pub(super) struct Layout {
    files: Files,
    dir: PathBuf,
}

impl Layout {
    /// Creates what is missing below `dir`, and removes what was never sealed.
    pub(super) fn open(files: Files, dir: PathBuf) -> Result<Self, Error> {
        let layout = Self { files, dir };
        layout.files.create_directory(&layout.dir)?;
        for first in 0..=u8::MAX {
            layout.files.create_directory(&layout.fan_out_dir(first))?;
        }
        layout.files.create_directory(&layout.incoming_dir())?;
        // Whether or not something was created just now: an earlier process may not have come this far. What the
        // directories will hold is synced when it is put there.
        layout.files.sync_directory(&layout.dir)?;
        layout.files.sync_directory(files::parent(&layout.dir))?;
        layout.remove_unsealed()?;
        Ok(layout)
    }

    /// What is below `dir`, and what is not, stays so.
    pub(super) const fn existing(files: Files, dir: PathBuf) -> Self {
        Self { files, dir }
    }

    /// Where a sealed pack is.
    pub(super) fn place(&self, pack: PackId) -> PathBuf {
        self.fan_out_dir(pack.as_bytes()[0]).join(file_name(pack))
    }

    /// Where a pack is while it is written.
    pub(super) fn incoming(&self, pack: PackId) -> PathBuf {
        self.incoming_dir().join(file_name(pack))
    }

    /// Where all packs are while they are written.
    pub(super) fn incoming_dir(&self) -> PathBuf {
        self.dir.join(INCOMING)
    }

    /// The packs in their places. Files with other names are not ours and are left alone.
    pub(super) fn list(&self) -> Result<Vec<PackId>, Error> {
        let mut packs = Vec::new();
        for first in 0..=u8::MAX {
            let directory = self.fan_out_dir(first);
            // Only somebody who opened it as it is meets a directory that is missing.
            let files = if self.files.exists(&directory)? { self.files.list(&directory)? } else { Vec::new() };
            packs.extend(files.iter().filter_map(|path| pack_at(path)).filter(|pack| pack.as_bytes()[0] == first));
        }
        Ok(packs)
    }

    fn fan_out_dir(&self, first: u8) -> PathBuf {
        self.dir.join(format!("{first:02x}"))
    }

    fn remove_unsealed(&self) -> Result<(), Error> {
        self.files.list(&self.incoming_dir())?.iter().try_for_each(|path| self.files.remove(path))
    }
}

/// The file name of a pack.
pub(super) fn file_name(pack: PackId) -> String {
    format!("{pack}.pack")
}

fn pack_at(path: &Path) -> Option<PackId> {
    let name = path.file_name()?.to_str()?;
    let pack = name.strip_suffix(".pack")?.parse().ok()?;
    // Upper-case digits parse as well, but are not where we would look for the pack.
    (file_name(pack) == name).then_some(pack)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_as_they_are_written() {
        let pack = PackId::from_bytes([0xab; 16]);
        let name = file_name(pack);
        assert_eq!(pack_at(name.as_ref()), Some(pack));
        for other in [name.to_uppercase(), name.replace('a', "A"), format!("{name}~"), format!("a{name}")] {
            assert_eq!(pack_at(other.as_ref()), None, "{other}");
        }
    }
}
