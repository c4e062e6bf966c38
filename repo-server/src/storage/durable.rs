//! The few steps that make files durable, in one place.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};

use crate::Error;

/// Makes the entries of a directory durable: what was created, renamed or removed in it.
pub fn sync_directory(path: &Path) -> Result<(), Error> {
    // The parent of a bare name is "".
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path).and_then(|directory| directory.sync_all()).map_err(|error| Error::io("sync", path, error))
}

/// Renames a file, unless the new name is taken. Not durable before both directories are synced.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not every filesystem knows the flag (NFS, some FUSE ones); a link never replaces anything either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => rename_by_link(from, to),
        renamed => Ok(renamed?),
    }
}

/// Cut off between its steps, it leaves both names, and the old one is a leftover.
fn rename_by_link(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to)?;
    fs::remove_file(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_way_to_rename_replaces_a_file() {
        for rename in [rename_new, rename_by_link] {
            let dir = tempfile::tempdir().unwrap();
            let [old, new] = ["old", "new"].map(|name| dir.path().join(name));
            fs::write(&old, "1").unwrap();
            rename(&old, &new).unwrap();
            assert!(!old.exists());

            fs::write(&old, "2").unwrap();
            assert_eq!(rename(&old, &new).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read(&new).unwrap(), b"1");
        }
    }

    #[test]
    fn the_parent_of_a_bare_name_can_be_synced() {
        sync_directory(Path::new("name").parent().unwrap()).unwrap();
        assert!(sync_directory(Path::new("does not exist")).is_err());
    }
}
