//! A network between the store and the server, which counts what passes and can swallow it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Stands before the server at an address of its own.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    statements: Arc<AtomicU64>,
    /// Connections of a generation that is over stay open and carry nothing.
    generation: watch::Sender<u64>,
}

impl Proxy {
    /// Starts a proxy before the server at this address.
    pub(crate) async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let statements = Arc::new(AtomicU64::new(0));
        let (generation, current) = watch::channel(0);
        let counter = Arc::clone(&statements);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server.clone(), Arc::clone(&counter), current.clone()));
            }
        });
        Self { address, statements, generation }
    }

    /// Returns how many statements the server was asked to execute.
    pub(crate) fn statements(&self) -> u64 {
        self.statements.load(Ordering::SeqCst)
    }

    /// Swallows everything on the connections that are open now; new ones work.
    pub(crate) fn swallow(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }
}

async fn carry(
    client: TcpStream,
    server: String,
    statements: Arc<AtomicU64>,
    mut generation: watch::Receiver<u64>,
) {
    let server = TcpStream::connect(server).await.expect("the server is there");
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    generation.mark_unchanged();
    tokio::select! {
        () = requests(&mut from_client, &mut to_server, statements) => {}
        _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
        // Neither closed nor carried: the sockets are held until the test ends.
        _ = generation.changed() => std::future::pending().await,
    }
}

/// Passes messages of the client on, and counts those that execute something.
async fn requests(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, statements: Arc<AtomicU64>) {
    // The first message has no type.
    let mut kind = None;
    loop {
        let mut message = kind.map_or_else(Vec::new, |kind| vec![kind]);
        let Ok(length) = from.read_u32().await else { return };
        message.extend(length.to_be_bytes());
        let start = message.len();
        message.resize(start + length as usize - 4, 0);
        if from.read_exact(&mut message[start..]).await.is_err() {
            return;
        }
        if matches!(kind, Some(b'E' | b'Q')) {
            statements.fetch_add(1, Ordering::SeqCst);
        }
        if to.write_all(&message).await.is_err() {
            return;
        }
        let Ok(next) = from.read_u8().await else { return };
        kind = Some(next);
    }
}
