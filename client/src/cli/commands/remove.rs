//! `imprint remove`.

use std::fmt;

use clap::Args;
use imprint_content::{Ref, Selector};
use serde::Serialize;

use crate::cli::{Exit, context::Context, failure::CliError, time};

/// Remove a version.
///
/// It has to be named by its number or id: what a tag or an image's name means can change until the command runs.
/// A version that a tag names, or that is pinned, is not removed. Other versions do not change. `imprint undelete` brings it
/// back until its grace is over and a collection has given it up.
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// The version, as NAME@7 or NAME@ID.
    #[arg(value_name = "REF")]
    reference: Ref,
}

impl Remove {
    pub(super) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        require_explicit(&self.reference)?;
        let repo = context.open().await?;
        let version = repo.version(&self.reference).await?;
        let grace_end_unix_ms = repo.remove_version(&version).await?;
        context.output.result(&Report {
            image: version.image.to_string(),
            number: version.number,
            id: version.id.to_string(),
            grace_end: time::rfc3339(grace_end_unix_ms),
            grace_end_unix_ms,
        })?;
        Ok(Exit::Done)
    }
}

fn require_explicit(reference: &Ref) -> Result<(), CliError> {
    match reference.selector {
        Selector::Number(_) | Selector::IdPrefix(_) => Ok(()),
        Selector::Latest | Selector::Tag(_) => {
            let image = &reference.image;
            Err(CliError::refused(
                format!("{reference} does not say which version for certain"),
                format!("name the version, such as {image}@7; `imprint versions {image}` lists them"),
            ))
        }
    }
}

/// The version that was removed.
#[derive(Debug, Serialize)]
struct Report {
    image: String,
    number: u64,
    id: String,
    /// It can be brought back until then at least.
    grace_end: Option<String>,
    #[serde(skip)]
    grace_end_unix_ms: i64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (image, number, until) = (&self.image, self.number, time::local(self.grace_end_unix_ms));
        write!(f, "{image}@{number} is removed; `imprint undelete {image}@{number}` brings it back until {until}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_explicit_version_is_removed() {
        let explicit = |text: &str| require_explicit(&text.parse().unwrap());
        for text in ["lab/pc@7", "lab/pc@3fa9c0d1"] {
            assert!(explicit(text).is_ok(), "{text}");
        }
        for text in ["lab/pc", "lab/pc:latest", "lab/pc:stable"] {
            assert_eq!(explicit(text).unwrap_err().exit(), Exit::Invalid, "{text}");
        }
    }
}
