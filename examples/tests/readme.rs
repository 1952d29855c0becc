//! What the README shows is what there is.

mod support;

use examples::orchestrator::place_order::place_order;
use support::Shop;

const README: &str = include_str!("../README.md");

/// `UPDATE_GENERATED=1` writes it.
#[test]
fn the_graph_is_the_saga_s() {
    let graph = place_order().expect("sound").definition().mermaid();
    let (before, rest) = README.split_once("```mermaid\n").expect("a graph");
    let (shown, after) = rest.split_once("```\n").expect("its end");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        let readme = format!("{before}```mermaid\n{graph}```\n{after}");
        std::fs::write("README.md", readme).expect("it can be written");
    } else {
        assert_eq!(shown, graph, "UPDATE_GENERATED=1 writes what is there now");
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
