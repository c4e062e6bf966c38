//! `imprint diff`.

use std::{fmt, ops::Range};

use clap::Args;
use imprint_client::{DiffOutcome, PartitionChange, Version, diff};
use imprint_content::Ref;
use serde::Serialize;

use crate::cli::{
    Exit,
    context::Context,
    failure::CliError,
    size::{counted, size},
    table::Table,
    text::printable,
    version_document::VersionDocument,
};

/// Compare two versions, of one image or of two.
///
/// Says how many bytes differ in place, and what a machine that holds the first version would fetch to get the
/// second. Only the parts of the trees that differ are read. The exit code is 0 also when the versions differ.
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// The version to start from.
    #[arg(value_name = "REF")]
    from: Ref,
    /// The version to get to.
    #[arg(value_name = "REF")]
    to: Ref,
}

impl Diff {
    pub(super) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let repo = context.open().await?;
        let from = repo.version(&self.from).await?;
        let to = repo.version(&self.to).await?;
        let comparing = diff(&repo, &from, &to, context.progress.clone());
        let outcome = context.watch("comparing", comparing).await?;
        context.output.result(&Report::new(&from, &to, &outcome))?;
        Ok(Exit::Done)
    }
}

/// How two versions differ.
#[derive(Debug, Serialize)]
struct Report {
    from: VersionDocument,
    to: VersionDocument,
    from_bytes: u64,
    to_bytes: u64,
    same_bytes: u64,
    changed_bytes: u64,
    changed_ranges: u64,
    fetch_bytes: u64,
    fetch_chunks: u64,
    /// The first of them; see `imprint_client::DiffOutcome`.
    changed: Vec<Range<u64>>,
    partitions: Vec<PartitionReport>,
}

#[derive(Debug, Serialize)]
struct PartitionReport {
    number: u32,
    filesystem: Option<String>,
    changed_bytes: u64,
}

impl From<&PartitionChange> for PartitionReport {
    fn from(change: &PartitionChange) -> Self {
        let PartitionChange { partition, changed_bytes } = change;
        Self { number: partition.number, filesystem: partition.filesystem.clone(), changed_bytes: *changed_bytes }
    }
}

impl PartitionReport {
    fn line(&self) -> String {
        let filesystem = printable(self.filesystem.as_deref().unwrap_or("unknown"));
        format!("{} in partition {} ({filesystem})", size(self.changed_bytes), self.number)
    }
}

impl Report {
    fn new(from: &Version, to: &Version, outcome: &DiffOutcome) -> Self {
        Self {
            from: from.into(),
            to: to.into(),
            from_bytes: outcome.from_bytes,
            to_bytes: outcome.to_bytes,
            same_bytes: outcome.same_bytes,
            changed_bytes: outcome.changed_bytes,
            changed_ranges: outcome.ranges,
            fetch_bytes: outcome.fetch_bytes,
            fetch_chunks: outcome.fetch_chunks,
            changed: outcome.changed.clone(),
            partitions: outcome.partitions.iter().map(PartitionReport::from).collect(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (&self.from.reference, &self.to.reference);
        let mut table = Table::fields();
        table.field("from", format!("{from}  {}", size(self.from_bytes)));
        table.field("to", format!("{to}  {}", size(self.to_bytes)));
        table.field("same", size(self.same_bytes));
        table.field("changed", format!("{} in {}", size(self.changed_bytes), counted(self.changed_ranges, "range")));
        let changed = self.partitions.iter().filter(|partition| partition.changed_bytes > 0);
        table.field("", changed.map(PartitionReport::line).collect::<Vec<_>>().join("\n"));
        table.field(
            "to fetch",
            format!("{} in {}, before compression", size(self.fetch_bytes), counted(self.fetch_chunks, "chunk")),
        );
        table.fmt(f)
    }
}
