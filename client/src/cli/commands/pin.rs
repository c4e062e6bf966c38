//! `imprint pin`.

use std::fmt;

use clap::Args;
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

impl Pin {
    pub(super) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let repo = context.open().await?;
        let version = repo.version(&self.reference).await?;
        let changed = repo.pin_version(&version).await?;
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
            true => write!(f, "{image}@{number} is pinned"),
            false => write!(f, "{image}@{number} was pinned already"),
        }
    }
}
