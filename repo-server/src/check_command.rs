//! `imprint-server check`: what was found, for people and for programs.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use imprint_server::{
    Error,
    pack::{PackDamage, PackPart},
    store::{
        check::{CheckFinding, CheckOptions, CheckReport, check},
        scrub::{DamagedPack, DamagedVersion, PackState, ScrubControl},
    },
};
use serde_json::{Value, json};

/// Who reads standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    People,
    /// Reads JSON lines.
    Programs,
}

/// Checks a repository; exits with 1 when it is damaged.
pub(crate) async fn run(dir: &Path, options: CheckOptions, audience: Audience) -> Result<ExitCode, Error> {
    let control = ScrubControl::new();
    let tell = move |finding: CheckFinding| match audience {
        Audience::People => say(&text(&finding)),
        Audience::Programs => say(&document(&finding).to_string()),
    };
    let report = {
        let mut checking = std::pin::pin!(check(dir, &options, &control, &tell));
        tokio::select! {
            biased;
            report = &mut checking => report?,
            // What was derived is removed first.
            _ = tokio::signal::ctrl_c() => {
                control.stop();
                checking.await?
            }
        }
    };
    match audience {
        Audience::People => say(&summary(&report)),
        Audience::Programs => say(&result(&report).to_string()),
    }
    Ok(if report.has_damage() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A reader that has seen enough is no failure.
fn say(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

fn text(finding: &CheckFinding) -> String {
    match finding {
        CheckFinding::File(file) => {
            let at = file.offset.map(|offset| format!(" from byte {offset} on")).unwrap_or_default();
            format!("{} is damaged{at}: {}", file.path.display(), file.why)
        }
        CheckFinding::Pack(path, found) => {
            let mut text = match found.state {
                PackState::Missing => format!("{} is missing", path.display()),
                PackState::TooNew => return format!("{} needs a newer Imprint; it was not checked", path.display()),
                PackState::Damaged => format!("{} is damaged", path.display()),
            };
            if found.is_known {
                text += "; what is damaged is not used";
            }
            for damage in &found.damage {
                let PackDamage { range, why, .. } = damage;
                let length = range.end.saturating_sub(range.start);
                text += &format!("\n  {length} bytes from byte {} on, {}: {why}", range.start, part(damage.part));
            }
            match found.damaged_parts.saturating_sub(found.damage.len() as u64) {
                0 => text,
                more => format!("{text}\n  and {more} more"),
            }
        }
        CheckFinding::Version(version) => {
            let DamagedVersion { version, is_removed, chunks, nodes, bytes, first_offset } = version;
            let removed = if *is_removed { " (removed)" } else { "" };
            format!(
                "{}@{}{removed} cannot be restored whole: {bytes} bytes of it, the first from byte {first_offset} on; {chunks} chunks \
                 and {nodes} nodes",
                version.image, version.number
            )
        }
        CheckFinding::Note(note) => format!("note: {note}"),
    }
}

fn part(part: PackPart) -> String {
    match part {
        PackPart::Header => "header".into(),
        PackPart::Record(id) => format!("record {id}"),
        PackPart::Records => "records".into(),
        PackPart::Footer => "footer".into(),
        PackPart::File => "file".into(),
    }
}

fn summary(report: &CheckReport) -> String {
    let CheckReport { packs, bytes, records, journal_entries, versions, .. } = report;
    let mut text = format!(
        "{packs} packs, {bytes} bytes, {records} intact records; {journal_entries} decisions in the journal; {versions} versions"
    );
    if !report.has_damage() {
        return text + ": nothing is damaged";
    }
    text += &format!(
        "\ndamaged: {} packs ({} of them missing), {} other files, {} versions",
        report.damaged_packs, report.missing_packs, report.damaged_files, report.damaged_versions
    );
    for remedy in &report.remedies {
        text += &format!("\n  hint: {}", remedy.text());
    }
    text
}

fn document(finding: &CheckFinding) -> Value {
    match finding {
        CheckFinding::File(file) => {
            json!({ "event": "damaged_file", "path": file.path, "offset": file.offset, "why": file.why })
        }
        CheckFinding::Pack(path, found) => {
            let DamagedPack { pack, state, damage, damaged_parts, is_known, .. } = found;
            let state = match state {
                PackState::Missing => "missing",
                PackState::TooNew => "too_new",
                PackState::Damaged => "damaged",
            };
            json!({
                "event": "damaged_pack", "path": path, "pack": pack.to_string(), "state": state, "known": is_known,
                "damaged_parts": damaged_parts, "damage": damage.iter().map(damage_document).collect::<Vec<_>>(),
            })
        }
        CheckFinding::Version(found) => {
            let DamagedVersion { version, is_removed, chunks, nodes, bytes, first_offset } = found;
            json!({
                "event": "damaged_version", "image": version.image.to_string(), "number": version.number,
                "removed": is_removed, "chunks": chunks, "nodes": nodes, "bytes": bytes, "first_offset": first_offset,
            })
        }
        CheckFinding::Note(note) => json!({ "event": "note", "text": note }),
    }
}

fn damage_document(damage: &PackDamage) -> Value {
    let length = damage.range.end.saturating_sub(damage.range.start);
    json!({ "offset": damage.range.start, "length": length, "part": part(damage.part), "why": damage.why })
}

fn result(report: &CheckReport) -> Value {
    json!({
        "event": "result",
        "damaged": report.has_damage(),
        "journal_entries": report.journal_entries,
        "catalog_entries": report.catalog_entries,
        "packs": report.packs,
        "bytes": report.bytes,
        "records": report.records,
        "damaged_files": report.damaged_files,
        "damaged_packs": report.damaged_packs,
        "missing_packs": report.missing_packs,
        "known_packs": report.known_packs,
        "too_new_packs": report.too_new_packs,
        "versions": report.versions,
        "damaged_versions": report.damaged_versions,
        "remedies": report.remedies.iter().map(|remedy| remedy.text()).collect::<Vec<_>>(),
    })
}
