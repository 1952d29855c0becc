//! Watching what consumers make of poison: patiently, and not for ever.

use std::time::Duration;

use bytes::Bytes;
use saga_core::policy::dead_letter;
use saga_core::transport::{Delivery, Received, Record, Subscription};
use saga_core::{Envelope, ParticipantName, Publisher, Subscriber, Topic, Transport};
use tokio::time::{Instant, timeout_at};

use super::consumers::SetAside;
use crate::Fixture;

/// How long everything that comes of one run may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long to wait between two looks at what does not tell by itself.
const LOOK: Duration = Duration::from_millis(2);

/// Waits until something holds; panics with what did not come about.
pub(super) async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

pub(super) async fn partitions<T: Transport>(transport: &T, topic: &Topic) -> u32 {
    let publisher = transport.publisher().await.expect("a publisher can be made");
    publisher.partitions(topic).await.expect("the topic was created")
}

/// Makes the record of a sound message.
pub(super) fn deliver(sound: &Envelope, topic: &Topic, partition: u32) -> Record {
    Record {
        topic: topic.clone(),
        partition: Some(partition),
        key: Bytes::from(sound.id.to_string()),
        value: sound.encode(),
        headers: Vec::new(),
    }
}

/// Reads a topic from the beginning.
pub(super) struct Reader<S> {
    subscriber: S,
    deadline: Instant,
}

impl<S: Subscriber> Reader<S> {
    pub(super) async fn join<T>(transport: &T, topic: Topic) -> Self
    where
        T: Transport<Subscriber = S>,
    {
        let group = ParticipantName::parse(format!("reader-of-{topic}")).expect("a short topic");
        let subscription = Subscription { group, topics: vec![topic] };
        let subscriber = transport.subscriber(subscription).await.expect("the topic exists");
        Self { subscriber, deadline: Instant::now() + PATIENCE }
    }

    /// Returns what comes next; panics with what is missing if nothing does.
    pub(super) async fn receive(&mut self, what: impl Fn() -> String) -> Vec<Delivery> {
        let received = timeout_at(self.deadline, self.subscriber.receive(100)).await;
        let received = received.unwrap_or_else(|_| panic!("never: {}", what()));
        match received.expect("the topic can be read") {
            Received::Deliveries(deliveries) => {
                let positions: Vec<_> = deliveries.iter().map(|it| it.position.clone()).collect();
                self.subscriber.acknowledge(&positions);
                deliveries
            }
            Received::Assigned(_) | Received::Revoked(_) => Vec::new(),
        }
    }
}

/// Checks that exactly these messages of a topic are kept, byte for byte and with the reason, and
/// that all of them are published to the topic's dead letters.
pub(super) async fn assert_set_aside<F: Fixture, T: Transport>(
    fixture: &F,
    transport: &T,
    topic: &Topic,
    expected: SetAside,
) {
    let mut letters = fixture.dead_letters().await;
    let mut to_be_published = Vec::with_capacity(letters.len());
    for (name, dose, reason) in expected {
        let found = letters.iter().position(|it| {
            it.key == dose.key && it.value == dose.value && it.headers == dose.headers
        });
        let letter = letters.swap_remove(found.unwrap_or_else(|| panic!("{name} is not kept")));
        assert_eq!((letter.reason.as_str(), &letter.topic), (reason, topic), "{name}");
        assert!(!letter.detail.is_empty(), "what is wrong with {name} must be told");
        to_be_published.push((name, dead_letter::record(&letter)));
    }
    let left: Vec<_> = letters.iter().map(|it| (&it.reason, &it.detail)).collect();
    assert!(left.is_empty(), "nothing else may be set aside: {left:?}");

    let mut reader = Reader::join(transport, topic.dead_letters()).await;
    while !to_be_published.is_empty() {
        let names = to_be_published.iter().map(|(name, _)| name);
        let what = || format!("dead letters of {:?}", names.clone().collect::<Vec<_>>());
        for delivery in reader.receive(what).await {
            to_be_published.retain(|(_, record)| {
                let is_same = delivery.key == record.key
                    && delivery.value == record.value
                    && delivery.headers == record.headers;
                !is_same
            });
        }
    }
}
