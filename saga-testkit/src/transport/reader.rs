//! What the laws publish, and a subscriber that checks what every subscriber must keep.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use saga_core::transport::{Delivery, Partition, Position, Received, Record, Subscription};
use saga_core::{Publisher, Subscriber, Topic, Transport, TransportError};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

use super::Fixture;

/// What a law publishes last, to see that nothing else came before it.
pub(super) const MARKER: &str = "the marker";
/// Small, so that a law is not served in one go.
const LIMIT: usize = 7;

impl<T: Transport> Fixture<T> {
    /// Creates a topic and returns its name and its number of partitions.
    pub(super) async fn new_topic(&self, name: &str) -> (Topic, u32) {
        let topic = self.topic(name);
        let ensured = self.transport.ensure_topics(std::slice::from_ref(&topic)).await;
        ensured.expect("a topic can be created");
        let publisher = self.publisher().await;
        let partitions = publisher.partitions(&topic).await.expect("a created topic has a size");
        assert!(partitions >= 4, "the fixture must make topics of 4 partitions: {partitions}");
        (topic, partitions)
    }

    pub(super) async fn publisher(&self) -> T::Publisher {
        self.transport.publisher().await.expect("a publisher can be made")
    }

    /// Publishes on a new publisher and waits for the receipt.
    pub(super) async fn publish(&self, records: Vec<Record>) {
        let publisher = self.publisher().await;
        self.settled(publisher.publish(records)).await.expect("the records must be appended");
    }

    /// Waits for a receipt or another result, and not for ever.
    pub(super) async fn settled<R>(&self, result: impl Future<Output = R>) -> R {
        let deadline = Instant::now() + self.patience;
        let settled = timeout_at(deadline, result).await;
        settled.expect("a receipt must be settled before the law loses patience")
    }

    /// Joins a group.
    pub(super) async fn join(&self, group: &str, topics: &[&Topic]) -> Reader<T::Subscriber> {
        let topics = topics.iter().map(|&topic| topic.clone()).collect();
        let subscription = Subscription { group: self.group(group), topics };
        let subscriber = self.transport.subscriber(subscription).await;
        let subscriber = subscriber.expect("an existing topic can be subscribed to");
        Reader { subscriber, held: BTreeSet::new(), early: Vec::new(), patience: self.patience }
    }
}

pub(super) fn record(topic: &Topic, partition: u32, value: impl AsRef<str>) -> Record {
    Record {
        topic: topic.clone(),
        partition: Some(partition),
        key: Bytes::from_static(b"key"),
        value: Bytes::copy_from_slice(value.as_ref().as_bytes()),
        headers: Vec::new(),
    }
}

pub(super) fn marker(topic: &Topic, partition: u32) -> Record {
    record(topic, partition, MARKER)
}

pub(super) fn text(delivery: &Delivery) -> &str {
    std::str::from_utf8(&delivery.value).expect("this law publishes text")
}

pub(super) fn texts(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(text).collect()
}

pub(super) fn positions(deliveries: &[Delivery]) -> Vec<Position> {
    deliveries.iter().map(|delivery| delivery.position.clone()).collect()
}

pub(super) fn partition_of(delivery: &Delivery) -> Partition {
    let Position { topic, partition, .. } = &delivery.position;
    Partition { topic: topic.clone(), number: *partition }
}

/// A subscriber, and the partitions that it was told to hold.
pub(super) struct Reader<S> {
    pub(super) subscriber: S,
    pub(super) held: BTreeSet<Partition>,
    /// What was delivered while a law waited for partitions.
    early: Vec<Delivery>,
    patience: Duration,
}

