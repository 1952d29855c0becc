//! A memory transport with one defect, as a backend might have it.

use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use saga_core::transport::{
    Delivery, MemoryPublisher, MemorySubscriber, Partition, Position, Receipt, Received, Record,
    Subscription, partition_for,
};
use saga_core::{
    MemoryTransport, ParticipantName, Publisher, Subscriber, Timestamp, Topic, Transport,
    TransportError,
};
use tokio::task::yield_now;

/// How many partitions a topic of the memory transport has.
const PARTITIONS: u32 = 8;

/// What is wrong with a transport: it …
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    AcknowledgesDeliveries,
    AcknowledgesOnClose,
    AcknowledgesOnDrop,
    CreatesTopics,
    CutsKeys,
    CutsValues,
    DeliversBackwards,
    DeliversTwice,
    EmptiesTopics,
    ForgetsAcknowledgements,
    ForgetsHeaders,
    ForgetsTimestamps,
    GivesEverythingToEveryMember,
    GoesOnAfterAFailure,
    GoesOnInABatch,
    HasOneGroup,
    IgnoresGenerations,
    IgnoresKeys,
    IgnoresLimits,
    IgnoresOwnership,
    IgnoresPartitions,
    KeepsClosedMembers,
    LosesChangesOfADroppedReceive,
    LosesWhatADroppedReceiveHeld,
    MergesHeaders,
    PublishesToNowhere,
    ResizesTopics,
    ScattersKeys,
    SharesOffsets,
    SmallBatchesOvertake,
    SplitsTopicsDifferently,
    StartsAtTheEnd,
    StoresTheHighestOffset,
    SubscribesToNowhere,
    TakesAcknowledgementsInOrder,
}
use Defect::*;

/// A place in a partition, whoever received it.
type Place = (Topic, u32, u64);

#[derive(Clone)]
pub(crate) struct Broken {
    inner: Arc<Mutex<MemoryTransport>>,
    defect: Option<Defect>,
    shared: Arc<Shared>,
}

/// What the parts of one broken transport tell each other behind the back of the sound one.
#[derive(Default)]
struct Shared {
    counter: AtomicU32,
    acknowledged: Mutex<HashSet<(Option<ParticipantName>, Place)>>,
    sizes: Mutex<HashMap<(Topic, u32), u64>>,
    groups: Mutex<HashSet<ParticipantName>>,
}

impl Broken {
    pub(crate) fn new(defect: Option<Defect>) -> Self {
        let inner = Arc::new(Mutex::new(MemoryTransport::new().partitions(PARTITIONS)));
        Self { inner, defect, shared: Arc::default() }
    }

    fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    fn inner(&self) -> MemoryTransport {
        lock(&self.inner).clone()
    }

    /// Splits one topic from its other end.
    fn turned(&self, topic: &Topic, number: u32) -> u32 {
        if self.has(SplitsTopicsDifferently) && topic.as_str().ends_with("events") {
            PARTITIONS - 1 - number
        } else {
            number
        }
    }

    async fn create(&self, topics: &[Topic]) {
        if self.has(CreatesTopics) {
            self.inner().ensure_topics(topics).await.expect("memory has room");
        }
    }
}

impl Transport for Broken {
    type Publisher = BrokenPublisher;
    type Subscriber = BrokenSubscriber;

    async fn ensure_topics(&self, topics: &[Topic]) -> Result<(), TransportError> {
        if self.has(EmptiesTopics) {
            *lock(&self.inner) = MemoryTransport::new();
        }
        if self.has(ResizesTopics) {
            self.shared.counter.fetch_add(1, Ordering::Relaxed);
        }
        self.inner().ensure_topics(topics).await
    }

    async fn publisher(&self) -> Result<BrokenPublisher, TransportError> {
        let inner = Mutex::new(Arc::new(self.inner().publisher().await?));
        Ok(BrokenPublisher { transport: self.clone(), inner, late: Mutex::default() })
    }

