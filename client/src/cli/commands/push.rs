//! `imprint push`.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use imprint_client::{Phase, PushOptions, PushOutcome, push, source::Source};
use imprint_content::{
    CaptureMode, ImageName, TagName,
    record::{MAX_LABEL_BYTES, MAX_LABELS, MAX_MESSAGE_BYTES},
};
use imprint_proto::limits::MAX_COMMIT_TAGS;
use serde::Serialize;

use crate::cli::{
    Exit,
    context::Context,
    failure::CliError,
    signals::LeftBehind,
    size::{counted, size},
    time::elapsed,
    version_document::VersionDocument,
    who::who,
};

/// Store a disk as the next version of an image.
///
/// Only chunks that the repository has not seen are sent. The source is only read. A device that is mounted for
/// writing, and a source that changes while it is read, are errors, never a version. A directory that is empty, or
/// does not exist, becomes a repository.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imprint push debian.raw lab/workstation --tag stable -m \"before the security update\"
  imprint --repo http://host:7070 push /dev/sdb lab/workstation --label ring=1
  zstdcat vm.raw.zst | imprint push - lab/vm")]
pub(crate) struct Push {
    /// A raw image file, a block device, or `-` for standard input.
    source: PathBuf,
    /// The image; its first push creates it.
    image: ImageName,
    /// Tag the new version, moving the tag if it exists; may be given several times.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<TagName>,
    /// What to remember about this version.
    #[arg(long, short, default_value = "", hide_default_value = true, value_parser = parse_message)]
    message: String,
    /// Capture the space that filesystems do not use, or leave it out: then it is zero when it is restored.
    #[arg(long, value_name = "WHAT", default_value = "keep")]
    free_space: FreeSpace,
    /// A name and value of your own; may be given several times.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = parse_label)]
    labels: Vec<(String, String)>,
}

/// What becomes of space that is not in use.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum FreeSpace {
    /// Capture it, bit for bit.
    Keep,
    /// Leave it out, and the contents of swap.
    Omit,
}

impl From<FreeSpace> for CaptureMode {
    fn from(free_space: FreeSpace) -> Self {
        match free_space {
            FreeSpace::Keep => Self::Keep,
            FreeSpace::Omit => Self::Omit,
        }
    }
}

impl Push {
    pub(super) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let options = self.options()?;
        let source = open_source(&self.source)?;
        let repo = context.open_or_create().await?;
        let start = Instant::now();
        let pushing = push(&repo, source, &self.image, options, context.progress.clone());
        let outcome = context.watch("pushing", pushing).await?;
        context.output.result(&Report::new(&outcome, start))?;
        Ok(Exit::Done)
    }

    /// A commit that was on its way may have arrived.
    pub(super) fn left_behind(&self, phase: Phase) -> LeftBehind {
        match phase {
            Phase::Finishing | Phase::Waiting => LeftBehind::new(
                "the version may or may not have been committed",
                format!("`imprint versions {}` shows it if it was; if not, push again", self.image),
            ),
            _ => LeftBehind::new("nothing was committed", "push again and only the rest is sent"),
        }
    }

    fn options(&self) -> Result<PushOptions, CliError> {
        if self.tags.len() > MAX_COMMIT_TAGS {
            let message = format!("a push sets at most {MAX_COMMIT_TAGS} tags");
            return Err(CliError::refused(message, "set the others with `imprint tag`"));
        }
        Ok(PushOptions {
            message: self.message.clone(),
            labels: collect_labels(&self.labels)?,
            tags: self.tags.clone(),
            who: who(),
            capture_mode: self.free_space.into(),
        })
    }
}

fn open_source(path: &Path) -> Result<Source, CliError> {
    if path != Path::new("-") {
        return Ok(Source::open(path).map_err(imprint_client::Error::from)?);
    }
    if io::stdin().is_terminal() {
        return Err(CliError::refused("standard input is a terminal", "pipe an image into `imprint push - IMAGE`"));
    }
    Ok(Source::stdin())
}

