//! Serving connections: who is silent, slow, or takes nothing is let go after a while.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::{Extension, Router};
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutStream;
use tower::Layer as _;
use tracing::{debug, warn};

/// Most connections at once; further ones wait to be taken.
const CONNECTIONS_MAX: usize = 2_048;
/// Most bytes of a head, and of what is read ahead on a connection.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long a stop waits for requests in hand; what is streamed is cut off then.
const GRACE: Duration = Duration::from_secs(3);
/// How long nobody is let in if the system has no more connections.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop` resolves, and then answers what was asked before. Who has not said what they want within
/// `patience`, or takes nothing of an answer for as long, is not served.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    patience: Duration,
    stop: impl Future<Output = ()>,
) {
    let mut server = Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(patience).max_buf_size(HEAD_BYTES_MAX);
    let connections = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = accept(&listener, &room) => accepted,
        };
        match accepted {
            Ok((stream, peer, place)) => {
                let mut stream = TimeoutStream::new(stream);
                stream.set_write_timeout(Some(patience));
                let connection = TokioIo::new(Box::pin(stream));
                let service = Extension(ConnectInfo(peer)).layer(router.clone());
                let service = TowerToHyperService::new(service);
                let connection = connections.watch(server.serve_connection(connection, service));
                tokio::spawn(async move {
                    let _place = place;
                    if let Err(error) = connection.await {
                        debug!(%peer, %error, "a connection broke off");
                    }
                });
            }
            Err(error) => {
                warn!(%error, "a connection cannot be taken");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(GRACE, connections.shutdown()).await.is_err() {
        warn!("some requests are cut off");
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(room).acquire_owned().await.expect("it is never closed");
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, place))
}
