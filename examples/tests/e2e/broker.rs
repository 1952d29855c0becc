//! The broker: rid of what an earlier run left on it, and read from the beginning of a topic to its end.

use std::env;
use std::time::Duration;

use bytes::Bytes;
use examples::contract::{INVENTORY, ORCHESTRATOR, ORDERS, PAYMENTS};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::metadata::MetadataTopic;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Message as _};
use saga_core::{Envelope, Topic};
use tokio::time::{Instant, sleep};

/// How long members of an earlier run may still count as alive, and more.
const PATIENCE: Duration = Duration::from_secs(30);
const CALL: Duration = Duration::from_secs(10);

/// Returns the brokers of `KAFKA_BROKERS`.
pub(crate) fn brokers() -> String {
    env::var("KAFKA_BROKERS").unwrap_or_else(|_| {
        panic!("KAFKA_BROKERS is not set: run `make e2e`, which starts a broker")
    })
}

/// Deletes the topics and the groups of the services, and waits until they are gone.
pub(crate) async fn clean() {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers());
    let admin: AdminClient<DefaultClientContext> = config.create().expect("a client");
    delete_groups(&admin).await;
    delete_topics(&admin).await;
}

/// Returns the messages of a topic, from its beginning to where it ends now.
pub(crate) fn messages(topic: &Topic) -> Vec<Envelope> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers()).set("group.id", "audit");
    let consumer: BaseConsumer = config.create().expect("a client");
    let metadata = consumer.fetch_metadata(Some(topic.as_str()), CALL).expect("metadata");
    let (mut all, mut missing) = (TopicPartitionList::new(), 0);
    for partition in metadata.topics().iter().flat_map(MetadataTopic::partitions) {
        let (low, high) =
            consumer.fetch_watermarks(topic.as_str(), partition.id(), CALL).expect("its ends");
        missing += high - low;
        all.add_partition_offset(topic.as_str(), partition.id(), Offset::Beginning)
            .expect("an offset");
    }
    consumer.assign(&all).expect("what to read");
    let (mut messages, began) = (Vec::new(), Instant::now());
    while missing > 0 {
        assert!(began.elapsed() < PATIENCE, "{missing} records in {PATIENCE:?}");
        let Some(Ok(record)) = consumer.poll(CALL) else { continue };
        let value = Bytes::copy_from_slice(record.payload().expect("a value"));
        messages.push(Envelope::decode(value).expect("an envelope"));
        missing -= 1;
    }
    messages
}

async fn delete_groups(admin: &AdminClient<DefaultClientContext>) {
    let groups = [ORDERS, PAYMENTS, INVENTORY, ORCHESTRATOR];
    let groups: Vec<_> = groups.iter().map(saga_core::ParticipantName::as_str).collect();
    let started = Instant::now();
    loop {
        let deleted = admin.delete_groups(&groups, &AdminOptions::new()).await;
        let deleted = deleted.unwrap_or_else(|error| {
            panic!("no broker at KAFKA_BROKERS: run `make e2e`, which starts one ({error})")
        });
        let failed = deleted.into_iter().filter_map(Result::err);
        let failed: Vec<_> =
            failed.filter(|(_, code)| *code != RDKafkaErrorCode::GroupIdNotFound).collect();
        if failed.is_empty() {
            return;
        }
        let is_late = started.elapsed() > PATIENCE;
        assert!(!is_late, "groups are in use; is another run going on? {failed:?}");
        sleep(Duration::from_millis(500)).await;
    }
}

async fn delete_topics(admin: &AdminClient<DefaultClientContext>) {
    let services = [ORDERS, PAYMENTS, INVENTORY];
    let topics = services.iter().flat_map(|service| [service.commands(), service.events()]);
    let topics: Vec<_> = topics
        .flat_map(|topic| [topic.dead_letters(), topic])
        .map(|topic| topic.to_string())
        .collect();
    let names: Vec<_> = topics.iter().map(String::as_str).collect();
    admin.delete_topics(&names, &AdminOptions::new()).await.expect("delete topics");
    let started = Instant::now();
    loop {
        let metadata = admin.inner().fetch_metadata(None, CALL).expect("metadata");
        if !metadata.topics().iter().any(|topic| names.contains(&topic.name())) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "the broker does not delete the topics");
        sleep(Duration::from_millis(100)).await;
    }
}