    async fn subscriber(
        &self,
        mut subscription: Subscription,
    ) -> Result<BrokenSubscriber, TransportError> {
        self.create(&subscription.topics).await;
        let group = subscription.group.clone();
        if self.has(HasOneGroup) {
            subscription.group = ParticipantName::new("one");
        }
        if self.has(GivesEverythingToEveryMember) {
            let number = self.shared.counter.fetch_add(1, Ordering::Relaxed);
            subscription.group =
                ParticipantName::parse(format!("{group}-{number}")).expect("a longer name");
        }
        let mut inner = self.inner().subscriber(subscription).await;
        let is_unknown = matches!(inner, Err(TransportError::UnknownTopic { .. }));
        if is_unknown && self.has(SubscribesToNowhere) {
            let nothing = Subscription { group: group.clone(), topics: Vec::new() };
            inner = self.inner().subscriber(nothing).await;
        }
        let is_new = lock(&self.shared.groups).insert(group.clone());
        let start = if is_new && self.has(StartsAtTheEnd) {
            lock(&self.shared.sizes).clone()
        } else {
            HashMap::new()
        };
        let (transport, delivered) = (self.clone(), Vec::new());
        Ok(BrokenSubscriber { transport, inner: Some(inner?), group, delivered, start })
    }
}

pub(crate) struct BrokenPublisher {
    transport: Broken,
    inner: Mutex<Arc<MemoryPublisher>>,
    /// A batch that another one overtakes.
    late: Mutex<Vec<Record>>,
}

impl BrokenPublisher {
    fn inner(&self) -> Arc<MemoryPublisher> {
        Arc::clone(&lock(&self.inner))
    }

    fn change(&self, record: &mut Record) {
        let transport = &self.transport;
        let shared = &transport.shared;
        record.partition = record.partition.map(|number| transport.turned(&record.topic, number));
        match transport.defect {
            Some(CutsKeys) => record.key.truncate(2),
            Some(CutsValues) => record.value.truncate(50_000),
            Some(ForgetsHeaders) => record.headers.clear(),
            Some(MergesHeaders) => {
                let merged: HashMap<_, _> = record.headers.drain(..).collect();
                record.headers = merged.into_iter().collect();
            }
            Some(IgnoresPartitions) => record.partition = None,
            Some(IgnoresKeys) if record.partition.is_none() => record.partition = Some(0),
            Some(ScattersKeys) if record.partition.is_none() => {
                let next = shared.counter.fetch_add(1, Ordering::Relaxed);
                record.partition = Some(next % PARTITIONS);
            }
            _ => {}
        }
        let partition = record.partition.unwrap_or_else(|| partition_for(&record.key, PARTITIONS));
        *lock(&shared.sizes).entry((record.topic.clone(), partition)).or_default() += 1;
    }
}

impl Publisher for BrokenPublisher {
    async fn partitions(&self, topic: &Topic) -> Result<u32, TransportError> {
        self.transport.create(std::slice::from_ref(topic)).await;
        let resized = self.transport.shared.counter.load(Ordering::Relaxed).saturating_sub(1);
        let size = self.inner().partitions(topic).await?;
        Ok(if self.transport.has(ResizesTopics) { size + resized } else { size })
    }

    fn publish(&self, mut records: Vec<Record>) -> Receipt {
        records.iter_mut().for_each(|record| self.change(record));
        match self.transport.defect {
            Some(SmallBatchesOvertake) if records.len() > 1 => {
                lock(&self.late).extend(records);
                return Receipt::settled(Ok(()));
            }
            Some(SmallBatchesOvertake) => records.append(&mut *lock(&self.late)),
            Some(PublishesToNowhere) => {
                // The receipt says nothing of the record.
                drop(self.inner().publish(records));
                return Receipt::settled(Ok(()));
            }
            Some(GoesOnAfterAFailure | GoesOnInABatch) => return self.publish_each(records),
            _ => {}
        }
        self.inner().publish(records)
    }
}

impl BrokenPublisher {
    /// Publishes record by record; one that fails stops its batch at most.
    fn publish_each(&self, records: Vec<Record>) -> Receipt {
        let missing = |record: &Record| record.topic.as_str().ends_with("missing");
        let failing = records.iter().find(|record| missing(record)).cloned();
        let goes_on = self.transport.has(GoesOnInABatch);
        let sound: Vec<_> = if goes_on {
            records.into_iter().filter(|record| !missing(record)).collect()
        } else {
            records.into_iter().take_while(|record| !missing(record)).collect()
        };
        let receipt = self.inner().publish(sound);
        match failing {
            None => receipt,
            Some(record) if goes_on => self.inner().publish(vec![record]),
            Some(Record { topic, .. }) => {
                Receipt::settled(Err(TransportError::UnknownTopic { topic }))
            }
        }
    }
}

pub(crate) struct BrokenSubscriber {
    transport: Broken,
    inner: Option<MemorySubscriber>,
    group: ParticipantName,
    delivered: Vec<Position>,
    start: HashMap<(Topic, u32), u64>,
}

impl BrokenSubscriber {
    fn inner(&mut self) -> &mut MemorySubscriber {
        self.inner.as_mut().expect("only closing takes it")
    }

