//! `imprint diff`.

use std::{fmt, ops::Range};

use clap::Args;
use imprint_client::{
    DiffOutcome, FileChange, FileChangeKind, FileChanges, PartitionChange, Version, diff, file_changes,
};
use imprint_content::Ref;
use serde::Serialize;

use crate::cli::{
    Exit,
    context::Context,
    failure::CliError,
    size::{count, counted, size},
    table::Table,
    text::printable,
    version_document::VersionDocument,
};

/// Compare two versions, of one image or of two.
///
/// Says how many bytes differ in place, and what a machine that holds the first version would fetch to get the
/// second; which partitions changed; and which files, where their filesystem is understood, by kind, length and time. Only the
/// parts of the trees that differ are read, and for the files directories and inodes. The exit code is 0 also when the
/// versions differ.
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// The version to start from.
    #[arg(value_name = "REF")]
    from: Ref,
    /// The version to get to.
    #[arg(value_name = "REF")]
    to: Ref,
    /// Do not look for files: nothing but trees is read.
    #[arg(long)]
    no_files: bool,
}

/// Files of a partition that are listed for people.
const LISTED_FILES: usize = 20;

impl Diff {
    pub(super) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let repo = context.open().await?;
        let from = repo.version(&self.from).await?;
        let to = repo.version(&self.to).await?;
        let comparing = diff(&repo, &from, &to, context.progress.clone());
        let outcome = context.watch("comparing", comparing).await?;
        let files = if self.no_files {
            Vec::new()
        } else {
            let comparing = file_changes(&repo, &from, &to, &outcome, context.progress.clone());
            context.watch("comparing files", comparing).await?
        };
        context.output.result(&Report::new(&from, &to, &outcome, &files))?;
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
    /// Null when they were not compared.
    files: Option<FilesReport>,
}

#[derive(Debug, Serialize)]
struct FilesReport {
    added: u64,
    changed: u64,
    removed: u64,
    /// The first of them; see `imprint_client::FileChanges`.
    list: Vec<FileReport>,
    /// Why nothing is known of them.
    unknown: Option<String>,
}

#[derive(Debug, Serialize)]
struct FileReport {
    change: &'static str,
    path: String,
}

impl PartitionReport {
    fn new(change: &PartitionChange, files: &[FileChanges]) -> Self {
        let PartitionChange { partition, changed_bytes } = change;
        let files = files.iter().find(|files| files.partition == partition.number);
        Self {
            number: partition.number,
            filesystem: partition.filesystem.clone(),
            changed_bytes: *changed_bytes,
            files: files.map(FilesReport::from),
        }
    }

    fn lines(&self) -> String {
        let filesystem = printable(self.filesystem.as_deref().unwrap_or("unknown"));
        let line = format!("{} in partition {} ({filesystem})", size(self.changed_bytes), self.number);
        match &self.files {
            Some(files) => format!("{line}{}", files.lines()),
            None => line,
        }
    }
}

impl From<&FileChanges> for FilesReport {
    fn from(changes: &FileChanges) -> Self {
        let FileChanges { added, changed, removed, unknown, .. } = changes.clone();
        Self { added, changed, removed, list: changes.files.iter().map(FileReport::from).collect(), unknown }
    }
}

impl From<&FileChange> for FileReport {
    fn from(file: &FileChange) -> Self {
        let change = match file.kind {
            FileChangeKind::Added => "added",
            FileChangeKind::Changed => "changed",
            FileChangeKind::Removed => "removed",
        };
        Self { change, path: file.path.clone() }
    }
}

impl FilesReport {
    /// What follows the line of their partition.
    fn lines(&self) -> String {
        if let Some(reason) = &self.unknown {
            return format!(", files not known: {}", printable(reason));
        }
        let (added, changed, removed) = (counted(self.added, "file"), count(self.changed), count(self.removed));
        let mut text = format!(": {added} added, {changed} changed, {removed} removed");
        for file in self.list.iter().take(LISTED_FILES) {
            text += &format!("\n  {:7}  {}", file.change, path(&file.path));
        }
        let all = self.added + self.changed + self.removed;
        let listed = self.list.len().min(LISTED_FILES) as u64;
        if all > listed {
            text += &format!("\n  and {} more", count(all - listed));
        }
        text
    }
}

/// A path in one line.
fn path(path: &str) -> String {
    printable(path).replace('\n', "\u{fffd}")
}

impl Report {
    fn new(from: &Version, to: &Version, outcome: &DiffOutcome, files: &[FileChanges]) -> Self {
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
            partitions: outcome.partitions.iter().map(|change| PartitionReport::new(change, files)).collect(),
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
        table.field("", changed.map(PartitionReport::lines).collect::<Vec<_>>().join("\n"));
        table.field(
            "to fetch",
            format!("{} in {}, before compression", size(self.fetch_bytes), counted(self.fetch_chunks, "chunk")),
        );
        table.fmt(f)
    }
}
