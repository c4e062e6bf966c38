//! `imprint-server`: serves a repository directory over gRPC, and mends its catalog offline.

mod check_command;

use std::{io::IsTerminal as _, net::SocketAddr, num::NonZero, path::PathBuf, process::ExitCode, time::Duration};

use check_command::Audience;
use clap::{Args, Parser, Subcommand};
use imprint_proto::{parse_period, v1::repository_server::RepositoryServer};
use imprint_server::{
    Error,
    catalog::InDoubt,
    service::{Limits, Service},
    store::{Directory, OpenMode, StoreOptions, check::CheckOptions},
};
use tokio::{net::TcpListener, signal::unix::SignalKind, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tracing::info;

/// A repository for disk images, as a service.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve a repository; it is created if the directory is empty or does not exist.
    Serve {
        /// The repository's directory.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Address and port to listen on. There is no authentication yet: keep it inside a trusted network.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7070")]
        listen: SocketAddr,
        /// Memory for the catalog's cache, in MiB.
        #[arg(long, value_name = "MIB", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..1 << 20))]
        catalog_cache: u64,
        /// Room that is kept for a full disk, in MiB, so that removals still work; 0 for none.
        #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(..1 << 20))]
        reserve: u64,
        /// How long removed versions can be brought back, such as 12h, 7d or 4w; the repository remembers it. Seven days
        /// in a new one.
        #[arg(long, value_name = "TIME", value_parser = parse_period)]
        grace: Option<Duration>,
        /// Time between two collections, which give back the space of what no version needs, such as 12h or 7d; "off" for
        /// none but those that `imprint gc` asks for.
        #[arg(long, value_name = "TIME", default_value = "off", value_parser = interval)]
        gc_every: Interval,
        /// Every byte is read again after this time, to find damage before it matters, such as 30d; "off" for never but when
        /// `imprint scrub` asks for it.
        #[arg(long, value_name = "TIME", default_value = "30d", value_parser = interval)]
        scrub_every: Interval,
        /// A scheduled scrub reads at most so many MiB a second.
        #[arg(long, value_name = "MIB", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..1 << 20))]
        scrub_rate: u64,
        #[command(flatten)]
        limits: LimitOptions,
    },
    /// Look at a repository as a whole, and change nothing: superblock, journal, catalog, every byte of every pack, and the tree
    /// of every version. The server must not run.
    ///
    /// Lists what is damaged, with the versions that suffer and what to do. Exits with 1 when anything is.
    Check {
        /// The repository's directory.
        #[arg(value_name = "DIR", required_unless_present = "data")]
        dir: Option<PathBuf>,
        /// The same, as other commands have it.
        #[arg(long, value_name = "DIR", conflicts_with = "dir")]
        data: Option<PathBuf>,
        /// Write JSON lines to standard output.
        #[arg(long)]
        json: bool,
        /// Where to derive the catalog, outside of the repository: some 80 bytes for each object [default: the system's
        /// directory for temporary files].
        #[arg(long, value_name = "DIR")]
        scratch: Option<PathBuf>,
    },
    /// Recreate the catalog from packs and journal. The server must not run; the old catalog is kept beside the new.
    ///
    /// Exits with 1, after finishing, when a pack is damaged or cannot be read, and without changing anything when decisions
    /// may be missing from the end of the journal.
    Rebuild {
        /// The repository's directory.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Go on without decisions that are, or may be, missing from the end of the journal. What is cut off is kept beside it.
        #[arg(long)]
        accept_lost_decisions: bool,
    },
}

/// How much is done at once, and for how long who is silent keeps a place.
#[derive(Args)]
struct LimitOptions {
    /// Pushes served at once; more wait for 30 seconds and are then told that the repository is busy. Each takes some 15 MiB,
    /// from a hostile client some 80.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=4096))]
    max_pushes: u16,
    /// Requests for chunks served at once, by restores and verifications. Each takes some 10 MiB.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    max_fetches: u16,
    /// A push whose client sends nothing for so long is ended, such as 30m or 2h. A client that reads a large unchanged disk
    /// has nothing to send; the push can be repeated.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = silence)]
    idle_push: Duration,
    /// An upload that was cut off, and not gone on with for so long, is given up by the next collection, such as 12h or 7d.
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = silence)]
    idle_upload: Duration,
}

