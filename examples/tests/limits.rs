//! What a service does when too much is asked of it, and while it stops.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use std::{future, io};

use axum::routing::get;
use chassis::http::{Client, Limits};
use chassis::periodic::Periodic;
use chassis::service::{Service, Worker};
use examples::orders::{self, FOLLOWERS_MAX, OrderTable};
use saga_core::{MemoryStore, MemoryTransport};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;

/// How many clients are slow, and how many silent.
const CROWD: usize = 50;
const SOON: Duration = Duration::from_secs(20);

/// Followers hold a place each; who comes when all are taken is told to come later, and places become free.
#[tokio::test]
async fn followers_are_bounded_in_number() {
    let Served { address, client, stop, serving } =
        serve(orders(&MemoryStore::with_state(OrderTable::default()))).await;
    let order = json!({"order_id": "o-1", "user_id": "u-1", "amount": 1});
    client.post("/orders", order).await.expect("an answer");
    let mut followers = Vec::new();
    for _ in 0..FOLLOWERS_MAX {
        followers.push(follow(&address).await.expect("an answer"));
    }
    assert!(followers.iter().all(|(_, head)| head.starts_with("HTTP/1.1 200 ")), "{followers:?}");
    let (_, head) = follow(&address).await.expect("an answer");
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(head.contains("retry-after: 1\r\n"), "{head}");
    let (status, _) = client.get("/orders/o-1").await.expect("an answer");
    assert_eq!(status, 200, "the order itself is still shown");

    followers.pop();
    let gets_in = async {
        while !follow(&address).await.expect("an answer").1.starts_with("HTTP/1.1 200 ") {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, gets_in).await.expect("a place becomes free");
    drop(followers);
    stop.cancel();
    serving.await.expect("no panic").expect("an orderly end");
}

/// S11: who sends slowly, or goes silent, takes up no place, and is let go.
#[tokio::test]
async fn who_does_not_finish_a_request_holds_up_nobody() {
    let limits = Limits { at_once: 2, patience: Duration::from_secs(3), ..Limits::default() };
    let table = MemoryStore::with_state(OrderTable::default());
    let Served { address, client, stop, serving } = serve(orders(&table).limits(limits)).await;
    let (mut slow, mut silent) = (Vec::new(), Vec::new());
    for _ in 0..CROWD {
        let begun = "POST /orders HTTP/1.1\r\nHost: shop\r\nContent-Length: 100\r\n\r\n{";
        slow.push(say(&address, begun).await.expect("a connection"));
        silent.push(say(&address, "GET /orders HTTP/1.1\r\nHo").await.expect("a connection"));
    }
    let order = json!({"order_id": "o-1", "user_id": "u-1", "amount": 1});
    let (status, answer) = client.post("/orders", order).await.expect("an answer");
    assert_eq!(status, 202, "{answer}");

    for mut stream in slow {
        let head = timeout(SOON, read_until(&mut stream, b"\r\n\r\n")).await;
        let head = head.expect("it is let go").expect("an answer");
        assert!(head.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&head));
    }
    for mut stream in silent {
        let rest = timeout(SOON, stream.read_to_end(&mut Vec::new())).await;
        rest.expect("it is let go").expect("the end");
    }
    stop.cancel();
    serving.await.expect("no panic").expect("an orderly end");
}

/// S11: who asks for much and takes none of it is let go.
#[tokio::test]
async fn who_takes_no_answer_is_let_go() {
    let limits = Limits { patience: Duration::from_secs(1), ..Limits::default() };
    let table = MemoryStore::with_state(OrderTable::default());
    let Served { address, stop, serving, .. } = serve(orders(&table).limits(limits)).await;
    let ask = "GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: shop\r\n\r\n";
    let mut stream = say(&address, &ask.repeat(20)).await.expect("a connection");
    let is_let_go = async {
        while stream.write_all(b"G").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, is_let_go).await.expect("it is let go");
    stop.cancel();
    serving.await.expect("no panic").expect("an orderly end");
}

/// S11: one more than there is room for is told when to come back, and gets in once there is room.
#[tokio::test]
async fn who_comes_when_there_is_no_room_is_told_when_to_come_back() {
    let never = OpenApiRouter::new().route("/never", get(future::pending::<()>));
    let limits = Limits { at_once: 1, patience: Duration::from_mins(10), ..Limits::default() };
    let table = MemoryStore::with_state(OrderTable::default());
    let service = orders(&table).routes(never).limits(limits);
    let Served { address, stop, serving, .. } = serve(service).await;
    let never = say(&address, "GET /never HTTP/1.1\r\nHost: shop\r\n\r\n").await;
    let until = async |status: &str| {
        let is_so = async {
            loop {
                let answer = ask(&address, "/orders").await;
                if answer.starts_with(status) {
                    return answer;
                }
            }
        };
        timeout(SOON, is_so).await.expect("an answer")
    };
    is_told_to_come_back(&until("HTTP/1.1 503 ").await, "unavailable");
    drop(never);
    until("HTTP/1.1 200 ").await;
    stop.cancel();
    serving.await.expect("no panic").expect("an orderly end");
}

