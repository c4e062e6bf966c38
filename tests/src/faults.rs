//! Programs whose calls fail, by strace.

use std::{path::Path, process::Command};

/// The same command, on a system whose calls fail as strace's `inject` says; `None`, with the reason printed, where strace
/// cannot do that. Only calls on `paths` are looked at, or all when there are none. strace counts the calls of each thread.
#[must_use]
pub fn with_faults(command: &Command, inject: &str, paths: &[&Path]) -> Option<Command> {
    if !can_trace() {
        return None;
    }
    let mut traced = Command::new("strace");
    // -D: the program is our child, and its end is the end of strace.
    traced.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &format!("inject={inject}")]);
    for path in paths {
        traced.arg("-P").arg(path);
    }
    traced.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => traced.env(name, value),
            None => traced.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        traced.current_dir(directory);
    }
    Some(traced)
}

fn can_trace() -> bool {
    let traced = Command::new("strace").args(["-D", "-f", "-qq", "-o", "/dev/null", "true"]).output();
    match traced {
        Ok(output) if output.status.success() => true,
        failed => {
            println!("skipped: strace is missing or may not trace: {failed:?}");
            false
        }
    }
}
