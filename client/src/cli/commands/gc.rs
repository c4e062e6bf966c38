//! `imprint gc`.

use std::fmt;

use clap::Args;
use imprint_client::{CollectOptions, CollectPhase, CollectProgress, CollectReport};
use serde::Serialize;

use crate::cli::{
    Exit,
    context::Context,
    failure::CliError,
    progress::ServedProgress,
    size::{count, counted, size},
};

/// Give back the space of what no version needs any more.
///
/// Versions that were removed, and can no longer be brought back, are given up. Packs of which nothing is needed are
/// deleted, packs of which little is needed are rewritten. Pushes and restores may go on meanwhile, and the command may be
/// stopped at any time. A server does this by itself when it is told to (`imprint-server serve --gc-every`).
#[derive(Debug, Args)]
pub(crate) struct Gc {
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Rewrite packs of which less than this part is needed, in percent [default: the server's, usually 50].
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    rewrite_below: Option<u8>,
}

impl Gc {
    pub(super) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let repo = context.open().await?;
        let options = CollectOptions { dry_run: self.dry_run, live_percent: self.rewrite_below.unwrap_or_default() };
        let mut told = ServedProgress::new(&context.output, "collecting");
        let report = imprint_client::collect(&repo, options, |progress| {
            told.tell(words(progress.phase()).0, progress.done, progress.total, &remark(progress));
        })
        .await?;
        context.output.result(&Report::from(&report))?;
        Ok(Exit::Done)
    }
}

/// For programs, and for people.
const fn words(phase: CollectPhase) -> (&'static str, &'static str) {
    match phase {
        CollectPhase::Preparing => ("preparing", "preparing"),
        CollectPhase::Marking => ("marking", "finding out what is needed"),
        CollectPhase::Deleting => ("deleting", "deleting packs"),
        CollectPhase::Rewriting => ("rewriting", "rewriting packs"),
    }
}

fn remark(progress: CollectProgress) -> String {
    let text = words(progress.phase()).1;
    let (done, total) = (progress.done, progress.total);
    match progress.phase() {
        CollectPhase::Preparing => text.into(),
        CollectPhase::Marking => format!("{text}: {} of {}", count(done), counted(total, "version")),
        CollectPhase::Deleting => format!("{text}: {} of {}", count(done), count(total)),
        CollectPhase::Rewriting => format!("{text}: {} of {}", size(done), size(total)),
    }
}

/// What a collection did.
#[derive(Debug, Serialize)]
struct Report {
    dry_run: bool,
    versions: u64,
    purged_versions: u64,
    expired_uploads: u64,
    packs: u64,
    pack_bytes: u64,
    dead_packs: u64,
    dead_bytes: u64,
    rewritten_packs: u64,
    rewritten_bytes: u64,
    copied_bytes: u64,
    /// What a dry run expects to become free.
    reclaimable_bytes: u64,
    deleted_packs: u64,
    deleted_bytes: u64,
    written_bytes: u64,
    busy_packs: u64,
    kept_packs: u64,
    damaged_records: u64,
    missing_chunks: u64,
    incomplete: Option<String>,
}

impl From<&CollectReport> for Report {
    fn from(report: &CollectReport) -> Self {
        Self {
            dry_run: report.dry_run,
            versions: report.versions,
            purged_versions: report.purged_versions,
            expired_uploads: report.expired_uploads,
            packs: report.packs,
            pack_bytes: report.pack_bytes,
            dead_packs: report.dead_packs,
            dead_bytes: report.dead_bytes,
            rewritten_packs: report.rewritten_packs,
            rewritten_bytes: report.rewritten_bytes,
            copied_bytes: report.copied_bytes,
            reclaimable_bytes: report
                .dead_bytes
                .saturating_add(report.rewritten_bytes)
                .saturating_sub(report.copied_bytes),
            deleted_packs: report.deleted_packs,
            deleted_bytes: report.deleted_bytes,
            written_bytes: report.written_bytes,
            busy_packs: report.busy_packs,
            kept_packs: report.kept_packs,
            damaged_records: report.damaged_records,
            missing_chunks: report.missing_chunks,
            incomplete: Some(report.incomplete.clone()).filter(|why| !why.is_empty()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stored = format!("{} in {}", size(self.pack_bytes), counted(self.packs, "pack"));
        if self.dry_run {
            write!(f, "{} of {stored} could be given back: ", size(self.reclaimable_bytes))?;
            write!(f, "{} dead ({}), ", counted(self.dead_packs, "pack"), size(self.dead_bytes))?;
            write!(f, "{} would be rewritten ", count(self.rewritten_packs))?;
            write!(f, "({}, of which {} stay)", size(self.rewritten_bytes), size(self.copied_bytes))?;
        } else {
            write!(f, "{} of {stored} given back: ", size(self.deleted_bytes.saturating_sub(self.written_bytes)))?;
            write!(f, "deleted {} ({}), ", counted(self.deleted_packs, "pack"), size(self.deleted_bytes))?;
            write!(f, "wrote {}", size(self.written_bytes))?;
        }
        write!(f, "; {} needed", counted(self.versions, "version"))?;
        let given_up = if self.dry_run { "would be given up" } else { "given up" };
        match self.purged_versions {
            0 => {}
            versions => write!(f, ", {} {given_up}", count(versions))?,
        }
        if self.busy_packs > 0 {
            write!(f, "\n{} left because pushes rely on them", counted(self.busy_packs, "pack"))?;
        }
        if self.kept_packs > 0 {
            write!(f, "\n{} left because they are damaged", counted(self.kept_packs, "pack"))?;
        }
        if self.missing_chunks > 0 {
            write!(f, "\n{} of these versions are damaged", counted(self.missing_chunks, "chunk"))?;
        }
        match &self.incomplete {
            Some(why) => write!(f, "\nnot finished: {why}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dry_run_says_what_could_be_had() {
        let report = CollectReport {
            dry_run: true,
            versions: 2,
            packs: 9,
            pack_bytes: 500 << 20,
            dead_packs: 1,
            dead_bytes: 64 << 20,
            rewritten_packs: 2,
            rewritten_bytes: 100 << 20,
            copied_bytes: 36 << 20,
            ..Default::default()
        };
        assert_eq!(
            Report::from(&report).to_string(),
            "128 MiB of 500 MiB in 9 packs could be given back: 1 pack dead (64.0 MiB), 2 would be rewritten \
             (100 MiB, of which 36.0 MiB stay); 2 versions needed"
        );
    }
}
