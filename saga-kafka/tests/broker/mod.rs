//! The real broker that the tests share.

use std::env;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::metadata::MetadataTopic;
use saga_core::{Clock as _, Publisher, SystemClock, Topic, Transport, TransportError};
use saga_kafka::{KafkaConfig, KafkaTransport};
use tokio::sync::OnceCell;
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
        Err(TransportError::UnknownTopic { .. }) => {
            static SWEPT: OnceCell<()> = OnceCell::const_new();
            SWEPT.get_or_init(|| sweep(&brokers)).await;
            transport
        }
        other => {
            panic!("no broker answers at {brokers}: run the tests with `make test`: {other:?}")
        }
    }
}

/// Deletes the topics of tests that ended an hour ago: thousands of them make a broker slow to start.
async fn sweep(brokers: &str) {
    let client: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().expect("a client");
    let all = client.inner().fetch_metadata(None, Duration::from_secs(10)).expect("an answer");
    let old: Vec<_> =
        all.topics().iter().map(MetadataTopic::name).filter(|it| is_old(it)).collect();
    // Whoever sweeps at the same time may be faster.
    let _ = client.delete_topics(&old, &AdminOptions::new()).await;
}

/// Whether a name has a time in it, as all those of `prefix` have, and which it is.
fn is_old(topic: &str) -> bool {
    let tails = topic.match_indices('-').filter_map(|(at, _)| topic.get(at + 1..at + 37));
    let made = tails.filter_map(|tail| Uuid::parse_str(tail).ok()?.get_timestamp());
    let hour_ago = SystemClock::new().now() - Duration::from_hours(1);
    let made = made.map(|it| i64::try_from(it.to_unix().0).unwrap_or(i64::MAX));
    made.map(|seconds| seconds.saturating_mul(1_000_000)).any(|it| it < hour_ago.as_micros())
}

/// A name that is nobody else's.
pub(crate) fn prefix(name: &str) -> String {
    format!("{name}-{}", Uuid::now_v7())
}
