//! `imprint verify`.

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
    str::FromStr,
    time::{Duration, Instant},
};

use clap::Args;
use imprint_client::{Repository, TargetReport, Version, VersionReport, target::Held, verify_target, verify_version};
use imprint_content::{NameError, Ref, Selector};
use serde::Serialize;

use crate::cli::{
    Exit,
    context::Context,
    failure::CliError,
    size::{count, counted, size},
    time::elapsed,
    version_document::VersionDocument,
};

/// Ranges shown to people; programs get all there are.
const SHOWN_RANGES: usize = 10;

/// Check every byte of a version in the repository, or of a target.
///
/// A version is fetched and hashed without being written anywhere. A target is read and compared with the version
/// that --against names, or else with the one that was last restored onto it. When anything differs, the exit code is
/// 8.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imprint verify lab/workstation@1
  imprint verify /dev/sdc
  imprint verify ./debian.raw --against lab/workstation:stable")]
pub(crate) struct Verify {
    /// A version, or a target: what starts with `/` or `.` is a path.
    #[arg(value_name = "REF|TARGET")]
    subject: Subject,
    /// The version that the target should hold.
    #[arg(long, value_name = "REF")]
    against: Option<Ref>,
}

/// What is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject {
    Version(Ref),
    Target(PathBuf),
}

impl FromStr for Subject {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match Ref::is_path(text) {
            true => Ok(Self::Target(text.into())),
            false => text.parse().map(Self::Version),
        }
    }
}

impl Verify {
    pub(super) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        match (&self.subject, &self.against) {
            (Subject::Version(_), Some(_)) => Err(CliError::refused(
                "--against is for targets",
                "write a target as a path that starts with / or ./; `imprint diff` compares two versions",
            )),
            (Subject::Version(reference), None) => of_version(context, reference).await,
            (Subject::Target(target), against) => of_target(context, target, against.as_ref()).await,
        }
    }
}

async fn of_version(context: &Context, reference: &Ref) -> Result<Exit, CliError> {
    let repo = context.open().await?;
    let version = repo.version(reference).await?;
    let start = Instant::now();
    let verifying = verify_version(&repo, &version, context.progress.clone());
    let report = context.watch("verifying", verifying).await?;
    context.output.result(&VersionResult::new(&version, &report, start.elapsed()))?;
    Ok(Exit::Done)
}

async fn of_target(context: &Context, target: &Path, against: Option<&Ref>) -> Result<Exit, CliError> {
    // What is remembered is looked up first: without it there is nothing to open a repository for.
    let held = match against {
        Some(_) => context.memory().load(target).map_err(imprint_client::Error::from)?,
        None => Some(remembered(context, target)?),
    };
    let repo = context.open().await?;
    let version = match (against, &held) {
        (Some(reference), _) => repo.version(reference).await?,
        (None, Some(held)) => held_version(&repo, target, held).await?,
        (None, None) => return Err(unknown(target)),
    };
    let start = Instant::now();
    let verifying = verify_target(&repo, &version, target, held.as_ref(), context.progress.clone());
    let report = context.watch("verifying", verifying).await?;
    context.output.result(&TargetResult::new(&version, target, &report, start.elapsed()))?;
    if report.different_bytes == 0 {
        return Ok(Exit::Done);
    }
    let repair = format!("imprint restore {} {}", version.reference(), target.display());
    context.output.remark(&format!("  hint: `{repair}` writes only what differs"));
    if held.is_some_and(|held| held.filesystem_grown && held.version == version.id.to_string()) {
        context.output.remark("  note: its last filesystem was grown after the restore, which changed it");
    }
    Ok(Exit::Damage)
}

fn unknown(target: &Path) -> CliError {
    CliError::refused(
        format!("it is not known which version {} should hold", target.display()),
        "name it: --against REF",
    )
}

