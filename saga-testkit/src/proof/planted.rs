//! A store and a transport with a planted defect, or none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use saga_core::message::{Envelope, Kind};
use saga_core::participant::{Handled, Remembered};
use saga_core::store::{
    DeadLetter, DefinitionInUse, DueSagas, HeldKey, HistoryRecord, Lane, ListedSaga, OutboxRow,
    Redrive, SagaFilter, Snapshot, Tick, Transactional, Version,
};
use saga_core::transport::{Position, Receipt, Received, Record, Subscription};
use saga_core::{
    BoxError, IdempotencyKey, Inbox, MessageId, Outbox, OutboxId, ParticipantName, Publisher,
    SagaId, SagaName, SagaStore, StoreError, Subscriber, Topic, Transport, TransportError,
};

use super::defect::Defect;

/// A store or a transport that does one thing wrong, if it is told to.
#[derive(Debug, Clone)]
pub struct Planted<T> {
    inner: T,
    defect: Option<Defect>,
    /// How long a message is on its way that others overtake.
    detour: Duration,
    /// Rows that were not written with their transaction.
    late: Arc<Mutex<Vec<OutboxRow>>>,
    /// Up to where each lane was read.
    read: Cursors,
    /// What attempts with an id of their own are attempts of.
    attempts: Attempts,
}

/// The last row of each lane that was read; survives a crash, as it would in a table of its own.
pub type Cursors = Arc<Mutex<HashMap<Lane, OutboxId>>>;

/// How long a message is on its way that others overtake.
const DETOUR: Duration = Duration::from_mins(5);

type Attempts = Arc<Mutex<HashMap<MessageId, MessageId>>>;

impl<T> Planted<T> {
    /// Does everything right if there is no defect.
    #[must_use]
    pub fn new(inner: T, defect: Option<Defect>) -> Self {
        let (late, read, attempts) = (Arc::default(), Arc::default(), Arc::default());
        Self { inner, defect, detour: DETOUR, late, read, attempts }
    }

    /// Sets how long a message is on its way that others overtake; 5 minutes, if this is not called.
    #[must_use]
    pub fn detour(self, detour: Duration) -> Self {
        Self { detour, ..self }
    }

    /// Remembers from one life to the next up to where lanes were read.
    #[must_use]
    pub fn reading(self, read: &Cursors) -> Self {
        Self { read: Arc::clone(read), ..self }
    }

    fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }
}

impl<S: Transactional> Transactional for Planted<S> {
    type Connection = S::Connection;
    type Transaction = S::Transaction;

    async fn begin(&self) -> Result<S::Transaction, StoreError> {
        self.inner.begin().await
    }

    async fn examine(
        &self,
        transaction: &mut S::Transaction,
        failure: &BoxError,
    ) -> Result<(), StoreError> {
        self.inner.examine(transaction, failure).await
    }

    fn connection(transaction: &mut S::Transaction) -> &mut S::Connection {
        S::connection(transaction)
    }
}

impl<S: Outbox> Outbox for Planted<S> {
    async fn unsent(&self, lanes: &[Lane], bytes: usize) -> Result<Vec<OutboxRow>, StoreError> {
        let mut rows = self.inner.unsent(lanes, bytes).await?;
        if self.has(Defect::ReadsAfterTheLast) {
            let mut read = lock(&self.read);
            rows.retain(|row| read.get(&row.lane).is_none_or(|last| row.id > *last));
            read.extend(rows.iter().map(|row| (row.lane.clone(), row.id)));
        }
        Ok(rows)
    }

    async fn sent(&self, rows: &[OutboxId]) -> Result<(), StoreError> {
        self.inner.sent(rows).await
    }

    async fn lease(
        &self,
        lane: &Lane,
        holder: OutboxId,
        duration: Duration,
    ) -> Result<bool, StoreError> {
        self.inner.lease(lane, holder, duration).await
    }
}

impl<S: Redrive> Redrive for Planted<S> {
    async fn redriven(
        &self,
        consumer: &ParticipantName,
        partitions: &[u32],
        lease: Duration,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        self.inner.redriven(consumer, partitions, lease, limit).await
    }

    async fn settled(&self, letters: &[MessageId]) -> Result<(), StoreError> {
        self.inner.settled(letters).await
    }

