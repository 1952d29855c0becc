//! What is refused, and brokers that go away and come back.

mod broker;
mod mock;
#[path = "../../saga-core/tests/support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use saga_core::store::{OutboxRow, Transactional as _};
use saga_core::transport::{Delivery, Receipt, Received, Record, Subscription};
use saga_core::{
    Envelope, Fact as _, ParticipantName, Publisher, Relay, Subscriber, Topic, Transport,
    TransportError,
};
use saga_kafka::{KafkaConfig, KafkaPublisher, KafkaSubscriber, KafkaTransport};
use tokio::time::timeout;

use mock::{ENDING, Mock, until};
use support::{Db, OrderPlaced};

const TOPIC: Topic = Topic::new("events");
const GROUP: ParticipantName = ParticipantName::new("readers");
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than it takes to send a few records.
const SLOW: Duration = Duration::from_secs(30);

/// A broker of the client library's own, which fails on demand.
fn mock() -> (Mock, KafkaConfig) {
    let mock = Mock::new(1);
    mock.create_topic(TOPIC.as_str(), 4, 1);
    let config = mock.config();
    (mock, config)
}

fn transport(config: KafkaConfig) -> KafkaTransport {
    KafkaTransport::new(config).expect("the configuration is valid")
}

async fn join(transport: &KafkaTransport, topic: &Topic) -> KafkaSubscriber {
    let subscription = Subscription { group: GROUP, topics: vec![topic.clone()] };
    transport.subscriber(subscription).await.expect("a broker that is away is no error")
}

fn record(value: impl Into<Bytes>) -> Record {
    let (key, value) = (Bytes::from_static(b"key"), value.into());
    Record { topic: TOPIC, partition: Some(0), key, value, headers: Vec::new() }
}

async fn take(subscriber: &mut KafkaSubscriber, count: usize) -> Vec<Delivery> {
    let mut all = Vec::new();
    let taken = timeout(PATIENCE, async {
        while all.len() < count {
            if let Received::Deliveries(deliveries) =
                subscriber.receive(100).await.expect("receives")
            {
                all.extend(deliveries);
            }
        }
    });
    taken.await.expect("the records arrive");
    all
}

async fn settled<T>(receipt: impl Future<Output = T>) -> T {
    timeout(PATIENCE, receipt).await.expect("a receipt is settled")
}

fn is_failed(result: &Result<(), TransportError>) -> bool {
    matches!(result, Err(TransportError::PublisherFailed { .. }))
}

fn answers_after(mock: &Mock, delay: Duration) {
    mock.cluster().broker_round_trip_time(1, delay).expect("the mock broker changes its pace");
}

/// Publishes five records, each in a request of its own, before the first of them is answered.
///
/// The client sends no more of a partition while five of its records are on their way.
async fn in_flight(mock: &Mock, publisher: &KafkaPublisher) -> Vec<Receipt> {
    answers_after(mock, SLOW);
    let started = Instant::now();
    let mut receipts = Vec::new();
    for n in 0..5 {
        receipts.push(publisher.publish(vec![record(n.to_string())]));
        mock.has_received(RDKafkaApiKey::Produce, receipts.len()).await;
    }
    assert!(started.elapsed() < SLOW, "nothing is answered yet");
    answers_after(mock, Duration::ZERO);
    receipts
}

/// What a broker answers to five requests if it refuses the first: what comes behind it is refused for its
/// sequence number. A real one checks it, the mock broker has to be told.
fn refusals(first: RDKafkaRespErr) -> [RDKafkaRespErr; 5] {
    let mut refusals = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER; 5];
    refusals[0] = first;
    refusals
}

