//! `imprint pin` and `imprint unpin`.

use std::fmt;

use clap::Args;
use imprint_client::Version;
use imprint_content::Ref;
use serde::Serialize;

use crate::cli::{Exit, context::Context, failure::CliError};

/// Pin a version: until it is unpinned it cannot be removed, by nobody and by no rule.
#[derive(Debug, Args)]
pub(crate) struct Pin {
    /// The version.
    #[arg(value_name = "REF")]
    reference: Ref,
}

/// Take the pin from a version, so that it can be removed again.
#[derive(Debug, Args)]
pub(crate) struct Unpin {
    /// The version.
    #[arg(value_name = "REF")]
    reference: Ref,
}

impl Pin {
    pub(super) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let repo = context.open().await?;
        let version = repo.version(&self.reference).await?;
        let changed = repo.pin_version(&version).await?;
        report(context, &version, changed, if changed { "is pinned" } else { "was pinned already" })
    }
}

impl Unpin {
    pub(super) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let repo = context.open().await?;
        let version = repo.version(&self.reference).await?;
        let changed = repo.unpin_version(&version).await?;
        report(context, &version, changed, if changed { "is no longer pinned" } else { "was not pinned" })
    }
}

fn report(context: &Context, version: &Version, changed: bool, state: &'static str) -> Result<Exit, CliError> {
    context.output.result(&Report { image: version.image.to_string(), number: version.number, changed, state })?;
    Ok(Exit::Done)
}

/// What became of the pin.
#[derive(Debug, Serialize)]
struct Report {
    image: String,
    number: u64,
    changed: bool,
    #[serde(skip)]
    state: &'static str,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} {}", self.image, self.number, self.state)
    }
}
