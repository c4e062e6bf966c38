//! `imprint show`.

use std::fmt;

use clap::Args;
use imprint_client::{DiskLayout, Version};
use imprint_content::{CaptureMode, Ref};
use serde::Serialize;

use crate::cli::{
    Exit,
    context::Context,
    disk_table::DiskTable,
    failure::CliError,
    size::{count, counted, size},
    table::Table,
    text::printable,
    time,
    version_document::VersionDocument,
};

/// Show everything about a version.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The version.
    #[arg(value_name = "REF")]
    reference: Ref,
}

impl Show {
    pub(super) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let version = context.open().await?.version(&self.reference).await?;
        let disk = DiskLayout::decode(&version.content.layout);
        context.output.result(&Report { document: (&version).into(), disk, version: &version })?;
        Ok(Exit::Done)
    }
}

/// One version.
#[derive(Debug, Serialize)]
struct Report<'a> {
    #[serde(rename = "version")]
    document: VersionDocument,
    /// What was on the disk, where that was looked at.
    disk: Option<DiskLayout>,
    #[serde(skip)]
    version: &'a Version,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fields(self.version).fmt(f)?;
        match &self.disk {
            Some(disk) => write!(f, "\n\n{}", DiskTable(disk)),
            None => Ok(()),
        }
    }
}

fn fields(version: &Version) -> Table {
    let content = &version.content;
    let labels: Vec<_> = content.labels.iter().map(|(name, value)| printable(&format!("{name}={value}"))).collect();
    let mut table = Table::fields();
    table.field("version", version.reference().to_string());
    table.field("tags", printable(&version.tags.join(" ")));
    table.field("pinned", if version.is_pinned { "yes" } else { "no" });
    table.field("id", version.id.to_string());
    table.field("root", content.root.to_string());
    table.field("base", content.base.map_or_else(|| "none".to_owned(), |base| base.to_string()));
    table.field("size", format!("{} ({} bytes)", size(content.length), count(content.length)));
    table.field("data", format!("{} ({} bytes)", size(version.data_bytes), count(version.data_bytes)));
    table.field("new", format!("{} stored, {}", size(version.new_stored_bytes), counted(version.new_chunks, "chunk")));
    table.field("sector size", content.sector_size.to_string());
    table.field("profile", content.profile.to_string());
    table.field("captured", captured(content.capture_mode));
    table.field("committed", time::local(version.committed_unix_ms));
    table.field("by", printable(&version.who));
    table.field("labels", labels.join("\n"));
    table.field("message", printable(&content.message));
    table
}

const fn captured(mode: CaptureMode) -> &'static str {
    match mode {
        CaptureMode::Keep => "every byte",
        CaptureMode::Omit => "without the free space of its filesystems",
    }
}

#[cfg(test)]
mod tests {
    use imprint_content::{ContentRecord, NodeId, Profile};

    use super::*;

    #[test]
    fn every_field_is_shown_and_control_characters_are_not() {
        let mut content = ContentRecord::new(NodeId::of(b"root"), 4 << 30, Profile::V1);
        content.message = "one\ntwo\u{1b}[31m".into();
        content.labels = [("os".into(), "debian".into()), ("ring".into(), "1".into())].into();
        let version = Version {
            image: "lab/pc".parse().unwrap(),
            number: 2,
            id: content.id(),
            content,
            committed_unix_ms: 0,
            who: "anna@lab1".into(),
            tags: vec!["stable".into()],
            data_bytes: 5211,
            new_chunks: 1,
            new_stored_bytes: 1024,
            is_pinned: true,
        };
        let shown = fields(&version).to_string();
        for line in [
            "version      lab/pc@2",
            "tags         stable",
            "pinned       yes",
            "base         none",
            "size         4.00 GiB (4 294 967 296 bytes)",
            "new          1.00 KiB stored, 1 chunk",
            "labels       os=debian\n             ring=1",
            "message      one\n             two\u{fffd}[31m",
        ] {
            assert!(shown.contains(line), "{line} is missing in\n{shown}");
        }
    }
}
