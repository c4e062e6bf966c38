//! `imprint versions`.

use clap::Args;
use imprint_client::Version;
use imprint_content::ImageName;

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
/// repository.
#[derive(Debug, Args)]
pub(crate) struct Versions {
    /// The image.
    image: ImageName,
}

impl Versions {
    pub(super) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let versions = context.open().await?.versions(&self.image).await?;
        let documents: Vec<_> = versions.iter().map(VersionDocument::from).collect();
        context.output.listing("version", &documents, |_| table(&versions))?;
        if versions.is_empty() {
            context.output.remark(&format!("{} has no versions", self.image));
        }
        Ok(Exit::Done)
    }
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
            format!("@{}", version.number),
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
