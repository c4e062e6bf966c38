//! A network that breaks: connections to a server that end in the middle.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Where a connection breaks: after so many bytes to the server, or from it.
#[derive(Debug, Clone, Copy)]
pub struct Break {
    /// Bytes that reach the server.
    pub up: usize,
    /// Bytes that reach the client.
    pub down: usize,
}

impl Break {
    /// After so many bytes to the server.
    #[must_use]
    pub const fn up(bytes: usize) -> Self {
        Self { up: bytes, down: usize::MAX }
    }

    /// After so many bytes from the server.
    #[must_use]
    pub const fn down(bytes: usize) -> Self {
        Self { up: usize::MAX, down: bytes }
    }
}

/// Stands between clients and a server. It ends with the runtime.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: Mutex<SocketAddr>,
    /// One for each connection to come; later connections hold.
    breaks: Mutex<Vec<Break>>,
    broken: AtomicUsize,
}

impl Proxy {
    /// Passes connections on to the server at `url`. The first ones break as said.
    pub async fn to(url: &str, mut breaks: Vec<Break>) -> Self {
        breaks.reverse();
        let shared = Arc::new(Shared {
            server: Mutex::new(address_of(url)),
            breaks: Mutex::new(breaks),
            broken: AtomicUsize::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&serving).pass(client));
            }
        });
        Self { address, shared }
    }

    /// `http://127.0.0.1:45321`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The server is elsewhere from now on.
    pub fn move_to(&self, url: &str) {
        *self.shared.server.lock().unwrap() = address_of(url);
    }

    /// Connections that broke as they were told to.
    #[must_use]
    pub fn broken(&self) -> usize {
        self.shared.broken.load(Relaxed)
    }
}

impl Shared {
    async fn pass(self: Arc<Self>, client: TcpStream) {
        let server = *self.server.lock().unwrap();
        let limit = self.breaks.lock().unwrap().pop().unwrap_or(Break { up: usize::MAX, down: usize::MAX });
        let Ok(server) = TcpStream::connect(server).await else { return };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let is_broken = tokio::select! {
            is_broken = copy(from_client, to_server, limit.up) => is_broken,
            is_broken = copy(from_server, to_client, limit.down) => is_broken,
        };
        self.broken.fetch_add(usize::from(is_broken), Relaxed);
    }
}

/// Copies until the limit, or until either end is gone. Whether it was the limit.
async fn copy(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, limit: usize) -> bool {
    let mut buffer = vec![0; 16 << 10];
    let mut copied = 0;
    while copied < limit {
        let part = buffer.len().min(limit - copied);
        match from.read(&mut buffer[..part]).await {
            Ok(read) if read > 0 && to.write_all(&buffer[..read]).await.is_ok() => copied += read,
            _ => return false,
        }
    }
    true
}

fn address_of(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").parse().unwrap()
}
