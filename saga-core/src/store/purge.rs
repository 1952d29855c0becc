//! Contract: dropping what is over.

use std::future::Future;
use std::time::Duration;

use super::StoreError;
use crate::SagaId;

/// A store that can drop what is over. [`Retention`](crate::Retention) decides when.
///
/// Both calls look at rows in the order of their ids, which is the order in time of the sagas that
/// they belong to (UUID version 7), so they need no index that a commit would have to keep.
///
/// # Laws
///
/// Each law is a test of the same name in `saga_testkit::purge`.
///
/// - `an_ended_saga_is_purged_whole`: with its history and its key.
/// - `a_saga_that_has_not_ended_is_never_purged`, `a_saga_that_ended_lately_is_not_purged`.
/// - `a_purge_looks_at_one_page_after_another`.
/// - `a_purged_record_is_told_from_one_that_never_was`.
/// - `a_purged_command_cannot_be_recorded`: nothing of the transaction is written.
/// - `attempts_at_old_commands_are_forgotten`.
pub trait Purge: Send + Sync + 'static {
    /// Removes the completed and compensated sagas that ended longer than `age` ago, with their
    /// histories and keys, among the next `limit` sagas after `after`. Others it leaves alone.
    ///
    /// A crash undoes the call or it was done. Several callers at once do no harm.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the store cannot be reached.
    fn purge_sagas(
        &self,
        age: Duration,
        after: Option<SagaId>,
        limit: usize,
    ) -> impl Future<Output = Result<PurgedSagas, StoreError>> + Send;

    /// Removes the inbox records of up to `limit` commands whose sagas started longer than `age` ago,
    /// and returns how many, and all attempts at such commands. Before it removes any it makes durable that they may be missing
    /// ([`Remembered::purged_below`](crate::participant::Remembered::purged_below)).
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the store cannot be reached.
    fn purge_inbox(
        &self,
        age: Duration,
        limit: usize,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;
}

/// What one call of [`Purge::purge_sagas`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PurgedSagas {
    /// How many sagas were removed.
    pub sagas: usize,
    /// The last saga that was looked at, to go on after; nothing if there was none left to look at.
    pub last: Option<SagaId>,
}
