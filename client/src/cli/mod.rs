//! The command line: parses the arguments, runs one command on the library and says how it went.

mod commands;
mod context;
mod disk_table;
mod exit;
mod failure;
mod output;
mod progress;
mod signals;
mod size;
mod table;
mod text;
mod time;
mod version_document;
mod who;

use clap::{Args, Parser};
use imprint_client::{DEFAULT_RETRY_FOR, Location};

pub(crate) use exit::Exit;

use commands::Command;
use context::Context;
use failure::CliError;

/// A deduplicating repository for disk images.
///
/// The first push of a disk stores all of it. Every later version, and every other machine's image, stores only the
/// chunks that the repository has not seen. Restoring fetches only the chunks that the target lacks.
///
/// A version is named by a REF: `lab/pc` is the newest version of the image lab/pc, `lab/pc:stable` the one that a
/// tag names, `lab/pc@7` number 7, and `lab/pc@3fa9c0d1` the one whose id starts so.
#[derive(Debug, Parser)]
#[command(name = "imprint", version, max_term_width = 100, after_long_help = exit::HELP)]
pub(crate) struct Arguments {
    #[command(flatten)]
    global: GlobalArguments,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
struct GlobalArguments {
    /// The repository: a directory, or the URL of an imprint-server; without it, `imprint` in the user's data
    /// directory.
    #[arg(long, global = true, value_name = "DIR|URL", env = "IMPRINT_REPO", hide_env_values = true)]
    repo: Option<Location>,
    /// Write JSON lines to standard output: progress, items, result, error.
    #[arg(long, global = true)]
    json: bool,
    /// How long to go on trying while the repository cannot be reached in the middle of a push or restore.
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = DEFAULT_RETRY_FOR.as_secs())]
    retry_for: u64,
    /// Show no progress and no remarks.
    #[arg(long, short, global = true)]
    quiet: bool,
}

/// Runs the command until it ends or a signal stops it, and reports what went wrong.
pub(crate) async fn run(arguments: Arguments) -> Exit {
    let Arguments { global, command } = arguments;
    let context = Context::new(global);
    let ended = tokio::select! {
        biased;
        signal = signals::first() => {
            Err(CliError::Stopped { signal, left: command.left_behind(context.progress.phase()) })
        }
        ended = command.run(&context) => ended,
    };
    ended.unwrap_or_else(|error| {
        context.output.error(&error);
        error.exit()
    })
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, error::ErrorKind};

    use super::*;

    fn parse(line: &str) -> Result<Arguments, ErrorKind> {
        let words = std::iter::once("imprint").chain(line.split_whitespace());
        Arguments::try_parse_from(words).map_err(|error| error.kind())
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_parses() {
        for line in [
            "push disk.raw lab/pc --tag stable --tag v1 -m text --label os=debian --label ring=1",
            "push - lab/pc",
            "restore lab/pc:stable /dev/sdc",
            "restore lab/pc:stable /dev/sdc --seed /dev/sdd --seed old.raw",
            "restore lab/pc disk.raw --size 40G --grow --keep-free",
            "update /dev/sdc",
            "update /dev/sdc --grow --keep-free",
            "update disk.raw lab/pc@9 --allow-older",
            "rollback /dev/sdc",
            "rollback disk.raw lab/pc@3",
            "verify lab/pc@1",
            "verify /dev/sdc --against lab/pc@1",
            "diff lab/pc@1 lab/pc@2",
            "images --json",
            "inspect /dev/sda --json",
            "versions lab/pc --quiet",
            "show lab/pc@3fa9c0d1",
            "tag lab/pc@1 stable",
            "tag lab/pc stable --delete",
            "remove lab/pc@7",
            "undelete lab/pc@7",
            "forget lab/pc --keep-last 3 --keep-hourly 4 --keep-daily 5 --keep-weekly 6 --dry-run",
            "forget lab/pc --keep-monthly 7 --keep-yearly unlimited --keep-tag a --keep-tag b --json",
            "pin lab/pc:stable",
            "unpin lab/pc@3",
            "versions lab/pc --removed",
            "stats --repo http://host:7070",
            "gc --dry-run --json",
            "gc --rewrite-below 70",
            "scrub",
            "scrub --rate 50 --older-than 30d --json",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn what_is_no_name_is_a_usage_error() {
        for line in [
            "push disk.raw lab//pc",
            "push disk.raw lab/pc --tag 7",
            "push disk.raw lab/pc --tag latest",
            "push disk.raw lab/pc --label os",
            "restore /dev/sda disk.raw",
            "show lab/pc@beef",
            "restore lab/pc disk.raw --size big",
            "stats --repo ftp://host",
            "forget lab/pc --keep-last 0",
            "scrub --rate 0",
            "scrub --older-than month",
        ] {
            assert_eq!(parse(line).err(), Some(ErrorKind::ValueValidation), "{line}");
        }
    }

    #[test]
    fn nothing_is_forgotten_without_a_rule() {
        assert_eq!(parse("forget lab/pc --dry-run").err(), Some(ErrorKind::MissingRequiredArgument));
    }

    #[test]
    fn the_repository_is_given_before_or_behind_the_command() {
        for line in ["--repo /srv/images stats", "stats --repo /srv/images"] {
            let location = parse(line).unwrap().global.repo;
            assert_eq!(location, Some(Location::Directory("/srv/images".into())), "{line}");
        }
    }
}
