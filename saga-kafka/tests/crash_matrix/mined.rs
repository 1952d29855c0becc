//! A store and a transport in which one call goes wrong.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use saga_core::participant::{Handled, Inbox, Remembered};
use saga_core::store::{
    DeadLetter, DefinitionInUse, DueSagas, HeldKey, HistoryRecord, Lane, ListedSaga, OutboxRow,
    Redrive, SagaFilter, SagaStore, Snapshot, Tick, Transactional,
};
use saga_core::transport::{Position, Receipt, Received, Record, Subscription};
use saga_core::{
    BoxError, IdempotencyKey, MessageId, Outbox, OutboxId, ParticipantName, Publisher, SagaId,
    SagaName, StoreError, Subscriber, Topic, Transport, TransportError,
};

use super::mine::{Mine, Unavailable, die, say_so};
use super::points::{Call, Fault, Moment, Service, Since};

/// A store or a transport of one service.
#[derive(Debug, Clone)]
pub(crate) struct Mined<T> {
    inner: T,
    service: Service,
    mine: Mine,
}

impl<T> Mined<T> {
    pub(crate) fn new(inner: T, service: Service, mine: &Mine) -> Self {
        Self { inner, service, mine: mine.clone() }
    }

    async fn around<V, E: Unavailable>(
        &self,
        call: Call,
        work: impl Future<Output = Result<V, E>> + Send,
    ) -> Result<V, E>
    where
        T: Sync,
    {
        self.mine.around(self.service, call, work).await
    }
}

impl<S: Transactional> Transactional for Mined<S> {
    type Connection = S::Connection;
    type Transaction = S::Transaction;

