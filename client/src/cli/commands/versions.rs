//! `imprint versions`.

use clap::Args;
use imprint_client::{RemovedVersion, Version};
use imprint_content::ImageName;
use serde::Serialize;

use crate::cli::{
    Exit,
    context::Context,
    failure::CliError,
    size::size,
    table::{Align, Table},
    text::{first_line, printable},
    time,
    version_document::VersionDocument,
};

/// List the versions of an image, oldest first.
///
/// SIZE is the image's length, DATA the part of it that is not zero, NEW the bytes that its push added to the
/// repository. A pinned version has a `*`.
///
/// With --removed, those that were removed and can be brought back with `imprint undelete`.
#[derive(Debug, Args)]
pub(crate) struct Versions {
    /// The image.
    image: ImageName,
    /// List removed versions that can be brought back.
    #[arg(long)]
    removed: bool,
}

impl Versions {
    pub(super) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        if self.removed {
            return self.list_removed(context).await;
        }
        let versions = context.open().await?.versions(&self.image).await?;
        let documents: Vec<_> = versions.iter().map(VersionDocument::from).collect();
        context.output.listing("version", &documents, |_| table(&versions))?;
        if versions.is_empty() {
            context.output.remark(&format!("{} has no versions", self.image));
        }
        Ok(Exit::Done)
    }

    async fn list_removed(&self, context: &Context) -> Result<Exit, CliError> {
        let removed = context.open().await?.removed_versions(Some(&self.image)).await?;
        let items: Vec<_> = removed.iter().map(removed_item).collect();
        context.output.listing("version", &items, |_| removed_table(&removed))?;
        if removed.is_empty() {
            context.output.remark(&format!("{} has no removed versions that can be brought back", self.image));
        }
        Ok(Exit::Done)
    }
}

/// A removed version, and until when it can be brought back at least.
#[derive(Debug, Serialize)]
struct RemovedItem {
    #[serde(flatten)]
    version: VersionDocument,
    removed: Option<String>,
    grace_end: Option<String>,
}

fn removed_item(removed: &RemovedVersion) -> RemovedItem {
    RemovedItem {
        version: (&removed.version).into(),
        removed: time::rfc3339(removed.removed_unix_ms),
        grace_end: time::rfc3339(removed.grace_end_unix_ms),
    }
}

fn removed_table(removed: &[RemovedVersion]) -> Table {
    let mut table = Table::new([
        ("VERSION", Align::Right),
        ("WHEN", Align::Left),
        ("REMOVED", Align::Left),
        ("GRACE UNTIL", Align::Left),
        ("SIZE", Align::Right),
        ("MESSAGE", Align::Left),
    ]);
    for RemovedVersion { version, removed_unix_ms, grace_end_unix_ms } in removed {
        table.row([
            format!("@{}", version.number),
            time::local(version.committed_unix_ms),
            time::local(*removed_unix_ms),
            time::local(*grace_end_unix_ms),
            size(version.content.length),
            first_line(&version.content.message),
        ]);
    }
    table
}

fn table(versions: &[Version]) -> Table {
    let mut table = Table::new([
        ("VERSION", Align::Right),
        ("TAGS", Align::Left),
        ("WHEN", Align::Left),
        ("SIZE", Align::Right),
        ("DATA", Align::Right),
        ("NEW", Align::Right),
        ("MESSAGE", Align::Left),
    ]);
    for version in versions {
        table.row([
            format!("{}@{}", if version.is_pinned { "*" } else { "" }, version.number),
            printable(&version.tags.join(" ")),
            time::local(version.committed_unix_ms),
            size(version.content.length),
            size(version.data_bytes),
            size(version.new_stored_bytes),
            first_line(&version.content.message),
        ]);
    }
    table
}
