//! `imprint restore`.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use imprint_client::{
    FilesystemGrowth, FreeSpace, Growing, GrownPartition, Phase, RestoreOptions, RestoreOutcome, TableFit, Version,
    restore,
};
use imprint_content::Ref;
use serde::Serialize;

use crate::cli::{
    Exit,
    context::Context,
    failure::CliError,
    signals::LeftBehind,
    size::{counted, size},
    text::printable,
    time::elapsed,
    version_document::VersionDocument,
};

/// Write a version onto a file or a block device.
///
/// What the target holds already is kept, what differs is overwritten, and only chunks that the target lacks are
/// fetched. Every byte is hashed as it is written or kept: the target is exactly the version, or the command fails.
/// On a target of another length than the image the partition table is made to fit. A mounted device, and one that is
/// too small for what is in use, are refused before anything is written.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imprint restore lab/workstation:stable /dev/sdc
  imprint restore lab/workstation@1 debian.raw
  imprint restore lab/workstation /dev/sdc --grow
  imprint restore lab/workstation vm.raw --size 40G --grow")]
pub(crate) struct Restore {
    /// The version.
    #[arg(value_name = "REF")]
    reference: Ref,
    /// A file, which is created if need be, or a block device. Its content is replaced.
    target: PathBuf,
    /// A file or device that may hold the same data, to take it from there; may be given several times.
    #[arg(long = "seed", value_name = "DISK")]
    seeds: Vec<PathBuf>,
    /// The length that a file gets instead of the image's, in bytes, or with K, M, G or T in powers of 1024.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    size: Option<u64>,
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
    /// Let the last partition take what the target has more than the image, and its filesystem too, if that is ext2,
    /// ext3 or ext4, with e2fsck and resize2fs.
    #[arg(long)]
    grow: bool,
}

impl TargetArguments {
    pub(super) const fn growing(&self) -> Growing {
        if self.grow { Growing::Requested } else { Growing::No }
    }

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
            size: self.size,
            growing: self.target_options.growing(),
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
    /// Where that is not the image's.
    target_bytes: Option<u64>,
    table: &'static str,
    table_left_because: Option<String>,
    grown: Option<GrownReport>,
}

/// A partition that was grown.
#[derive(Debug, Serialize)]
struct GrownReport {
    partition: u32,
    name: Option<String>,
    bytes_before: u64,
    bytes: u64,
    filesystem: &'static str,
    /// What to say about the filesystem.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl From<&GrownPartition> for GrownReport {
    fn from(grown: &GrownPartition) -> Self {
        let (filesystem, message) = match &grown.filesystem {
            FilesystemGrowth::Grown => ("grown", None),
            FilesystemGrowth::Left => ("left", Some("give --grow again for that".to_owned())),
            FilesystemGrowth::Unknown => ("unknown", Some("grow its filesystem when it is mounted".to_owned())),
            FilesystemGrowth::ToolMissing(commands) => {
                ("tool_missing", Some(format!("e2fsprogs are not installed; run `{commands}`")))
            }
            FilesystemGrowth::Failed { why, commands } => ("failed", Some(format!("{why}; run `{commands}`"))),
        };
        Self {
            partition: grown.number,
            name: grown.name.clone(),
            bytes_before: grown.bytes_before,
            bytes: grown.bytes,
            filesystem,
            message,
        }
    }
}

impl fmt::Display for GrownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = (size(self.bytes_before), size(self.bytes));
        write!(f, "partition {} was grown from {before} to {after}, ", self.partition)?;
        match (self.filesystem, &self.message) {
            (_, None) => f.write_str("its filesystem with it"),
            ("failed", Some(message)) => write!(f, "its filesystem was not: {message}"),
            (_, Some(message)) => write!(f, "its filesystem not yet: {message}"),
        }
    }
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
            target_bytes: outcome.target_bytes,
            table: match &outcome.table {
                TableFit::Unchanged => "unchanged",
                TableFit::Refitted => "refitted",
                TableFit::Left(_) => "left",
            },
            table_left_because: match &outcome.table {
                TableFit::Left(why) => Some(why.clone()),
                TableFit::Unchanged | TableFit::Refitted => None,
            },
            grown: outcome.grown.as_ref().map(GrownReport::from),
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
        if let Some(bytes) = self.target_bytes.filter(|_| self.table == "refitted") {
            context.output.remark(&format!("  the partition table was made to fit {}", size(bytes)));
        }
        if let Some(why) = &self.table_left_because {
            let why = printable(why);
            context.output.remark(&format!("  note: the partition table is for a disk of another length: {why}"));
        }
        let Some(grown) = &self.grown else { return Ok(Exit::Done) };
        context.output.remark(&format!("  {}", printable(&grown.to_string())));
        Ok(if grown.filesystem == "failed" { Exit::Failed } else { Exit::Done })
    }
}

/// A number of bytes as people write it: `40G`, `512 MiB`, `1048576`.
fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let shift = match text[digits.len()..].trim().to_ascii_uppercase().trim_end_matches("IB") {
        "" | "B" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err("a size is a number with K, M, G or T, in powers of 1024".into()),
    };
    let number: u64 = digits.parse().map_err(|_| "a size begins with a whole number".to_owned())?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or_else(|| "a size is from 1 to 2^64 - 1".to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_powers_of_1024() {
        for (text, bytes) in
            [("1048576", 1 << 20), ("40G", 40 << 30), ("512 MiB", 512 << 20), ("3k", 3 << 10), ("7B", 7)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "1.5G", "0", "10X", "-1", "99999999999T", "1GB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
