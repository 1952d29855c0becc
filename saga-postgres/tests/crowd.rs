//! A crowd comes to a slow participant inside the engine; alone in its program, so that only this is measured.

#![cfg(target_os = "linux")]

#[path = "support/crowd.rs"]
mod crowd;
#[path = "../../saga-kafka/tests/memory/mod.rs"]
mod memory;
mod support;

use std::sync::Arc;
use std::time::Duration;

use saga_core::{Engine, Status};

use crowd::{SHOP, Stock};
use memory::{MEGABYTE, memory};

const CROWD: usize = 2_400;
const BYTES: usize = 100_000;
/// What is kept of sagas that run and of commands that wait for their turn, and more for all else; much less than the crowd.
const GROWN_MAX: u64 = 400 * MEGABYTE;

/// I16.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f73_a_crowd_before_a_slow_local_participant_waits_in_the_database() {
    let sagas = support::fresh().await;
    let pause = Duration::from_millis(100);
    let schema = sagas.schema.clone();
    let stock = Stock { schema, bytes: BYTES, pause, hurries: Arc::default() };
    let engine = Engine::builder(SHOP, sagas.store.clone()).saga(crowd::saga());
    let engine = engine.local(stock.participant()).start().expect("the parts fit");
    let first = stock.start(&engine, 0).await;
    assert_eq!(first.outcome().await.expect("an end"), Status::Completed);

    let resident = memory("VmRSS");
    let crowd = stock.crowd(&engine, CROWD, Duration::from_mins(5)).await;
    let grown = memory("VmHWM").saturating_sub(resident);
    let waiting = CROWD + 1 - usize::try_from(sagas.count("effect").await).expect("some");
    println!(
        "{waiting} sagas wait, with {} MB; they took {} MB",
        (waiting * BYTES) >> 20,
        grown / MEGABYTE
    );
    assert!(waiting > CROWD / 2, "most of them wait: {waiting}");
    assert!(grown <= GROWN_MAX, "a crowd took {} MB", grown / MEGABYTE);

    stock.hurry(crowd).await;
    assert_eq!(sagas.count("effect").await, i64::try_from(CROWD + 1).expect("some"));
    engine.shutdown().await.expect("an orderly end");
}