impl From<LimitOptions> for Limits {
    fn from(options: LimitOptions) -> Self {
        let LimitOptions { max_pushes, max_fetches, idle_push, idle_upload } = options;
        Self { pushes: max_pushes.into(), fetches: max_fetches.into(), idle_push, idle_upload, ..Self::default() }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A check says itself what it found.
    let usual = if matches!(arguments.command, Command::Check { .. }) { "error" } else { "info" };
    let filter = tracing_subscriber::EnvFilter::try_from_env("IMPRINT_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(usual));
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let result = match arguments.command {
        Command::Serve { data, listen, catalog_cache, reserve, grace, gc_every, scrub_every, scrub_rate, limits } => {
            let options = StoreOptions {
                catalog_cache_bytes: (catalog_cache as usize) << 20,
                program: "imprint-server".into(),
                reserve_bytes: reserve << 20,
            };
            let schedule = Schedule { gc_every, scrub_every, scrub_rate: NonZero::new(scrub_rate << 20) };
            runtime.block_on(serve(data, listen, options, grace, schedule, limits.into()))
        }
        Command::Check { dir, data, json, scratch } => {
            let dir = dir.or(data).unwrap_or_default();
            let audience = if json { Audience::Programs } else { Audience::People };
            let mut options = CheckOptions::default();
            options.scratch = scratch.unwrap_or(options.scratch);
            match runtime.block_on(check_command::run(&dir, options, audience)) {
                Ok(code) => return code,
                Err(error) => Err(error.into()),
            }
        }
        Command::Rebuild { data, accept_lost_decisions } => {
            let in_doubt = if accept_lost_decisions { InDoubt::GoOn } else { InDoubt::Refuse };
            runtime.block_on(rebuild(data, in_doubt))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&*error),
    }
}

fn failed(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    eprintln!("imprint-server: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        eprintln!("  because: {cause}");
        source = cause.source();
    }
    if let Some(hint) = error.downcast_ref::<Error>().map(Error::hint).filter(|hint| !hint.is_empty()) {
        eprintln!("  hint: {hint}");
    }
    ExitCode::FAILURE
}

type AnyError = Box<dyn std::error::Error>;

/// Time between two runs of something; none when it does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Interval(Option<Duration>);

/// What the server does by itself.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    gc_every: Interval,
    scrub_every: Interval,
    /// In bytes a second.
    scrub_rate: Option<NonZero<u64>>,
}

impl Schedule {
    fn start(self, service: &Service) -> Vec<JoinHandle<()>> {
        let collections = self.gc_every.0.map(|interval| {
            let service = service.clone();
            tokio::spawn(async move { service.collect_every(interval).await })
        });
        let scrubs = self.scrub_every.0.map(|interval| {
            let service = service.clone();
            tokio::spawn(async move { service.scrub_every(interval, self.scrub_rate).await })
        });
        collections.into_iter().chain(scrubs).collect()
    }
}

/// `off`, or a whole number of minutes, hours, days or weeks, not 0.
fn interval(text: &str) -> Result<Interval, String> {
    match text {
        "off" => Ok(Interval(None)),
        _ => match parse_period(text)? {
            Duration::ZERO => Err("it would never end; for none, say \"off\"".into()),
            interval => Ok(Interval(Some(interval))),
        },
    }
}

/// A whole number of minutes, hours, days or weeks, not 0.
fn silence(text: &str) -> Result<Duration, String> {
    match parse_period(text)? {
        Duration::ZERO => Err("nobody could keep up with that".into()),
        silence => Ok(silence),
    }
}

async fn serve(
    data: PathBuf,
    listen: SocketAddr,
    options: StoreOptions,
    grace: Option<Duration>,
    schedule: Schedule,
    limits: Limits,
) -> Result<(), AnyError> {
    let Directory { store, lock } = Directory::open(&data, OpenMode::OrCreate, options).await?;
    if let Some(grace) = grace {
        store.set_grace(grace).await?;
    }
    let listener = TcpListener::bind(listen).await.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    let address = listener.local_addr()?;
    lock.announce(&format!("http://{address}"))?;
    info!(repository = %store.repository(), data = %data.display(), "listening on http://{address}");
    drop(lock); // the store keeps it
    let (health, health_service) = tonic_health::server::health_reporter();
    let gate = store.gate().clone();
    health.set_serving::<RepositoryServer<Service>>().await;
    tokio::spawn(async move {
        gate.until_stopped().await;
        // The server as a whole is still serving: reads work.
        health.set_not_serving::<RepositoryServer<Service>>().await;
    });
    let service = Service::new(store, limits);
    let scheduled = schedule.start(&service);
    let stop = stop_signal()?;
    tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(8 << 20)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(30)))
        .add_service(health_service)
        .add_service(service.server())
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
            let _ = stop.await;
            info!("stopping; what clients have sent so far is kept");
            service.stop();
        })
        .await?;
    service.ended().await;
    for task in scheduled {
        let _ = task.await;
    }
    info!("stopped");
    Ok(())
}

