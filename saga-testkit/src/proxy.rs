//! A network between a client and a server that fails when a test says so.

mod carry;
mod network;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use carry::Client;
use network::Network;

/// One end of a connection through a [`Proxy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Who connected.
    Client,
    /// Who was connected to.
    Server,
}

/// A TCP network between a client and a server that fails when a test says so.
///
/// It stands before the server at an address of its own, and passes everything until told
/// otherwise. What it does to the connections that are open it does to all of them. Dropping it cuts them.
///
/// | fault | connections that are open | new ones |
/// |---|---|---|
/// | [`blackhole`](Self::blackhole) | stay open and carry nothing, for ever | the same, until [`pass`](Self::pass) |
/// | [`cut`](Self::cut), [`cut_after`](Self::cut_after) | are reset | work |
/// | [`delay`](Self::delay) | are slow | are slow |
/// | [`refuse`](Self::refuse) | work | are reset, until [`pass`](Self::pass) |
///
/// # Examples
///
/// ```
/// use saga_testkit::{Proxy, Side};
/// use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
/// use tokio::net::{TcpListener, TcpStream};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let server = TcpListener::bind("127.0.0.1:0").await?;
/// let proxy = Proxy::start(server.local_addr()?.to_string()).await;
/// let mut client = TcpStream::connect(proxy.address()).await?;
/// let (mut accepted, _) = server.accept().await?;
///
/// proxy.cut_after(Side::Client, 4);
/// client.write_all(b"commit").await?;
/// let mut got = Vec::new();
/// accepted.read_to_end(&mut got).await?;
/// assert_eq!(got, b"comm");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Proxy {
    address: SocketAddr,
    network: Arc<Network>,
}

impl Proxy {
    /// Starts a proxy before the server at this address, `host:port`.
    ///
    /// It runs on the runtime of the caller. The server need not be there yet: a connection that it does not take is reset.
    ///
    /// # Panics
    ///
    /// If no port of this machine can be had.
    pub async fn start(server: impl Into<String>) -> Self {
        Self::observed(server, || |_: &[u8]| {}).await
    }

    /// As [`start`](Self::start); each connection shows what its client sends to an observer of its own.
    ///
    /// # Panics
    ///
    /// If no port of this machine can be had.
    pub async fn observed<O>(
        server: impl Into<String>,
        observer: impl Fn() -> O + Send + 'static,
    ) -> Self
    where
        O: FnMut(&[u8]) + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port can be had");
        let address = listener.local_addr().expect("a bound port has an address");
        let network = Arc::new(Network::default());
        tokio::spawn(accept(listener, server.into(), Arc::clone(&network), observer));
        Self { address, network }
    }

    /// Returns where clients connect to.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets new connections work, and everything at once. What a black hole has swallowed stays lost.
    pub fn pass(&self) {
        self.network.change(|state| {
            (state.is_blackhole, state.is_refusing) = (false, false);
            state.delay = Duration::ZERO;
        });
        self.network.forget_budget();
    }

    /// Swallows everything both ways and closes nothing: nobody is told.
    ///
    /// Whoever is connected gets no packet any more, also after [`pass`](Self::pass): a connection
    /// that has lost something cannot go on.
    pub fn blackhole(&self) {
        self.network.change(|state| {
            state.is_blackhole = true;
            state.silenced += 1;
        });
    }

    /// Cuts the connections that are open. The server gets what had passed, and then an end; the client a reset.
    pub fn cut(&self) {
        self.network.cut();
    }

    /// Cuts the connections that are open as soon as so many more bytes of this side have passed, on all of them together.
    ///
    /// With bytes of the client a request is lost on its way; with bytes of the server, 0 of them for
    /// one, the request is carried out and its answer is lost. It happens once.
    pub fn cut_after(&self, side: Side, bytes: u64) {
        self.network.cut_after(side, bytes);
    }

    /// Lets everything arrive late by this, both ways.
    pub fn delay(&self, delay: Duration) {
        self.network.change(|state| state.delay = delay);
    }

    /// Resets new connections before a byte of them has passed. Those that are open go on.
    pub fn refuse(&self) {
        self.network.change(|state| state.is_refusing = true);
    }

    /// Returns how many bytes of this side have passed so far.
    #[must_use]
    pub fn passed(&self, side: Side) -> u64 {
        self.network.passed(side)
    }

    /// Returns how many connections to the server are open, those that carry nothing included.
    #[must_use]
    pub fn open(&self) -> usize {
        self.network.open()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.network.change(|state| state.is_over = true);
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("address", &self.address)
            .field("network", &self.network)
            .finish()
    }
}

async fn accept<O>(
    listener: TcpListener,
    server: String,
    network: Arc<Network>,
    observer: impl Fn() -> O,
) where
    O: FnMut(&[u8]) + Send + 'static,
{
    let mut changes = network.subscribe();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let client = Client::new(stream, Arc::clone(&network));
                tokio::spawn(client.carry(server.clone(), observer()));
            }
            _ = changes.wait_for(|state| state.is_over) => return,
        }
    }
}
