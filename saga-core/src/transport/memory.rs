//! The transport that is always there: topics in memory.

mod broker;
mod group;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use self::broker::{Broker, MemberId};
use crate::time::DynClock;
use crate::transport::{Position, Receipt, Received, Record, Subscription};
use crate::{
    Clock, ParticipantName, Publisher, Subscriber, SystemClock, Topic, Transport, TransportError,
};

/// Topics in memory that services of one process exchange records through.
///
/// It obeys the same laws as a broker, so that a program that runs on it runs on Kafka. A clone is
/// a handle to the same topics. Every record is kept until the last handle is gone, because a new
/// group starts at the beginning: it is meant for tests, examples and single processes, not for
/// months.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use saga_core::transport::{MemoryTransport, Received, Record, Subscription};
/// use saga_core::{ParticipantName, Publisher, Subscriber, Topic, Transport};
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
///
/// const EVENTS: Topic = Topic::new("orders.events");
///
/// let transport = MemoryTransport::new();
/// transport.ensure_topics(&[EVENTS]).await?;
/// let publisher = transport.publisher().await?;
/// let (key, value) = (Bytes::from("order-7"), Bytes::from("created"));
/// publisher.publish(vec![Record { topic: EVENTS, partition: None, key, value, headers: vec![] }]).await?;
///
/// let group = ParticipantName::new("shipping");
/// let mut subscriber = transport.subscriber(Subscription { group, topics: vec![EVENTS] }).await?;
/// let Received::Assigned(partitions) = subscriber.receive(100).await? else { panic!() };
/// assert_eq!(partitions.len(), 8);
/// let Received::Deliveries(deliveries) = subscriber.receive(100).await? else { panic!() };
/// assert_eq!(deliveries[0].value, "created");
/// subscriber.acknowledge(&[deliveries[0].position.clone()]);
/// # Ok::<(), saga_core::TransportError>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct MemoryTransport {
    broker: Arc<Mutex<Broker>>,
    clock: Arc<dyn DynClock>,
    partitions: u32,
}

impl MemoryTransport {
    /// Makes a transport without topics.
    #[must_use]
    pub fn new() -> Self {
        Self { broker: Arc::default(), clock: Arc::new(SystemClock::new()), partitions: 8 }
    }

    /// Sets how many partitions topics get that this handle creates; 8 by default, at least 1.
    #[must_use]
    pub fn partitions(self, partitions: u32) -> Self {
        Self { partitions: partitions.max(1), ..self }
    }

    /// Sets the clock that stamps the records of this handle's publishers; the machine's by default.
    #[must_use]
    pub fn clock(self, clock: impl Clock) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }
}

impl Default for MemoryTransport {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTransport")
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}

fn lock(broker: &Mutex<Broker>) -> MutexGuard<'_, Broker> {
    // No code under the lock panics half way: what it indexes with, it has looked up before.
    broker.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Transport for MemoryTransport {
    type Publisher = MemoryPublisher;
    type Subscriber = MemorySubscriber;

    async fn ensure_topics(&self, topics: &[Topic]) -> Result<(), TransportError> {
        lock(&self.broker).ensure_topics(topics, self.partitions);
        Ok(())
    }

    async fn publisher(&self) -> Result<MemoryPublisher, TransportError> {
        let (broker, clock) = (Arc::clone(&self.broker), Arc::clone(&self.clock));
        Ok(MemoryPublisher { broker, clock, failed: AtomicBool::new(false) })
    }

    async fn subscriber(
        &self,
        subscription: Subscription,
    ) -> Result<MemorySubscriber, TransportError> {
        let wake = Arc::new(Notify::new());
        let Subscription { group, topics } = subscription;
        let member = lock(&self.broker).join(&group, topics, Arc::clone(&wake))?;
        Ok(MemorySubscriber { broker: Arc::clone(&self.broker), group, member, wake })
    }
}

/// Publishes to a [`MemoryTransport`].
///
/// It fails as one of a broker does: by a record whose topic or partition does not exist.
pub struct MemoryPublisher {
    broker: Arc<Mutex<Broker>>,
    clock: Arc<dyn DynClock>,
    failed: AtomicBool,
}

impl fmt::Debug for MemoryPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryPublisher").field("failed", &self.failed).finish_non_exhaustive()
    }
}

impl Publisher for MemoryPublisher {
    async fn partitions(&self, topic: &Topic) -> Result<u32, TransportError> {
        lock(&self.broker).partitions(topic)
    }

    fn publish(&self, records: Vec<Record>) -> Receipt {
        let mut wake = Vec::new();
        let result = {
            let mut broker = lock(&self.broker);
            // The lock orders this with other calls, so that nothing is appended after a failure.
            if self.failed.load(Ordering::Relaxed) {
                let source = "an earlier record could not be appended".into();
                Err(TransportError::PublisherFailed { operation: "publish", source })
            } else {
                let appended = broker.append(records, self.clock.now_dyn(), &mut wake);
                self.failed.store(appended.is_err(), Ordering::Relaxed);
                appended
            }
        };
        for reader in wake {
            reader.notify_one();
        }
        Receipt::settled(result)
    }
}

/// A member of a group on a [`MemoryTransport`].
pub struct MemorySubscriber {
    broker: Arc<Mutex<Broker>>,
    group: ParticipantName,
    member: MemberId,
    wake: Arc<Notify>,
}

impl fmt::Debug for MemorySubscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySubscriber").field("group", &self.group).finish_non_exhaustive()
    }
}

impl Subscriber for MemorySubscriber {
    async fn receive(&mut self, limit: usize) -> Result<Received, TransportError> {
        loop {
            let received = lock(&self.broker).receive(&self.group, self.member, limit.max(1));
            if let Some(received) = received {
                return Ok(received);
            }
            // A wake-up that comes before this line is kept for it.
            self.wake.notified().await;
        }
    }

    fn acknowledge(&mut self, positions: &[Position]) {
        lock(&self.broker).acknowledge(&self.group, self.member, positions);
    }

    async fn close(self) -> Result<(), TransportError> {
        Ok(()) // Dropping it leaves the group, and offsets are as durable as they get.
    }
}

impl Drop for MemorySubscriber {
    fn drop(&mut self) {
        lock(&self.broker).leave(&self.group, self.member);
    }
}