/// S11: what takes too long and who asks too often get an answer that says when to come back.
#[tokio::test]
async fn who_asks_for_too_much_is_told_when_to_come_back() {
    let never = OpenApiRouter::new().route("/never", get(future::pending::<()>));
    let limits = Limits { patience: Duration::from_millis(100), ..Limits::default() };
    let table = MemoryStore::with_state(OrderTable::default());
    let served = serve(orders(&table).routes(never).limits(limits)).await;
    let answer = ask(&served.address, "/never").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    is_told_to_come_back(&answer, "unavailable");
    served.stop.cancel();
    served.serving.await.expect("no panic").expect("an orderly end");

    let limits = Limits { per_second: NonZeroU32::MIN, ..Limits::default() };
    let served = serve(orders(&table).limits(limits)).await;
    let is_refused = async {
        loop {
            let answer = ask(&served.address, "/orders").await;
            if !answer.starts_with("HTTP/1.1 200 ") {
                return answer;
            }
        }
    };
    let answer = timeout(SOON, is_refused).await.expect("it is refused in the end");
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    is_told_to_come_back(&answer, "too-often");
    served.stop.cancel();
    served.serving.await.expect("no panic").expect("an orderly end");
}

fn is_told_to_come_back(answer: &str, code: &str) {
    assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
    assert!(answer.contains("content-type: application/problem+json\r\n"), "{answer}");
    assert!(answer.contains(&format!(r#""code":"{code}""#)), "{answer}");
}

/// While its workers finish what they have in hand, a service is alive, answers, and is not ready; what it
/// accepts is published, and who follows an order is let go.
#[tokio::test]
async fn a_service_that_stops_is_not_ready_and_finishes() {
    let (begun, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&begun), Arc::clone(&finish));
    let slow = Periodic::new("something slow", Duration::from_hours(1), move || {
        let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
        async move {
            tell.notify_one();
            wait.notified().await;
            Ok(())
        }
    });
    let table = MemoryStore::with_state(OrderTable::default());
    let service = orders(&table).worker(Worker::Periodic(slow));
    let Served { address, client, stop, serving } = serve(service).await;
    begun.notified().await;
    let order = |id: &str| json!({"order_id": id, "user_id": "u-1", "amount": 1});
    client.post("/orders", order("o-1")).await.expect("an answer");
    let (mut follower, _) = follow(&address).await.expect("an answer");
    let (status, ready) = client.get("/ready").await.expect("an answer");
    assert_eq!(status, 200, "{ready}");

    stop.cancel();
    let says_no = async {
        loop {
            let (status, problem) = client.get("/ready").await.expect("it still answers");
            if status == 503 {
                return problem;
            }
        }
    };
    let problem = timeout(SOON, says_no).await.expect("it says so");
    assert_eq!(problem["detail"], "the service stops; ask another one");
    let (status, answer) = client.get("/health").await.expect("an answer");
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = client.post("/orders", order("o-2")).await.expect("an answer");
    assert_eq!(status, 202, "{answer}");
    let rest = timeout(SOON, read_until(&mut follower, b"0\r\n\r\n")).await;
    rest.expect("the last chunk comes").expect("in order");
    finish.notify_one();
    timeout(SOON, serving).await.expect("it ends").expect("no panic").expect("an orderly end");
    assert_eq!(table.outbox_len(), 0, "what was accepted last is published as well");
    client.get("/health").await.expect_err("nobody listens any more");
}

struct Served {
    address: String,
    client: Client,
    stop: CancellationToken,
    serving: JoinHandle<anyhow::Result<()>>,
}

/// Makes the orders service, in memory, with nobody to ask for a saga: an order stays as it is.
fn orders(table: &MemoryStore<OrderTable>) -> Service {
    let orchestrator = Client::new("http://127.0.0.1:1").expect("a URL");
    orders::start(table.clone(), MemoryTransport::new(), orchestrator).expect("it starts")
}

async fn serve(service: Service) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let client = Client::new(&format!("http://{address}")).expect("a URL");
    let stop = CancellationToken::new();
    let serving = tokio::spawn(service.serve(listener, stop.clone()));
    Served { address, client, stop, serving }
}

/// Follows the order, and reads the head of the answer.
async fn follow(address: &str) -> io::Result<(TcpStream, String)> {
    let mut stream = say(address, "GET /orders/o-1/events HTTP/1.1\r\nHost: shop\r\n\r\n").await?;
    let head = read_until(&mut stream, b"\r\n\r\n").await?;
    Ok((stream, String::from_utf8_lossy(&head).into_owned()))
}

/// Asks for a path, and returns the answer as it came.
async fn ask(address: &str, path: &str) -> String {
    let ask = format!("GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n");
    let mut stream = say(address, &ask).await.expect("a connection");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

/// Opens a connection, and sends this.
async fn say(address: &str, text: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(text.as_bytes()).await?;
    Ok(stream)
}

async fn read_until(stream: &mut TcpStream, end: &[u8]) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    while !read.ends_with(end) {
        read.push(stream.read_u8().await?);
    }
    Ok(read)
}
