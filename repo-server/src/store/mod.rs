//! The rules of a repository, over its two seams.
//!
//! The order of writes that makes "OK means durable" true: packs are sealed (synced, renamed, directory synced),
//! then the catalog learns what is in them, then the tree's closure is checked, then the commit is appended to the
//! journal and synced (that is the commit point), then the client hears of it. `docs/durability.md` has each crash.

pub mod check;
mod closure;
mod control;
mod directory;
mod fetch;
mod lock;
mod nodes;
mod pack_writer;
pub mod reclaim;
mod recover;
mod retention;
pub mod scrub;
mod superblock;
#[cfg(test)]
mod tests;
mod tree_view;
mod upload;

use std::sync::Arc;

use imprint_content::{ImageName, Profile, Selector};

use crate::{
    Error, RepositoryId,
    blocking::Blocking,
    catalog::{Catalog, VersionKey, VersionRecord},
    files::WriteGate,
    pack::Purpose,
    storage::PackStorage,
};

pub use closure::Missing;
pub use control::{Control, Progress};
pub use directory::{Directory, OpenMode, StoreOptions};
pub use fetch::{ChunkReader, FetchedChunk};
pub use lock::{Lock, LookLock};
pub use nodes::NodeReader;
pub use recover::{RecoverOutcome, rebuild};
pub use retention::{DatedVersion, KeepReason, KeepRules, Period, VersionFate};
pub use superblock::Superblock;
pub use tree_view::{TreePiece, TreeWalk};
pub use upload::{CommitRequest, Upload, UploadOutcome, check};

/// A repository.
#[derive(Clone)]
pub struct Store {
    repository: RepositoryId,
    default_profile: u16,
    packs: Arc<dyn PackStorage>,
    catalog: Arc<dyn Catalog>,
    nodes: NodeReader,
    gate: WriteGate,
    blocking: Blocking,
    /// Held by the one collection that runs.
    collecting: Arc<tokio::sync::Mutex<()>>,
    /// Held by the one scrub that runs.
    scrubbing: Arc<tokio::sync::Mutex<()>>,
    /// Held by who looks at what a reader could not read.
    met: Arc<tokio::sync::Mutex<scrub::Met>>,
}

impl Store {
    /// A repository over these engines.
    #[must_use]
    pub fn new(
        repository: RepositoryId,
        packs: Arc<dyn PackStorage>,
        catalog: Arc<dyn Catalog>,
        blocking: Blocking,
    ) -> Self {
        let nodes = NodeReader::new(Arc::clone(&packs), Arc::clone(&catalog), blocking.clone());
        Self {
            repository,
            default_profile: Profile::V2.number,
            packs,
            catalog,
            nodes,
            gate: WriteGate::default(),
            blocking,
            collecting: Arc::default(),
            scrubbing: Arc::default(),
            met: Arc::default(),
        }
    }

    /// The same repository, whose superblock names this profile for new images.
    #[must_use]
    pub const fn with_default_profile(mut self, number: u16) -> Self {
        self.default_profile = number;
        self
    }

    /// The same repository, with something between it and its packs, and nothing remembered.
    #[cfg(test)]
    pub(crate) fn interposed(self, wrap: impl FnOnce(Arc<dyn PackStorage>) -> Arc<dyn PackStorage>) -> Self {
        let packs = wrap(self.packs);
        let nodes = NodeReader::new(Arc::clone(&packs), Arc::clone(&self.catalog), self.blocking.clone());
        Self { packs, nodes, ..self }
    }

    /// The same repository, whose engines share this switch.
    #[must_use]
    pub fn with_gate(mut self, gate: WriteGate) -> Self {
        self.gate = gate;
        self
    }

    /// Whether the repository accepts writes, and why not.
    #[must_use]
    pub const fn gate(&self) -> &WriteGate {
        &self.gate
    }

    /// Number of the profile that new images use.
    #[must_use]
    pub const fn default_profile(&self) -> u16 {
        self.default_profile
    }

    /// Which repository this is.
    #[must_use]
    pub const fn repository(&self) -> RepositoryId {
        self.repository
    }

    /// What is known: queries, tags and removals need nothing else.
    #[must_use]
    pub fn catalog(&self) -> &dyn Catalog {
        &*self.catalog
    }

    /// The version with this image and number.
    pub async fn version(&self, key: VersionKey) -> Result<VersionRecord, Error> {
        self.catalog.version(key.image, Selector::Number(key.number)).await
    }

    /// Walks the tree of a version and leaves out what `have` has at the same place.
    pub async fn walk_tree(&self, version: &VersionRecord, have: Option<&VersionRecord>) -> Result<TreeWalk, Error> {
        TreeWalk::start(&self.nodes, version.content.root, have.map(|have| have.content.root)).await
    }

    /// Reads chunks of a version by their position.
    pub async fn read_chunks(&self, version: &VersionRecord) -> Result<ChunkReader, Error> {
        ChunkReader::open(self, version.content.root).await
    }

    /// Lengths as stored of a leaf's data extents, in order; 0 for those that are missing.
    pub async fn stored_lengths(&self, extents: &[imprint_content::Extent]) -> Result<Vec<u32>, Error> {
        let ids = extents.iter().filter_map(|extent| extent.chunk().map(Into::into)).collect();
        let locations = self.catalog.locate(Purpose::Chunks, ids).await?;
        Ok(locations.iter().map(|location| location.map_or(0, |found| found.stored_length)).collect())
    }

    /// Every image's name, versions and highest number, one page at a time.
    pub async fn images_after(&self, after: Option<ImageName>) -> Result<Vec<crate::catalog::ImageRecord>, Error> {
        self.catalog.images(after, PAGE).await
    }

    /// Versions of an image, one page at a time.
    pub async fn versions_after(&self, image: ImageName, after: u64) -> Result<Vec<VersionRecord>, Error> {
        self.catalog.versions(image, after, PAGE).await
    }
}

/// Records read from the catalog at once when listing.
const PAGE: usize = 256;
