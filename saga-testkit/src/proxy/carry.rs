//! One connection through a proxy.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::Side;
use super::network::{Network, State};

/// A client that has connected.
pub(super) struct Client {
    stream: TcpStream,
    network: Arc<Network>,
    /// What the network did when it connected.
    began: State,
}

/// What is carried in one direction.
#[derive(Clone, Copy)]
struct Way<'a> {
    network: &'a Network,
    began: State,
    side: Side,
}

impl Client {
    pub(super) fn new(stream: TcpStream, network: Arc<Network>) -> Self {
        let began = network.state();
        Self { stream, network, began }
    }

    /// Carries until one side ends the connection or the network does.
    pub(super) async fn carry(self, server: String, observe: impl FnMut(&[u8])) {
        let Self { mut stream, network, began } = self;
        let mut changes = network.subscribe();
        let ends = |now: &State| now.is_over || now.cuts != began.cuts;
        if began.is_refusing {
            return reset(stream);
        }
        if began.is_blackhole {
            // Nothing of it gets to the server, so there is no need for one.
            let _ = changes.wait_for(ends).await;
            return reset(stream);
        }
        let Ok(mut server) = TcpStream::connect(server).await else { return reset(stream) };
        let _ = (stream.set_nodelay(true), server.set_nodelay(true));
        network.opened();
        let (from_client, to_client) = stream.split();
        let (from_server, to_server) = server.split();
        let way = |side| Way { network: &network, began, side };
        let is_cut = tokio::select! {
            _ = changes.wait_for(ends) => true,
            ((), ()) = async {
                tokio::join!(
                    way(Side::Client).carry(from_client, to_server, observe),
                    way(Side::Server).carry(from_server, to_client, |_| {}),
                )
            } => false,
        };
        network.closed();
        if is_cut {
            reset(stream);
            // What has passed is carried out, however suddenly the client has gone.
            let _ = server.shutdown().await;
            let mut nowhere = tokio::io::sink();
            tokio::select! {
                _ = tokio::io::copy(&mut server, &mut nowhere) => {}
                _ = changes.wait_for(|now| now.is_over) => {}
            }
        }
    }
}

/// Closes a connection so that nobody takes it for an orderly end.
fn reset(stream: TcpStream) {
    // Where that cannot be set, the end comes early all the same.
    let _ = stream.set_zero_linger();
    drop(stream);
}

impl Way<'_> {
    /// Carries until there is nothing more to read, and passes the end on.
    async fn carry(
        self,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
        mut observe: impl FnMut(&[u8]),
    ) {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let delay = self.network.state().delay;
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            if self.is_silent() {
                continue;
            }
            let (passing, is_last) = self.network.spend(self.side, read);
            self.network.count(self.side, passing);
            observe(&buffer[..passing]);
            if to.write_all(&buffer[..passing]).await.is_err() {
                return;
            }
            if is_last {
                self.network.cut();
            }
        }
        if !self.is_silent() {
            // The other side may have gone already.
            let _ = to.shutdown().await;
        }
    }

    fn is_silent(&self) -> bool {
        self.network.state().silenced != self.began.silenced
    }
}
