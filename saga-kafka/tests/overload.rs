//! A crowd comes to a participant that is slow; alone in its program, so that only this is measured.

#![cfg(target_os = "linux")]

mod broker;
#[path = "../../saga-postgres/tests/support/crowd.rs"]
mod crowd;
#[path = "../../saga-postgres/tests/support/mod.rs"]
mod database;
mod memory;
mod private;

use std::env;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::groups::GroupInfo;
use saga_core::{Engine, Status};
use saga_kafka::{KafkaConfig, KafkaTransport};
use tokio::time::timeout;

use crowd::{SHOP, STOCK, Stock};
use memory::{MEGABYTE, memory};
use private::Private;

/// A participant that takes a second per command carries out 30 in half a minute. So many come at once.
const CROWD: usize = 300 * 30;
const BYTES: usize = 20_000;

/// Returns the members of a group, as the broker knows them.
fn members(group: &str) -> Vec<String> {
    let brokers = env::var("KAFKA_BROKERS").expect("it is that of the test");
    let client: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).create().expect("a client");
    let list = client.fetch_group_list(Some(group), Duration::from_secs(10)).expect("an answer");
    list.groups().iter().flat_map(GroupInfo::members).map(|it| it.id().to_owned()).collect()
}

/// I16.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f73_a_crowd_before_a_slow_participant_waits_in_the_broker_and_the_database() {
    broker::transport().await;
    let brokers = env::var("KAFKA_BROKERS").expect("it is that of the test");
    // A member that polled only between its commands would be thrown out.
    let config = KafkaConfig::new(brokers);
    let config =
        config.setting("session.timeout.ms", "6000").setting("max.poll.interval.ms", "6000");
    let transport = KafkaTransport::new(config).expect("valid");
    let prefix = broker::prefix("overload");
    let transport = Private::new(transport, &prefix);
    let (sagas, effects) = (database::fresh().await, database::fresh().await);
    let (schema, pause) = (effects.schema.clone(), Duration::from_secs(1));
    let stock = Stock { schema, bytes: BYTES, pause, hurries: Arc::default() };
    let participant = stock.participant().start(effects.store.clone(), transport.clone());
    let engine = Engine::builder(SHOP, sagas.store.clone()).saga(crowd::saga());
    let engine = engine.transport(transport).start().expect("the parts fit");
    let first = stock.start(&engine, 0).await;
    assert_eq!(first.outcome().await.expect("an end"), Status::Completed);

    let groups = [SHOP, STOCK].map(|name| format!("{prefix}.{name}"));
    let members = || groups.each_ref().map(|group| members(group));
    let (before, resident) = (members(), memory("VmRSS"));
    assert_eq!(before.each_ref().map(Vec::len), [1; 2], "one engine and one participant");
    let crowd = stock.crowd(&engine, CROWD, Duration::from_mins(1)).await;
    let done = effects.count("inbox").await;
    let slowly = async {
        while effects.count("inbox").await < done + 20 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_mins(2), slowly).await.expect("it goes on, one by one");
    let grown = memory("VmHWM").saturating_sub(resident);
    assert_eq!(members(), before, "both are still members");

    stock.hurry(crowd).await;
    assert_eq!(effects.count("effect").await, i64::try_from(CROWD + 1).expect("some"));
    println!("{CROWD} sagas with {} MB took {} MB", (CROWD * BYTES) >> 20, grown / MEGABYTE);
    assert!(grown <= 220 * MEGABYTE, "a crowd took {} MB", grown / MEGABYTE);
    engine.shutdown().await.expect("an orderly end");
    participant.shutdown().await.expect("an orderly end");
}
