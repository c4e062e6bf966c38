//! How failures travel: a gRPC code for what the caller can do, and an `ErrorInfo` with a reason and a hint.

use std::collections::HashMap;

use thiserror::Error;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// `ErrorInfo.domain` of every failure that Imprint itself reports.
const DOMAIN: &str = "imprint.v1";
const HINT: &str = "hint";

/// What the caller can do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Name something that exists.
    NotFound,
    /// Look again and decide anew: somebody else was first.
    Conflict,
    /// Ask for something else; the same will fail again.
    Invalid,
    /// Make room, or ask for less.
    Exhausted,
    /// Try again later.
    Unavailable,
    /// Stored bytes are wrong; push them again or restore another version.
    Corrupt,
    /// Report it: this is a defect, or the machine fails.
    Internal,
}

/// The one table between kinds and gRPC codes.
const CODES: [(Kind, Code); 7] = [
    (Kind::NotFound, Code::NotFound),
    (Kind::Conflict, Code::Aborted),
    (Kind::Invalid, Code::InvalidArgument),
    (Kind::Exhausted, Code::ResourceExhausted),
    (Kind::Unavailable, Code::Unavailable),
    (Kind::Corrupt, Code::DataLoss),
    (Kind::Internal, Code::Internal),
];

impl Kind {
    /// The gRPC code of this kind.
    #[must_use]
    pub fn code(self) -> Code {
        CODES.iter().find(|(kind, _)| *kind == self).map_or(Code::Internal, |(_, code)| *code)
    }

    /// The kind of a gRPC code, also of those that Imprint's server does not send.
    #[must_use]
    pub fn from_code(code: Code) -> Self {
        match code {
            Code::Cancelled | Code::DeadlineExceeded => Self::Unavailable,
            Code::AlreadyExists | Code::FailedPrecondition => Self::Conflict,
            Code::OutOfRange | Code::Unimplemented | Code::PermissionDenied | Code::Unauthenticated => Self::Invalid,
            _ => CODES.iter().find(|(_, other)| *other == code).map_or(Self::Internal, |(kind, _)| *kind),
        }
    }
}

/// A failure as it crosses the wire.
#[derive(Debug, Clone, Error)]
#[error("{message}")]
pub struct Failure {
    /// What the caller can do.
    pub kind: Kind,
    /// Upper-case words joined by `_`, for programs; empty when the other side is not Imprint.
    pub reason: String,
    /// What happened, for people.
    pub message: String,
    /// What to do about it, for people; may be empty.
    pub hint: String,
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let metadata = match failure.hint.is_empty() {
            true => HashMap::new(),
            false => HashMap::from([(HINT.to_owned(), failure.hint)]),
        };
        let details = ErrorDetails::with_error_info(failure.reason, DOMAIN, metadata);
        Self::with_error_details(failure.kind.code(), failure.message, details)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let info = status.get_details_error_info().filter(|info| info.domain == DOMAIN);
        let (reason, hint) = match info {
            Some(mut info) => (info.reason, info.metadata.remove(HINT).unwrap_or_default()),
            None => Default::default(),
        };
        Self { kind: Kind::from_code(status.code()), reason, message: status.message().to_owned(), hint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_the_wire() {
        for (kind, code) in CODES {
            let sent =
                Failure { kind, reason: "TEST_REASON".into(), message: "it failed".into(), hint: "do better".into() };
            let status = Status::from(sent.clone());
            assert_eq!(status.code(), code);
            let received = Failure::from(status);
            assert_eq!(
                (received.kind, received.reason, received.message, received.hint),
                (kind, sent.reason, sent.message, sent.hint)
            );
        }
    }

    #[test]
    fn a_foreign_status_has_no_reason() {
        let received = Failure::from(Status::unavailable("connection refused"));
        assert_eq!((received.kind, received.reason.as_str()), (Kind::Unavailable, ""));
    }
}
