//! The contract of the orders service's HTTP interface.

mod support;

use axum::http::StatusCode;
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

/// I3.
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
        assert_eq!(problem["error"], "conflict");
    }
}

#[tokio::test]
async fn amounts_are_exact() {
    let shop = Shop::open().await;
    for (id, amount) in [("a", "0.01"), ("b", "70368744.17"), ("c", "999999999.99"), ("d", "1.10")]
    {
        let body = format!(r#"{{"order_id":"{id}","user_id":"u-1","amount":{amount}}}"#);
        let (status, placed) = shop.orders.post("/orders", body).await.expect("an answer");
        assert_eq!(status, StatusCode::ACCEPTED, "{placed}");
        assert_eq!(placed["amount"].to_string(), amount);
        let (_, order) = shop.orders.get(&format!("/orders/{id}")).await.expect("an answer");
        assert_eq!(order["amount"].to_string(), amount);
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
        ("amount", amount("\"1.00\"")),
        ("amount", amount("99999999999999999999999")),
        ("amonut", r#"{"order_id":"o","user_id":"u","amount":1,"amonut":1}"#.to_owned()),
        ("items", r#"{"order_id":"o","user_id":"u","amount":1,"items":{}}"#.to_owned()),
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
        let message = problem["message"].as_str().expect("a message");
        assert!(message.starts_with(field), "{body}: {message}");
    }
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let shop = Shop::open().await;
    for path in ["/orders/o-1", "/orders/a%20b", "/nothing"] {
        let (status, problem) = shop.orders.get(path).await.expect("an answer");
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}: {problem}");
        assert_eq!(problem["error"], "not-found");
    }
}

#[tokio::test]
async fn every_service_answers_the_probes() {
    let shop = Shop::open().await;
    for path in ["/health", "/ready"] {
        let (status, _) = shop.orders.get(path).await.expect("an answer");
        assert_eq!(status, StatusCode::OK, "{path}");
    }
}