    fn change(&mut self, deliveries: &mut Vec<Delivery>) {
        let transport = self.transport.clone();
        let acknowledged = lock(&transport.shared.acknowledged);
        let ours = self.whose();
        deliveries.retain(|delivery| {
            let place = place(&delivery.position);
            let start = self.start.get(&(place.0.clone(), place.1)).copied().unwrap_or(0);
            place.2 >= start && !acknowledged.contains(&(ours.clone(), place))
        });
        drop(acknowledged);
        for delivery in deliveries.iter_mut() {
            self.delivered.push(delivery.position.clone());
            let Position { topic, partition, .. } = &mut delivery.position;
            *partition = transport.turned(topic, *partition);
            if transport.has(ForgetsTimestamps) {
                delivery.timestamp = Timestamp::default();
            }
        }
        match transport.defect {
            Some(DeliversBackwards) => deliveries.reverse(),
            Some(DeliversTwice) if deliveries.len() > 1 => {
                let (last, first) = (deliveries.len() - 1, deliveries[0].clone());
                deliveries[last] = first;
            }
            Some(AcknowledgesDeliveries) => {
                let all = self.delivered.clone();
                self.inner().acknowledge(&all);
            }
            _ => {}
        }
    }

    /// Whose acknowledgements are taken beside the sound ones; nobody's, if the defect is another.
    fn whose(&self) -> Option<ParticipantName> {
        (!self.transport.has(SharesOffsets)).then(|| self.group.clone())
    }
}

fn place(position: &Position) -> Place {
    (position.topic.clone(), position.partition, position.offset)
}

impl Subscriber for BrokenSubscriber {
    async fn receive(&mut self, limit: usize) -> Result<Received, TransportError> {
        let transport = self.transport.clone();
        let limit = if transport.has(IgnoresLimits) { usize::MAX } else { limit };
        let turn = |partitions: &mut Vec<Partition>| {
            for Partition { topic, number } in partitions {
                *number = transport.turned(topic, *number);
            }
        };
        loop {
            let mut received = self.inner().receive(limit).await?;
            let is_lost = match &mut received {
                Received::Assigned(partitions) | Received::Revoked(partitions) => {
                    turn(partitions);
                    transport.has(LosesChangesOfADroppedReceive)
                }
                Received::Deliveries(deliveries) => {
                    self.change(deliveries);
                    if deliveries.is_empty() {
                        continue;
                    }
                    transport.has(LosesWhatADroppedReceiveHeld)
                }
            };
            if is_lost {
                for _ in 0..5 {
                    yield_now().await;
                }
            }
            return Ok(received);
        }
    }

    fn acknowledge(&mut self, positions: &[Position]) {
        let mut positions = positions.to_vec();
        for Position { topic, partition, .. } in &mut positions {
            *partition = self.transport.turned(topic, *partition);
        }
        match self.transport.defect {
            Some(ForgetsAcknowledgements) => return,
            Some(TakesAcknowledgementsInOrder) => {
                let is_next = |position: &&Position| self.delivered.first() == Some(*position);
                positions.retain(|position| is_next(&position));
            }
            Some(SharesOffsets | IgnoresOwnership) => {
                let whose = self.whose();
                let places = positions.iter().map(|position| (whose.clone(), place(position)));
                lock(&self.transport.shared.acknowledged).extend(places);
            }
            Some(StoresTheHighestOffset) => {
                let below = |one: &Position| positions.iter().any(|p| one.offset <= p.offset);
                positions = self.delivered.iter().filter(|one| below(one)).cloned().collect();
            }
            Some(IgnoresGenerations) => {
                for generation in 0..100 {
                    positions.iter_mut().for_each(|position| position.generation = generation);
                    self.inner().acknowledge(&positions);
                }
            }
            _ => {}
        }
        self.inner().acknowledge(&positions);
    }

    async fn close(mut self) -> Result<(), TransportError> {
        if self.transport.has(AcknowledgesOnClose) {
            let all = self.delivered.clone();
            self.inner().acknowledge(&all);
        }
        let inner = self.inner.take().expect("only closing takes it");
        if self.transport.has(KeepsClosedMembers) {
            tokio::spawn(async move {
                let _member = inner;
                pending::<()>().await;
            });
            return Ok(());
        }
        inner.close().await
    }
}

impl Drop for BrokenSubscriber {
    fn drop(&mut self) {
        if let (Some(inner), true) = (&mut self.inner, self.transport.has(AcknowledgesOnDrop)) {
            inner.acknowledge(&self.delivered);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("a law that panics is over")
}
