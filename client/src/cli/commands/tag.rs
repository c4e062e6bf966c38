//! `imprint tag`.

use std::fmt;

use clap::Args;
use imprint_content::{Ref, Selector, TagName};
use serde::Serialize;

use crate::cli::{Exit, context::Context, failure::CliError};

/// Give a version a tag, or delete a tag.
///
/// A tag that names another version of the image is moved. Versions do not change.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imprint tag lab/workstation@2 stable
  imprint tag lab/workstation stable --delete")]
pub(crate) struct Tag {
    /// The version; with --delete, the image.
    #[arg(value_name = "REF")]
    reference: Ref,
    /// The tag.
    tag: TagName,
    /// Delete the tag instead; the version stays.
    #[arg(long, short)]
    delete: bool,
}

impl Tag {
    pub(super) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let report = if self.delete { self.delete(context).await? } else { self.set(context).await? };
        context.output.result(&report)?;
        Ok(Exit::Done)
    }

    async fn set(&self, context: &Context) -> Result<Report, CliError> {
        let repo = context.open().await?;
        let version = repo.version(&self.reference).await?;
        let tag = repo.set_tag(&version, &self.tag, None).await?;
        Ok(self.report(Some(tag.number)))
    }

    async fn delete(&self, context: &Context) -> Result<Report, CliError> {
        let Ref { image, selector } = &self.reference;
        if *selector != Selector::Latest {
            let message = format!("--delete takes an image, and {} is a version", self.reference);
            return Err(CliError::refused(message, format!("`imprint tag {image} {} --delete`", self.tag)));
        }
        context.open().await?.remove_tag(image, &self.tag).await?;
        Ok(self.report(None))
    }

    fn report(&self, number: Option<u64>) -> Report {
        Report { image: self.reference.image.to_string(), tag: self.tag.to_string(), number }
    }
}

/// What became of the tag.
#[derive(Debug, Serialize)]
struct Report {
    image: String,
    tag: String,
    /// The version it names now.
    number: Option<u64>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { image, tag, number } = self;
        match number {
            Some(number) => write!(f, "{image}:{tag} is {image}@{number}"),
            None => write!(f, "{image}:{tag} is deleted"),
        }
    }
}
