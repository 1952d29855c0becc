//! A store that tells the scene what is made durable.

use std::collections::HashSet;
use std::time::Duration;

use saga_core::participant::{Handled, Remembered};
use saga_core::store::{
    DeadLetter, DefinitionInUse, DueSagas, HeldKey, HistoryRecord, Lane, ListedSaga, OutboxRow,
    Redrive, SagaFilter, Snapshot, Tick, Transactional,
};
use saga_core::{
    BoxError, IdempotencyKey, Inbox, MessageId, Outbox, OutboxId, ParticipantName, SagaId,
    SagaName, SagaStore, StoreError,
};

use super::audit::envelopes;
use super::scene::Scene;

/// A store that is watched.
#[derive(Debug, Clone)]
pub(super) struct Witness<S> {
    inner: S,
    scene: Scene,
}

impl<S> Witness<S> {
    pub(super) fn new(inner: S, scene: &Scene) -> Self {
        Self { inner, scene: scene.clone() }
    }
}

impl<S: Transactional> Transactional for Witness<S> {
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

impl<S: Outbox> Outbox for Witness<S> {
    async fn unsent(&self, lanes: &[Lane], bytes: usize) -> Result<Vec<OutboxRow>, StoreError> {
        self.inner.unsent(lanes, bytes).await
    }

    async fn sent(&self, rows: &[OutboxId]) -> Result<(), StoreError> {
        self.inner.sent(rows).await?;
        self.scene.audit(|audit| audit.deleted(rows));
        Ok(())
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

impl<S: Redrive> Redrive for Witness<S> {
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

impl<S: SagaStore> SagaStore for Witness<S> {
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
        let commits: Vec<_> = tick.commits.iter().map(|it| (it.saga, it.expected)).collect();
        let (rows, sent) = (tick.outbox.clone(), tick.sent.clone());
        self.inner.commit(tick).await?;
        self.scene.audit(|audit| {
            audit.committed(&commits);
            audit.enqueued(&rows);
            audit.deleted(&sent);
        });
        self.scene.committed(commits.len());
        Ok(())
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

impl<S: Inbox> Inbox for Witness<S> {
    async fn recorded(
        &self,
        transaction: &mut S::Transaction,
        commands: &[MessageId],
    ) -> Result<Remembered, StoreError> {
        self.inner.recorded(transaction, commands).await
    }

    async fn record(
        &self,
        transaction: S::Transaction,
        handled: Handled,
    ) -> Result<(), StoreError> {
        let mut settled: HashSet<_> = handled.records.iter().map(|record| record.command).collect();
        let (rows, sent) = (handled.outbox.clone(), handled.sent.clone());
        let letters = handled.dead_letters.clone();
        self.inner.record(transaction, handled).await?;
        self.scene.audit(|audit| {
            audit.set_aside(&letters);
            audit.enqueued(&rows);
            audit.deleted(&sent);
        });
        for reply in rows.iter().flat_map(envelopes) {
            // One that came twice in a batch is on record once, and answered twice.
            if reply.causation.is_some_and(|command| settled.remove(&command)) {
                self.scene.carried(&reply);
            }
        }
        Ok(())
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
