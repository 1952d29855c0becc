//! What the README shows is what there is.

mod support;

use examples::orchestrator::place_order::place_order;
use support::Shop;

const README: &str = include_str!("../README.md");

/// The graph, and the messages; `UPDATE_GENERATED=1` writes both.
#[test]
fn the_drawings_are_the_saga_s() {
    let saga = place_order().expect("sound");
    let mut drawings =
        [saga.definition().mermaid(), saga.definition().mermaid_sequence()].into_iter();
    let mut parts = README.split("```mermaid\n");
    let mut readme = parts.next().expect("a beginning").to_owned();
    for part in parts {
        let (_, after) = part.split_once("```\n").expect("its end");
        let drawing = drawings.next().expect("no more drawings than these");
        readme.extend(["```mermaid\n", &drawing, "```\n", after]);
    }
    assert_eq!(drawings.next(), None, "it is shown");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write("README.md", readme).expect("it can be written");
    } else {
        assert_eq!(README, readme, "UPDATE_GENERATED=1 writes what is there now");
    }
}

#[tokio::test]
async fn every_path_is_named() {
    let shop = Shop::open().await;
    for service in shop.all() {
        let (_, api) = service.get("/openapi.json").await.expect("an answer");
        for path in api["paths"].as_object().expect("paths").keys() {
            assert!(README.contains(path.as_str()), "{path}");
        }
    }
}