/// F16, I7: four batches are in flight behind the refused one, and more wait.
#[tokio::test]
async fn a_refused_batch_fails_the_publisher_and_nothing_overtakes_it() {
    let (mock, config) = mock();
    let transport = transport(config);
    let publisher = transport.publisher().await.expect("a publisher can be made");
    settled(publisher.publish(vec![record("sound")])).await.expect("the publisher is sound");

    let refused = refusals(RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    mock.fail(RDKafkaApiKey::Produce, &refused);
    let mut receipts = in_flight(&mock, &publisher).await;
    let batch = |n: u32| (0..50).map(move |m| record(format!("{n}-{m}"))).collect();
    receipts.extend((5..20).map(|n| publisher.publish(batch(n))));
    for (n, receipt) in receipts.into_iter().enumerate() {
        let result = settled(receipt).await;
        let is_refused =
            matches!(&result, Err(TransportError::Refused { topic, .. }) if *topic == TOPIC);
        assert!(if n == 0 { is_refused } else { is_failed(&result) }, "batch {n}: {result:?}");
    }
    let later = settled(publisher.publish(vec![record("later")])).await;
    assert!(is_failed(&later), "{later:?}");

    let successor = transport.publisher().await.expect("a publisher can be made");
    settled(successor.publish(vec![record("marker")])).await.expect("the successor is sound");
    let mut subscriber = join(&transport, &TOPIC).await;
    let values: Vec<_> = take(&mut subscriber, 2).await.into_iter().map(|d| d.value).collect();
    assert_eq!(values, ["sound", "marker"], "nothing that was refused, or behind it, is appended");
}

/// F16, I5, I7: four batches are in flight behind the one that is tried again.
#[tokio::test]
async fn a_batch_that_is_tried_again_is_not_overtaken() {
    use RDKafkaRespErr::*;
    let (mock, config) = mock();
    let transport = transport(config);
    let publisher = transport.publisher().await.expect("a publisher can be made");
    settled(publisher.publish(vec![record("sound")])).await.expect("the publisher is sound");
    let mut subscriber = join(&transport, &TOPIC).await;
    take(&mut subscriber, 1).await;
    let passing = [
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
    ];
    for error in passing {
        mock.fail(RDKafkaApiKey::Produce, &refusals(error));
        for receipt in in_flight(&mock, &publisher).await {
            settled(receipt).await.unwrap_or_else(|failed| panic!("{error:?}: {failed:?}"));
        }
        let taken = take(&mut subscriber, 5).await;
        let values: Vec<_> = taken.into_iter().map(|it| it.value).collect();
        assert_eq!(values, ["0", "1", "2", "3", "4"], "{error:?}: in order, once");
    }
}

/// Enqueues a numbered fact about one of two orders, in turns.
async fn enqueue(db: &Db, relay: &Relay, number: usize) {
    let order = ["a", "b"][number % 2];
    let fact = OrderPlaced { order: order.to_owned(), trouble: number.to_string() };
    let mut transaction = db.begin().await.expect("begin");
    let row = OutboxRow::fact(&fact, order).expect("encodable");
    Db::connection(&mut transaction).enqueue(row);
    transaction.commit().await.expect("commit");
    relay.wake();
}

/// Reads on until so many facts have come; each order has its numbers as they came first.
async fn read(
    subscriber: &mut KafkaSubscriber,
    told: &mut HashMap<String, Vec<usize>>,
    facts: usize,
) {
    while told.values().map(Vec::len).sum::<usize>() < facts {
        for delivery in take(subscriber, 1).await {
            let envelope = Envelope::decode(delivery.value).expect("an envelope");
            let fact: OrderPlaced =
                serde_json::from_slice(envelope.payload.as_bytes()).expect("JSON");
            let number = fact.trouble.parse().expect("a number");
            let numbers = told.entry(fact.order).or_default();
            if !numbers.contains(&number) {
                numbers.push(number);
            }
        }
    }
}

/// F16, I5, I7.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f16_a_producer_that_is_made_anew_keeps_the_order_of_a_key() {
    let mock = Mock::new(1);
    let topic = OrderPlaced::SOURCE.events();
    // Both orders in one partition: exactly five facts are on their way then, and each is refused.
    mock.create_topic(topic.as_str(), 1, 1);
    let (transport, db) = (transport(mock.config()), Db::default());
    let relay = Relay::start(db.clone(), transport.clone());
    let mut subscriber = join(&transport, &topic).await;
    let mut told = HashMap::new();
    for number in 0..2 {
        enqueue(&db, &relay, number).await;
    }
    read(&mut subscriber, &mut told, 2).await;

    for (round, error) in ENDING.into_iter().enumerate() {
        let first = 2 + 100 * round;
        until("the outbox is empty", || db.outbox_len() == 0).await;
        mock.fail(RDKafkaApiKey::Produce, &refusals(error));
        answers_after(&mock, SLOW);
        let started = Instant::now();
        for sent in 0..5 {
            enqueue(&db, &relay, first + sent).await;
            mock.has_received(RDKafkaApiKey::Produce, sent + 1).await;
        }
        for number in first + 5..first + 50 {
            enqueue(&db, &relay, number).await;
        }
        assert!(started.elapsed() < SLOW, "nothing is answered yet");
        answers_after(&mock, Duration::ZERO);
        for number in first + 50..first + 75 {
            enqueue(&db, &relay, number).await;
        }
        mock.has_received(RDKafkaApiKey::InitProducerId, 1).await;
        for number in first + 75..first + 100 {
            enqueue(&db, &relay, number).await;
        }
        read(&mut subscriber, &mut told, first + 100).await;
        for (order, numbers) in &told {
            assert!(numbers.is_sorted(), "{error:?}: order {order}: {numbers:?}");
        }
    }
    relay.shutdown().await.expect("an orderly end");
}

