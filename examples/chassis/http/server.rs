//! Serving connections, none of which can hold up the service for long.

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
use tower::Layer as _;
use tracing::{debug, warn};

/// Most connections at once, each of which may have sent as much as the longest body: further ones wait to be taken.
const CONNECTIONS_MAX: usize = 2_048;
/// How long a stop waits for requests in hand; what is streamed is cut off then.
const GRACE: Duration = Duration::from_secs(3);
/// How long nobody is let in if the system has no more connections.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop` resolves, and then answers what was asked before. Who has not said what they want within
/// `patience` is not served.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    patience: Duration,
    stop: impl Future<Output = ()>,
) {
    let mut server = Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(patience);
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
                let connection = TokioIo::new(stream);
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
