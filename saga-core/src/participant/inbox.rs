//! Contract: which commands were handled, and what was answered.

use std::future::Future;

use bytes::Bytes;

use crate::store::{DeadLetter, Outbox, OutboxRow, Redrive, StoreError, Transactional};
use crate::{MessageId, OutboxId};

/// Remembers what a participant answered to each command, in the transaction that carried it out.
///
/// The record is what makes an effect happen once: a command that is delivered again finds its
/// record and gets the same answer. A fact that is [handled](crate::HandleFact) is recorded like a command, under an id
/// that is as old as the fact and belongs to the one participant. It is the *inbox* half of the outbox/inbox pattern (also called
/// idempotent receiver, Hohpe and Woolf, *Enterprise Integration Patterns*, 2003).
///
/// An inbox that grows for ever is dropped from by [`Retention`](crate::Retention), if the store is a
/// [`Purge`](crate::store::Purge).
///
/// # Laws
///
/// Each law is a test of the same name in `saga_testkit::inbox`.
///
/// - `a_record_is_found_again`: with the answer byte for byte.
/// - `unknown_commands_are_left_out`.
/// - `an_effect_and_its_record_commit_together`, `a_dropped_transaction_leaves_no_record`.
/// - `a_second_record_of_a_command_is_a_conflict`: nothing of the later transaction is written.
/// - `concurrent_handlers_of_one_command_have_one_winner`.
/// - `replies_wait_in_the_outbox`: the outbox rows of a commit are there with its records.
/// - `a_dead_letter_is_kept_once`.
/// - `attempts_are_counted_until_they_end`, `a_recorded_command_has_no_attempts`.
pub trait Inbox: Transactional + Outbox + Redrive {
    /// Returns the records of those of `commands` that have one, and since when all records are there.
    ///
    /// Both are of one moment: a record that is missing was purged only if `purged_below` says so.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the store cannot be reached.
    fn recorded(
        &self,
        transaction: &mut Self::Transaction,
        commands: &[MessageId],
    ) -> impl Future<Output = Result<Remembered, StoreError>> + Send;

    /// Commits a transaction together with the records and outbox rows of what was done in it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] if one of the commands was recorded by somebody else meanwhile, or may
    /// have been and was purged; nothing was written. [`StoreError::Unavailable`] if the outcome is unknown: everything was written or nothing.
    fn record(
        &self,
        transaction: Self::Transaction,
        handled: Handled,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Counts an attempt at each of `commands` that has no record; durable before any handler runs.
    /// Returns those that were counted.
    ///
    /// A command that kills whoever carries it out is found by its attempts that never
    /// [end](Self::end_attempts). Called for the first commands after partitions were assigned only. A command that somebody
    /// has tried anew is counted under another id, which is as old and never has a record.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]; the attempts may or may not have been counted.
    fn begin_attempts(
        &self,
        commands: &[MessageId],
    ) -> impl Future<Output = Result<Vec<MessageId>, StoreError>> + Send;

    /// Returns those of `commands` with attempts that did not end and without a record, and how many attempts each has had.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the store cannot be reached.
    fn unfinished(
        &self,
        commands: &[MessageId],
    ) -> impl Future<Output = Result<Vec<(MessageId, u32)>, StoreError>> + Send;

    /// Forgets all attempts at these commands: nobody died of them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]; the call can be repeated.
    fn end_attempts(
        &self,
        commands: &[MessageId],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// What one transaction of a participant did.
#[derive(Debug, Clone, Default)]
pub struct Handled {
    /// The commands, each at most once, with their answers.
    pub records: Vec<InboxRecord>,
    /// What is to be published.
    pub outbox: Vec<OutboxRow>,
    /// Outbox rows whose records the broker has acknowledged; they are deleted.
    pub sent: Vec<OutboxId>,
    /// Messages that are set aside.
    pub dead_letters: Vec<DeadLetter>,
}

/// What an inbox knows of some commands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remembered {
    /// The records of those that have one, in any order.
    pub records: Vec<InboxRecord>,
    /// A command with a lower id may have had a record that was purged.
    pub purged_below: Option<MessageId>,
}

/// A command that was handled, and its answer, or a fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxRecord {
    /// The command, or what stands for the fact.
    pub command: MessageId,
    /// The answer, encoded.
    pub reply: Bytes,
}