/// F16, I7.
#[tokio::test]
async fn f16_a_full_queue_of_the_client_delays_and_keeps_the_order() {
    const ROOM: usize = 10;
    let (mock, config) = mock();
    let transport = transport(config.setting("queue.buffering.max.messages", ROOM.to_string()));
    let publisher = transport.publisher().await.expect("a publisher can be made");
    mock.mark();
    let values: Vec<_> = (0..1_000).map(|n| n.to_string()).collect();
    let receipt = publisher.publish(values.iter().cloned().map(record).collect());
    settled(receipt).await.expect("what does not fit waits");
    // No request carries more than there is room for.
    mock.has_received(RDKafkaApiKey::Produce, values.len() / ROOM).await;
    let mut subscriber = join(&transport, &TOPIC).await;
    let taken = take(&mut subscriber, values.len()).await;
    let taken: Vec<_> = taken.into_iter().map(|it| it.value).collect();
    assert_eq!(taken, values, "in order, once");
}

/// F16.
#[tokio::test]
async fn a_record_that_is_too_big_is_refused_and_what_came_before_it_is_not() {
    let (_mock, config) = mock();
    let transport = transport(config);
    let publisher = transport.publisher().await.expect("a publisher can be made");
    // What is under way when the publisher fails has a second to arrive, so it has found the broker before.
    settled(publisher.publish(vec![record("sound")])).await.expect("the publisher is sound");
    let before = publisher.publish(vec![record("before")]);
    let big = publisher.publish(vec![record("with it"), record(vec![0; 2 << 20])]);
    let after = publisher.publish(vec![record("after")]);
    settled(before).await.expect("what came before is appended");
    let big = settled(big).await;
    assert!(matches!(big, Err(TransportError::Refused { .. })), "{big:?}");
    let after = settled(after).await;
    assert!(is_failed(&after), "{after:?}");
}

/// F16.
#[tokio::test]
async fn a_partition_that_does_not_exist_is_refused() {
    let (_mock, config) = mock();
    let publisher = transport(config).publisher().await.expect("a publisher can be made");
    let nowhere = Record { partition: Some(4), ..record("nowhere") };
    let result = settled(publisher.publish(vec![nowhere])).await;
    assert!(matches!(result, Err(TransportError::Refused { .. })), "{result:?}");
}

/// F10.
#[tokio::test]
async fn a_broker_that_comes_back_is_used_again() {
    let (mock, config) = mock();
    mock.cluster().broker_down(-1).expect("the mock broker stops");
    let transport = transport(config);
    let publisher = transport.publisher().await.expect("a broker that is away is no error");
    let mut subscriber = join(&transport, &TOPIC).await;
    let first = publisher.publish(vec![record("first")]);
    let unknown = Topic::new("never-asked-for");
    let size = settled(publisher.partitions(&unknown)).await;
    assert!(matches!(size, Err(TransportError::Unavailable { .. })), "{size:?}");

    mock.cluster().broker_up(-1).expect("the mock broker starts");
    settled(first).await.expect("what waited is appended");
    assert_eq!(take(&mut subscriber, 1).await[0].value, "first");

    mock.cluster().broker_down(-1).expect("the mock broker stops");
    let receipts: Vec<_> =
        (0..100).map(|n| publisher.publish(vec![record(format!("{n}"))])).collect();
    mock.cluster().broker_up(-1).expect("the mock broker starts");
    for receipt in receipts {
        settled(receipt).await.expect("what waited is appended");
    }
    let values: Vec<_> = take(&mut subscriber, 100).await.into_iter().map(|d| d.value).collect();
    let expected: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    assert_eq!(values, expected, "in order, once");
}

