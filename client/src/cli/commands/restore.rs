//! `imprint restore`.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use imprint_client::{FreeSpace, Phase, RestoreOptions, RestoreOutcome, Version, restore};
use imprint_content::Ref;
use serde::Serialize;

use crate::cli::{
    Exit,
    context::Context,
    failure::CliError,
    signals::LeftBehind,
    size::{counted, size},
    time::elapsed,
    version_document::VersionDocument,
};

/// Write a version onto a file or a block device.
///
/// What the target holds already is kept, what differs is overwritten, and only chunks that the target lacks are
/// fetched. Every byte is hashed as it is written or kept: the target is exactly the version, or the command fails.
/// A mounted device, and a device smaller than the image, are refused before anything is written.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imprint restore lab/workstation:stable /dev/sdc
  imprint restore lab/workstation@1 debian.raw")]
pub(crate) struct Restore {
    /// The version.
    #[arg(value_name = "REF")]
    reference: Ref,
    /// A file, which is created if need be, or a block device. Its content is replaced.
    target: PathBuf,
    /// A file or device that may hold the same data, to take it from there; may be given several times.
    #[arg(long = "seed", value_name = "DISK")]
    seeds: Vec<PathBuf>,
    #[command(flatten)]
    target_options: TargetArguments,
}

/// How a version is put onto a target; the same for restore, update and rollback.
#[derive(Debug, Args)]
pub(super) struct TargetArguments {
    /// Leave space that the version's filesystems do not use as it is: earlier data stays there. Without this it is
    /// discarded or made zero.
    #[arg(long)]
    keep_free: bool,
}

impl TargetArguments {
    pub(super) const fn free_space(&self) -> FreeSpace {
        if self.keep_free { FreeSpace::Keep } else { FreeSpace::Discard }
    }
}

impl Restore {
    pub(super) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let repo = context.open().await?;
        let version = repo.version(&self.reference).await?;
        let options = RestoreOptions {
            following: Some(self.reference.clone()),
            seeds: self.seeds.clone(),
            free_space: self.target_options.free_space(),
            memory: context.memory(),
        };
        let start = Instant::now();
        let restoring = restore(&repo, &version, &self.target, options, context.progress.clone());
        let outcome = context.watch("restoring", restoring).await?;
        Report::new(&version, &self.target, &outcome, start.elapsed()).write(context)
    }

    pub(super) fn left_behind(phase: Phase) -> LeftBehind {
        match phase {
            Phase::Preparing | Phase::ReadingTree => LeftBehind::new("nothing was written to the target", ""),
            _ => LeftBehind::new("the target is incomplete", "run the same command again to complete it"),
        }
    }
}

/// What a restore came to.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    version: VersionDocument,
    target: String,
    image_bytes: u64,
    kept_bytes: u64,
    copied_bytes: u64,
    zeroed_bytes: u64,
    discarded_bytes: u64,
    free_kept_bytes: u64,
    written_bytes: u64,
    fetched_chunks: u64,
    fetched_bytes: u64,
    seconds: f64,
}

impl Report {
    pub(super) fn new(version: &Version, target: &Path, outcome: &RestoreOutcome, took: Duration) -> Self {
        Self {
            version: version.into(),
            target: target.to_string_lossy().into_owned(),
            image_bytes: outcome.image_bytes,
            kept_bytes: outcome.kept_bytes,
            copied_bytes: outcome.copied_bytes,
            zeroed_bytes: outcome.zeroed_bytes,
            discarded_bytes: outcome.discarded_bytes,
            free_kept_bytes: outcome.free_kept_bytes,
            written_bytes: outcome.written_bytes,
            fetched_chunks: outcome.fetched_chunks,
            fetched_bytes: outcome.fetched_bytes,
            seconds: took.as_secs_f64(),
        }
    }

    /// Says how it went, and what the user should know of the target.
    pub(super) fn write(&self, context: &Context) -> Result<Exit, CliError> {
        context.output.result(self)?;
        if self.free_kept_bytes > 0 {
            let kept = size(self.free_kept_bytes);
            context
                .output
                .remark(&format!("  note: {kept} of free space were left as they were: earlier data is there"));
        }
        Ok(Exit::Done)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}  {}; ", self.version.reference, self.target, size(self.image_bytes))?;
        write!(f, "kept {}, copied {}, ", size(self.kept_bytes), size(self.copied_bytes))?;
        write!(f, "wrote {}, zeroed {}", size(self.written_bytes), size(self.zeroed_bytes))?;
        if self.discarded_bytes > 0 {
            write!(f, ", discarded {}", size(self.discarded_bytes))?;
        }
        f.write_str("; ")?;
        write!(f, "fetched {} in {},", size(self.fetched_bytes), counted(self.fetched_chunks, "chunk"))?;
        write!(f, " {}", elapsed(Duration::from_secs_f64(self.seconds)))
    }
}