fn parse_message(text: &str) -> Result<String, String> {
    match text.len() <= MAX_MESSAGE_BYTES {
        true => Ok(text.to_owned()),
        false => Err(format!("a message has at most {MAX_MESSAGE_BYTES} bytes")),
    }
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a label is written NAME=VALUE")?;
    if name.is_empty() {
        return Err("a label needs a name in front of '='".into());
    }
    if name.len().max(value.len()) > MAX_LABEL_BYTES {
        return Err(format!("names and values of labels have at most {MAX_LABEL_BYTES} bytes"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn collect_labels(labels: &[(String, String)]) -> Result<BTreeMap<String, String>, CliError> {
    if labels.len() > MAX_LABELS {
        return Err(CliError::refused(format!("a version has at most {MAX_LABELS} labels"), ""));
    }
    let mut collected = BTreeMap::new();
    for (name, value) in labels {
        if collected.insert(name.clone(), value.clone()).is_some() {
            return Err(CliError::refused(format!("the label {name:?} is given twice"), "give it one value"));
        }
    }
    Ok(collected)
}

/// What a push came to.
#[derive(Debug, Serialize)]
struct Report {
    version: VersionDocument,
    /// Number of the version it was compared with.
    compared_with: Option<u64>,
    image_bytes: u64,
    data_bytes: u64,
    chunks: u64,
    new_chunks: u64,
    new_bytes: u64,
    sent_bytes: u64,
    new_nodes: u64,
    node_bytes: u64,
    /// Data that is in no use by its filesystem and was captured nevertheless.
    unused_bytes: u64,
    seconds: f64,
}

/// From this part of the data on, in percent, it is worth saying that free space could be left out.
const WORTH_SAYING: u64 = 5;

impl Report {
    fn new(outcome: &PushOutcome, start: Instant) -> Self {
        Self {
            version: (&outcome.version).into(),
            compared_with: outcome.base,
            image_bytes: outcome.image_bytes,
            data_bytes: outcome.data_bytes,
            chunks: outcome.chunks,
            new_chunks: outcome.new_chunks,
            new_bytes: outcome.new_bytes,
            sent_bytes: outcome.sent_bytes,
            new_nodes: outcome.new_nodes,
            node_bytes: outcome.node_bytes,
            unused_bytes: outcome.unused_bytes,
            seconds: start.elapsed().as_secs_f64(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}, {} data; ", self.version.reference, size(self.image_bytes), size(self.data_bytes))?;
        match (self.new_chunks, self.new_nodes) {
            (0, 0) => write!(f, "nothing new")?,
            // The data is there, in another order, or what was lost of a tree was sent again.
            (0, nodes) => write!(f, "no new data, {} of its tree", counted(nodes, "node"))?,
            (chunks, _) => {
                let (new, sent) = (size(self.new_bytes), size(self.sent_bytes));
                write!(f, "{new} new in {}, sent {sent}", counted(chunks, "chunk"))?;
            }
        }
        write!(f, " in {}", elapsed(Duration::from_secs_f64(self.seconds)))?;
        if let Some(number) = self.compared_with {
            write!(f, " (compared with @{number})")?;
        }
        if self.unused_bytes.saturating_mul(100) > self.data_bytes.saturating_mul(WORTH_SAYING) {
            let unused = size(self.unused_bytes);
            write!(f, "\n{unused} of the data is in free space: --free-space omit would leave it out")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_names_and_values() {
        assert_eq!(parse_label("os=debian"), Ok(("os".into(), "debian".into())));
        assert_eq!(parse_label("url=a=b"), Ok(("url".into(), "a=b".into())));
        assert_eq!(parse_label("empty="), Ok(("empty".into(), String::new())));
        for text in ["os", "=debian", &format!("a={}", "x".repeat(MAX_LABEL_BYTES + 1))] {
            assert!(parse_label(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_label_has_one_value() {
        let label = |value: &str| ("os".to_owned(), value.to_owned());
        assert_eq!(collect_labels(&[label("a")]).unwrap().len(), 1);
        assert!(collect_labels(&[label("a"), label("b")]).is_err());
    }

    #[test]
    fn a_stopped_commit_is_not_called_undone() {
        let push = Push {
            source: "-".into(),
            image: "lab/pc".parse().unwrap(),
            tags: vec![],
            message: String::new(),
            free_space: FreeSpace::Keep,
            labels: vec![],
        };
        assert_eq!(push.left_behind(Phase::Transferring).state, "nothing was committed");
        assert!(push.left_behind(Phase::Finishing).next.contains("imprint versions lab/pc"));
    }
}
