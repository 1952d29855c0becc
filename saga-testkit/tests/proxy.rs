//! What the network does to a connection when a test says so.

use std::future::Future;
use std::io::{ErrorKind, Result};
use std::time::Duration;

use saga_testkit::{Proxy, Side};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing comes is taken for nothing comes at all.
const SILENCE: Duration = Duration::from_millis(100);

/// A server whose connections the test reads and writes itself.
struct Wire {
    proxy: Proxy,
    server: TcpListener,
}

impl Wire {
    async fn new() -> Self {
        let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = server.local_addr().expect("an address");
        Self { proxy: Proxy::start(address.to_string()).await, server }
    }

    /// Connects; returns both ends.
    async fn connect(&self) -> (TcpStream, TcpStream) {
        let client = self.dial().await;
        let (server, _) = soon(self.server.accept()).await.expect("the connection is passed on");
        (client, server)
    }

    async fn dial(&self) -> TcpStream {
        TcpStream::connect(self.proxy.address()).await.expect("the proxy is there")
    }
}

async fn soon<T>(happens: impl Future<Output = T>) -> T {
    timeout(PATIENCE, happens).await.expect("in time")
}

/// Sends some bytes and waits until they have arrived.
async fn sends(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    from.write_all(bytes).await.expect("written");
    let mut got = vec![0; bytes.len()];
    soon(to.read_exact(&mut got)).await.expect("read");
    assert_eq!(got, bytes);
}

/// Reads until the end.
async fn rest(from: &mut TcpStream) -> Result<Vec<u8>> {
    let mut rest = Vec::new();
    soon(from.read_to_end(&mut rest)).await.map(|_| rest)
}

async fn is_reset(stream: &mut TcpStream) -> bool {
    rest(stream).await.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

async fn is_silent(stream: &mut TcpStream) -> bool {
    timeout(SILENCE, stream.read_u8()).await.is_err()
}

#[tokio::test]
async fn what_is_sent_arrives_and_so_does_the_end() {
    let wire = Wire::new().await;
    let (mut client, mut server) = wire.connect().await;
    sends(&mut client, &mut server, b"question").await;
    sends(&mut server, &mut client, b"answer!").await;
    assert_eq!((wire.proxy.passed(Side::Client), wire.proxy.passed(Side::Server)), (8, 7));
    assert_eq!(wire.proxy.open(), 1);
    client.shutdown().await.expect("a half that ends");
    assert_eq!(rest(&mut server).await.expect("an orderly end"), b"");
    sends(&mut server, &mut client, b"the other half goes on").await;
    drop(server);
    assert_eq!(rest(&mut client).await.expect("an orderly end"), b"");
}

#[tokio::test]
async fn a_black_hole_swallows_both_ways_and_closes_nothing() {
    let wire = Wire::new().await;
    let (mut client, mut server) = wire.connect().await;
    wire.proxy.blackhole();
    client.write_all(b"lost").await.expect("nobody tells");
    server.write_all(b"lost").await.expect("nobody tells");
    assert!(is_silent(&mut server).await && is_silent(&mut client).await);
    let mut during = wire.dial().await;
    during.write_all(b"lost").await.expect("nobody tells");
    assert!(is_silent(&mut during).await);

    wire.proxy.pass();
    client.write_all(b"lost").await.expect("nobody tells");
    assert!(is_silent(&mut server).await && is_silent(&mut during).await, "for ever");
    let (mut client, mut server) = wire.connect().await;
    sends(&mut client, &mut server, b"new ones work").await;
}

#[tokio::test]
async fn a_cut_resets_the_client_and_ends_for_the_server() {
    let wire = Wire::new().await;
    let (mut client, mut server) = wire.connect().await;
    sends(&mut client, &mut server, b"before").await;
    wire.proxy.cut();
    assert!(is_reset(&mut client).await);
    assert_eq!(rest(&mut server).await.expect("an end"), b"");
    let (mut client, mut server) = wire.connect().await;
    sends(&mut client, &mut server, b"new ones work").await;
}

#[tokio::test]
async fn so_many_bytes_of_the_client_pass_and_no_more() {
    for bytes in [0, 1, 5, 6] {
        let wire = Wire::new().await;
        let (mut client, mut server) = wire.connect().await;
        sends(&mut client, &mut server, b"before").await;
        wire.proxy.cut_after(Side::Client, bytes);
        client.write_all(b"commit").await.expect("written");
        let got = rest(&mut server).await.expect("an end");
        assert_eq!(got, b"commit"[..usize::try_from(bytes).expect("few")]);
        assert!(is_reset(&mut client).await);
        assert_eq!(wire.proxy.passed(Side::Client), 6 + bytes);
    }
}

#[tokio::test]
async fn an_answer_is_lost_and_the_request_is_not() {
    let wire = Wire::new().await;
    let (mut client, mut server) = wire.connect().await;
    wire.proxy.cut_after(Side::Server, 0);
    sends(&mut client, &mut server, b"commit").await;
    server.write_all(b"done").await.expect("written");
    assert!(is_reset(&mut client).await);
    assert_eq!(wire.proxy.passed(Side::Server), 0);
}

#[tokio::test]
async fn bytes_are_counted_over_all_connections_and_all_of_them_are_cut() {
    let wire = Wire::new().await;
    let (mut one, mut from_one) = wire.connect().await;
    let (mut other, mut from_other) = wire.connect().await;
    wire.proxy.cut_after(Side::Client, 5);
    sends(&mut one, &mut from_one, b"123").await;
    other.write_all(b"456").await.expect("written");
    assert_eq!(rest(&mut from_other).await.expect("an end"), b"45");
    assert!(is_reset(&mut one).await && is_reset(&mut other).await);
    let (mut client, mut server) = wire.connect().await;
    sends(&mut client, &mut server, b"it happens once").await;
}

#[tokio::test]
async fn what_is_delayed_arrives_late() {
    const LATE: Duration = Duration::from_millis(60);
    let wire = Wire::new().await;
    let (mut client, mut server) = wire.connect().await;
    wire.proxy.delay(LATE);
    let began = Instant::now();
    sends(&mut client, &mut server, b"question").await;
    sends(&mut server, &mut client, b"answer").await;
    assert!(began.elapsed() >= 2 * LATE, "took {:?}", began.elapsed());
    wire.proxy.pass();
    let began = Instant::now();
    sends(&mut client, &mut server, b"question").await;
    assert!(began.elapsed() < LATE, "took {:?}", began.elapsed());
}

#[tokio::test]
async fn who_is_refused_is_reset_and_the_others_go_on() {
    let wire = Wire::new().await;
    let (mut client, mut server) = wire.connect().await;
    wire.proxy.refuse();
    let mut refused = wire.dial().await;
    assert!(is_reset(&mut refused).await);
    sends(&mut client, &mut server, b"before").await;
    wire.proxy.pass();
    let (mut client, mut server) = wire.connect().await;
    sends(&mut client, &mut server, b"after").await;
}

#[tokio::test]
async fn a_server_that_is_away_resets() {
    let Wire { proxy, server } = Wire::new().await;
    drop(server);
    let mut client = TcpStream::connect(proxy.address()).await.expect("the proxy is there");
    assert!(is_reset(&mut client).await);
}

#[tokio::test]
async fn dropping_it_cuts_and_nobody_listens_any_more() {
    let wire = Wire::new().await;
    let (mut client, _server) = wire.connect().await;
    let address = wire.proxy.address();
    drop(wire.proxy);
    assert!(is_reset(&mut client).await);
    let refused = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    soon(refused).await;
}
