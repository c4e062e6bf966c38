//! What is remembered of scrubs. None of it is a decision: to lose it costs another look, never data.

/// How far scrubbing is. Times are the server's clock, milliseconds since 1970.
///
/// A *round* looks at every pack once. One that was stopped stays open, and the next scrub goes on with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScrubState {
    /// When the open round began: packs that were verified since then need not be looked at again. `None`: no round is
    /// open.
    pub open_since_unix_ms: Option<i64>,
    /// When the last round ended, with every pack looked at and every tree walked.
    pub finished_unix_ms: Option<i64>,
}
