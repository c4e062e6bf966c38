//! `imprint rollback`.

use std::{path::PathBuf, time::Instant};

use clap::Args;
use imprint_client::{UpdateOptions, rollback};
use imprint_content::Ref;

use crate::cli::{Exit, context::Context, failure::CliError};

use super::restore::{Report, TargetArguments};

/// Bring a target back to the version it held before, or to another one.
///
/// Only what differs is fetched and written. The target goes on following what it followed: the next update goes
/// forward again.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imprint rollback /dev/sdc
  imprint rollback disk.raw lab/workstation@3")]
pub(crate) struct Rollback {
    /// The file or block device.
    target: PathBuf,
    /// The version; without it, the one that the target held before.
    #[arg(value_name = "REF")]
    reference: Option<Ref>,
    /// A file or device that may hold the same data, to take it from there; may be given several times.
    #[arg(long = "seed", value_name = "DISK")]
    seeds: Vec<PathBuf>,
    #[command(flatten)]
    target_options: TargetArguments,
}

impl Rollback {
    pub(super) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let repo = context.open().await?;
        let options = UpdateOptions {
            allow_older: true,
            seeds: self.seeds.clone(),
            free_space: self.target_options.free_space(),
            growing: self.target_options.growing(),
            memory: context.memory(),
        };
        let start = Instant::now();
        let rolling = rollback(&repo, &self.target, self.reference.as_ref(), options, context.progress.clone());
        let (version, outcome) = context.watch("rolling back", rolling).await?;
        Report::new(&version, &self.target, &outcome, start.elapsed()).write(context)
    }
}
