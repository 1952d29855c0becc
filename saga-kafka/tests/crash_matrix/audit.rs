//! What must hold at every moment: read after each death, past the library.

use std::collections::{HashMap, HashSet};
use std::env;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::metadata::MetadataTopic;
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use saga_core::message::{Envelope, Kind};
use saga_core::{
    Fact as _, IdempotencyKey, Message as _, MessageId, SagaData as _, SagaStore as _,
};
use saga_postgres::PostgresStore;
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use super::shop::{Order, OrderPlaced, SHOP, STOCK, order_of};
use super::stores::unsent;
use super::told::Told;

/// How long the broker takes at most for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Says what does not hold of an order about which so many facts were committed.
pub(crate) async fn audit(
    told: &Told,
    facts: usize,
    (sagas, effects): &(PostgresStore, PostgresStore),
    pool: &PgPool,
) -> Vec<String> {
    // In this order: what has left a place is in one that is looked at later.
    let passed = broker(told, passed).await;
    let recorded = recorded(pool, &told.effects).await;
    let waiting = waiting(effects).await;
    let messages = broker(told, messages).await;

    let sent = || messages.iter().map(|it| &it.envelope).chain(&waiting);
    let answered: HashSet<_> = sent().filter_map(|it| it.causation).collect();
    let barred: HashSet<_> = sent().filter_map(compensated).collect();
    let mut flaws = Vec::new();
    for message in messages.iter().filter(|it| it.is_before(&passed)) {
        let envelope = &message.envelope;
        if matches!(envelope.kind, Kind::Command(_)) && !answered.contains(&envelope.id) {
            flaws.push(format!("{} was acknowledged and is not answered (I6)", envelope.id));
        }
        if envelope.message_type == OrderPlaced::TYPE && !has_started(envelope, sagas).await {
            flaws.push(format!("{} was acknowledged and started nothing (I5)", envelope.id));
        }
    }
    for command in recorded.iter().filter(|it| !answered.contains(it) && !barred.contains(it)) {
        flaws.push(format!("{command} is on record, and its answer is lost (I13)"));
    }
    let is_ours =
        |it: &&Envelope| it.kind == Kind::Fact && order_of(it).as_ref() == Some(&told.order);
    let kept: HashSet<_> = sent().filter(is_ours).map(|it| it.id).collect();
    if kept.len() < facts {
        flaws.push(format!("{} of {facts} facts are lost (I5)", facts - kept.len()));
    }
    let mut seen = HashSet::new();
    let published = messages.iter().map(|it| &it.envelope).filter(is_ours).map(|it| it.id);
    let published: Vec<_> = published.filter(|id| seen.insert(*id)).collect();
    if !published.is_sorted() {
        flaws.push(format!("facts appear not as they were committed, but as {published:?} (I7)"));
    }
    flaws
}

/// A message on a topic.
struct Found {
    place: Place,
    offset: i64,
    envelope: Envelope,
}

/// A topic and a partition.
type Place = (String, i32);

impl Found {
    /// Returns true if the group that it is for does not get it again.
    fn is_before(&self, passed: &HashMap<Place, i64>) -> bool {
        passed.get(&self.place).is_some_and(|next| self.offset < *next)
    }
}

async fn has_started(fact: &Envelope, sagas: &PostgresStore) -> bool {
    let order = order_of(fact).expect("an order");
    let key = IdempotencyKey::new(order).expect("a short key");
    !sagas.find(&[(Order::SAGA, key)]).await.expect("find").is_empty()
}

fn compensated(envelope: &Envelope) -> Option<MessageId> {
    match &envelope.kind {
        Kind::Command(command) => command.compensates,
        _ => None,
    }
}

/// Returns the commands that the inbox has on record.
async fn recorded(pool: &PgPool, schema: &str) -> Vec<MessageId> {
    let ids = AssertSqlSafe(format!("select command_id from {schema}.inbox"));
    let ids: Vec<Uuid> = sqlx::query_scalar(ids).fetch_all(pool).await.expect("the inbox");
    ids.into_iter().map(MessageId).collect()
}

/// Returns the messages of the outbox.
async fn waiting(store: &PostgresStore) -> Vec<Envelope> {
    let records = unsent(store).await.into_iter().flat_map(|row| row.records().expect("records"));
    records.map(|record| Envelope::decode(record.value).expect("an envelope")).collect()
}

async fn broker<T: Send + 'static>(told: &Told, read: fn(&str) -> T) -> T {
    let prefix = told.prefix.clone();
    tokio::task::spawn_blocking(move || read(&prefix)).await.expect("the broker answers")
}

/// Returns where each group goes on.
fn passed(prefix: &str) -> HashMap<Place, i64> {
    let commands = [STOCK.commands()].map(|it| format!("{prefix}.{it}"));
    let events = [STOCK.events(), OrderPlaced::SOURCE.events()].map(|it| format!("{prefix}.{it}"));
    let mut passed = HashMap::new();
    for (group, topics) in [(STOCK, &commands[..]), (SHOP, &events[..])] {
        let group = consumer(&format!("{prefix}.{group}"));
        let partitions = partitions(&group, topics);
        let committed = ask(|| group.committed_offsets(partitions.clone(), PATIENCE));
        for it in committed.elements() {
            if let Offset::Offset(next) = it.offset() {
                passed.insert((it.topic().to_owned(), it.partition()), next);
            }
        }
    }
    passed
}

/// Returns all messages, in the order of each partition.
fn messages(prefix: &str) -> Vec<Found> {
    let topics = [STOCK.commands(), STOCK.events(), OrderPlaced::SOURCE.events()];
    let topics = topics.map(|it| format!("{prefix}.{it}"));
    let consumer = consumer(&format!("{prefix}.audit"));
    let partitions = partitions(&consumer, &topics);
    let mut left = 0;
    for mut it in partitions.elements() {
        let (low, high) = ask(|| consumer.fetch_watermarks(it.topic(), it.partition(), PATIENCE));
        left += high - low;
        it.set_offset(Offset::Beginning).expect("an offset");
    }
    consumer.assign(&partitions).expect("assign");
    let mut found = Vec::new();
    let began = Instant::now();
    while found.len() < usize::try_from(left).expect("some messages") {
        assert!(began.elapsed() < PATIENCE, "{} of {left} messages in {PATIENCE:?}", found.len());
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(200)) else { continue };
        let value = Bytes::copy_from_slice(message.payload().unwrap_or_default());
        let envelope = Envelope::decode(value).expect("an envelope");
        let place = (message.topic().to_owned(), message.partition());
        found.push(Found { place, offset: message.offset(), envelope });
    }
    found
}

/// Asks until the broker answers, each time anew: a topic that was just made has no leader for a moment.
fn ask<T>(question: impl Fn() -> KafkaResult<T>) -> T {
    let began = Instant::now();
    loop {
        match question() {
            Ok(answer) => return answer,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error}, for {PATIENCE:?}"),
        }
    }
}

fn consumer(group: &str) -> BaseConsumer {
    let brokers = env::var("KAFKA_BROKERS").expect("it is set");
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", group);
    config.set("enable.auto.commit", "false").create().expect("a consumer")
}

/// Returns the partitions of those topics that are there.
fn partitions(consumer: &BaseConsumer, topics: &[String]) -> TopicPartitionList {
    let mut partitions = TopicPartitionList::new();
    for topic in topics {
        let metadata = ask(|| consumer.fetch_metadata(Some(topic), PATIENCE));
        for partition in metadata.topics().iter().flat_map(MetadataTopic::partitions) {
            partitions.add_partition(topic, partition.id());
        }
    }
    partitions
}
