//! The store that is always there: a database in memory.

mod letters;
mod tables;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use self::tables::{Change, Tables};
use crate::participant::{Handled, Remembered};
use crate::store::{
    DeadLetter, DeadLetters, DefinitionInUse, DueSagas, HeldKey, HistoryRecord, Lane, LetterFilter,
    LetterOperation, ListedSaga, OperatedLetter, OutboxRow, Purge, PurgedSagas, Redrive,
    SagaFilter, SagaStore, Snapshot, Tick, Transactional,
};
use crate::time::DynClock;
use crate::{
    BoxError, Clock, IdempotencyKey, Inbox, MessageId, Outbox, OutboxId, ParticipantName, SagaId,
    SagaName, StoreError, SystemClock,
};

/// A database in memory: sagas, outbox and inbox, beside an application's own state `S`.
///
/// It obeys the same laws as a durable store, so that a program that runs on it runs on Postgres.
/// A clone is a handle to the same database. What is in it is gone when the last handle is.
///
/// Transactions run one after the other: [`begin`](Transactional::begin) waits for the open one to
/// end. A task that opens a second transaction before it has ended its first waits for ever. A
/// [`commit`](SagaStore::commit) without a transaction never waits.
///
/// # Examples
///
/// ```
/// use saga_core::store::{MemoryConnection, MemoryStore, Transactional};
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
///
/// #[derive(Clone, Default)]
/// struct Stock {
///     apples: u32,
/// }
///
/// fn deliver(stock: &mut MemoryConnection<Stock>, apples: u32) {
///     stock.apples += apples;
/// }
///
/// let store = MemoryStore::with_state(Stock::default());
/// let mut transaction = store.begin().await?;
/// deliver(MemoryStore::connection(&mut transaction), 3);
/// assert_eq!(store.read(|stock| stock.apples), 0);
/// transaction.commit().await?;
/// assert_eq!(store.read(|stock| stock.apples), 3);
/// # Ok::<(), saga_core::StoreError>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct MemoryStore<S = ()> {
    shared: Arc<Shared<S>>,
    clock: Arc<dyn DynClock>,
}

/// What all handles to one database share.
struct Shared<S> {
    data: Mutex<Data<S>>,
    /// Held by the open transaction. `data` alone cannot do that: it must not be held over an await.
    serial: Arc<tokio::sync::Mutex<()>>,
}

struct Data<S> {
    tables: Tables,
    /// Shared with readers and the open transaction, which copies it when it first writes.
    state: Arc<S>,
}

impl MemoryStore {
    /// Makes an empty store without application state.
    #[must_use]
    pub fn new() -> Self {
        Self::with_state(())
    }
}

impl<S> MemoryStore<S> {
    /// Makes an empty store beside an application's state.
    #[must_use]
    pub fn with_state(state: S) -> Self {
        let data = Mutex::new(Data { tables: Tables::default(), state: Arc::new(state) });
        let shared = Arc::new(Shared { data, serial: Arc::default() });
        Self { shared, clock: Arc::new(SystemClock::new()) }
    }

    /// Sets the clock that decides what is due and when a lease ends; the machine's by default.
    ///
    /// Handles that were cloned before keep their clock.
    #[must_use]
    pub fn clock(self, clock: impl Clock) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }

    /// Reads the application's committed state.
    pub fn read<T>(&self, read: impl FnOnce(&S) -> T) -> T {
        let state = Arc::clone(&self.data().state);
        read(&state)
    }

    /// Returns the messages that were set aside, by consumer, topic, partition and offset.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.data().tables.letters.all().cloned().collect()
    }

    /// Returns how many rows of all lanes are not known to be sent.
    #[must_use]
    pub fn outbox_len(&self) -> usize {
        self.data().tables.outbox_len()
    }

    fn data(&self) -> MutexGuard<'_, Data<S>> {
        self.shared.data()
    }

    fn commit_change(
        &self,
        transaction: MemoryTransaction<S>,
        change: Change,
    ) -> Result<(), StoreError> {
        if !Arc::ptr_eq(&self.shared, &transaction.shared) {
            let reason = "the transaction was begun on another store".to_owned();
            return Err(StoreError::Configuration { reason });
        }
        transaction.commit_change(change)
    }
}

