//! The real broker that the tests share.

use std::env;
use std::time::Duration;

use saga_core::{Publisher, Topic, Transport, TransportError};
use saga_kafka::{KafkaConfig, KafkaTransport};
use uuid::Uuid;

/// Connects to the broker of `KAFKA_BROKERS`, or fails with how to start one.
pub(crate) async fn transport() -> KafkaTransport {
    let brokers = env::var("KAFKA_BROKERS").unwrap_or_else(|_| {
        panic!("KAFKA_BROKERS is not set: run the tests with `make test`, which starts a broker")
    });
    let config = KafkaConfig::new(&brokers).session_timeout(Duration::from_secs(6));
    let transport = KafkaTransport::new(config).expect("the configuration is valid");
    let publisher = transport.publisher().await.expect("a publisher can be made");
    let probe = Topic::parse(prefix("probe")).expect("the prefix is a topic name");
    match publisher.partitions(&probe).await {
        Err(TransportError::UnknownTopic { .. }) => transport,
        other => {
            panic!("no broker answers at {brokers}: run the tests with `make test`: {other:?}")
        }
    }
}

/// A name that is nobody else's.
pub(crate) fn prefix(name: &str) -> String {
    format!("{name}-{}", Uuid::now_v7())
}
