//! `imprint update`.

use std::{path::PathBuf, time::Instant};

use clap::Args;
use imprint_client::{UpdateOptions, update};
use imprint_content::Ref;

use crate::cli::{Exit, context::Context, failure::CliError};

use super::restore::{Report, TargetArguments};

/// Bring a target that was restored before to another version.
///
/// Without a REF, to the newest version of what the target follows: the ref it was restored or last updated by. Only
/// what differs is fetched and written. What the target holds is remembered; if something else wrote to it, it is
/// read once first. An update that was interrupted is completed by running it again.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imprint update /dev/sdc
  imprint update disk.raw lab/workstation@9")]
pub(crate) struct Update {
    /// The file or block device.
    target: PathBuf,
    /// The version, which the target follows from now on.
    #[arg(value_name = "REF")]
    reference: Option<Ref>,
    /// Go to a version with a lower number than the target holds, too.
    #[arg(long)]
    allow_older: bool,
    /// A file or device that may hold the same data, to take it from there; may be given several times.
    #[arg(long = "seed", value_name = "DISK")]
    seeds: Vec<PathBuf>,
    #[command(flatten)]
    target_options: TargetArguments,
}

impl Update {
    pub(super) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let repo = context.open().await?;
        let options = UpdateOptions {
            allow_older: self.allow_older,
            seeds: self.seeds.clone(),
            free_space: self.target_options.free_space(),
            growing: self.target_options.growing(),
            memory: context.memory(),
        };
        let start = Instant::now();
        let updating = update(&repo, &self.target, self.reference.as_ref(), options, context.progress.clone());
        let (version, outcome) = context.watch("updating", updating).await?;
        Report::new(&version, &self.target, &outcome, start.elapsed()).write(context)
    }
}
