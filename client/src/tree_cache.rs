//! Trees that this machine has seen, so that they need not be fetched again.
//!
//! Only a cache: whatever is in it is believed only after its root was computed again, and losing it costs one fetch.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::SystemTime,
};

use etcetera::BaseStrategy;
use imprint_content::NodeId;

use crate::extents::ExtentMap;

/// The cache is trimmed to this size, oldest first; 256 MiB hold the trees of some 350 GiB of data.
const MAX_BYTES: u64 = 256 << 20;
const EXTENSION: &str = "extents";

/// A directory of flattened trees.
#[derive(Debug, Clone)]
pub struct TreeCache {
    directory: PathBuf,
}

impl TreeCache {
    /// In this directory, which need not exist.
    #[must_use]
    pub const fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// In the user's cache directory, or in the system's temporary one.
    #[must_use]
    pub fn for_this_user() -> Self {
        let cache = etcetera::choose_base_strategy().map(|base| base.cache_dir().join("imprint"));
        let directory = cache.ok().filter(|directory| fs::create_dir_all(directory).is_ok());
        Self::new(directory.unwrap_or_else(std::env::temp_dir).join("trees"))
    }

    /// Where lists of extents are written while they grow.
    #[must_use]
    pub fn spool_directory(&self) -> &Path {
        &self.directory
    }

    /// The tree with this root, if it is here and intact.
    #[must_use]
    pub fn load(&self, root: NodeId) -> Option<ExtentMap> {
        let path = self.path(root);
        let file = File::open(&path).ok()?;
        match ExtentMap::load(file, &path, root) {
            Ok(Some(map)) => {
                let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
                Some(map)
            }
            _ => {
                let _ = fs::remove_file(path);
                None
            }
        }
    }

    /// Keeps a tree. A cache that cannot be written stays as it is.
    pub fn store(&self, map: &ExtentMap) {
        let path = self.path(map.root().id);
        if !path.exists() && self.write(map, &path).is_ok() {
            self.trim();
        }
    }

    fn write(&self, map: &ExtentMap, path: &Path) -> std::io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        let file = tempfile::NamedTempFile::new_in(&self.directory)?;
        map.copy_to(file.as_file())?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }

    fn trim(&self) {
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        let mut files: Vec<(SystemTime, u64, PathBuf)> = entries
            .flatten()
            .filter(|entry| entry.path().extension().is_some_and(|extension| extension == EXTENSION))
            .filter_map(|entry| {
                let metadata = entry.metadata().ok()?;
                Some((metadata.modified().ok()?, metadata.len(), entry.path()))
            })
            .collect();
        files.sort_unstable_by(|a, b| b.cmp(a));
        let mut total = 0;
        for (_, length, path) in files {
            total += length;
            if total > MAX_BYTES {
                let _ = fs::remove_file(path);
            }
        }
    }

    fn path(&self, root: NodeId) -> PathBuf {
        self.directory.join(format!("{root}.{EXTENSION}"))
    }
}
