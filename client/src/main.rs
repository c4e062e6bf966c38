//! `imprint`: the command line on top of the library.

mod cli;

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;

/// How long threads may go on after the command has ended. One that waits for standard input never ends by itself.
const SHUTDOWN: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    #[cfg(target_env = "gnu")]
    keep_freed_memory();
    let arguments = cli::Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(io::stderr(), "imprint: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let exit = runtime.block_on(cli::run(arguments));
    runtime.shutdown_timeout(SHUTDOWN);
    exit.into()
}

/// Chunks are allocated by one thread and freed by another, megabytes of them. By default glibc gives the memory back
/// to the kernel each time and then gets it zeroed anew, which takes a tenth of the processor time of a push; and it
/// keeps eight heaps for each core, which takes a quarter more memory.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)] // nothing safe wraps it
fn keep_freed_memory() {
    const KEPT_BYTES: libc::c_int = 64 << 20;
    const MAPPED_ALONE_BYTES: libc::c_int = 16 << 20;
    const HEAPS: libc::c_int = 2;
    // SAFETY: it takes numbers only, and no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_ALONE_BYTES);
        libc::mallopt(libc::M_ARENA_MAX, HEAPS);
    }
}
