//! `imprint scrub`.

use std::{fmt, time::Duration};

use clap::Args;
use imprint_client::{
    DamagedPack, DamagedVersion, PackState, ScrubOptions, ScrubPhase, ScrubProgress, ScrubReport, ScrubStep,
};
use imprint_proto::parse_period;
use serde::Serialize;

use crate::cli::{
    Exit,
    context::Context,
    failure::CliError,
    progress::ServedProgress,
    size::{count, counted, size},
    text::printable,
    time::{local, rfc3339},
};

/// Read all that the repository holds, and find what is damaged before it is needed.
///
/// Every byte of every pack is read and hashed, then the tree of every version is walked. What is damaged is asked for
/// again by the next push that has it, and healed by that. Versions that need it are listed, and the command ends with
/// exit code 8. A scrub that was stopped is continued by the next one; after one that came to its end, the next begins
/// anew. Pushes, restores and collections may go on meanwhile.
#[derive(Debug, Args)]
pub(crate) struct Scrub {
    /// Read at most so many MiB a second [default: as fast as it goes].
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..1 << 20))]
    rate: Option<u64>,
    /// Only read packs that were not read for so long, such as 12h, 7d or 4w; 0d reads all of them again.
    #[arg(long, value_name = "TIME", value_parser = parse_period)]
    older_than: Option<Duration>,
}

impl Scrub {
    pub(super) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let repo = context.open().await?;
        let options = ScrubOptions { bytes_per_second: self.rate.unwrap_or(0) << 20, older_than: self.older_than };
        let mut told = ServedProgress::new(&context.output, "scrubbing");
        let mut written = Ok(());
        let report = imprint_client::scrub(&repo, options, |step| {
            let said = match step {
                ScrubStep::Progress(progress) => {
                    told.tell(phase_name(progress.phase()), progress.done, progress.total, &remark(progress));
                    Ok(())
                }
                ScrubStep::Pack(pack) => context.output.item("damaged_pack", &PackDocument::from(&pack)),
                ScrubStep::Version(version) => context.output.item("damaged_version", &VersionDocument::from(&version)),
            };
            if written.is_ok() {
                written = said;
            }
        })
        .await?;
        written?;
        let report = Report::from(&report);
        context.output.result(&report)?;
        Ok(if report.has_damage() { Exit::Damage } else { Exit::Done })
    }
}

const fn phase_name(phase: ScrubPhase) -> &'static str {
    match phase {
        ScrubPhase::Preparing => "preparing",
        ScrubPhase::Packs => "packs",
        ScrubPhase::Trees => "trees",
    }
}

fn remark(progress: ScrubProgress) -> String {
    let (done, total) = (progress.done, progress.total);
    match progress.phase() {
        ScrubPhase::Preparing => "preparing".into(),
        ScrubPhase::Packs => format!("reading packs: {} of {}", size(done), size(total)),
        ScrubPhase::Trees => format!("walking trees: {} of {}", count(done), counted(total, "version")),
    }
}

/// A damaged pack.
#[derive(Debug, Serialize)]
struct PackDocument {
    pack: String,
    state: &'static str,
    damage: Vec<DamageDocument>,
    damaged_parts: u64,
    new_objects: u64,
    copied_objects: u64,
    known: bool,
}

#[derive(Debug, Serialize)]
struct DamageDocument {
    offset: u64,
    length: u64,
    part: String,
    why: String,
}

impl From<&DamagedPack> for PackDocument {
    fn from(found: &DamagedPack) -> Self {
        let state = match found.state() {
            PackState::Missing => "missing",
            PackState::TooNew => "too_new",
            PackState::Damaged | PackState::Unspecified => "damaged",
        };
        let damage = found.damage.iter().map(|damage| DamageDocument {
            offset: damage.offset,
            length: damage.length,
            part: damage.part.clone(),
            why: damage.why.clone(),
        });
        Self {
            pack: found.pack.clone(),
            state,
            damage: damage.collect(),
            damaged_parts: found.damaged_parts,
            new_objects: found.new_objects,
            copied_objects: found.copied_objects,
            known: found.known,
        }
    }
}

impl fmt::Display for PackDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pack = printable(&self.pack);
        match self.state {
            "missing" => write!(f, "pack {pack} is missing")?,
            "too_new" => return write!(f, "pack {pack} needs a newer Imprint; it was not looked at"),
            _ => write!(f, "pack {pack} is damaged")?,
        }
        match (self.known, self.new_objects) {
            (true, _) => write!(f, "; this was known, and is not used")?,
            (false, 0) => {}
            (false, 1) => write!(f, "; 1 object is asked for again from now on")?,
            (false, objects) => write!(f, "; {} are asked for again from now on", counted(objects, "object"))?,
        }
        if self.copied_objects > 0 {
            write!(f, "; what is intact in it was copied: {}", counted(self.copied_objects, "object"))?;
        }
        for damage in self.damage.iter().take(SHOWN) {
            let DamageDocument { offset, length, part, why } = damage;
            let (part, why) = (printable(part), printable(why));
            write!(f, "\n  {} from byte {}, {part}: {why}", size(*length), count(*offset))?;
        }
        match self.damaged_parts.saturating_sub(self.damage.len().min(SHOWN) as u64) {
            0 => Ok(()),
            more => write!(f, "\n  and {} more", count(more)),
        }
    }
}

/// Damaged stretches of a pack that people see.
const SHOWN: usize = 8;

