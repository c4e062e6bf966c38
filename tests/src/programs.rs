//! The real programs, each run in a home of its own.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{Read, Write},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before the test fails instead of hanging.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// The path of `imprint` or `imprint-server`: built before the tests, as new as their sources.
///
/// `IMPRINT_BIN_DIR` names a directory with others, which are tested as they are.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    if let Some(directory) = env::var_os("IMPRINT_BIN_DIR") {
        return Path::new(&directory).join(name);
    }
    let path = env::current_exe().unwrap().ancestors().nth(2).unwrap().join(name);
    match fs::metadata(&path).and_then(|metadata| metadata.modified()) {
        Ok(built) => {
            let newer = sources(&path).into_iter().find(|source| {
                fs::metadata(source).and_then(|metadata| metadata.modified()).is_ok_and(|changed| changed > built)
            });
            if let Some(source) = newer {
                panic!("{} is older than {}: run `make test`, which builds it", path.display(), source.display());
            }
        }
        Err(error) => panic!("{}: {error}: run `make test`, which builds it", path.display()),
    }
    path
}

/// What a program was built from, as cargo noted it beside the program.
fn sources(program: &Path) -> Vec<PathBuf> {
    let notes = fs::read_to_string(program.with_extension("d")).unwrap_or_default();
    let files = notes.split_once(": ").map_or("", |(_, files)| files);
    let build = program.ancestors().nth(2).unwrap();
    files.split_whitespace().map(PathBuf::from).filter(|path| !path.starts_with(build)).collect()
}

/// A user's home: cache, state and default repository in a temporary directory.
#[derive(Debug)]
pub struct Home {
    directory: TempDir,
    repository: Option<String>,
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Home {
    /// With a repository directory that does not exist yet.
    #[must_use]
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), repository: None }
    }

    /// With the repository at `location`, a directory or a URL.
    #[must_use]
    pub fn with_repository(location: &str) -> Self {
        Self { repository: Some(location.to_owned()), ..Self::new() }
    }

    /// Uses the repository at `location` from now on.
    pub fn use_repository(&mut self, location: &str) {
        self.repository = Some(location.to_owned());
    }

    /// A path in the home.
    #[must_use]
    pub fn place(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The repository's directory, unless another location was given.
    #[must_use]
    pub fn repository(&self) -> PathBuf {
        self.place("repository")
    }

    /// `imprint` with these arguments.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(program("imprint"));
        let repository = self.repository.clone().map_or_else(|| self.repository().into_os_string(), Into::into);
        command
            // Who kills a server wants to see what the client says, not how long it hopes.
            .args(["--retry-for", "0"])
            .args(arguments)
            .env("IMPRINT_REPO", repository)
            .env("XDG_CACHE_HOME", self.place("cache"))
            .env("XDG_STATE_HOME", self.place("state"))
            .env("XDG_DATA_HOME", self.place("data"))
            .env("HOME", self.directory.path())
            .env("USER", "anna")
            .env("TZ", "UTC")
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs `imprint` to its end.
    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Ended {
        Running::start(&mut self.command(arguments)).finish()
    }

    /// Runs a command that must succeed.
    pub fn ok<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Ended {
        let ended = self.run(arguments);
        assert_eq!(ended.code(), 0, "{ended}");
        ended
    }

    /// Runs a command with `--json` that must succeed, and returns its result.
    pub fn result<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Value {
        let mut command = self.command(arguments);
        let ended = Running::start(command.arg("--json")).finish();
        assert_eq!(ended.code(), 0, "{ended}");
        ended.last_event("result")
    }
}

/// How a program ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Ended {
    /// Its exit code.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("it was killed: {self}"))
    }

    /// Whether SIGKILL ended it.
    #[must_use]
    pub fn was_killed(&self) -> bool {
        self.status.signal() == Some(9)
    }

    /// Its lines of JSON.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
        self.stdout.lines().map(parse).collect()
    }

    /// Its last line of JSON, which must be this event.
    #[must_use]
    pub fn last_event(&self, event: &str) -> Value {
        let last = self.events().pop().unwrap_or_else(|| panic!("no output: {self}"));
        assert_eq!(last["event"], event, "{self}");
        last
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n--- stdout\n{}\n--- stderr\n{}", self.status, self.stdout, self.stderr)
    }
}

/// A program that runs. It is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Output,
    stderr: Output,
}

impl Running {
    /// Starts it and collects its output.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Self { child, stdout: Output::collect(stdout), stderr: Output::collect(stderr) }
    }

    /// Its standard input, if that is a pipe; dropping it ends the input.
    pub fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }

    /// What it has written to standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    #[must_use]
    pub fn finish(mut self) -> Ended {
        wait_until("the program ends", || self.has_ended());
        let status = self.child.wait().unwrap();
        Ended { status, stdout: self.stdout.all(), stderr: self.stderr.all() }
    }

    /// Kills it as a power cut would.
    #[must_use]
    pub fn kill(mut self) -> Ended {
        let _ = self.child.kill();
        self.finish()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program writes, taken as it comes so that the program never waits for a reader.
#[derive(Debug)]
struct Output {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Output {
    fn collect(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                collected.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self { bytes, reader: Some(reader) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    /// Everything, once the program has ended.
    fn all(&mut self) -> String {
        self.reader.take().unwrap().join().unwrap();
        self.text()
    }
}

/// Looks until something is so; fails after the deadline. The pause only leaves the processor to those waited for.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < DEADLINE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Writes all of `bytes`, unless the reader goes away.
pub fn feed(pipe: &mut impl Write, bytes: &[u8]) -> bool {
    pipe.write_all(bytes).and_then(|()| pipe.flush()).is_ok()
}