impl<S> Shared<S> {
    fn data(&self) -> MutexGuard<'_, Data<S>> {
        // Changes are checked before they are applied, so a panic leaves nothing half done.
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Default> Default for MemoryStore<S> {
    fn default() -> Self {
        Self::with_state(S::default())
    }
}

impl<S> Clone for MemoryStore<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), clock: Arc::clone(&self.clock) }
    }
}

impl<S> fmt::Debug for MemoryStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

/// An open transaction of a [`MemoryStore`]. Dropping it rolls it back.
pub struct MemoryTransaction<S = ()> {
    connection: MemoryConnection<S>,
    shared: Arc<Shared<S>>,
    clock: Arc<dyn DynClock>,
    _serial: OwnedMutexGuard<()>,
}

impl<S: Send + Sync> MemoryTransaction<S> {
    /// Makes what was written and enqueued in this transaction visible, all or nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] if an enqueued row is in the outbox already; nothing was written.
    #[expect(clippy::unused_async, reason = "a transaction of a durable store waits here")]
    pub async fn commit(self) -> Result<(), StoreError> {
        self.commit_change(Change::default())
    }
}

impl<S> MemoryTransaction<S> {
    fn commit_change(self, mut change: Change) -> Result<(), StoreError> {
        change.outbox.splice(..0, self.connection.outbox);
        let mut data = self.shared.data();
        data.tables.apply(change, self.clock.now_dyn())?;
        data.state = self.connection.state;
        Ok(())
    }
}

impl<S> fmt::Debug for MemoryTransaction<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTransaction").finish_non_exhaustive()
    }
}

/// The application's state as one transaction sees it; dereferences to `S`.
///
/// The first write of a transaction clones the state, so keep what is big in it cheap to clone.
pub struct MemoryConnection<S = ()> {
    state: Arc<S>,
    outbox: Vec<OutboxRow>,
}

impl<S> MemoryConnection<S> {
    /// Puts a row into the outbox when this transaction commits, and not if it rolls back.
    pub fn enqueue(&mut self, row: OutboxRow) {
        self.outbox.push(row);
    }
}

impl<S> Deref for MemoryConnection<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.state
    }
}

impl<S: Clone> DerefMut for MemoryConnection<S> {
    fn deref_mut(&mut self) -> &mut S {
        Arc::make_mut(&mut self.state)
    }
}

impl<S: fmt::Debug> fmt::Debug for MemoryConnection<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryConnection")
            .field("state", &self.state)
            .field("outbox", &self.outbox)
            .finish()
    }
}

impl<S: Clone + Send + Sync + 'static> Transactional for MemoryStore<S> {
    type Connection = MemoryConnection<S>;
    type Transaction = MemoryTransaction<S>;

    async fn begin(&self) -> Result<MemoryTransaction<S>, StoreError> {
        let serial = Arc::clone(&self.shared.serial).lock_owned().await;
        let state = Arc::clone(&self.data().state);
        let connection = MemoryConnection { state, outbox: Vec::new() };
        let (shared, clock) = (Arc::clone(&self.shared), Arc::clone(&self.clock));
        Ok(MemoryTransaction { connection, shared, clock, _serial: serial })
    }

    async fn examine(&self, _: &mut MemoryTransaction<S>, _: &BoxError) -> Result<(), StoreError> {
        Ok(())
    }

    fn connection(transaction: &mut MemoryTransaction<S>) -> &mut MemoryConnection<S> {
        &mut transaction.connection
    }
}

impl<S: Clone + Send + Sync + 'static> Outbox for MemoryStore<S> {
    async fn unsent(&self, lanes: &[Lane], bytes: usize) -> Result<Vec<OutboxRow>, StoreError> {
        Ok(self.data().tables.unsent(lanes, bytes))
    }

    async fn sent(&self, rows: &[OutboxId]) -> Result<(), StoreError> {
        self.data().tables.remove_sent(rows);
        Ok(())
    }

    async fn lease(
        &self,
        lane: &Lane,
        holder: OutboxId,
        duration: Duration,
    ) -> Result<bool, StoreError> {
        Ok(self.data().tables.lease(lane, holder, duration, self.clock.now_dyn()))
    }
}

