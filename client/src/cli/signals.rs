//! SIGINT and SIGTERM: the first one ends the command in good order, the second one ends the process.

use std::process;

use tokio::signal::unix::{self, SignalKind};

use super::Exit;

/// A signal that asks to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Interrupt,
    Terminate,
}

impl Signal {
    pub(crate) const fn exit(self) -> Exit {
        match self {
            Self::Interrupt => Exit::Interrupted,
            Self::Terminate => Exit::Terminated,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Interrupt => "interrupted",
            Self::Terminate => "terminated",
        }
    }
}

/// What a stopped command leaves, and how to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeftBehind {
    pub(crate) state: String,
    pub(crate) next: String,
}

impl LeftBehind {
    pub(crate) fn new(state: impl Into<String>, next: impl Into<String>) -> Self {
        Self { state: state.into(), next: next.into() }
    }

    /// For a command that only reads.
    pub(crate) fn unchanged() -> Self {
        Self::new("nothing was changed", "")
    }
}

struct Listener {
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Listener {
    fn new() -> Option<Self> {
        let interrupt = unix::signal(SignalKind::interrupt()).ok()?;
        let terminate = unix::signal(SignalKind::terminate()).ok()?;
        Some(Self { interrupt, terminate })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
        }
    }
}

/// Waits for the first signal. From then on the next one ends the process at once, whatever hangs.
pub(crate) async fn first() -> Signal {
    let Some(mut listener) = Listener::new() else { return std::future::pending().await };
    let first = listener.next().await;
    tokio::spawn(async move { process::exit(i32::from(listener.next().await.exit() as u8)) });
    first
}