    async fn held(&self, consumer: &ParticipantName) -> Result<Vec<HeldKey>, StoreError> {
        self.inner.held(consumer).await
    }
}

impl<S: SagaStore> SagaStore for Planted<S> {
    async fn load(&self, sagas: &[SagaId]) -> Result<Vec<Snapshot>, StoreError> {
        self.inner.load(sagas).await
    }

    async fn find(
        &self,
        keys: &[(SagaName, IdempotencyKey)],
    ) -> Result<Vec<(SagaName, IdempotencyKey, SagaId)>, StoreError> {
        self.inner.find(keys).await
    }

    async fn commit(&self, mut tick: Tick) -> Result<(), StoreError> {
        if self.has(Defect::NoVersionCheck) {
            for commit in tick.commits.iter_mut().filter(|it| it.expected != Version(0)) {
                if let Some(stored) = self.inner.load(&[commit.saga]).await?.pop() {
                    commit.expected = stored.version;
                }
            }
        }
        self.inner.commit(tick).await
    }

    async fn commit_with(&self, transaction: S::Transaction, tick: Tick) -> Result<(), StoreError> {
        self.inner.commit_with(transaction, tick).await
    }

    async fn due(&self, horizon: Duration, limit: usize) -> Result<DueSagas, StoreError> {
        self.inner.due(horizon, limit).await
    }

    async fn in_use(&self) -> Result<Vec<DefinitionInUse>, StoreError> {
        self.inner.in_use().await
    }

    async fn list(
        &self,
        filter: &SagaFilter,
        after: Option<SagaId>,
        limit: usize,
    ) -> Result<Vec<ListedSaga>, StoreError> {
        self.inner.list(filter, after, limit).await
    }

    async fn history(&self, saga: SagaId) -> Result<Vec<HistoryRecord>, StoreError> {
        self.inner.history(saga).await
    }
}

impl<S: Inbox> Inbox for Planted<S> {
    async fn recorded(
        &self,
        transaction: &mut S::Transaction,
        commands: &[MessageId],
    ) -> Result<Remembered, StoreError> {
        if self.has(Defect::NoInbox) {
            return Ok(Remembered::default());
        }
        self.inner.recorded(transaction, commands).await
    }

    async fn record(
        &self,
        transaction: S::Transaction,
        mut handled: Handled,
    ) -> Result<(), StoreError> {
        match self.defect {
            Some(Defect::NoInbox) => handled.records.clear(),
            Some(Defect::OutboxOutside) => {
                let before = std::mem::take(&mut *lock(&self.late));
                let late = std::mem::replace(&mut handled.outbox, before);
                lock(&self.late).extend(late);
            }
            Some(Defect::NoBarrier) => {
                let answered: Vec<_> = handled.outbox.iter().flat_map(answered).collect();
                handled.records.retain(|record| answered.contains(&record.command));
            }
            _ => {}
        }
        self.inner.record(transaction, handled).await
    }

    async fn begin_attempts(&self, commands: &[MessageId]) -> Result<Vec<MessageId>, StoreError> {
        self.inner.begin_attempts(commands).await
    }

    async fn unfinished(
        &self,
        commands: &[MessageId],
    ) -> Result<Vec<(MessageId, u32)>, StoreError> {
        self.inner.unfinished(commands).await
    }

    async fn end_attempts(&self, commands: &[MessageId]) -> Result<(), StoreError> {
        self.inner.end_attempts(commands).await
    }
}

impl<T: Transport> Transport for Planted<T> {
    type Publisher = PlantedPublisher<T::Publisher>;
    type Subscriber = PlantedSubscriber<T::Subscriber>;

    async fn ensure_topics(&self, topics: &[Topic]) -> Result<(), TransportError> {
        self.inner.ensure_topics(topics).await
    }

    async fn publisher(&self) -> Result<Self::Publisher, TransportError> {
        let inner = Arc::new(self.inner.publisher().await?);
        let (defect, detour, attempts) = (self.defect, self.detour, Arc::clone(&self.attempts));
        Ok(PlantedPublisher { inner, defect, detour, attempts })
    }

    async fn subscriber(
        &self,
        subscription: Subscription,
    ) -> Result<Self::Subscriber, TransportError> {
        let inner = self.inner.subscriber(subscription).await?;
        let (defect, attempts) = (self.defect, Arc::clone(&self.attempts));
        Ok(PlantedSubscriber { inner, defect, attempts, is_new: true })
    }
}

