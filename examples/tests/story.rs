//! The story that `cargo run --example orders` tells ends as it should.

mod support;

use std::process::Stdio;

use examples::orders::story;
use support::{Shop, programs};

#[tokio::test]
async fn each_order_ends_as_it_should() {
    let shop = Shop::open().await;
    story::tell(&shop.orders).await.expect("the story goes as it should");
}

#[tokio::test]
async fn a_capture_that_is_refused_voids_releases_and_rejects() {
    let shop = Shop::open().await;
    let body = r#"{"order_id":"o-1","user_id":"u-frozen","amount":20}"#;
    shop.orders.post("/orders", body).await.expect("an answer");
    let order = shop.ended("o-1").await;

    assert_eq!(
        (&order["status"], &order["reason"]),
        (&"rejected".into(), &"account-frozen".into())
    );
    let timeline = order["saga"]["timeline"].as_array().expect("a timeline");
    let undone = timeline.iter().filter(|entry| entry["event"] == "compensated");
    let undone: Vec<_> = undone.map(|entry| entry["step"].as_str().expect("a step")).collect();
    assert_eq!(undone, ["authorize-payment", "reserve-inventory", "reject-order"]);
}

#[test]
fn the_program_tells_it_once_and_exits() {
    let mut program = programs::command("orders");
    let told =
        program.args(["--once", "--port", "0"]).stdin(Stdio::null()).output().expect("it runs");
    let (story, log) =
        (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(told.status.success(), "{story}\n{log}");
    for ending in [
        "completed: the order is confirmed",
        "compensated: the order is rejected (card-declined)",
        "compensated: the order is rejected (out-of-stock)",
    ] {
        assert!(story.contains(ending), "`{ending}` is missing in:\n{story}\n{log}");
    }
    let shown = story.split("\n\n").find(|it| it.starts_with("2. ")).expect("a second order");
    assert!(include_str!("../README.md").contains(shown), "the README shows:\n{shown}");
}
