//! A store or a transport that fails, dies or stands still when a test says so.

mod script;
mod transport;

use std::time::Duration;

use saga_core::participant::{Handled, Remembered};
use saga_core::store::{
    DeadLetter, DefinitionInUse, DueSagas, HeldKey, HistoryRecord, Lane, ListedSaga, OutboxRow,
    Redrive, SagaFilter, SagaStore, Snapshot, Tick, Transactional,
};
use saga_core::{
    BoxError, IdempotencyKey, Inbox, MessageId, Outbox, OutboxId, ParticipantName, SagaId,
    SagaName, StoreError,
};

pub use script::{Faults, Moment, Operation};
pub use transport::{FaultyPublisher, FaultySubscriber};

/// A store or a transport whose calls fail or die as its [`Faults`] say, and otherwise reach what is inside.
#[derive(Debug, Clone)]
pub struct Faulty<S> {
    inner: S,
    faults: Faults,
}

impl<S> Faulty<S> {
    /// Wraps a store or a transport. What shares `faults` is of one process and dies together.
    pub fn new(inner: S, faults: &Faults) -> Self {
        Self { inner, faults: faults.clone() }
    }

    /// Returns what is inside, which never fails on purpose.
    pub const fn inner(&self) -> &S {
        &self.inner
    }
}

impl<S: Transactional> Transactional for Faulty<S> {
    type Connection = S::Connection;
    type Transaction = S::Transaction;

    async fn begin(&self) -> Result<S::Transaction, StoreError> {
        self.faults.around(Operation::Begin, self.inner.begin()).await
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

impl<S: Outbox> Outbox for Faulty<S> {
    async fn unsent(&self, lanes: &[Lane], bytes: usize) -> Result<Vec<OutboxRow>, StoreError> {
        self.faults.around(Operation::Unsent, self.inner.unsent(lanes, bytes)).await
    }

    async fn sent(&self, rows: &[OutboxId]) -> Result<(), StoreError> {
        self.faults.around(Operation::Sent, self.inner.sent(rows)).await
    }

    async fn lease(
        &self,
        lane: &Lane,
        holder: OutboxId,
        duration: Duration,
    ) -> Result<bool, StoreError> {
        self.faults.around(Operation::Lease, self.inner.lease(lane, holder, duration)).await
    }
}

impl<S: Redrive> Redrive for Faulty<S> {
    async fn redriven(
        &self,
        consumer: &ParticipantName,
        partitions: &[u32],
        lease: Duration,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let call = self.inner.redriven(consumer, partitions, lease, limit);
        self.faults.around(Operation::Redriven, call).await
    }

    async fn settled(&self, letters: &[MessageId]) -> Result<(), StoreError> {
        self.faults.around(Operation::Settled, self.inner.settled(letters)).await
    }

    async fn held(&self, consumer: &ParticipantName) -> Result<Vec<HeldKey>, StoreError> {
        self.faults.around(Operation::Held, self.inner.held(consumer)).await
    }
}

impl<S: SagaStore> SagaStore for Faulty<S> {
    async fn load(&self, sagas: &[SagaId]) -> Result<Vec<Snapshot>, StoreError> {
        self.faults.around(Operation::Load, self.inner.load(sagas)).await
    }

    async fn find(
        &self,
        keys: &[(SagaName, IdempotencyKey)],
    ) -> Result<Vec<(SagaName, IdempotencyKey, SagaId)>, StoreError> {
        self.faults.around(Operation::Find, self.inner.find(keys)).await
    }

    async fn commit(&self, tick: Tick) -> Result<(), StoreError> {
        self.faults.around(Operation::Commit, self.inner.commit(tick)).await
    }

    async fn commit_with(&self, transaction: S::Transaction, tick: Tick) -> Result<(), StoreError> {
        self.faults.around(Operation::Commit, self.inner.commit_with(transaction, tick)).await
    }

    async fn due(&self, horizon: Duration, limit: usize) -> Result<DueSagas, StoreError> {
        self.faults.around(Operation::Due, self.inner.due(horizon, limit)).await
    }

    async fn in_use(&self) -> Result<Vec<DefinitionInUse>, StoreError> {
        self.faults.around(Operation::Due, self.inner.in_use()).await
    }

    async fn list(
        &self,
        filter: &SagaFilter,
        after: Option<SagaId>,
        limit: usize,
    ) -> Result<Vec<ListedSaga>, StoreError> {
        self.faults.around(Operation::List, self.inner.list(filter, after, limit)).await
    }

    async fn history(&self, saga: SagaId) -> Result<Vec<HistoryRecord>, StoreError> {
        self.faults.around(Operation::History, self.inner.history(saga)).await
    }
}

impl<S: Inbox> Inbox for Faulty<S> {
    async fn recorded(
        &self,
        transaction: &mut S::Transaction,
        commands: &[MessageId],
    ) -> Result<Remembered, StoreError> {
        self.faults.around(Operation::Recorded, self.inner.recorded(transaction, commands)).await
    }

    async fn record(
        &self,
        transaction: S::Transaction,
        handled: Handled,
    ) -> Result<(), StoreError> {
        self.faults.around(Operation::Record, self.inner.record(transaction, handled)).await
    }

    async fn begin_attempts(&self, commands: &[MessageId]) -> Result<Vec<MessageId>, StoreError> {
        let call = self.inner.begin_attempts(commands);
        self.faults.around(Operation::BeginAttempts, call).await
    }

    async fn unfinished(
        &self,
        commands: &[MessageId],
    ) -> Result<Vec<(MessageId, u32)>, StoreError> {
        self.faults.around(Operation::Unfinished, self.inner.unfinished(commands)).await
    }

    async fn end_attempts(&self, commands: &[MessageId]) -> Result<(), StoreError> {
        self.faults.around(Operation::EndAttempts, self.inner.end_attempts(commands)).await
    }
}