#[tokio::test]
async fn a_service_can_ask_whether_a_broker_is_there() {
    let (mock, config) = mock();
    let transport = transport(config);
    transport.check().await.expect("it is there, before any topic is known");
    transport.ensure_topics(&[TOPIC]).await.expect("the topic is there");
    transport.check().await.expect("it is there");
    mock.cluster().broker_down(1).expect("the mock broker goes down");
    let asked = Instant::now();
    let error = timeout(PATIENCE, async {
        loop {
            // What was on its way when the broker went down may still be answered.
            if let Err(error) = transport.check().await {
                break error;
            }
        }
    });
    let error = error.await.expect("it is missed");
    assert!(matches!(error, TransportError::Unavailable { .. }), "{error:?}");
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    mock.cluster().broker_up(1).expect("the mock broker comes up");
    let back = timeout(PATIENCE, async { while transport.check().await.is_err() {} });
    back.await.expect("it is found again");
}

/// F10.
#[tokio::test]
async fn nothing_hangs_on_a_broker_that_stays_away() {
    let (mock, config) = mock();
    let transport = transport(config);
    let publisher = transport.publisher().await.expect("a publisher can be made");
    settled(publisher.publish(vec![record("there")])).await.expect("the publisher is sound");
    let mut subscriber = join(&transport, &TOPIC).await;
    let deliveries = take(&mut subscriber, 1).await;
    mock.cluster().broker_down(-1).expect("the mock broker stops");

    let outstanding: Vec<_> =
        (0..1_000).map(|n| publisher.publish(vec![record(format!("{n}"))])).collect();
    let started = Instant::now();
    drop(publisher);
    assert!(started.elapsed() < Duration::from_secs(1), "dropping must not wait");
    for receipt in outstanding {
        let result = settled(receipt).await;
        assert!(is_failed(&result), "{result:?}");
    }
    subscriber.acknowledge(&[deliveries[0].position.clone()]);
    let closed = timeout(PATIENCE, subscriber.close()).await.expect("closing is bounded");
    assert!(matches!(closed, Err(TransportError::Unavailable { .. })), "{closed:?}");
}

/// F18, I5.
#[tokio::test]
async fn an_offset_that_is_out_of_range_is_an_error_and_not_skipped() {
    let transport = broker::transport().await;
    let topic = Topic::parse(broker::prefix("range")).expect("the prefix is a topic name");
    transport.ensure_topics(std::slice::from_ref(&topic)).await.expect("topics are created");
    let publisher = transport.publisher().await.expect("a publisher can be made");
    let records = (0..10).map(|n| Record { topic: topic.clone(), ..record(format!("{n}")) });
    settled(publisher.publish(records.collect())).await.expect("the records are appended");
    let group = ParticipantName::parse(topic.as_str()).expect("the prefix is a group name");
    let subscription = Subscription { group, topics: vec![topic.clone()] };
    let join = || transport.subscriber(subscription.clone());

    let mut first = join().await.expect("a member can join");
    let deliveries = take(&mut first, 10).await;
    first.acknowledge(&[deliveries[0].position.clone(), deliveries[1].position.clone()]);
    first.close().await.expect("the member leaves");
    delete_before(&topic, 5).await;

    let mut second = join().await.expect("a member can join");
    let error = timeout(PATIENCE, async {
        loop {
            match second.receive(10).await {
                Ok(Received::Deliveries(deliveries)) => {
                    panic!("records were skipped: {deliveries:?}")
                }
                Ok(_) => {}
                Err(error) => break error,
            }
        }
    });
    let error = error.await.expect("in time");
    let is_named = matches!(
        &error,
        TransportError::OffsetOutOfRange { topic: named, partition: 0 } if *named == topic
    );
    assert!(is_named, "{error:?}");

    // A group without an offset starts at what is the beginning now.
    let group = ParticipantName::parse(format!("{topic}-new")).expect("a group name");
    let new = Subscription { group, ..subscription };
    let mut new = transport.subscriber(new).await.expect("a member can join");
    assert_eq!(take(&mut new, 5).await[0].value, "5");
}

async fn delete_before(topic: &Topic, offset: i64) {
    let brokers = std::env::var("KAFKA_BROKERS").expect("the transport was made of it");
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().expect("a client");
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(topic.as_str(), 0, Offset::Offset(offset)).expect("an offset");
    let deleted = admin.delete_records(&before, &AdminOptions::new()).await;
    deleted.expect("records can be deleted");
}
