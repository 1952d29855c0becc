//! The contract of the orders service's HTTP interface.

mod support;

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use chassis::http::Client;
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use saga_core::Timestamp;
use serde_json::{Value, json};
use support::Shop;

/// The line of the reference contract, on a fresh system.
const REFERENCE: &str = r#"{"order_id":"o-1","user_id":"u-1","amount":123.45}"#;

#[tokio::test]
async fn the_reference_order_is_confirmed() {
    let shop = Shop::open().await;
    let (status, placed) = shop.orders.post("/orders", REFERENCE).await.expect("an answer");
    assert_eq!(status, StatusCode::ACCEPTED, "{placed}");
    let order = shop.ended("o-1").await;
    assert_eq!(order["status"], "confirmed", "{order}");
    assert_eq!(order["saga"]["status"], "completed");
    assert_eq!(order["reason"], Value::Null);
    for field in ["order_id", "user_id", "amount", "currency", "items"] {
        assert_eq!(order[field], placed[field], "{field}");
    }
}

/// I3, S13.
#[tokio::test]
async fn the_same_order_gets_the_same_answer() {
    let shop = Shop::open().await;
    let first = shop.orders.post("/orders", REFERENCE).await.expect("an answer");
    shop.ended("o-1").await;
    // Other digits and other spaces, but the same amount.
    let again = r#"{"amount": 123.450, "user_id": "u-1", "order_id": "o-1", "items": []}"#;
    let again = shop.orders.post("/orders", again).await.expect("an answer");
    assert_eq!(again, first);
}

/// S13.
#[tokio::test]
async fn another_order_under_the_same_id_is_a_conflict() {
    let shop = Shop::open().await;
    shop.orders.post("/orders", REFERENCE).await.expect("an answer");
    for other in [
        r#"{"order_id":"o-1","user_id":"u-1","amount":123.46}"#,
        r#"{"order_id":"o-1","user_id":"u-2","amount":123.45}"#,
        r#"{"order_id":"o-1","user_id":"u-1","amount":123.45,"items":[{"sku":"a","quantity":1}]}"#,
    ] {
        let (status, problem) = shop.orders.post("/orders", other).await.expect("an answer");
        assert_eq!(status, StatusCode::CONFLICT, "{other}: {problem}");
        assert_eq!(problem["code"], "conflict");
    }
}

