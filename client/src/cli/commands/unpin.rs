//! `imprint unpin`.

use std::fmt;

use clap::Args;
use imprint_content::Ref;
use serde::Serialize;

use crate::cli::{Exit, context::Context, failure::CliError};

/// Take the pin from a version, so that it can be removed again.
#[derive(Debug, Args)]
pub(crate) struct Unpin {
    /// The version.
    #[arg(value_name = "REF")]
    reference: Ref,
}

impl Unpin {
    pub(super) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let repo = context.open().await?;
        let version = repo.version(&self.reference).await?;
        let changed = repo.unpin_version(&version).await?;
        context.output.result(&Report { image: version.image.to_string(), number: version.number, changed })?;
        Ok(Exit::Done)
    }
}

/// What became of the pin.
#[derive(Debug, Serialize)]
struct Report {
    image: String,
    number: u64,
    changed: bool,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { image, number, changed } = self;
        match changed {
            true => write!(f, "{image}@{number} is no longer pinned"),
            false => write!(f, "{image}@{number} was not pinned"),
        }
    }
}
