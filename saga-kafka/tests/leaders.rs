//! Partitions change their leader, or have none for a while, and everything goes on.

mod mock;
#[path = "../../saga-core/tests/support/mod.rs"]
mod support;
mod world;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::types::RDKafkaApiKey;
use saga_core::transport::{Delivery, Received, Record, Subscription};
use saga_core::{ParticipantName, Publisher, Subscriber, Topic, Transport};
use saga_kafka::{KafkaPublisher, KafkaSubscriber, KafkaTransport};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use mock::{Mock, PATIENCE, until};
use support::saga;
use world::{PARTITIONS, World};

const TOPIC: Topic = Topic::new("events");
const GROUP: ParticipantName = ParticipantName::new("readers");
const BROKERS: u32 = 3;
const KEYS: u64 = 8;
/// How soon work goes on under a new leader.
const RESUMED: Duration = Duration::from_secs(15);

/// Gives all partitions of these topics to a broker, or takes them away from all.
fn lead(mock: &Mock, topics: &[Topic], leader: Option<i32>) {
    for topic in topics {
        for partition in 0..PARTITIONS {
            let led = mock.cluster().partition_leader(topic.as_str(), partition, leader);
            led.expect("the partition and the broker exist");
        }
    }
}

/// Makes a broker the leader, and waits until it is at work.
async fn follow(mock: &Mock, topics: &[Topic], leader: i32) {
    mock.mark();
    let since = Instant::now();
    lead(mock, topics, Some(leader));
    until("batches for the leader", || mock.appended(leader) >= 20).await;
    assert!(since.elapsed() < RESUMED, "{:?}", since.elapsed());
}

async fn move_about(mock: &Mock, topics: &[Topic]) {
    for leader in [1, 2, 3, 1, 3, 2, 1, 2] {
        follow(mock, topics, leader).await;
    }
}

async fn go_without(mock: &Mock, topics: &[Topic]) {
    for next in [1, 3] {
        lead(mock, topics, None);
        mock.mark();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let taken: usize = [1, 2, 3].into_iter().map(|broker| mock.appended(broker)).sum();
        assert_eq!(taken, 0, "nobody takes a record");
        follow(mock, topics, next).await;
    }
}

/// Answers as brokers did before they told who leads instead. Mock brokers that are to tell it while nobody leads
/// crash.
fn tell_no_leader(mock: &Mock) {
    for (request, newest) in [(RDKafkaApiKey::Produce, 9), (RDKafkaApiKey::Fetch, 11)] {
        let limited = mock.cluster().apiversion(request, Some(3), Some(newest));
        limited.expect("the versions exist");
    }
}

/// Records on their way from a publisher to a subscriber, one after the other under each key.
struct Flow {
    publishing: tokio::task::JoinHandle<u64>,
    stop: CancellationToken,
    received: mpsc::UnboundedReceiver<Delivery>,
}

impl Flow {
    async fn new(transport: &KafkaTransport) -> Self {
        let publisher = transport.publisher().await.expect("a publisher can be made");
        let subscription = Subscription { group: GROUP, topics: vec![TOPIC] };
        let subscriber = transport.subscriber(subscription).await.expect("a member can join");
        let (sender, received) = mpsc::unbounded_channel();
        tokio::spawn(receive(subscriber, sender));
        let stop = CancellationToken::new();
        let publishing = tokio::spawn(publish(publisher, stop.clone()));
        Self { publishing, stop, received }
    }

    /// Every receipt is good, and under each key every record came, for the first time in order.
    async fn end(mut self) {
        self.stop.cancel();
        let published = self.publishing.await.expect("every receipt is good");
        let mut next = HashMap::<Bytes, u64>::new();
        let everything = tokio::time::timeout(PATIENCE, async {
            while next.values().sum::<u64>() < published {
                let delivery = self.received.recv().await.expect("the subscriber works");
                let number = delivery.value[..].try_into().map(u64::from_be_bytes);
                let number = number.expect("8 bytes were published");
                let next = next.entry(delivery.key).or_default();
                assert!(number <= *next, "{number} overtakes {next}");
                *next = (*next).max(number + 1);
            }
        });
        everything.await.expect("every record arrives");
    }
}

/// Publishes until it is told to stop, and returns how many records the brokers have.
async fn publish(publisher: KafkaPublisher, stop: CancellationToken) -> u64 {
    let mut receipts = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_millis(2));
    for number in 0_u64.. {
        if stop.is_cancelled() {
            break;
        }
        tick.tick().await;
        for key in 0..KEYS {
            let (key, value) = (Bytes::from(format!("{key}")), number.to_be_bytes());
            let value = Bytes::copy_from_slice(&value);
            let record = Record { topic: TOPIC, partition: None, key, value, headers: Vec::new() };
            receipts.push(publisher.publish(vec![record]));
        }
    }
    let total = receipts.len() as u64;
    for receipt in receipts {
        receipt.await.expect("a publisher outlives a leader");
    }
    total
}

async fn receive(mut subscriber: KafkaSubscriber, sender: mpsc::UnboundedSender<Delivery>) {
    loop {
        let received = subscriber.receive(100).await.expect("a subscriber outlives a leader");
        let Received::Deliveries(deliveries) = received else { continue };
        let positions: Vec<_> = deliveries.iter().map(|it| it.position.clone()).collect();
        for delivery in deliveries {
            if sender.send(delivery).is_err() {
                return;
            }
        }
        subscriber.acknowledge(&positions);
    }
}

fn mock() -> (Mock, KafkaTransport) {
    let mock = Mock::new(BROKERS);
    mock.create_topic(TOPIC.as_str(), PARTITIONS, 3);
    let transport = KafkaTransport::new(mock.config()).expect("the configuration is valid");
    (mock, transport)
}

/// F11, I5, I7.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_keep_their_order_while_the_leader_moves() {
    let (mock, transport) = mock();
    let flow = Flow::new(&transport).await;
    move_about(&mock, &[TOPIC]).await;
    flow.end().await;
}

/// F11, I5, I7.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_wait_for_a_leader_and_keep_their_order() {
    let (mock, transport) = mock();
    tell_no_leader(&mock);
    let flow = Flow::new(&transport).await;
    move_about(&mock, &[TOPIC]).await;
    go_without(&mock, &[TOPIC]).await;
    flow.end().await;
}

/// F11, I4, I5.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f11_a_leader_that_moves_or_is_missing_uses_up_no_attempt() {
    let (mock, transport) = world::mock(BROKERS);
    tell_no_leader(&mock);
    let world = World::new(&transport, saga());
    let (mut sagas, topics) = (Vec::new(), world::topics());
    let work = async {
        loop {
            sagas.extend(world.start_all(5).await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let trouble = async {
        move_about(&mock, &topics).await;
        go_without(&mock, &topics).await;
    };
    tokio::select! {
        () = trouble => {}
        () = work => unreachable!("there is always more to do"),
    }
    world.complete(sagas, "leaders come and go").await;
    let letters = [world.sagas.dead_letters(), world.effects.dead_letters()].concat();
    assert!(letters.is_empty(), "{letters:#?}");
    world.end().await;
}