#[tokio::test]
async fn amounts_are_exact() {
    let shop = Shop::open().await;
    let amounts = [
        ("a", "0.01", "0.01"),
        ("b", "70368744.17", "70368744.17"),
        ("c", "999999999.99", "999999999.99"),
        ("d", "1.10", "1.10"),
        ("e", "\"1.10\"", "1.10"),
    ];
    for (id, amount, shown) in amounts {
        let body = format!(r#"{{"order_id":"{id}","user_id":"u-1","amount":{amount}}}"#);
        let (status, placed) = shop.orders.post("/orders", body).await.expect("an answer");
        assert_eq!(status, StatusCode::ACCEPTED, "{placed}");
        assert_eq!(placed["amount"].to_string(), shown);
        let (_, order) = shop.orders.get(&format!("/orders/{id}")).await.expect("an answer");
        assert_eq!(order["amount"].to_string(), shown);
    }
}

#[tokio::test]
async fn bad_input_is_refused_with_the_field_named() {
    let shop = Shop::open().await;
    let item =
        |item: &str| format!(r#"{{"order_id":"o","user_id":"u","amount":1,"items":[{item}]}}"#);
    let amount = |amount: &str| format!(r#"{{"order_id":"o","user_id":"u","amount":{amount}}}"#);
    for (field, body) in [
        ("body", String::new()),
        ("body", "{".to_owned()),
        ("body", "[]".to_owned()),
        ("order_id", r#"{"user_id":"u","amount":1}"#.to_owned()),
        ("order_id", r#"{"order_id":"","user_id":"u","amount":1}"#.to_owned()),
        ("order_id", r#"{"order_id":"a b","user_id":"u","amount":1}"#.to_owned()),
        ("order_id", json!({"order_id": "x".repeat(65), "user_id": "u", "amount": 1}).to_string()),
        ("user_id", r#"{"order_id":"o","amount":1}"#.to_owned()),
        ("user_id", r#"{"order_id":"o","user_id":7,"amount":1}"#.to_owned()),
        ("amount", r#"{"order_id":"o","user_id":"u"}"#.to_owned()),
        ("amount", amount("0")),
        ("amount", amount("-1")),
        ("amount", amount("1.234")),
        ("amount", amount("1e3")),
        ("amount", amount("\"1.001\"")),
        ("amount", amount("\"NaN\"")),
        ("amount", amount("true")),
        ("amount", amount("99999999999999999999999")),
        ("amonut", r#"{"order_id":"o","user_id":"u","amount":1,"amonut":1}"#.to_owned()),
        ("currency", r#"{"order_id":"o","user_id":"u","amount":1,"currency":"euro"}"#.to_owned()),
        ("items", r#"{"order_id":"o","user_id":"u","amount":1,"items":{}}"#.to_owned()),
        ("items[0].price", item(r#"{"sku":"a","quantity":1,"price":1}"#)),
        ("items[0]", item("1")),
        ("items[0].sku", item(r#"{"quantity":1}"#)),
        ("items[0].quantity", item(r#"{"sku":"a"}"#)),
        ("items[0].quantity", item(r#"{"sku":"a","quantity":0}"#)),
        ("items[0].quantity", item(r#"{"sku":"a","quantity":1.5}"#)),
        ("items[1].sku", item(r#"{"sku":"a","quantity":1},{"sku":"a","quantity":2}"#)),
    ] {
        let (status, problem) = shop.orders.post("/orders", &body).await.expect("an answer");
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}: {problem}");
        assert_eq!(problem["field"], field, "{body}: {problem}");
        let detail = problem["detail"].as_str().expect("what is wrong");
        assert!(detail.starts_with(field), "{body}: {detail}");
        assert_eq!((&problem["status"], &problem["title"]), (&json!(400), &json!("Bad Request")));
    }
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let shop = Shop::open().await;
    for path in ["/orders/o-1", "/orders/a%20b", "/nothing"] {
        let (status, problem) = shop.orders.get(path).await.expect("an answer");
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}: {problem}");
        assert_eq!(problem["code"], "not-found");
    }
}

#[tokio::test]
async fn every_service_answers_the_probes() {
    let shop = Shop::open().await;
    for service in shop.all() {
        for path in ["/health", "/ready"] {
            let (status, _) = service.get(path).await.expect("an answer");
            assert_eq!(status, StatusCode::OK, "{path}");
        }
    }
}

/// S15: no answer is kept, taken for what it is not, or shown in somebody else's page.
#[tokio::test]
async fn every_answer_is_safe_in_a_browser() {
    let shop = Shop::open().await;
    for url in &shop.urls {
        for (method, path, status) in [
            (Method::GET, "/ready", 200),
            (Method::GET, "/docs/", 200),
            (Method::GET, "/nothing", 404),
            (Method::DELETE, "/health", 405),
        ] {
            let request = Request::builder().method(method).uri(format!("{url}{path}"));
            let request = request.body(Body::empty()).expect("a request");
            let client = legacy::Client::builder(TokioExecutor::new()).build_http();
            let answer = client.request(request).await.expect("an answer");
            assert_eq!(answer.status(), status, "{path}");
            let header = |name| answer.headers().get(name).map_or(&b""[..], |it| it.as_bytes());
            assert_eq!(header("cache-control"), b"no-store", "{path}");
            assert_eq!(header("x-content-type-options"), b"nosniff", "{path}");
            assert_eq!(header("content-security-policy"), b"frame-ancestors 'none'", "{path}");
            let is_problem = header("content-type") == b"application/problem+json";
            assert_eq!(is_problem, status >= 400, "{path}");
        }
    }
}

/// Places orders of a customer, and waits until the last one has ended.
async fn place(shop: &Shop, user_id: &str, ids: &[&str]) {
    for id in ids {
        let body = json!({"order_id": id, "user_id": user_id, "amount": 1});
        let (status, problem) = shop.orders.post("/orders", body).await.expect("an answer");
        assert_eq!(status, StatusCode::ACCEPTED, "{problem}");
    }
    for id in ids {
        shop.ended(id).await;
    }
}

/// It follows what the orders service tells; an order that was declined leaves no trace in it.
#[tokio::test]
async fn what_a_customer_has_spent_follows_the_orders_that_were_confirmed() {
    let shop = Shop::open().await;
    place(&shop, "u-1", &["o-1", "o-2", "o-3"]).await;
    let declined = json!({"order_id": "o-4", "user_id": "u-poor", "amount": 20});
    shop.orders.post("/orders", declined).await.expect("an answer");
    assert_eq!(shop.ended("o-4").await["status"], "rejected");
    let summary = async |user: &str| {
        let path = format!("/accounts/{user}/summary");
        shop.payments.get(&path).await.expect("an answer").1
    };
    let is_there = tokio::time::timeout(Duration::from_secs(5), async {
        while summary("u-1").await["orders"] != 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    is_there.await.expect("the summary follows");
    let expected = json!({"user_id": "u-1", "orders": 3, "spent": 3.0, "currency": "EUR"});
    assert_eq!(summary("u-1").await.to_string(), expected.to_string().replace("3.0", "3.00"));
    assert_eq!(summary("u-poor").await["orders"], 0);
    let (status, _) = shop.payments.get("/accounts/nobody/summary").await.expect("an answer");
    assert_eq!(status, StatusCode::NOT_FOUND);
}

/// Returns a field of what a list holds, page by page.
async fn pages(service: &Client, list: &str, field: &str, limit: usize) -> Vec<Vec<String>> {
    let (mut pages, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("{list}limit={limit}{after}");
        let page = get(service, &path).await;
        let items = page["items"].as_array().expect("a list").iter();
        let text = |item: &Value| item[field].as_str().expect("a text").to_owned();
        pages.push(items.map(text).collect());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return pages,
        }
    }
}

#[tokio::test]
async fn orders_are_listed_in_pages_the_newest_first() {
    let shop = Shop::open().await;
    place(&shop, "u-1", &["a", "b", "c"]).await;
    place(&shop, "u-poor", &["d"]).await;
    place(&shop, "u-nobody", &["e"]).await;
    let pages = async |query: &str, limit: usize| {
        pages(&shop.orders, &format!("/orders?{query}"), "order_id", limit).await
    };
    assert_eq!(pages("", 2).await, [vec!["e", "d"], vec!["c", "b"], vec!["a"]]);
    assert_eq!(pages("user_id=u-1&", 2).await, [vec!["c", "b"], vec!["a"]]);
    assert_eq!(pages("status=rejected&", 5).await, [["e"]]);
    assert_eq!(pages("status=pending&", 5).await, [[""; 0]]);
    for (field, query) in [
        ("limit", "limit=0"),
        ("limit", "limit=201"),
        ("after", "after=x"),
        ("after", "after=9223372036854775807_a"),
        ("user_id", "user_id=a%20b"),
        ("query", "status=lost"),
        ("query", "sort=amount"),
    ] {
        let (status, problem) =
            shop.orders.get(&format!("/orders?{query}")).await.expect("an answer");
        assert_eq!(
            (status, &problem["field"]),
            (StatusCode::BAD_REQUEST, &json!(field)),
            "{query}"
        );
    }
}

#[tokio::test]
async fn sagas_are_listed_in_pages_the_newest_first() {
    let shop = Shop::open().await;
    for (id, user_id) in [("a", "u-1"), ("b", "u-nobody"), ("c", "u-1"), ("d", "u-nobody")] {
        // One after the other: sagas start in the order in which the facts arrive.
        place(&shop, user_id, &[id]).await;
    }
    let pages = async |query: &str, limit: usize| {
        pages(&shop.orchestrator, &format!("/sagas?{query}"), "key", limit).await
    };
    assert_eq!(pages("", 3).await, [vec!["d", "c", "b"], vec!["a"]]);
    assert_eq!(pages("status=compensated&", 1).await, [["d"], ["b"]]);
    assert_eq!(pages("status=completed&", 5).await, [["c", "a"]]);
    assert_eq!(pages("status=parked&", 5).await, [[""; 0]]);

    let newest = get(&shop.orchestrator, "/sagas?limit=1").await["items"][0].take();
    let saga = get(&shop.orchestrator, "/sagas/d").await;
    for field in ["id", "name", "version", "status"] {
        assert_eq!(newest[field], saga[field], "{field}");
    }
    let time = |field: &str| -> Timestamp {
        newest[field].as_str().and_then(|it| it.parse().ok()).expect("a time")
    };
    assert!(time("started_at") < time("updated_at"), "{newest}");
    for (field, query) in [
        ("limit", "limit=0"),
        ("after", "after=d"),
        ("query", "status=lost"),
        ("query", "sort=name"),
    ] {
        let (status, problem) =
            shop.orchestrator.get(&format!("/sagas?{query}")).await.expect("an answer");
        assert_eq!(
            (status, &problem["field"]),
            (StatusCode::BAD_REQUEST, &json!(field)),
            "{query}"
        );
    }
}

#[tokio::test]
async fn an_order_that_has_ended_cannot_be_cancelled() {
    let shop = Shop::open().await;
    place(&shop, "u-1", &["good"]).await;
    place(&shop, "u-nobody", &["bad"]).await;
    for (id, expected) in [
        ("good", StatusCode::CONFLICT),
        ("bad", StatusCode::ACCEPTED),
        ("none", StatusCode::NOT_FOUND),
    ] {
        let path = format!("/orders/{id}/cancel");
        let (status, answer) = shop.orders.post(&path, "").await.expect("an answer");
        assert_eq!(status, expected, "{answer}");
        let path = format!("/sagas/{id}/cancel");
        let (status, answer) = shop.orchestrator.post(&path, "").await.expect("an answer");
        assert_eq!(status, expected, "{answer}");
    }
}

/// What an order left in the books of the other services.
#[tokio::test]
async fn payments_and_reservations_are_shown() {
    let shop = Shop::open().await;
    place(&shop, "u-1", &["good"]).await;
    place(&shop, "u-frozen", &["frozen"]).await;
    let payment = async |id: &str| get(&shop.payments, &format!("/payments/{id}")).await;
    assert_eq!(payment("good").await["state"], "captured");
    assert_eq!(payment("frozen").await["state"], "voided");
    let voided = get(&shop.payments, "/payments?state=voided").await;
    assert_eq!(voided["items"].as_array().map(Vec::len), Some(1), "{voided}");

    let entries = get(&shop.payments, "/accounts/u-frozen/entries?limit=2").await;
    let amount = |at: usize| entries["items"][at]["amount"].to_string();
    assert_eq!((amount(0), amount(1)), ("1.00".to_owned(), "-1.00".to_owned()), "{entries}");
    let before = entries["next"].as_str().expect("the deposit is older");
    let entries = get(&shop.payments, &format!("/accounts/u-frozen/entries?after={before}")).await;
    assert_eq!(entries["items"][0]["reason"], "deposit", "{entries}");

    let sold = get(&shop.inventory, "/reservations/good").await;
    assert_eq!((&sold[0]["state"], &sold[0]["quantity"]), (&json!("sold"), &json!(1)), "{sold}");
    let released = get(&shop.inventory, "/reservations?state=released").await;
    assert_eq!(released["items"][0]["order_id"], "frozen", "{released}");
    for (service, path) in [
        (&shop.payments, "/payments/none"),
        (&shop.payments, "/accounts/none"),
        (&shop.payments, "/accounts/none/entries"),
        (&shop.inventory, "/reservations/none"),
        (&shop.inventory, "/stock/none"),
        (&shop.orchestrator, "/sagas/none"),
    ] {
        let (status, problem) = service.get(path).await.expect("an answer");
        assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &json!("not-found")));
    }
}

/// S13.
#[tokio::test]
async fn deposits_and_deliveries_are_taken_once() {
    let shop = Shop::open().await;
    let deposit = r#"{"deposit_id":"d-1","amount":"0.50"}"#;
    let delivery = r#"{"delivery_id":"d-1","quantity":7}"#;
    for _ in 0..2 {
        let (status, account) =
            shop.payments.post("/accounts/u-poor/deposits", deposit).await.expect("an answer");
        assert_eq!((status, account["balance"].to_string()), (StatusCode::CREATED, "5.50".into()));
        let (status, article) =
            shop.inventory.post("/stock/tea/deliveries", delivery).await.expect("an answer");
        assert_eq!((status, &article["on_hand"]), (StatusCode::CREATED, &json!(7)));
    }
    for (service, path, body) in [
        (&shop.payments, "/accounts/u-1/deposits", deposit),
        (&shop.payments, "/accounts/u-poor/deposits", r#"{"deposit_id":"d-1","amount":1}"#),
        (&shop.inventory, "/stock/tea/deliveries", r#"{"delivery_id":"d-1","quantity":8}"#),
    ] {
        let (status, problem) = service.post(path, body).await.expect("an answer");
        assert_eq!(status, StatusCode::CONFLICT, "{path}: {problem}");
    }
    for (service, path, body, field) in [
        (&shop.payments, "/accounts/u-poor/deposits", r#"{"amount":1}"#, "deposit_id"),
        (
            &shop.payments,
            "/accounts/u-poor/deposits",
            r#"{"deposit_id":"d-2","amount":-1}"#,
            "amount",
        ),
        (&shop.inventory, "/stock/tea/deliveries", r#"{"delivery_id":"d-2"}"#, "quantity"),
        (
            &shop.inventory,
            "/stock/tea/deliveries",
            r#"{"delivery_id":"d-2","quantity":0}"#,
            "quantity",
        ),
    ] {
        let (status, problem) = service.post(path, body).await.expect("an answer");
        assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!(field)));
    }
    let stock = get(&shop.inventory, "/stock?limit=2").await;
    let next = stock["next"].as_str().expect("there are more");
    let stock = get(&shop.inventory, &format!("/stock?after={next}")).await;
    assert_eq!(stock["items"].as_array().and_then(|it| it.last()).expect("tea")["sku"], "tea");
}

/// Returns what is at a path.
async fn get(service: &Client, path: &str) -> Value {
    let (status, answer) = service.get(path).await.expect("an answer");
    assert_eq!(status, StatusCode::OK, "{path}: {answer}");
    answer
}

/// S10.
#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let shop = Shop::open().await;
    let large = format!(r#"{{"order_id":"{}"}}"#, "x".repeat(64 * 1024));
    let (status, problem) = shop.orders.post("/orders", large).await.expect("an answer");
    assert_eq!((status, &problem["code"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!("too-large")));
}

/// Every entry once, and then the order.
#[tokio::test]
async fn an_order_can_be_followed_until_it_ends() {
    let shop = Shop::open().await;
    let body = json!({"order_id": "o-1", "user_id": "u-1", "amount": 1});
    shop.orders.post("/orders", body).await.expect("an answer");
    let told = shop.orders.text("/orders/o-1/events").await.expect("an end");
    let events: Vec<_> = told.split("\n\n").filter(|it| !it.is_empty()).collect();
    let (order, entries) = events.split_last().expect("some events");
    assert!(order.starts_with("event: order\ndata: {"), "{order}");
    assert!(order.contains(r#""status":"confirmed""#), "{order}");
    let timeline = shop.ended("o-1").await["saga"]["timeline"].as_array().map_or(0, Vec::len);
    assert_eq!(entries.len(), timeline, "{told}");
    assert!(entries.iter().all(|it| it.starts_with("event: entry\ndata: {")), "{told}");
}

/// The page shows the description, and all that it loads is here.
#[tokio::test]
async fn the_page_of_the_description_loads_nothing_from_elsewhere() {
    let shop = Shop::open().await;
    let page = shop.orders.text("/docs/").await.expect("a page");
    let loaded: Vec<_> = ["src=\"", "href=\""]
        .iter()
        .flat_map(|attribute| page.split(attribute).skip(1))
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(loaded.len() >= 4, "scripts and styles: {loaded:?}");
    for file in loaded {
        assert!(!file.contains("//"), "{file} is elsewhere");
        let path = format!("/docs/{}", file.trim_start_matches("./"));
        assert!(!shop.orders.text(&path).await.expect("an answer").is_empty(), "{path}");
    }
    let script = shop.orders.text("/docs/swagger-initializer.js").await.expect("a script");
    assert!(script.contains("/openapi.json"), "{script}");
}

/// S15: every path of the description is served, and the description is whole.
#[tokio::test]
async fn every_service_describes_itself() {
    let shop = Shop::open().await;
    let mut operations = Vec::new();
    for service in shop.all() {
        let (status, api) = service.get("/openapi.json").await.expect("an answer");
        assert_eq!(status, StatusCode::OK);
        for (path, item) in api["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("operations") {
                operations.push(format!("{method} {path}"));
                assert!(!operation["summary"].is_null(), "{method} {path} has a summary");
                let is_probe = operation["tags"] == json!(["probes"]);
                let problem = &operation["responses"]["429"]["content"]["application/problem+json"];
                let schema = &problem["schema"]["$ref"];
                assert_eq!(*schema == "#/components/schemas/Problem", !is_probe, "{method} {path}");
            }
        }
    }
    operations.sort();
    operations.dedup();
    assert_eq!(
        operations,
        [
            "get /accounts",
            "get /accounts/{user_id}",
            "get /accounts/{user_id}/entries",
            "get /accounts/{user_id}/summary",
            "get /definitions",
            "get /health",
            "get /metrics",
            "get /orders",
            "get /orders/{order_id}",
            "get /orders/{order_id}/events",
            "get /payments",
            "get /payments/{order_id}",
            "get /ready",
            "get /reservations",
            "get /reservations/{order_id}",
            "get /sagas",
            "get /sagas/{key}",
            "get /stock",
            "get /stock/{sku}",
            "post /accounts/{user_id}/deposits",
            "post /orders",
            "post /orders/{order_id}/cancel",
            "post /sagas/{key}/cancel",
            "post /stock/{sku}/deliveries",
        ]
    );
}
