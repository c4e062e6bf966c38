//! `imprint stats`.

use std::fmt;

use clap::Args;
use serde::Serialize;

use crate::cli::{
    Exit,
    context::Context,
    failure::CliError,
    size::{count, counted, size},
    table::Table,
    time::{local, rfc3339},
};

/// Show what the repository holds and what that takes.
#[derive(Debug, Args)]
pub(crate) struct Stats {}

impl Stats {
    pub(super) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let repo = context.open().await?;
        let stats = repo.stats().await?;
        context.output.result(&Report::new(repo.id(), &stats, repo.writes_stopped()))?;
        Ok(Exit::Done)
    }
}

/// Totals of a repository.
#[derive(Debug, Serialize)]
struct Report {
    repository: String,
    images: u64,
    versions: u64,
    image_bytes: u64,
    data_bytes: u64,
    packs: u64,
    pack_bytes: u64,
    chunks: u64,
    nodes: u64,
    /// Data of all versions by what is stored; nothing when nothing is stored.
    ratio: Option<f64>,
    /// When the last scrub came to its end.
    scrubbed: Option<String>,
    /// Every pack was verified then or later.
    verified: Option<String>,
    unverified_packs: u64,
    damaged_objects: u64,
    #[serde(skip)]
    scrubbed_unix_ms: i64,
    /// Why the repository no longer accepts writes; nothing as long as it does.
    writes_stopped: Option<String>,
}

impl Report {
    fn new(repository: String, stats: &imprint_client::Stats, writes_stopped: Option<&str>) -> Self {
        Self {
            repository,
            images: stats.images,
            versions: stats.versions,
            image_bytes: stats.image_bytes,
            data_bytes: stats.data_bytes,
            packs: stats.packs,
            pack_bytes: stats.pack_bytes,
            chunks: stats.chunks,
            nodes: stats.nodes,
            ratio: (stats.pack_bytes > 0).then(|| stats.data_bytes as f64 / stats.pack_bytes as f64),
            scrubbed: when(stats.scrubbed_unix_ms),
            verified: when(stats.verified_unix_ms),
            unverified_packs: stats.unverified_packs,
            damaged_objects: stats.damaged_objects,
            scrubbed_unix_ms: stats.scrubbed_unix_ms,
            writes_stopped: writes_stopped.map(Into::into),
        }
    }
}

fn when(unix_ms: i64) -> Option<String> {
    Some(unix_ms).filter(|time| *time != 0).and_then(rfc3339)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::fields();
        table.field("repository", &self.repository);
        table.field("images", count(self.images));
        table.field("versions", count(self.versions));
        table.field("size of versions", format!("{}, {} data", size(self.image_bytes), size(self.data_bytes)));
        table.field("stored", format!("{} in {}", size(self.pack_bytes), counted(self.packs, "pack")));
        table.field("", format!("{}, {}", counted(self.chunks, "chunk"), counted(self.nodes, "node")));
        if let Some(ratio) = self.ratio {
            table.field("ratio", format!("{ratio:.1} (data of all versions to bytes stored)"));
        }
        if self.packs > 0 {
            let last = if self.scrubbed_unix_ms == 0 { "never".into() } else { local(self.scrubbed_unix_ms) };
            let unread = match self.unverified_packs {
                0 => String::new(),
                packs => format!("; {} not read since they were written", counted(packs, "pack")),
            };
            table.field("scrubbed", last + &unread);
        }
        if self.damaged_objects > 0 {
            let objects = counted(self.damaged_objects, "object");
            table.field("damaged", format!("{objects}; `imprint scrub` says which versions suffer"));
        }
        if let Some(why) = &self.writes_stopped {
            table.field("writes stopped", why);
        }
        table.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_repository_has_no_ratio() {
        let empty = Report::new(String::new(), &imprint_client::Stats::default(), None);
        assert_eq!(empty.ratio, None);
        let stats = imprint_client::Stats { data_bytes: 300, pack_bytes: 100, ..Default::default() };
        let report = Report::new("07".repeat(16), &stats, None);
        assert!(report.to_string().ends_with("ratio             3.0 (data of all versions to bytes stored)"));
        let stopped = Report::new(String::new(), &stats, Some("cannot sync it"));
        assert!(stopped.to_string().ends_with("writes stopped    cannot sync it"));
    }
}