/// Finishes at the first SIGINT or SIGTERM; at the second one, or when sealing takes too long, the process ends: a
/// crash loses nothing that was acknowledged.
fn stop_signal() -> Result<JoinHandle<()>, AnyError> {
    let mut interrupt = tokio::signal::unix::signal(SignalKind::interrupt())?;
    let mut terminate = tokio::signal::unix::signal(SignalKind::terminate())?;
    Ok(tokio::spawn(async move {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {},
                _ = terminate.recv() => {},
                () = tokio::time::sleep(Duration::from_secs(20)) => {},
            }
            std::process::exit(1);
        });
    }))
}

async fn rebuild(data: PathBuf, in_doubt: InDoubt) -> Result<(), AnyError> {
    let started = std::time::Instant::now();
    let options = StoreOptions { program: "imprint-server rebuild".into(), ..Default::default() };
    let outcome = Directory::rebuild_in_doubt(&data, options, in_doubt).await?;
    let seconds = started.elapsed().as_secs_f64();
    println!("{} packs, {} records, {seconds:.1} s", outcome.packs, outcome.records);
    for pack in &outcome.damaged {
        println!("pack {pack} is damaged; its intact records are used");
    }
    for pack in &outcome.unreadable {
        println!("pack {pack} cannot be read; it was left as it is");
    }
    match (outcome.damaged.len(), outcome.unreadable.len()) {
        (0, 0) => Ok(()),
        (damaged, unreadable) => {
            Err(format!("the catalog was rebuilt, but {damaged} packs are damaged and {unreadable} cannot be read")
                .into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_options_the_limits_are_the_library_s() {
        let serve = |more: &[&str]| {
            let arguments = ["imprint-server", "serve", "--data", "x"].iter().chain(more);
            match Arguments::try_parse_from(arguments).map(|arguments| arguments.command) {
                Ok(Command::Serve { limits, .. }) => Some(Limits::from(limits)),
                _ => None,
            }
        };
        assert_eq!(serve(&[]), Some(Limits::default()));
        let set = ["--max-pushes", "3", "--max-fetches", "5", "--idle-push", "2h", "--idle-upload", "1w"];
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let expected =
            Limits { pushes: 3, fetches: 5, idle_push: hours(2), idle_upload: hours(7 * 24), ..Limits::default() };
        assert_eq!(serve(&set), Some(expected));
        for bad in [["--max-pushes", "0"], ["--idle-push", "0m"], ["--idle-upload", "7"], ["--max-fetches", "9999999"]]
        {
            assert_eq!(serve(&bad), None, "{bad:?}");
        }
    }
}
