//! Contract: durable state of sagas, and what is still to be sent.
//!
//! [`SagaStore`] is what the engine commits its ticks to, [`Outbox`] what it publishes from after a
//! crash. [`MemoryStore`] is the store that is always there.

mod commit;
mod dead_letters;
mod error;
mod list;
mod memory;
mod outbox;
mod purge;

pub(crate) mod erased;

use std::future::Future;
use std::time::Duration;

use crate::{BoxError, IdempotencyKey, SagaId, SagaName};

pub use commit::{
    Commit, DefinitionInUse, DueSaga, DueSagas, HistoryRecord, NewSaga, Snapshot, Tick, Version,
    WakeAt,
};
pub use dead_letters::{
    DeadLetter, DeadLetters, HeldKey, LETTER_BYTES_MAX, LetterAction, LetterFilter,
    LetterOperation, OperatedLetter, REDRIVE_TRIES, Redrive,
};
pub use error::StoreError;
pub use list::{ListedSaga, SagaFilter};
pub use memory::{MemoryConnection, MemoryStore, MemoryTransaction};

pub(crate) use dead_letters::REDRIVE_LEASE;
pub(crate) use outbox::fact_record;
pub use outbox::{Lane, Outbox, OutboxRow};
pub use purge::{Purge, PurgedSagas};

/// A database with transactions that handlers write their effects through.
pub trait Transactional: Send + Sync + 'static {
    /// What a handler writes through: the driver's connection, inside an open transaction.
    type Connection: Send;
    /// An open transaction. Dropping it rolls it back.
    type Transaction: Send + 'static;

    /// Opens a transaction.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the database cannot be reached.
    fn begin(&self) -> impl Future<Output = Result<Self::Transaction, StoreError>> + Send;

    /// Finds out whether the database is to blame for the failure of a handler in an open transaction.
    ///
    /// Asks for a sign of life on the connection, also after a statement has failed, and looks at the
    /// error. A failure that the database is to blame for is tried again and uses up no attempt: as long as the
    /// store takes no writes, and three times in a row while it does.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the connection is lost or does not answer, or if the handler met
    /// what passes by itself: a deadlock, a lock that was not granted in time, a server that only reads.
    fn examine(
        &self,
        transaction: &mut Self::Transaction,
        failure: &BoxError,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns the connection of an open transaction.
    fn connection(transaction: &mut Self::Transaction) -> &mut Self::Connection;
}

/// Durable state of sagas.
///
/// # Laws
///
/// Each law is a test of the same name in `saga_testkit::store`.
///
/// - `a_tick_is_all_or_nothing`: sagas, history, outbox, deletions and dead letters change together or not at all.
/// - `a_committed_saga_is_loaded_as_it_was_committed`.
/// - `a_stale_commit_is_a_conflict`: a commit based on a superseded version changes nothing.
/// - `a_second_start_of_a_saga_is_a_conflict`, `a_second_start_of_a_key_is_a_conflict`: nothing is written.
/// - `a_key_finds_its_saga`, `keys_of_different_definitions_are_different`.
/// - `unknown_sagas_are_left_out_of_a_load`.
/// - `history_is_kept_in_order`.
/// - `concurrent_commits_of_one_saga_have_one_winner`.
/// - `commits_of_the_same_sagas_in_any_order_do_not_deadlock`.
/// - `a_saga_is_due_from_its_wake_time_on`, `a_kept_wake_time_stays`, `an_ended_saga_is_never_due`.
/// - `due_sagas_come_earliest_first_and_within_the_limit`.
/// - `definitions_in_use_are_those_of_sagas_under_way`.
/// - `sagas_are_listed_in_pages_newest_first`: by their ids, each once, as they are stored.
/// - `a_filter_of_sagas_leaves_the_others_out`: before the limit counts.
/// - `a_dropped_transaction_changes_nothing`, `an_effect_and_its_tick_commit_together`,
///   `a_conflict_undoes_the_effect`.
pub trait SagaStore: Transactional + Outbox + Redrive {
    /// Loads the sagas that exist among `sagas`, in any order.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the store cannot be reached.
    fn load(
        &self,
        sagas: &[SagaId],
    ) -> impl Future<Output = Result<Vec<Snapshot>, StoreError>> + Send;

    /// Finds the sagas that were started under these keys; those that were not are left out.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the store cannot be reached.
    fn find(
        &self,
        keys: &[(SagaName, IdempotencyKey)],
    ) -> impl Future<Output = Result<Vec<(SagaName, IdempotencyKey, SagaId)>, StoreError>> + Send;

    /// Makes a tick of decisions durable, all or nothing, in one round trip.
    ///
    /// A tick has at most one [`Commit`] per saga.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] if another engine committed one of these sagas first, or started one
    /// under the same id or key; nothing was written. [`StoreError::Unavailable`] if the outcome is
    /// unknown: the tick was written whole or not at all, and a repetition of it that meets a
    /// conflict tells that it was.
    fn commit(&self, tick: Tick) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Makes a tick durable together with what was written through an open transaction.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit); the transaction's writes share the tick's fate.
    fn commit_with(
        &self,
        transaction: Self::Transaction,
        tick: Tick,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Lists the sagas whose wake time is past or comes within `horizon`, earliest first, at most
    /// `limit` of them, with the store's own time.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the store cannot be reached.
    fn due(
        &self,
        horizon: Duration,
        limit: usize,
    ) -> impl Future<Output = Result<DueSagas, StoreError>> + Send;

    /// Lists the shapes of definitions that sagas are under way on: running or compensating ones that
    /// have a wake time. Sorted, each once.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the store cannot be reached.
    fn in_use(&self) -> impl Future<Output = Result<Vec<DefinitionInUse>, StoreError>> + Send;

    /// Lists up to `limit` sagas with an id before `after`, or the newest ones, in the descending order
    /// of their ids, which is that of the times when they were started (UUID version 7).
    ///
    /// A filter for running or compensating sagas may leave out those that have no wake time: engines
    /// give each of these one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the store cannot be reached; [`StoreError::Corrupt`] if one of them
    /// cannot be read back, which the list can go on after.
    fn list(
        &self,
        filter: &SagaFilter,
        after: Option<SagaId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<ListedSaga>, StoreError>> + Send;

    /// Returns what a saga's commits recorded, oldest first; nothing for an unknown saga.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the store cannot be reached.
    fn history(
        &self,
        saga: SagaId,
    ) -> impl Future<Output = Result<Vec<HistoryRecord>, StoreError>> + Send;
}
