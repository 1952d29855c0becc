//! A store with what a real one has: keys that are unique, constraints, rows that are damaged.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use saga_core::participant::{Handled, Remembered};
use saga_core::store::{
    DeadLetter, DefinitionInUse, DueSagas, HeldKey, HistoryRecord, Lane, ListedSaga,
    MemoryTransaction, OutboxRow, Redrive, SagaFilter, SagaStore, Snapshot, Tick, Transactional,
};
use saga_core::{
    BoxError, IdempotencyKey, Inbox, MessageId, Outbox, OutboxId, ParticipantName, SagaId,
    SagaName, StoreError,
};

use crate::support::{Conn, Db, Effects};

/// The effect that a deferred constraint of this store does not allow.
pub(crate) const FORBIDDEN: &str = "reserve forbidden";

#[derive(Clone)]
pub(crate) struct Strict {
    pub(crate) db: Db,
    /// The saga whose row is damaged.
    pub(crate) damaged: Arc<Mutex<Option<SagaId>>>,
    /// How many writes of a participant end as a deadlock's victim; nothing of them is written.
    pub(crate) deadlocks: Arc<AtomicU32>,
}

impl Strict {
    pub(crate) fn new() -> Self {
        Self { db: crate::database(), damaged: Arc::default(), deadlocks: Arc::default() }
    }

    fn check(transaction: &mut MemoryTransaction<Effects>) -> Result<(), StoreError> {
        if Db::connection(transaction).iter().any(|effect| effect == FORBIDDEN) {
            return Err(StoreError::Refused { operation: "commit", source: "forbidden".into() });
        }
        Ok(())
    }
}

impl Transactional for Strict {
    type Connection = Conn;
    type Transaction = MemoryTransaction<Effects>;

    async fn begin(&self) -> Result<Self::Transaction, StoreError> {
        self.db.begin().await
    }

    async fn examine(
        &self,
        transaction: &mut Self::Transaction,
        failure: &BoxError,
    ) -> Result<(), StoreError> {
        self.db.examine(transaction, failure).await
    }

    fn connection(transaction: &mut Self::Transaction) -> &mut Conn {
        Db::connection(transaction)
    }
}

impl Outbox for Strict {
    async fn unsent(&self, lanes: &[Lane], bytes: usize) -> Result<Vec<OutboxRow>, StoreError> {
        self.db.unsent(lanes, bytes).await
    }

    async fn sent(&self, rows: &[OutboxId]) -> Result<(), StoreError> {
        self.db.sent(rows).await
    }

    async fn lease(
        &self,
        lane: &Lane,
        holder: OutboxId,
        duration: Duration,
    ) -> Result<bool, StoreError> {
        self.db.lease(lane, holder, duration).await
    }
}

impl Redrive for Strict {
    async fn redriven(
        &self,
        consumer: &ParticipantName,
        partitions: &[u32],
        lease: Duration,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        self.db.redriven(consumer, partitions, lease, limit).await
    }

    async fn settled(&self, letters: &[MessageId]) -> Result<(), StoreError> {
        self.db.settled(letters).await
    }

    async fn held(&self, consumer: &ParticipantName) -> Result<Vec<HeldKey>, StoreError> {
        self.db.held(consumer).await
    }
}

impl Inbox for Strict {
    async fn recorded(
        &self,
        transaction: &mut Self::Transaction,
        commands: &[MessageId],
    ) -> Result<Remembered, StoreError> {
        self.db.recorded(transaction, commands).await
    }

    async fn record(
        &self,
        mut transaction: Self::Transaction,
        handled: Handled,
    ) -> Result<(), StoreError> {
        let is_victim =
            self.deadlocks.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |it| it.checked_sub(1));
        let mut ids: Vec<_> = handled.records.iter().map(|record| record.command).collect();
        ids.sort();
        // A participant that tries the same again and again must not keep the test from ending.
        tokio::task::yield_now().await;
        if is_victim.is_ok() || ids.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(StoreError::Conflict);
        }
        Self::check(&mut transaction)?;
        self.db.record(transaction, handled).await
    }

    async fn begin_attempts(&self, commands: &[MessageId]) -> Result<Vec<MessageId>, StoreError> {
        self.db.begin_attempts(commands).await
    }

    async fn unfinished(
        &self,
        commands: &[MessageId],
    ) -> Result<Vec<(MessageId, u32)>, StoreError> {
        self.db.unfinished(commands).await
    }

    async fn end_attempts(&self, commands: &[MessageId]) -> Result<(), StoreError> {
        self.db.end_attempts(commands).await
    }
}

impl SagaStore for Strict {
    async fn load(&self, sagas: &[SagaId]) -> Result<Vec<Snapshot>, StoreError> {
        // What a round trip does: others get their turn.
        tokio::task::yield_now().await;
        let damaged = *self.damaged.lock().expect("no test panics here");
        if let Some(saga) = damaged.filter(|saga| sagas.contains(saga)) {
            return Err(StoreError::Corrupt { saga, source: "7 is no status".into() });
        }
        self.db.load(sagas).await
    }

    async fn find(
        &self,
        keys: &[(SagaName, IdempotencyKey)],
    ) -> Result<Vec<(SagaName, IdempotencyKey, SagaId)>, StoreError> {
        self.db.find(keys).await
    }

    async fn commit(&self, tick: Tick) -> Result<(), StoreError> {
        self.db.commit(tick).await
    }

    async fn commit_with(
        &self,
        mut transaction: Self::Transaction,
        tick: Tick,
    ) -> Result<(), StoreError> {
        Self::check(&mut transaction)?;
        self.db.commit_with(transaction, tick).await
    }

    async fn due(&self, horizon: Duration, limit: usize) -> Result<DueSagas, StoreError> {
        self.db.due(horizon, limit).await
    }

    async fn in_use(&self) -> Result<Vec<DefinitionInUse>, StoreError> {
        self.db.in_use().await
    }

    async fn list(
        &self,
        filter: &SagaFilter,
        after: Option<SagaId>,
        limit: usize,
    ) -> Result<Vec<ListedSaga>, StoreError> {
        self.db.list(filter, after, limit).await
    }

    async fn history(&self, saga: SagaId) -> Result<Vec<HistoryRecord>, StoreError> {
        self.db.history(saga).await
    }
}