impl<S: Subscriber> Reader<S> {
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.patience
    }

    /// Receives once, notes which partitions are held, and returns what was delivered.
    ///
    /// # Cancel safety
    ///
    /// As that of the subscriber.
    pub(super) async fn receive(&mut self) -> Vec<Delivery> {
        let received = self.subscriber.receive(LIMIT).await;
        self.note(received)
    }

    /// Checks what was received against what is held.
    pub(super) fn note(&mut self, received: Result<Received, TransportError>) -> Vec<Delivery> {
        match received {
            Ok(Received::Assigned(partitions)) => {
                for partition in partitions {
                    let text = format!("{partition:?} was assigned twice");
                    assert!(self.held.insert(partition), "{text}");
                }
                Vec::new()
            }
            Ok(Received::Revoked(partitions)) => {
                for partition in partitions {
                    let held = self.held.remove(&partition);
                    assert!(held, "{partition:?} was revoked and not held");
                    self.early.retain(|delivery| partition_of(delivery) != partition);
                }
                Vec::new()
            }
            Ok(Received::Deliveries(deliveries)) => {
                let number = deliveries.len();
                assert!(number <= LIMIT, "{number} deliveries were received: {LIMIT} is the limit");
                for delivery in &deliveries {
                    let partition = partition_of(delivery);
                    assert!(self.held.contains(&partition), "{partition:?} is not held");
                }
                deliveries
            }
            Err(error) if error.is_transient() => Vec::new(),
            Err(error) => panic!("the subscriber must receive: {error:?}"),
        }
    }

    /// Receives once, or nothing if the deadline has passed.
    async fn receive_until(&mut self, deadline: Instant) -> Option<Vec<Delivery>> {
        // A subscriber that always has an error at hand would never let the timer run.
        yield_now().await;
        timeout_at(deadline, self.receive()).await.ok().filter(|_| Instant::now() < deadline)
    }

    /// Receives until `is_enough` says so of everything received.
    async fn until(
        &mut self,
        what: &str,
        is_enough: impl Fn(&[Delivery]) -> bool,
    ) -> Vec<Delivery> {
        let deadline = self.deadline();
        let mut all = std::mem::take(&mut self.early);
        while !is_enough(&all) {
            let fresh = self.receive_until(deadline).await;
            let fresh =
                fresh.unwrap_or_else(|| panic!("{what} must arrive: only {} did", all.len()));
            all.extend(fresh);
        }
        all
    }

    /// Receives until there are `count` deliveries.
    pub(super) async fn take(&mut self, count: usize) -> Vec<Delivery> {
        self.until(&format!("{count} records"), |all| all.len() >= count).await
    }

    /// Receives until each of these partitions has delivered something.
    pub(super) async fn of_each(&mut self, partitions: &BTreeSet<Partition>) -> Vec<Delivery> {
        let what = format!("a record of each of {partitions:?}");
        let delivered = |all: &[Delivery]| all.iter().map(partition_of).collect::<BTreeSet<_>>();
        self.until(&what, |all| delivered(all).is_superset(partitions)).await
    }

    /// Receives until a marker of each of these partitions has come, and leaves the markers out.
    pub(super) async fn up_to_markers(&mut self, partitions: usize) -> Vec<Delivery> {
        let is_marker = |delivery: &&Delivery| delivery.value == MARKER;
        let markers = |all: &[Delivery]| {
            let markers = all.iter().filter(is_marker).map(partition_of);
            markers.collect::<BTreeSet<_>>().len()
        };
        let what = format!("the markers of {partitions} partitions");
        let mut all = self.until(&what, |all| markers(all) >= partitions).await;
        all.retain(|delivery| delivery.value != MARKER);
        all
    }

    /// Receives until `count` partitions are held; deliveries are kept for later.
    pub(super) async fn hold(&mut self, count: usize) {
        let deadline = self.deadline();
        while self.held.len() != count {
            let fresh = self.receive_until(deadline).await;
            let fresh = fresh
                .unwrap_or_else(|| panic!("{count} partitions must be held: {:?} are", self.held));
            self.early.extend(fresh);
        }
    }

    pub(super) fn keep(&mut self, deliveries: Vec<Delivery>) {
        self.early.extend(deliveries);
    }

    pub(super) fn acknowledge(&mut self, deliveries: &[Delivery]) {
        self.subscriber.acknowledge(&positions(deliveries));
    }

    pub(super) async fn close(self) {
        let closed = timeout_at(self.deadline(), self.subscriber.close()).await;
        let closed = closed.expect("closing must end before the law loses patience");
        closed.expect("acknowledged offsets must be made durable");
    }
}