impl<S: Clone + Send + Sync + 'static> SagaStore for MemoryStore<S> {
    async fn load(&self, sagas: &[SagaId]) -> Result<Vec<Snapshot>, StoreError> {
        Ok(self.data().tables.load(sagas))
    }

    async fn find(
        &self,
        keys: &[(SagaName, IdempotencyKey)],
    ) -> Result<Vec<(SagaName, IdempotencyKey, SagaId)>, StoreError> {
        Ok(self.data().tables.find(keys))
    }

    async fn commit(&self, tick: Tick) -> Result<(), StoreError> {
        self.data().tables.apply(tick.into(), self.clock.now_dyn())
    }

    async fn commit_with(
        &self,
        transaction: MemoryTransaction<S>,
        tick: Tick,
    ) -> Result<(), StoreError> {
        self.commit_change(transaction, tick.into())
    }

    async fn due(&self, horizon: Duration, limit: usize) -> Result<DueSagas, StoreError> {
        let now = self.clock.now_dyn();
        let sagas = self.data().tables.due(now + horizon, limit);
        Ok(DueSagas { now, sagas })
    }

    async fn in_use(&self) -> Result<Vec<DefinitionInUse>, StoreError> {
        Ok(self.data().tables.in_use())
    }

    async fn list(
        &self,
        filter: &SagaFilter,
        after: Option<SagaId>,
        limit: usize,
    ) -> Result<Vec<ListedSaga>, StoreError> {
        Ok(self.data().tables.list(filter, after, limit))
    }

    async fn history(&self, saga: SagaId) -> Result<Vec<HistoryRecord>, StoreError> {
        Ok(self.data().tables.history(saga))
    }
}

impl<S: Clone + Send + Sync + 'static> Inbox for MemoryStore<S> {
    async fn recorded(
        &self,
        _transaction: &mut MemoryTransaction<S>,
        commands: &[MessageId],
    ) -> Result<Remembered, StoreError> {
        Ok(self.data().tables.recorded(commands))
    }

    async fn record(
        &self,
        transaction: MemoryTransaction<S>,
        handled: Handled,
    ) -> Result<(), StoreError> {
        self.commit_change(transaction, handled.into())
    }

    async fn begin_attempts(&self, commands: &[MessageId]) -> Result<Vec<MessageId>, StoreError> {
        Ok(self.data().tables.begin_attempts(commands))
    }

    async fn unfinished(
        &self,
        commands: &[MessageId],
    ) -> Result<Vec<(MessageId, u32)>, StoreError> {
        Ok(self.data().tables.unfinished(commands))
    }

    async fn end_attempts(&self, commands: &[MessageId]) -> Result<(), StoreError> {
        self.data().tables.end_attempts(commands);
        Ok(())
    }
}

impl<S: Clone + Send + Sync + 'static> Purge for MemoryStore<S> {
    async fn purge_sagas(
        &self,
        age: Duration,
        after: Option<SagaId>,
        limit: usize,
    ) -> Result<PurgedSagas, StoreError> {
        let ended_before = self.clock.now_dyn() - age;
        Ok(self.data().tables.purge_sagas(ended_before, after, limit))
    }

    async fn purge_inbox(&self, age: Duration, limit: usize) -> Result<usize, StoreError> {
        let started_before = self.clock.now_dyn() - age;
        Ok(self.data().tables.purge_inbox(started_before, limit))
    }
}

impl<S: Clone + Send + Sync + 'static> Redrive for MemoryStore<S> {
    async fn redriven(
        &self,
        consumer: &ParticipantName,
        partitions: &[u32],
        lease: Duration,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let now = self.clock.now_dyn();
        Ok(self.data().tables.letters.redriven(consumer, partitions, now, lease, limit))
    }

    async fn settled(&self, letters: &[MessageId]) -> Result<(), StoreError> {
        self.data().tables.letters.settled(letters);
        Ok(())
    }

    async fn held(&self, consumer: &ParticipantName) -> Result<Vec<HeldKey>, StoreError> {
        Ok(self.data().tables.letters.held(consumer))
    }
}

impl<S: Clone + Send + Sync + 'static> DeadLetters for MemoryStore<S> {
    async fn letters(
        &self,
        filter: &LetterFilter,
        after: Option<MessageId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        Ok(self.data().tables.letters.page(filter, after, limit))
    }

    async fn operate(
        &self,
        operation: &LetterOperation,
        letters: &[(MessageId, Duration)],
    ) -> Result<usize, StoreError> {
        Ok(self.data().tables.letters.operate(operation, letters, self.clock.now_dyn()))
    }

    async fn operations(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<OperatedLetter>, StoreError> {
        Ok(self.data().tables.letters.operations(after, limit))
    }
}
