//! Exit codes: what a script learns from the process alone.

use std::process::ExitCode;

use imprint_proto::Kind;

/// How the process ends. 2 is missing here: clap ends the process itself when the arguments are wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    NotFound = 3,
    Conflict = 4,
    Invalid = 5,
    Exhausted = 6,
    Unavailable = 7,
    Damage = 8,
    Interrupted = 130,
    Terminated = 143,
}

/// The table of exit codes in the long help; docs/cli.md has the same.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done
  1    failed: a defect, or the system refused something
  2    wrong usage: an unknown option, or an argument that is not what it should be
  3    not found: repository, image, version or tag
  4    conflict: somebody else was first, or a tag still names the version
  5    refused: the source, the target or the version is not fit for this
  6    exhausted: no space left, or more than the repository allows
  7    unavailable: the repository cannot be reached or is in use
  8    damage: stored data is wrong, or verify found a difference
  130  stopped by SIGINT (Ctrl-C)
  143  stopped by SIGTERM";

impl From<Kind> for Exit {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::NotFound => Self::NotFound,
            Kind::Conflict => Self::Conflict,
            Kind::Invalid => Self::Invalid,
            Kind::Exhausted => Self::Exhausted,
            Kind::Unavailable => Self::Unavailable,
            Kind::Corrupt => Self::Damage,
            Kind::Internal => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_do_not_change() {
        let kinds = [
            (Kind::Internal, 1),
            (Kind::NotFound, 3),
            (Kind::Conflict, 4),
            (Kind::Invalid, 5),
            (Kind::Exhausted, 6),
            (Kind::Unavailable, 7),
            (Kind::Corrupt, 8),
        ];
        for (kind, code) in kinds {
            assert_eq!(Exit::from(kind) as u8, code, "{kind:?}");
        }
        assert_eq!((Exit::Done as u8, Exit::Interrupted as u8, Exit::Terminated as u8), (0, 130, 143));
    }

    #[test]
    fn the_document_has_the_codes_of_the_help() {
        let document = include_str!("../../../docs/cli.md");
        for line in HELP.lines().skip(1) {
            let (code, meaning) = line.trim().split_once(' ').unwrap();
            assert!(document.contains(&format!("| {code} | {} |", meaning.trim())), "{line}");
        }
    }
}
