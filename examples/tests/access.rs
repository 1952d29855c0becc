//! Who may ask a service for what: each operation that it describes, with each kind of token.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use chassis::http::{Client, Tokens};
use chassis::service::Service;
use examples::orders::OrderTable;
use examples::{inventory, orchestrator, orders, payments};
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use saga_core::{MemoryStore, MemoryTransport};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

const READER: &str = "reader-0123456789";
const WRITER: &str = "writer-0123456789";
const ONE: &str = "one-0123456789012";
const TWO: &str = "two-0123456789012";
/// What everybody may ask for.
const OPEN: [&str; 3] = ["/health", "/metrics", "/ready"];

/// A service that asks for tokens, until it is dropped.
struct Served {
    url: String,
    _stop: DropGuard,
}

impl Served {
    async fn new(service: Service) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let tokens = format!("{READER}=read,{WRITER}=write,{ONE}=write:u-1,{TWO}=write:u-2");
        let service = service.tokens(Tokens::parse(&tokens).expect("sound tokens"));
        let stop = CancellationToken::new();
        tokio::spawn(service.serve(listener, stop.clone()));
        Self { url, _stop: stop.drop_guard() }
    }

    fn client(&self, token: &str) -> Client {
        Client::new(&self.url).expect("a URL").token(token).expect("a token")
    }

    /// Returns the method and the path of each operation that the service describes.
    async fn operations(&self) -> Vec<(Method, String)> {
        let anybody = Client::new(&self.url).expect("a URL");
        let (_, api) = anybody.get("/openapi.json").await.expect("an answer");
        let paths = api["paths"].as_object().expect("paths").iter();
        let all = paths.flat_map(|(path, item)| {
            let methods = item.as_object().expect("operations").keys();
            methods
                .map(move |method| (method.to_uppercase().parse().expect("a method"), path.clone()))
        });
        all.collect()
    }

    async fn ask(&self, method: &Method, path: &str, token: Option<&str>) -> StatusCode {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Body::from("{}")).expect("a request");
        let client = legacy::Client::builder(TokioExecutor::new()).build_http::<Body>();
        client.request(request).await.expect("an answer").status()
    }
}

/// The orders service, with nobody to ask for a saga.
fn orders_alone() -> Service {
    let table = MemoryStore::with_state(OrderTable::default());
    let orchestrator = Client::new("http://127.0.0.1:1").expect("a URL");
    orders::start(table, MemoryTransport::new(), orchestrator).expect("it starts")
}

/// S09, S14.
#[tokio::test]
async fn each_operation_is_for_those_alone_who_may() {
    let stock = inventory::in_memory().await.expect("stock");
    let accounts = payments::in_memory().await.expect("accounts");
    let services = [
        (orders_alone(), true),
        (payments::start(accounts, MemoryTransport::new()).expect("it starts"), false),
        (inventory::start(stock, MemoryTransport::new()).expect("it starts"), false),
        (
            orchestrator::start(MemoryStore::new(), MemoryTransport::new()).expect("it starts"),
            false,
        ),
    ];
    let mut guarded = 0;
    for (service, is_for_customers) in services {
        let service = Served::new(service).await;
        for (method, path) in service.operations().await {
            let path = path.replace(['{', '}'], "");
            let told = async |token| service.ask(&method, &path, token).await;
            if OPEN.contains(&path.as_str()) {
                assert_eq!(told(None).await, StatusCode::OK, "{method} {path}");
                continue;
            }
            guarded += 1;
            let is_let_in = async |token| {
                let status = told(Some(token)).await;
                assert_ne!(status, StatusCode::UNAUTHORIZED, "{method} {path}");
                status != StatusCode::FORBIDDEN
            };
            assert_eq!(told(None).await, StatusCode::UNAUTHORIZED, "{method} {path}");
            let unknown = told(Some("unknown-0123456789")).await;
            assert_eq!(unknown, StatusCode::UNAUTHORIZED, "{method} {path}");
            assert_eq!(is_let_in(READER).await, method == Method::GET, "{method} {path}");
            assert!(is_let_in(WRITER).await, "{method} {path}");
            assert_eq!(is_let_in(ONE).await, is_for_customers, "{method} {path}");
        }
    }
    assert_eq!(guarded, 21, "operations that are not for everybody");
}

/// S13, S14: it is as if it were not there.
#[tokio::test]
async fn what_is_one_customers_is_there_for_no_other() {
    let service = Served::new(orders_alone()).await;
    let (one, two) = (service.client(ONE), service.client(TWO));
    let place = async |client: &Client, id: &str, user_id: &str| {
        let body = json!({"order_id": id, "user_id": user_id, "amount": 1});
        client.post("/orders", body).await.expect("an answer").0
    };
    assert_eq!(place(&two, "o-1", "u-1").await, StatusCode::FORBIDDEN);
    assert_eq!(place(&one, "o-1", "u-1").await, StatusCode::ACCEPTED);
    assert_eq!(place(&two, "o-1", "u-2").await, StatusCode::CONFLICT, "the id is taken");

    let all = service.operations().await;
    let of_one: Vec<_> = all.iter().filter(|(_, path)| path.contains("{order_id}")).collect();
    assert_eq!(of_one.len(), 3, "{of_one:?}");
    for (method, path) in of_one {
        let path = path.replace("{order_id}", "o-1");
        let told = async |token| service.ask(method, &path, Some(token)).await;
        assert_eq!(told(TWO).await, StatusCode::NOT_FOUND, "{method} {path}");
        for token in [ONE, WRITER] {
            assert_ne!(told(token).await, StatusCode::NOT_FOUND, "{method} {path}");
        }
    }
    let listed = async |client: &Client, query: &str| {
        let (status, page) = client.get(&format!("/orders{query}")).await.expect("an answer");
        (status, page["items"].as_array().map(Vec::len))
    };
    assert_eq!(listed(&two, "").await, (StatusCode::OK, Some(0)));
    assert_eq!(listed(&two, "?user_id=u-1").await, (StatusCode::FORBIDDEN, None));
    for token in [ONE, READER] {
        assert_eq!(listed(&service.client(token), "").await, (StatusCode::OK, Some(1)));
    }
}
