//! `imprint undelete`.

use std::fmt;

use clap::Args;
use imprint_client::Version;
use imprint_content::{Ref, Selector};
use serde::Serialize;

use crate::cli::{Exit, context::Context, failure::CliError, version_document::VersionDocument};

/// Bring a removed version back.
///
/// It comes back whole and with its number; the tags that it once had do not. `imprint versions IMAGE --removed` lists
/// what can be brought back. What a collection has given up, after its grace, cannot.
#[derive(Debug, Args)]
pub(crate) struct Undelete {
    /// The version, as NAME@7.
    #[arg(value_name = "NAME@N")]
    reference: Ref,
}

impl Undelete {
    pub(super) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let Ref { image, selector } = &self.reference;
        let Selector::Number(number) = *selector else {
            return Err(CliError::refused(
                format!("{} does not name a removed version", self.reference),
                format!("name its number, such as {image}@7; `imprint versions {image} --removed` lists them"),
            ));
        };
        let version = context.open().await?.undelete_version(image, number).await?;
        context.output.result(&Report { document: (&version).into(), version: &version })?;
        Ok(Exit::Done)
    }
}

/// The version that is live again.
#[derive(Debug, Serialize)]
struct Report<'a> {
    #[serde(rename = "version")]
    document: VersionDocument,
    #[serde(skip)]
    version: &'a Version,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is there again", self.version.reference())
    }
}
