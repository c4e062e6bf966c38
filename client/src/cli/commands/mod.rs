//! The commands, one file each. The doc comment of a command's arguments is its help.

mod diff;
mod forget;
mod gc;
mod images;
mod inspect;
mod pin;
mod push;
mod remove;
mod restore;
mod rollback;
mod scrub;
mod show;
mod stats;
mod tag;
mod undelete;
mod update;
mod verify;
mod versions;

use clap::Subcommand;
use imprint_client::Phase;

use super::{Exit, context::Context, failure::CliError, signals::LeftBehind};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Push(push::Push),
    Restore(restore::Restore),
    Update(update::Update),
    Rollback(rollback::Rollback),
    Verify(verify::Verify),
    Diff(diff::Diff),
    Images(images::Images),
    Inspect(inspect::Inspect),
    Versions(versions::Versions),
    Show(show::Show),
    Tag(tag::Tag),
    Remove(remove::Remove),
    Undelete(undelete::Undelete),
    Forget(forget::Forget),
    Pin(pin::Pin),
    Unpin(pin::Unpin),
    Stats(stats::Stats),
    Gc(gc::Gc),
    Scrub(scrub::Scrub),
}

impl Command {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        match self {
            Self::Push(push) => push.run(context).await,
            Self::Restore(restore) => restore.run(context).await,
            Self::Update(update) => update.run(context).await,
            Self::Rollback(rollback) => rollback.run(context).await,
            Self::Verify(verify) => verify.run(context).await,
            Self::Diff(diff) => diff.run(context).await,
            Self::Images(images) => images.run(context).await,
            Self::Inspect(inspect) => inspect.run(context).await,
            Self::Versions(versions) => versions.run(context).await,
            Self::Show(show) => show.run(context).await,
            Self::Tag(tag) => tag.run(context).await,
            Self::Remove(remove) => remove.run(context).await,
            Self::Undelete(undelete) => undelete.run(context).await,
            Self::Forget(forget) => forget.run(context).await,
            Self::Pin(pin) => pin.run(context).await,
            Self::Unpin(unpin) => unpin.run(context).await,
            Self::Stats(stats) => stats.run(context).await,
            Self::Gc(gc) => gc.run(context).await,
            Self::Scrub(scrub) => scrub.run(context).await,
        }
    }

    /// What there is when a signal stops the command in this phase.
    pub(crate) fn left_behind(&self, phase: Phase) -> LeftBehind {
        match self {
            Self::Push(push) => push.left_behind(phase),
            Self::Restore(_) | Self::Update(_) | Self::Rollback(_) => restore::Restore::left_behind(phase),
            Self::Forget(forget) => forget.left_behind(),
            Self::Tag(_) | Self::Remove(_) | Self::Undelete(_) | Self::Pin(_) | Self::Unpin(_) => {
                LeftBehind::new("it may or may not have been done", "run the same command again")
            }
            Self::Scrub(_) => LeftBehind::new(
                "what was found so far is known to the repository",
                "run the same command again: it goes on where this one stopped",
            ),
            Self::Gc(_) => LeftBehind::new("what was done so far is done, and safe", "run the same command again"),
            _ => LeftBehind::unchanged(),
        }
    }
}
