//! Servers: the real program, and the service on a socket of this process.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
};

use imprint_server::store::{Directory, OpenMode, StoreOptions};
use tokio::{net::TcpListener, sync::oneshot};
use tokio_stream::wrappers::TcpListenerStream;

use crate::{
    faults::with_faults,
    programs::{DEADLINE, program, wait_until},
};

/// `imprint-server check` finds nothing wrong with a repository that nobody has open.
pub fn assert_checks_clean(data: &Path) {
    let checked = Command::new(program("imprint-server")).arg("check").arg(data).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

/// A running `imprint-server`. It is killed when this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    url: String,
    data: PathBuf,
}

impl Server {
    /// Starts it on a free port and waits until it listens.
    #[must_use]
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// The same, with further options.
    #[must_use]
    pub fn start_with(data: &Path, options: &[&str]) -> Self {
        Self::run(Command::new(program("imprint-server")), data, options)
    }

    /// The same, on a system whose calls fail as strace's `inject` says; `None`, with the reason printed, where strace
    /// cannot do that. Only calls on `paths` are looked at, or all when there are none.
    #[must_use]
    pub fn start_on_faults(data: &Path, inject: &str, paths: &[&Path]) -> Option<Self> {
        let command = with_faults(&Command::new(program("imprint-server")), inject, paths)?;
        Some(Self::run(command, data, &[]))
    }

    fn run(mut command: Command, data: &Path, options: &[&str]) -> Self {
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).args(options).env("NO_COLOR", "1");
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (found, url) = mpsc::channel();
        std::thread::spawn(move || {
            // Read to the end: a server whose log nobody takes would stop.
            for line in log.lines().map_while(Result::ok) {
                if let Some(at) = line.find("http://") {
                    let _ = found.send(line[at..].split_whitespace().next().unwrap().to_owned());
                }
                println!("server: {line}");
            }
        });
        match url.recv_timeout(DEADLINE) {
            Ok(url) => Self { child, url, data: data.to_owned() },
            Err(_) => panic!("imprint-server did not start: {:?}", child.wait()),
        }
    }

    /// `http://127.0.0.1:45321`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The repository's directory.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop and waits for that.
    #[must_use]
    pub fn stop(mut self) -> ExitStatus {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        wait_until("the server stops", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The service on a socket of this process. It ends when this is dropped.
#[derive(Debug)]
pub struct Loopback {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl Loopback {
    /// Serves the repository in `directory`; creates it if need be.
    pub async fn serve(directory: &Path) -> Self {
        let Directory { store, lock } =
            Directory::open(directory, OpenMode::OrCreate, StoreOptions::default()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            let service = imprint_server::service::server(store);
            let serving = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
            tokio::select! { result = serving => result.unwrap(), _ = stopped => {} }
            drop(lock);
        });
        Self { address, _stop: stop }
    }

    /// `http://127.0.0.1:45321`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
