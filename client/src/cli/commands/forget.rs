//! `imprint forget`.

use clap::Args;
use imprint_client::{ForgetMode, KeepRules, VersionFate};
use imprint_content::{ImageName, TagName};
use serde::Serialize;

use crate::cli::{
    Exit,
    context::Context,
    failure::CliError,
    signals::LeftBehind,
    size::counted,
    table::{Align, Table},
    text::printable,
    time,
};

/// Remove the versions of an image that no rule keeps.
///
/// Each rule keeps the newest version of so many hours, days, weeks, months or years that have one. Hours to years are
/// those of UTC, weeks start on Monday; the time is the repository's clock when the version was pushed. A rule that
/// finds fewer periods than it would keep also keeps the oldest version. Versions that are tagged or pinned are always
/// kept. What is removed can be brought back with `imprint undelete` until its grace is over.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imprint forget lab/workstation --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --dry-run
  imprint forget lab/workstation --keep-last 10 --keep-yearly unlimited")]
pub(crate) struct Forget {
    /// The image.
    image: ImageName,
    #[command(flatten)]
    keep: Keep,
    /// Only say what would be removed.
    #[arg(long, short = 'n')]
    dry_run: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Keep {
    /// Keep the N newest versions; a number or `unlimited`, as with the others.
    #[arg(long, value_name = "N", value_parser = count)]
    keep_last: Option<u32>,
    /// Keep the newest version of each of the last N hours that have one.
    #[arg(long, value_name = "N", value_parser = count)]
    keep_hourly: Option<u32>,
    /// Keep the newest version of each of the last N days that have one.
    #[arg(long, value_name = "N", value_parser = count)]
    keep_daily: Option<u32>,
    /// Keep the newest version of each of the last N weeks that have one.
    #[arg(long, value_name = "N", value_parser = count)]
    keep_weekly: Option<u32>,
    /// Keep the newest version of each of the last N months that have one.
    #[arg(long, value_name = "N", value_parser = count)]
    keep_monthly: Option<u32>,
    /// Keep the newest version of each of the last N years that have one.
    #[arg(long, value_name = "N", value_parser = count)]
    keep_yearly: Option<u32>,
    /// Keep what this tag names. All tagged versions are kept anyway: alone, it keeps nothing else. Can be repeated.
    #[arg(long, value_name = "TAG")]
    keep_tag: Vec<TagName>,
}

/// At least 1: a rule that keeps nothing is not given.
fn count(text: &str) -> Result<u32, String> {
    match text {
        "unlimited" => Ok(u32::MAX),
        _ => match text.parse() {
            Ok(0) | Err(_) => Err("a number from 1 on, or `unlimited`, is expected".into()),
            Ok(count) => Ok(count),
        },
    }
}

impl Forget {
    pub(super) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let mode = if self.dry_run { ForgetMode::DryRun } else { ForgetMode::Remove };
        let fates = context.open().await?.forget_versions(&self.image, &self.keep.rules(), mode).await?;
        let items: Vec<Item> = fates.iter().map(|fate| self.item(fate)).collect();
        context.output.listing("version", &items, |items| table(items, self.dry_run))?;
        let removed = items.iter().filter(|item| item.removed).count() as u64;
        let kept = items.len() as u64 - removed;
        let did = if self.dry_run { "would be removed" } else { "removed" };
        context.output.remark(&format!("{} {did}, {kept} kept", counted(removed, "version")));
        Ok(Exit::Done)
    }

    pub(super) fn left_behind(&self) -> LeftBehind {
        match self.dry_run {
            true => LeftBehind::unchanged(),
            false => LeftBehind::new("some versions may be removed", "run the same command again to remove the rest"),
        }
    }

    fn item(&self, fate: &VersionFate) -> Item {
        let number = fate.number;
        Item {
            image: self.image.to_string(),
            number,
            committed: time::rfc3339(fate.committed_unix_ms),
            removed: fate.kept_because.is_empty(),
            dry_run: self.dry_run,
            kept_because: fate.kept_because.clone(),
            committed_unix_ms: fate.committed_unix_ms,
        }
    }
}

impl Keep {
    fn rules(&self) -> KeepRules {
        KeepRules {
            last: self.keep_last.unwrap_or(0),
            hourly: self.keep_hourly.unwrap_or(0),
            daily: self.keep_daily.unwrap_or(0),
            weekly: self.keep_weekly.unwrap_or(0),
            monthly: self.keep_monthly.unwrap_or(0),
            yearly: self.keep_yearly.unwrap_or(0),
            tags: self.keep_tag.clone(),
        }
    }
}

/// One version and what became of it.
#[derive(Debug, Serialize)]
struct Item {
    image: String,
    number: u64,
    committed: Option<String>,
    removed: bool,
    dry_run: bool,
    kept_because: Vec<String>,
    #[serde(skip)]
    committed_unix_ms: i64,
}

fn table(items: &[Item], dry_run: bool) -> Table {
    let mut table =
        Table::new([("VERSION", Align::Right), ("WHEN", Align::Left), ("", Align::Left), ("BECAUSE", Align::Left)]);
    for item in items {
        let fate = match (item.removed, dry_run) {
            (false, _) => "keep",
            (true, true) => "would remove",
            (true, false) => "removed",
        };
        table.row([
            format!("@{}", item.number),
            time::local(item.committed_unix_ms),
            fate.into(),
            printable(&item.kept_because.join(", ")),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_keeps_at_least_one_version() {
        assert_eq!(count("3"), Ok(3));
        assert_eq!(count("unlimited"), Ok(u32::MAX));
        for text in ["0", "-1", "", "all", "4294967296"] {
            assert!(count(text).is_err(), "{text}");
        }
    }
}
