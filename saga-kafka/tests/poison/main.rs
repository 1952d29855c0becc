//! What nobody sound would send, to every consumer, on a real broker and a real database.

#[path = "../broker/mod.rs"]
mod broker;
#[path = "../../../saga-postgres/tests/support/mod.rs"]
mod database;
mod private;

use std::env;

use saga_kafka::{KafkaConfig, KafkaTransport};
use saga_testkit::poison;

use private::Private;

/// A transport with the defaults, and one to the same topics that sends ten megabytes at once.
async fn transports() -> (Private<KafkaTransport>, Private<KafkaTransport>) {
    let prefix = broker::prefix("poison");
    let sound = broker::transport().await;
    let brokers = env::var("KAFKA_BROKERS").expect("the other transport was made of it");
    let hostile = KafkaConfig::new(brokers).setting("message.max.bytes", "20971520");
    let hostile = KafkaTransport::new(hostile).expect("the configuration is valid");
    (Private::new(sound, &prefix), Private::new(hostile, &prefix))
}

#[test]
fn commands_one_by_one() {
    saga_testkit::run(async {
        let (transport, hostile) = transports().await;
        let store = database::fresh().await;
        poison::behind_poison_commands_are_carried_out(store, transport, &hostile).await;
    });
}

#[test]
fn commands_together() {
    saga_testkit::run(async {
        let (transport, hostile) = transports().await;
        let store = database::fresh().await;
        poison::behind_poison_commands_are_carried_out_together(store, transport, &hostile).await;
    });
}

#[test]
fn external_calls() {
    saga_testkit::run(async {
        let (transport, hostile) = transports().await;
        let store = database::fresh().await;
        poison::behind_poison_external_calls_are_made(store, transport, &hostile).await;
    });
}

#[test]
fn replies() {
    saga_testkit::run(async {
        let (transport, hostile) = transports().await;
        let store = database::fresh().await;
        poison::behind_poison_replies_are_taken(store, transport, &hostile).await;
    });
}

#[test]
fn facts() {
    saga_testkit::run(async {
        let (transport, hostile) = transports().await;
        let store = database::fresh().await;
        poison::behind_poison_facts_start_sagas(store, transport, &hostile).await;
    });
}

#[test]
fn outbox_rows() {
    saga_testkit::run(async {
        let (transport, _) = transports().await;
        let store = database::fresh().await;
        poison::behind_poison_outbox_rows_are_sent(store, transport).await;
    });
}