/// A version that needs what is damaged.
#[derive(Debug, Serialize)]
struct VersionDocument {
    image: String,
    number: u64,
    removed: bool,
    chunks: u64,
    nodes: u64,
    bytes: u64,
    first_offset: u64,
}

impl From<&DamagedVersion> for VersionDocument {
    fn from(found: &DamagedVersion) -> Self {
        let DamagedVersion { image, number, removed, chunks, nodes, bytes, first_offset } = found.clone();
        Self { image, number, removed, chunks, nodes, bytes, first_offset }
    }
}

impl fmt::Display for VersionDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let removed = if self.removed { ", which was removed," } else { "" };
        write!(f, "{}@{}{removed} cannot be restored whole: ", printable(&self.image), self.number)?;
        write!(f, "{} of it, the first from byte {}", size(self.bytes), count(self.first_offset))?;
        let nodes = if self.nodes > 0 { format!(", {}", counted(self.nodes, "node")) } else { String::new() };
        write!(f, " ({}{nodes})", counted(self.chunks, "chunk"))
    }
}

/// What a scrub came to.
#[derive(Debug, Serialize)]
struct Report {
    /// Every pack was verified since then.
    since: Option<String>,
    #[serde(skip)]
    since_unix_ms: i64,
    packs: u64,
    bytes: u64,
    records: u64,
    recent_packs: u64,
    damaged_packs: u64,
    missing_packs: u64,
    known_packs: u64,
    too_new_packs: u64,
    new_objects: u64,
    unhealed_objects: u64,
    readmitted_objects: u64,
    versions: u64,
    damaged_versions: u64,
}

impl From<&ScrubReport> for Report {
    fn from(report: &ScrubReport) -> Self {
        Self {
            since: rfc3339(report.since_unix_ms),
            since_unix_ms: report.since_unix_ms,
            packs: report.packs,
            bytes: report.bytes,
            records: report.records,
            recent_packs: report.recent_packs,
            damaged_packs: report.damaged_packs,
            missing_packs: report.missing_packs,
            known_packs: report.known_packs,
            too_new_packs: report.too_new_packs,
            new_objects: report.new_objects,
            unhealed_objects: report.unhealed_objects,
            readmitted_objects: report.readmitted_objects,
            versions: report.versions,
            damaged_versions: report.damaged_versions,
        }
    }
}

impl Report {
    const fn has_damage(&self) -> bool {
        self.damaged_packs > 0 || self.new_objects > 0 || self.damaged_versions > 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "read {} in {}", size(self.bytes), counted(self.packs, "pack"))?;
        if self.recent_packs > 0 {
            write!(f, ", {} read since {}", count(self.recent_packs), local(self.since_unix_ms))?;
        }
        write!(f, "; {}, ", counted(self.versions, "version"))?;
        if !self.has_damage() {
            write!(f, "all whole")?;
        } else {
            write!(f, "{} damaged; ", count(self.damaged_versions))?;
            write!(f, "{} damaged", counted(self.damaged_packs, "pack"))?;
            if self.missing_packs > 0 {
                write!(f, ", {} of them missing", count(self.missing_packs))?;
            }
        }
        if self.known_packs > 0 {
            write!(f, "\n{} with damage that was known", counted(self.known_packs, "pack"))?;
        }
        if self.readmitted_objects > 0 {
            let objects = counted(self.readmitted_objects, "object");
            write!(f, "\n{objects} that had been damaged or missing can be read again, and are used")?;
        }
        if self.too_new_packs > 0 {
            write!(f, "\n{} of a newer format not looked at", counted(self.too_new_packs, "pack"))?;
        }
        if self.damaged_versions > 0 {
            write!(f, "\n  hint: push an image that holds the same data, which heals it, or restore another version")?;
        } else if self.has_damage() {
            write!(f, "\n  hint: look at the disk and at the log of the kernel, and leave the files as they are")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_to_do() {
        let report = ScrubReport { packs: 9, bytes: 500 << 20, versions: 2, ..Default::default() };
        let text = Report::from(&report).to_string();
        assert_eq!(text, "read 500 MiB in 9 packs; 2 versions, all whole");
        let damaged = ScrubReport { damaged_packs: 1, missing_packs: 1, damaged_versions: 1, ..report };
        let text = Report::from(&damaged).to_string();
        assert!(
            text.starts_with("read 500 MiB in 9 packs; 2 versions, 1 damaged; 1 pack damaged, 1 of them missing\n")
        );
        assert!(text.contains("push an image"), "{text}");
        let back = ScrubReport { readmitted_objects: 2, ..report };
        let text = Report::from(&back).to_string();
        assert!(
            text.ends_with("all whole\n2 objects that had been damaged or missing can be read again, and are used")
        );
        let known = ScrubReport { known_packs: 1, unhealed_objects: 3, ..report };
        assert!(!Report::from(&known).has_damage());
    }

    #[test]
    fn findings_name_places() {
        let damage = imprint_client::DamagedPack {
            pack: "aa".into(),
            damage: vec![Default::default(); 9],
            damaged_parts: 20,
            new_objects: 1,
            ..Default::default()
        };
        let text = PackDocument::from(&damage).to_string();
        assert!(text.starts_with("pack aa is damaged; 1 object is asked for again"), "{text}");
        assert!(text.ends_with("and 12 more"), "{text}");
        let version = DamagedVersion { image: "a".into(), number: 3, bytes: 2048, chunks: 2, ..Default::default() };
        let expected = "a@3 cannot be restored whole: 2.00 KiB of it, the first from byte 0 (2 chunks)";
        assert_eq!(VersionDocument::from(&version).to_string(), expected);
    }
}
