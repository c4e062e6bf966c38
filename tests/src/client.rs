//! The client library on one repository, with a cache and a memory of its own.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use imprint_client::{
    Access, DiffOutcome, Error, FreeSpace, Growing, Location, Progress, PushOptions, PushOutcome, Repository,
    RestoreOptions, RestoreOutcome, TreeCache, UpdateOptions, Version, VersionReport, source::Source, target::Memory,
};
use imprint_content::ImageName;
use tempfile::TempDir;

use crate::programs::DEADLINE;

/// A client of one repository. What it remembers goes away with it.
pub struct Client {
    /// The repository.
    pub repository: Repository,
    /// What it remembers of targets.
    pub memory: Memory,
    home: TempDir,
}

impl Client {
    /// Serves the repository in `directory` inside this process; creates it if need be.
    pub async fn embedded(directory: &Path) -> Self {
        Self::try_embedded(directory).await.unwrap()
    }

    /// As [`embedded`](Self::embedded), for repositories that may be damaged.
    pub async fn try_embedded(directory: &Path) -> Result<Self, Error> {
        Self::open(&Location::Directory(directory.to_owned())).await
    }

    /// Connects to a server.
    pub async fn connect(url: &str) -> Self {
        Self::open(&url.parse().unwrap()).await.unwrap()
    }

    async fn open(location: &Location) -> Result<Self, Error> {
        let start = Instant::now();
        loop {
            match Repository::open(location, Access::OrCreate).await {
                Ok(repository) => return Ok(Self::of(&repository)),
                // A client of this process that was dropped a moment ago is still closing it.
                Err(error) if error.to_string().contains("current process") && start.elapsed() < DEADLINE => {
                    tokio::task::yield_now().await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Another client of the same connection.
    #[must_use]
    pub fn another(&self) -> Self {
        Self::of(&self.repository)
    }

    /// A client of an open repository.
    #[must_use]
    pub fn of(repository: &Repository) -> Self {
        let home = tempfile::tempdir().unwrap();
        let repository = repository.clone().with_tree_cache(TreeCache::new(home.path().join("trees")));
        Self { repository, memory: Memory::new(home.path().join("targets")), home }
    }

    /// A place for a file that goes away with this client.
    #[must_use]
    pub fn place(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Pushes a file or device.
    pub async fn push(&self, source: &Path, image: &str) -> PushOutcome {
        self.try_push(Source::open(source).unwrap(), image, PushOptions::default()).await.unwrap()
    }

    /// Pushes a file or device and tags the version.
    pub async fn push_tagged(&self, source: &Path, image: &str, tag: &str) -> PushOutcome {
        let options = PushOptions { tags: vec![tag.parse().unwrap()], ..PushOptions::default() };
        self.try_push(Source::open(source).unwrap(), image, options).await.unwrap()
    }

    /// Pushes a source of any kind.
    ///
    /// # Errors
    /// Those of the library.
    pub async fn try_push(&self, source: Source, image: &str, options: PushOptions) -> Result<PushOutcome, Error> {
        imprint_client::push(&self.repository, source, &name(image), options, Arc::default()).await
    }

    /// The version that a ref means.
    pub async fn version(&self, reference: &str) -> Version {
        self.repository.version(&reference.parse().unwrap()).await.unwrap()
    }

    /// All versions of an image.
    pub async fn versions(&self, image: &str) -> Vec<Version> {
        self.repository.versions(&name(image)).await.unwrap()
    }

    /// Restores a version.
    pub async fn restore(&self, reference: &str, target: &Path) -> RestoreOutcome {
        self.try_restore(reference, target).await.unwrap()
    }

    /// Restores a version that may be damaged.
    ///
    /// # Errors
    /// Those of the library.
    pub async fn try_restore(&self, reference: &str, target: &Path) -> Result<RestoreOutcome, Error> {
        let reference = reference.parse().unwrap();
        let version = self.repository.version(&reference).await?;
        let options = RestoreOptions { following: Some(reference), seeds: Vec::new(), ..self.restore_options() };
        imprint_client::restore(&self.repository, &version, target, options, Arc::default()).await
    }

    /// Restores with seeds.
    pub async fn restore_with_seeds(&self, reference: &str, target: &Path, seeds: &[&Path]) -> RestoreOutcome {
        let version = self.version(reference).await;
        let seeds = seeds.iter().map(|seed| seed.to_path_buf()).collect();
        let options = RestoreOptions { seeds, ..self.restore_options() };
        imprint_client::restore(&self.repository, &version, target, options, Arc::default()).await.unwrap()
    }

    /// Updates a target.
    ///
    /// # Errors
    /// Those of the library.
    pub async fn update(&self, target: &Path, to: Option<&str>) -> Result<(Version, RestoreOutcome), Error> {
        let to = to.map(|to| to.parse().unwrap());
        imprint_client::update(&self.repository, target, to.as_ref(), self.update_options(), Arc::default()).await
    }

    /// Rolls a target back.
    ///
    /// # Errors
    /// Those of the library.
    pub async fn rollback(&self, target: &Path, to: Option<&str>) -> Result<(Version, RestoreOutcome), Error> {
        let to = to.map(|to| to.parse().unwrap());
        imprint_client::rollback(&self.repository, target, to.as_ref(), self.update_options(), Arc::default()).await
    }

    /// Defaults, with this client's memory.
    #[must_use]
    pub fn restore_options(&self) -> RestoreOptions {
        RestoreOptions {
            following: None,
            seeds: Vec::new(),
            free_space: FreeSpace::Discard,
            size: None,
            growing: Growing::No,
            memory: self.memory.clone(),
        }
    }

    /// Defaults, with this client's memory.
    #[must_use]
    pub fn update_options(&self) -> UpdateOptions {
        UpdateOptions {
            allow_older: false,
            seeds: Vec::new(),
            free_space: FreeSpace::Discard,
            growing: Growing::No,
            memory: self.memory.clone(),
        }
    }

    /// Fetches and hashes a whole version.
    ///
    /// # Errors
    /// Those of the library.
    pub async fn verify(&self, reference: &str) -> Result<VersionReport, Error> {
        let version = self.repository.version(&reference.parse().unwrap()).await?;
        imprint_client::verify_version(&self.repository, &version, Arc::default()).await
    }

    /// Compares two versions.
    pub async fn diff(&self, from: &str, to: &str) -> DiffOutcome {
        let (from, to) = (self.version(from).await, self.version(to).await);
        imprint_client::diff(&self.repository, &from, &to, Arc::new(Progress::new())).await.unwrap()
    }
}

/// An image's name.
#[must_use]
pub fn name(image: &str) -> ImageName {
    image.parse().unwrap()
}
