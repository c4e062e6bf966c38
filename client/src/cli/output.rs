//! Where results, remarks and errors go. Nothing else in this program writes to standard output.

use std::{
    fmt::Display,
    io::{self, Write},
};

use serde::Serialize;

use super::{failure::CliError, table::Table};

/// Who reads standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    People,
    /// Reads JSON lines.
    Programs,
}

/// How much is said besides results and errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verbosity {
    Quiet,
    Normal,
}

/// The ends of the program that face its user.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) audience: Audience,
    pub(crate) verbosity: Verbosity,
}

/// One JSON line.
#[derive(Serialize)]
struct Event<'a, T> {
    event: &'static str,
    #[serde(flatten)]
    body: &'a T,
}

impl Output {
    /// Writes what a command came to: the report's text for people, its fields for programs.
    pub(crate) fn result(&self, report: &(impl Display + Serialize)) -> Result<(), CliError> {
        match self.audience {
            Audience::People => Ok(write_line(report)?),
            Audience::Programs => Ok(self.event("result", report)?),
        }
    }

    /// Writes one of several things that a command finds before it ends.
    pub(crate) fn item(&self, event: &'static str, item: &(impl Display + Serialize)) -> Result<(), CliError> {
        match self.audience {
            Audience::People => Ok(write_line(item)?),
            Audience::Programs => Ok(self.event(event, item)?),
        }
    }

    /// Writes a list: a table for people, one line an item for programs.
    pub(crate) fn listing<T: Serialize>(
        &self,
        event: &'static str,
        items: &[T],
        table: impl FnOnce(&[T]) -> Table,
    ) -> Result<(), CliError> {
        match self.audience {
            Audience::People if items.is_empty() => Ok(()),
            Audience::People => Ok(write_line(&table(items))?),
            Audience::Programs => items.iter().try_for_each(|item| Ok(self.event(event, item)?)),
        }
    }

    /// Writes one JSON line.
    pub(crate) fn event(&self, event: &'static str, body: &impl Serialize) -> io::Result<()> {
        let line = serde_json::to_string(&Event { event, body }).map_err(io::Error::other)?;
        write_line(&line)
    }

    /// Says something that is no result: to people only, and only if they want to hear it.
    pub(crate) fn remark(&self, text: &str) {
        if (self.audience, self.verbosity) == (Audience::People, Verbosity::Normal) {
            write_error_line(text);
        }
    }

    /// Reports a failure. Nothing can be done when that fails too.
    pub(crate) fn error(&self, error: &CliError) {
        match self.audience {
            Audience::People => write_error_line(&error.lines()),
            Audience::Programs => drop(self.event("error", &error.document())),
        }
    }
}

/// A reader that has seen enough, such as `head`, is not a failure.
fn write_line(text: &impl Display) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Writes to standard error, or nowhere when that is closed.
pub(crate) fn write_error_line(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
