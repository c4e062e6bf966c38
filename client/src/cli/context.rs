//! What every command works with: the repository that was named, the output, the progress of its operation.

use std::{env, io::IsTerminal, sync::Arc, time::Duration};

use etcetera::base_strategy::{BaseStrategy, Xdg};
use imprint_client::{Access, Location, Progress, Repository, target::Memory};

use super::{
    GlobalArguments,
    failure::CliError,
    output::{Audience, Output, Verbosity},
    progress::{self, View},
};

/// Remembers what targets hold for users without a home directory.
const SYSTEM_MEMORY: &str = "/var/lib/imprint/targets";

pub(crate) struct Context {
    repo: Option<Location>,
    retry_for: Duration,
    pub(crate) output: Output,
    pub(crate) progress: Arc<Progress>,
}

impl Context {
    pub(crate) fn new(global: GlobalArguments) -> Self {
        let output = Output {
            audience: if global.json { Audience::Programs } else { Audience::People },
            verbosity: if global.quiet { Verbosity::Quiet } else { Verbosity::Normal },
        };
        Self { repo: global.repo, retry_for: Duration::from_secs(global.retry_for), output, progress: Arc::default() }
    }

    /// Opens the repository, which must exist.
    pub(crate) async fn open(&self) -> Result<Repository, CliError> {
        let location = self.location()?;
        let opened = Repository::open(&location, Access::Existing).await.map_err(CliError::from);
        opened.map(|repository| repository.with_retry_for(self.retry_for)).map_err(|error| match self.repo {
            None if error.is_no_repository() => CliError::NoDefaultRepository(location),
            _ => error,
        })
    }

    /// Opens the repository; a directory becomes one if there is nothing yet.
    pub(crate) async fn open_or_create(&self) -> Result<Repository, CliError> {
        Ok(Repository::open(&self.location()?, Access::OrCreate).await?.with_retry_for(self.retry_for))
    }

    fn location(&self) -> Result<Location, CliError> {
        match &self.repo {
            Some(location) => Ok(location.clone()),
            None => default_location().ok_or(CliError::NoHome),
        }
    }

    /// What is remembered of targets.
    pub(crate) fn memory(&self) -> Memory {
        Memory::new(Memory::default_dir().unwrap_or_else(|| SYSTEM_MEMORY.into()))
    }

    /// Shows the progress of `operation` until it ends. `verb` says what it does: `pushing`.
    pub(crate) async fn watch<T>(&self, verb: &'static str, operation: impl Future<Output = T>) -> T {
        progress::watch(&self.progress, self.view(), verb, operation).await
    }

    fn view(&self) -> View {
        match (self.output.verbosity, self.output.audience) {
            (Verbosity::Quiet, _) => View::Nothing,
            (Verbosity::Normal, Audience::Programs) => View::events(self.output),
            (Verbosity::Normal, Audience::People) if can_draw() => View::bar(),
            (Verbosity::Normal, Audience::People) => View::lines(),
        }
    }
}

fn default_location() -> Option<Location> {
    Some(Location::Directory(Xdg::new().ok()?.data_dir().join("imprint")))
}

fn can_draw() -> bool {
    std::io::stderr().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb")
}
