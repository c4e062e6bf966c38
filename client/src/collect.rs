//! Gives back space in the repository.

use imprint_proto::v1::{self, collect_response::Step};

use crate::{Error, Repository};

/// What a collection did, or would do.
pub type CollectReport = v1::CollectReport;
/// How far it is.
pub type CollectProgress = v1::CollectProgress;
/// What it is doing.
pub type CollectPhase = v1::CollectPhase;

/// Optional behaviour of a collection.
#[derive(Debug, Clone, Copy, Default)]
pub struct CollectOptions {
    /// Only say what would be done.
    pub dry_run: bool,
    /// Packs of which less than this part is needed are rewritten, in percent, at most 100; 0 for the server's usual part.
    pub live_percent: u8,
}

/// Collects. Pushes and restores may go on meanwhile. When the future is dropped the collection ends; what was done stays
/// done.
///
/// # Errors
/// The repository's: `BUSY` while another collection runs, `TREE_UNREADABLE` or `VERSIONS_VANISHED` when it is damaged.
pub async fn collect(
    repository: &Repository,
    options: CollectOptions,
    mut progress: impl FnMut(CollectProgress),
) -> Result<CollectReport, Error> {
    let request = v1::CollectRequest { dry_run: options.dry_run, live_percent: options.live_percent.into() };
    let mut steps = repository.client().collect(request).await?.into_inner();
    while let Some(response) = steps.message().await? {
        match response.step {
            Some(Step::Progress(step)) => progress(step),
            Some(Step::Report(report)) => return Ok(report),
            None => return Err(Error::Protocol("a step of the collection is empty or unknown".into())),
        }
    }
    Err(Error::Protocol("the collection ended without a report".into()))
}