    async fn begin(&self) -> Result<S::Transaction, StoreError> {
        self.around(Call::Begin, self.inner.begin()).await
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

impl<S: Outbox> Outbox for Mined<S> {
    async fn unsent(&self, lanes: &[Lane], bytes: usize) -> Result<Vec<OutboxRow>, StoreError> {
        let rows = self.inner.unsent(lanes, bytes).await?;
        // Only what finds something is of interest.
        if rows.is_empty() {
            return Ok(rows);
        }
        self.around(Call::Unsent, async { Ok(rows) }).await
    }

    async fn sent(&self, rows: &[OutboxId]) -> Result<(), StoreError> {
        self.around(Call::Sent, self.inner.sent(rows)).await
    }

    async fn lease(
        &self,
        lane: &Lane,
        holder: OutboxId,
        time: Duration,
    ) -> Result<bool, StoreError> {
        self.inner.lease(lane, holder, time).await
    }
}

impl<S: Redrive> Redrive for Mined<S> {
    async fn redriven(
        &self,
        consumer: &ParticipantName,
        partitions: &[u32],
        lease: Duration,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let letters = self.inner.redriven(consumer, partitions, lease, limit).await?;
        if letters.is_empty() {
            return Ok(letters);
        }
        self.mine.since(Since::Redriven);
        self.around(Call::Redriven, async { Ok(letters) }).await
    }

    async fn settled(&self, letters: &[MessageId]) -> Result<(), StoreError> {
        self.around(Call::Settled, self.inner.settled(letters)).await
    }

    async fn held(&self, consumer: &ParticipantName) -> Result<Vec<HeldKey>, StoreError> {
        self.inner.held(consumer).await
    }
}

impl<S: SagaStore> SagaStore for Mined<S> {
    async fn load(&self, sagas: &[SagaId]) -> Result<Vec<Snapshot>, StoreError> {
        self.inner.load(sagas).await
    }

    async fn find(
        &self,
        keys: &[(SagaName, IdempotencyKey)],
    ) -> Result<Vec<(SagaName, IdempotencyKey, SagaId)>, StoreError> {
        self.inner.find(keys).await
    }

    async fn commit(&self, tick: Tick) -> Result<(), StoreError> {
        // One that only deletes what was sent decides nothing.
        if tick.commits.is_empty() {
            return self.inner.commit(tick).await;
        }
        self.around(Call::Commit, self.inner.commit(tick)).await
    }

    async fn commit_with(&self, transaction: S::Transaction, tick: Tick) -> Result<(), StoreError> {
        self.around(Call::CommitWith, self.inner.commit_with(transaction, tick)).await
    }

    async fn due(&self, horizon: Duration, limit: usize) -> Result<DueSagas, StoreError> {
        self.around(Call::Due, self.inner.due(horizon, limit)).await
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

impl<S: Inbox> Inbox for Mined<S> {
    async fn recorded(
        &self,
        transaction: &mut S::Transaction,
        commands: &[MessageId],
    ) -> Result<Remembered, StoreError> {
        self.around(Call::Recorded, self.inner.recorded(transaction, commands)).await
    }

    async fn record(
        &self,
        transaction: S::Transaction,
        handled: Handled,
    ) -> Result<(), StoreError> {
        self.around(Call::Commit, self.inner.record(transaction, handled)).await
    }

    async fn begin_attempts(&self, commands: &[MessageId]) -> Result<Vec<MessageId>, StoreError> {
        self.inner.begin_attempts(commands).await
    }

    async fn unfinished(&self, ids: &[MessageId]) -> Result<Vec<(MessageId, u32)>, StoreError> {
        self.inner.unfinished(ids).await
    }

    async fn end_attempts(&self, commands: &[MessageId]) -> Result<(), StoreError> {
        self.inner.end_attempts(commands).await
    }
}

impl<T: Transport> Transport for Mined<T> {
    type Publisher = MinedPublisher<T::Publisher>;
    type Subscriber = Mined<T::Subscriber>;

    async fn ensure_topics(&self, topics: &[Topic]) -> Result<(), TransportError> {
        self.inner.ensure_topics(topics).await
    }

    async fn publisher(&self) -> Result<Self::Publisher, TransportError> {
        let inner = Mined::new(self.inner.publisher().await?, self.service, &self.mine);
        Ok(MinedPublisher { inner, has_failed: Arc::default() })
    }

    async fn subscriber(&self, it: Subscription) -> Result<Self::Subscriber, TransportError> {
        Ok(Mined::new(self.inner.subscriber(it).await?, self.service, &self.mine))
    }
}

pub(crate) struct MinedPublisher<P> {
    inner: Mined<P>,
    /// After one that failed no later one is appended, so that nothing overtakes it.
    has_failed: Arc<AtomicBool>,
}

impl<P: Publisher> Publisher for MinedPublisher<P> {
    async fn partitions(&self, topic: &Topic) -> Result<u32, TransportError> {
        self.inner.inner.partitions(topic).await
    }

    fn publish(&self, records: Vec<Record>) -> Receipt {
        let Mined { inner, service, mine } = &self.inner;
        if self.has_failed.load(Ordering::SeqCst) {
            return failed();
        }
        let published = match mine.strikes(*service, Call::Publish) {
            None => inner.publish(records),
            Some((Fault::Kill | Fault::KillTwice, moment)) => {
                if moment != Moment::Before {
                    drop(inner.publish(records));
                }
                die()
            }
            Some((fault, _)) => {
                say_so();
                self.has_failed.store(true, Ordering::SeqCst);
                if fault == Fault::ReportedAsFailed {
                    drop(inner.publish(records));
                }
                return failed();
            }
        };
        let (acknowledgement, receipt) = Receipt::pending();
        let (mine, service, has_failed) = (mine.clone(), *service, Arc::clone(&self.has_failed));
        tokio::spawn(async move {
            let result = mine.around(service, Call::Receipt, published).await;
            has_failed.fetch_or(result.is_err(), Ordering::SeqCst);
            acknowledgement.settle(result.map_err(|_| failure()));
        });
        receipt
    }
}

fn failed() -> Receipt {
    Receipt::settled(Err(failure()))
}

fn failure() -> TransportError {
    let (operation, source) = ("publish", "it goes wrong here".into());
    TransportError::PublisherFailed { operation, source }
}

impl<S: Subscriber> Subscriber for Mined<S> {
    async fn receive(&mut self, limit: usize) -> Result<Received, TransportError> {
        if self.mine.fails(self.service, Call::Receive) {
            say_so();
            return Err(TransportError::unavailable());
        }
        let received = self.inner.receive(limit).await?;
        if let Received::Deliveries(deliveries) = &received {
            self.mine.received(self.service, deliveries);
            self.mine.at(self.service, Call::Receive, Moment::After);
        }
        Ok(received)
    }

    fn acknowledge(&mut self, positions: &[Position]) {
        self.inner.acknowledge(positions);
        if !positions.is_empty() {
            self.mine.at(self.service, Call::Acknowledge, Moment::After);
        }
    }

    async fn close(self) -> Result<(), TransportError> {
        self.inner.close().await
    }
}
