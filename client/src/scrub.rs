//! Has the repository look at everything that it holds.

use std::time::Duration;

use imprint_proto::v1::{self, scrub_response::Step};

use crate::{Error, Repository};

/// What a scrub came to.
pub type ScrubReport = v1::ScrubReport;
/// How far it is.
pub type ScrubProgress = v1::ScrubProgress;
/// What it is doing.
pub type ScrubPhase = v1::ScrubPhase;
/// A damaged pack.
pub type DamagedPack = v1::DamagedPack;
/// What is wrong with a damaged pack.
pub type PackState = v1::PackState;
/// A version that needs what is damaged.
pub type DamagedVersion = v1::DamagedVersion;

/// Optional behaviour of a scrub.
#[derive(Debug, Clone, Copy, Default)]
pub struct ScrubOptions {
    /// Read at most so many bytes a second; 0: as fast as it goes.
    pub bytes_per_second: u64,
    /// Only packs that were not verified for so long; without it, those that an interrupted scrub left, or all.
    pub older_than: Option<Duration>,
}

/// What a scrub tells before it ends.
#[derive(Debug, Clone, PartialEq)]
pub enum ScrubStep {
    /// How far it is.
    Progress(ScrubProgress),
    /// A damaged pack.
    Pack(DamagedPack),
    /// A version that needs what is damaged.
    Version(DamagedVersion),
}

/// Scrubs. Pushes and restores may go on meanwhile. When the future is dropped the scrub ends; the next one goes on.
///
/// # Errors
/// The repository's: `BUSY` while another scrub runs. Damage is no error: the report has it.
pub async fn scrub(
    repository: &Repository,
    options: ScrubOptions,
    mut tell: impl FnMut(ScrubStep),
) -> Result<ScrubReport, Error> {
    let older_than_ms = options.older_than.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    let request = v1::ScrubRequest { bytes_per_second: options.bytes_per_second, older_than_ms };
    let mut steps = repository.client().scrub(request).await?.into_inner();
    while let Some(response) = steps.message().await? {
        match response.step {
            Some(Step::Progress(progress)) => tell(ScrubStep::Progress(progress)),
            Some(Step::Pack(pack)) => tell(ScrubStep::Pack(pack)),
            Some(Step::Version(version)) => tell(ScrubStep::Version(version)),
            Some(Step::Report(report)) => return Ok(report),
            None => return Err(Error::Protocol("a step of the scrub is empty or unknown".into())),
        }
    }
    Err(Error::Protocol("the scrub ended without a report".into()))
}