fn remembered(context: &Context, target: &Path) -> Result<Held, CliError> {
    let held = context.memory().load(target).map_err(imprint_client::Error::from)?.ok_or_else(|| unknown(target))?;
    match held.complete {
        true => Ok(held),
        false => Err(CliError::refused(
            format!("a restore of {}@{} onto {} did not come to its end", held.image, held.number, target.display()),
            format!(
                "run `imprint restore {} {}` again, or name a version: --against REF",
                held.following,
                target.display()
            ),
        )),
    }
}

/// The version that is remembered, if this is the repository it came from.
async fn held_version(repo: &Repository, target: &Path, held: &Held) -> Result<Version, CliError> {
    let image = held.image.parse().map_err(imprint_client::Error::from)?;
    if held.repository != repo.id() {
        return Err(CliError::refused(
            format!("{} holds {image}@{} of another repository", target.display(), held.number),
            "name that repository with --repo, or a version of this one with --against REF",
        ));
    }
    let version = repo.version(&Ref { image, selector: Selector::Number(held.number) }).await?;
    match version.id.to_string() == held.version {
        true => Ok(version),
        false => Err(unknown(target)),
    }
}

/// A version without a fault.
#[derive(Debug, Serialize)]
struct VersionResult {
    version: VersionDocument,
    image_bytes: u64,
    data_bytes: u64,
    chunks: u64,
    seconds: f64,
}

impl VersionResult {
    fn new(version: &Version, report: &VersionReport, took: Duration) -> Self {
        Self {
            version: version.into(),
            image_bytes: report.image_bytes,
            data_bytes: report.data_bytes,
            chunks: report.chunks,
            seconds: took.as_secs_f64(),
        }
    }
}

impl fmt::Display for VersionResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is whole: {}, {} data", self.version.reference, size(self.image_bytes), size(self.data_bytes))?;
        write!(f, " in {}, ", counted(self.chunks, "chunk"))?;
        write!(f, "read in {}", elapsed(Duration::from_secs_f64(self.seconds)))
    }
}

/// How a target compares with its version.
#[derive(Debug, Serialize)]
struct TargetResult {
    version: VersionDocument,
    target: String,
    equal: bool,
    image_bytes: u64,
    different_bytes: u64,
    /// The first of them; see `imprint_client::TargetReport`.
    different: Vec<Range<u64>>,
    seconds: f64,
}

impl TargetResult {
    fn new(version: &Version, target: &Path, report: &TargetReport, took: Duration) -> Self {
        Self {
            version: version.into(),
            target: target.to_string_lossy().into_owned(),
            equal: report.different_bytes == 0,
            image_bytes: report.image_bytes,
            different_bytes: report.different_bytes,
            different: report.different.clone(),
            seconds: took.as_secs_f64(),
        }
    }
}

impl fmt::Display for TargetResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (target, reference) = (&self.target, &self.version.reference);
        if self.equal {
            write!(f, "{target} holds {reference}: {}, ", size(self.image_bytes))?;
            return write!(f, "read in {}", elapsed(Duration::from_secs_f64(self.seconds)));
        }
        write!(f, "{target} differs from {reference} in {} of {}", size(self.different_bytes), size(self.image_bytes))?;
        for range in self.different.iter().take(SHOWN_RANGES) {
            let length = size(range.end.saturating_sub(range.start));
            write!(f, "\n  {length} from byte {}", count(range.start))?;
        }
        match self.different.len() > SHOWN_RANGES {
            true => write!(f, "\n  and more"),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_refs_are_told_apart_by_their_first_character() {
        assert_eq!("/dev/sdc".parse(), Ok(Subject::Target("/dev/sdc".into())));
        assert_eq!("./disk.raw".parse(), Ok(Subject::Target("./disk.raw".into())));
        assert_eq!("lab/pc@1".parse(), Ok(Subject::Version("lab/pc@1".parse().unwrap())));
        assert!("lab//pc".parse::<Subject>().is_err());
    }
}
