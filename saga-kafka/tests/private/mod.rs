//! Topics and groups of one test alone, on a broker that it shares with others.

use saga_core::transport::{Partition, Position, Receipt, Received, Record, Subscription};
use saga_core::{ParticipantName, Publisher, Subscriber, Topic, Transport, TransportError};
use saga_kafka::{KafkaPublisher, KafkaSubscriber, KafkaTransport};

/// Puts a prefix in front of every topic and group, and takes it away again.
#[derive(Debug, Clone)]
pub(crate) struct Private<T> {
    inner: T,
    prefix: String,
    /// What groups have in front besides.
    groups: String,
}

impl<T> Private<T> {
    pub(crate) fn new(inner: T, prefix: &str) -> Self {
        Self { inner, prefix: format!("{prefix}."), groups: String::new() }
    }

    /// Lets those who subscribe through it be members of groups of their own.
    #[allow(dead_code, reason = "each test program uses its part")]
    pub(crate) fn in_groups(self, name: &str) -> Self {
        Self { groups: format!("{name}."), ..self }
    }

    fn of<U>(&self, inner: U) -> Private<U> {
        Private { inner, prefix: self.prefix.clone(), groups: self.groups.clone() }
    }

    fn there(&self, topic: &Topic) -> Topic {
        Topic::parse(format!("{}{topic}", self.prefix)).expect("the prefix is short")
    }

    fn back(&self, topic: &Topic) -> Topic {
        let topic = topic.as_str().strip_prefix(&self.prefix).expect("the topic was asked for");
        Topic::parse(topic).expect("it was one before")
    }

    fn partitions(&self, partitions: Vec<Partition>) -> Vec<Partition> {
        let back = |it: Partition| Partition { topic: self.back(&it.topic), ..it };
        partitions.into_iter().map(back).collect()
    }
}

impl Transport for Private<KafkaTransport> {
    type Publisher = Private<KafkaPublisher>;
    type Subscriber = Private<KafkaSubscriber>;

    async fn ensure_topics(&self, topics: &[Topic]) -> Result<(), TransportError> {
        let topics: Vec<_> = topics.iter().map(|topic| self.there(topic)).collect();
        self.inner.ensure_topics(&topics).await
    }

    async fn publisher(&self) -> Result<Self::Publisher, TransportError> {
        Ok(self.of(self.inner.publisher().await?))
    }

    async fn subscriber(&self, it: Subscription) -> Result<Self::Subscriber, TransportError> {
        let group = ParticipantName::parse(format!("{}{}{}", self.prefix, self.groups, it.group));
        let group = group.expect("the prefix is short");
        let topics = it.topics.iter().map(|topic| self.there(topic)).collect();
        Ok(self.of(self.inner.subscriber(Subscription { group, topics }).await?))
    }
}

impl Publisher for Private<KafkaPublisher> {
    async fn partitions(&self, topic: &Topic) -> Result<u32, TransportError> {
        self.inner.partitions(&self.there(topic)).await
    }

    fn publish(&self, records: Vec<Record>) -> Receipt {
        let there = |it: Record| Record { topic: self.there(&it.topic), ..it };
        self.inner.publish(records.into_iter().map(there).collect())
    }
}

impl Subscriber for Private<KafkaSubscriber> {
    async fn receive(&mut self, limit: usize) -> Result<Received, TransportError> {
        Ok(match self.inner.receive(limit).await? {
            Received::Deliveries(mut deliveries) => {
                for delivery in &mut deliveries {
                    delivery.position.topic = self.back(&delivery.position.topic);
                }
                Received::Deliveries(deliveries)
            }
            Received::Assigned(partitions) => Received::Assigned(self.partitions(partitions)),
            Received::Revoked(partitions) => Received::Revoked(self.partitions(partitions)),
        })
    }

    fn acknowledge(&mut self, positions: &[Position]) {
        let there = |it: &Position| Position { topic: self.there(&it.topic), ..it.clone() };
        let positions: Vec<_> = positions.iter().map(there).collect();
        self.inner.acknowledge(&positions);
    }

    async fn close(self) -> Result<(), TransportError> {
        self.inner.close().await
    }
}