/// What a planted transport publishes with.
#[derive(Debug)]
pub struct PlantedPublisher<P> {
    inner: Arc<P>,
    defect: Option<Defect>,
    detour: Duration,
    attempts: Attempts,
}

/// What a planted transport receives with.
#[derive(Debug)]
pub struct PlantedSubscriber<S> {
    inner: S,
    defect: Option<Defect>,
    attempts: Attempts,
    is_new: bool,
}

impl<P: Publisher> Publisher for PlantedPublisher<P> {
    async fn partitions(&self, topic: &Topic) -> Result<u32, TransportError> {
        self.inner.partitions(topic).await
    }

    fn publish(&self, mut records: Vec<Record>) -> Receipt {
        match self.defect {
            Some(Defect::SentBeforeAcknowledged) => {
                drop(self.later(records, Duration::from_secs(1)));
                Receipt::settled(Ok(()))
            }
            Some(Defect::NoOrder) => {
                let is_slow = records.first().is_some_and(is_slow);
                self.later(records, if is_slow { self.detour } else { Duration::ZERO })
            }
            Some(Defect::IdPerAttempt) => {
                records.iter_mut().for_each(|record| self.rename(record));
                self.inner.publish(records)
            }
            _ => self.inner.publish(records),
        }
    }
}

impl<P: Publisher> PlantedPublisher<P> {
    fn later(&self, records: Vec<Record>, delay: Duration) -> Receipt {
        let inner = Arc::clone(&self.inner);
        let (acknowledgement, receipt) = Receipt::pending();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            acknowledgement.settle(inner.publish(records).await);
        });
        receipt
    }

    /// Gives a second attempt an id of its own.
    fn rename(&self, record: &mut Record) {
        let Ok(mut envelope) = Envelope::decode(record.value.clone()) else { return };
        if matches!(&envelope.kind, Kind::Command(headers) if headers.attempt > 1) {
            let id = MessageId::now();
            lock(&self.attempts).insert(id, envelope.id);
            envelope.id = id;
            record.value = envelope.encode();
        }
    }
}

impl<S: Subscriber> Subscriber for PlantedSubscriber<S> {
    async fn receive(&mut self, limit: usize) -> Result<Received, TransportError> {
        let mut received = self.inner.receive(limit).await?;
        if let Received::Deliveries(deliveries) = &mut received {
            let positions = || deliveries.iter().map(|it| it.position.clone()).collect::<Vec<_>>();
            match self.defect {
                Some(Defect::AcknowledgedFirst) => self.inner.acknowledge(&positions()),
                Some(Defect::BeginsAtTheEnd) if self.is_new => {
                    self.inner.acknowledge(&positions());
                    deliveries.clear();
                }
                Some(Defect::IdPerAttempt) => {
                    for delivery in deliveries {
                        self.name_back(&mut delivery.value);
                    }
                }
                _ => {}
            }
            self.is_new = false;
        }
        Ok(received)
    }

    fn acknowledge(&mut self, positions: &[Position]) {
        self.inner.acknowledge(positions);
    }

    async fn close(self) -> Result<(), TransportError> {
        self.inner.close().await
    }
}

impl<S> PlantedSubscriber<S> {
    /// Lets a reply to an attempt be one to its command.
    fn name_back(&self, value: &mut bytes::Bytes) {
        let Ok(mut envelope) = Envelope::decode(value.clone()) else { return };
        let command = envelope.causation.and_then(|id| lock(&self.attempts).get(&id).copied());
        if let (Kind::Reply(_), Some(command)) = (&envelope.kind, command) {
            envelope.causation = Some(command);
            *value = envelope.encode();
        }
    }
}

/// Returns true for messages that others overtake.
fn is_slow(record: &Record) -> bool {
    let envelope = Envelope::decode(record.value.clone());
    envelope.is_ok_and(|it| it.id.as_bytes()[15] % 2 == 0)
}

fn answered(row: &OutboxRow) -> Vec<MessageId> {
    let records = row.records().unwrap_or_default();
    let envelopes = records.into_iter().filter_map(|it| Envelope::decode(it.value).ok());
    envelopes.filter_map(|envelope| envelope.causation).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
