//! What ends a command early, for people and for programs.

use std::{error::Error, io};

use imprint_client::Location;
use imprint_proto::Kind;
use serde::Serialize;
use thiserror::Error;

use super::{
    Exit,
    signals::{LeftBehind, Signal},
    text::printable,
};

/// Why a command did not come to its end.
#[derive(Debug, Error)]
pub(crate) enum CliError {
    #[error(transparent)]
    Library(#[from] imprint_client::Error),
    #[error("there is no repository at {0}, the default place")]
    NoDefaultRepository(Location),
    #[error("no repository was named, and there is no home directory for a default one")]
    NoHome,
    #[error("{message}")]
    Refused { message: String, hint: String },
    #[error("{}: {}", .signal.word(), .left.state)]
    Stopped { signal: Signal, left: LeftBehind },
    #[error("cannot write to standard output")]
    Output(#[from] io::Error),
}

impl CliError {
    pub(crate) fn refused(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused { message: message.into(), hint: hint.into() }
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Library(error) => error.kind().into(),
            Self::NoDefaultRepository(_) => Exit::NotFound,
            Self::NoHome | Self::Refused { .. } => Exit::Invalid,
            Self::Stopped { signal, .. } => signal.exit(),
            Self::Output(_) => Exit::Failed,
        }
    }

    /// One word for each exit code.
    fn kind(&self) -> &'static str {
        match self.exit() {
            Exit::Done => "done",
            Exit::Failed => "internal",
            Exit::NotFound => "not_found",
            Exit::Conflict => "conflict",
            Exit::Invalid => "invalid",
            Exit::Exhausted => "exhausted",
            Exit::Unavailable => "unavailable",
            Exit::Damage => "corrupt",
            Exit::Interrupted | Exit::Terminated => "stopped",
        }
    }

    /// What programs match on.
    fn reason(&self) -> &str {
        match self {
            Self::Library(error) => error.reason(),
            Self::NoDefaultRepository(_) => "NO_REPOSITORY",
            Self::NoHome => "NO_HOME",
            Self::Refused { .. } => "REFUSED",
            Self::Stopped { signal, .. } => signal.name(),
            Self::Output(_) => "OUTPUT",
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::Library(error) => error.hint(),
            Self::NoDefaultRepository(_) => {
                "`imprint push SOURCE IMAGE` creates it; --repo DIR|URL or IMPRINT_REPO names another one".into()
            }
            Self::NoHome => "name one with --repo DIR|URL or IMPRINT_REPO".into(),
            Self::Refused { hint, .. } => hint.clone(),
            Self::Stopped { left, .. } => left.next.clone(),
            Self::Output(_) => String::new(),
        }
    }

    /// The failure and its causes, from the outside in.
    fn chain(&self) -> Vec<String> {
        let mut messages = vec![printable(&self.to_string())];
        let mut source = self.source();
        while let Some(cause) = source {
            messages.push(printable(&cause.to_string()));
            source = cause.source();
        }
        messages
    }

    /// Lines for people.
    pub(crate) fn lines(&self) -> String {
        let mut lines = format!("imprint: {}", self.chain().join("\n  because: "));
        let hint = self.hint();
        if !hint.is_empty() {
            lines.push_str("\n  hint: ");
            lines.push_str(&printable(&hint));
        }
        lines
    }

    /// The same for programs.
    pub(crate) fn document(&self) -> ErrorDocument<'_> {
        ErrorDocument { kind: self.kind(), reason: self.reason(), message: self.chain().join(": "), hint: self.hint() }
    }

    /// Whether a repository directory does not exist.
    pub(crate) fn is_no_repository(&self) -> bool {
        matches!(self, Self::Library(error) if error.kind() == Kind::NotFound && self.reason() == "NO_REPOSITORY")
    }
}

/// A failure as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorDocument<'a> {
    kind: &'static str,
    reason: &'a str,
    message: String,
    hint: String,
}

#[cfg(test)]
mod tests {
    use imprint_proto::Failure;

    use super::*;

    fn not_found() -> CliError {
        let failure = Failure {
            kind: Kind::NotFound,
            reason: "NO_REPOSITORY".into(),
            message: "/srv/x is not a repository".into(),
            hint: "push to it to create it".into(),
        };
        imprint_client::Error::from(failure).into()
    }

    #[test]
    fn failures_come_with_causes_and_a_hint() {
        let source = io::Error::other("disk on fire");
        let error = CliError::from(imprint_client::Error::Io { what: "read", path: "/var/x".into(), source });
        assert_eq!(error.lines(), "imprint: cannot read /var/x\n  because: disk on fire");
        assert_eq!(error.document().message, "cannot read /var/x: disk on fire");
        assert_eq!(not_found().lines(), "imprint: /srv/x is not a repository\n  hint: push to it to create it");
    }

    #[test]
    fn the_kind_decides_the_exit_code() {
        assert_eq!((not_found().exit(), not_found().kind()), (Exit::NotFound, "not_found"));
        assert!(not_found().is_no_repository());
        let refused = CliError::refused("no", "yes");
        assert_eq!((refused.exit(), refused.kind()), (Exit::Invalid, "invalid"));
        let stopped = CliError::Stopped { signal: Signal::Terminate, left: LeftBehind::unchanged() };
        assert_eq!((stopped.exit(), stopped.document().reason), (Exit::Terminated, "SIGTERM"));
    }

    #[test]
    fn a_repository_cannot_write_control_characters_to_the_terminal() {
        assert_eq!(CliError::refused("a\u{1b}[2Jb", "").lines(), "imprint: a\u{fffd}[2Jb");
    }
}
