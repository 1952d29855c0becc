//! Contract: messages that were set aside, and how they come back.
//!
//! A consumer that cannot handle a message sets it aside in the transaction that lets its input go
//! on. It stays in the store, byte for byte, until it was handled after all ([`Redrive`]) or until a
//! person gives it up ([`DeadLetters`]).

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

use crate::transport::{Delivery, Position};
use crate::{MessageId, ParticipantName, StoreError, Timestamp, Topic};

/// How often a letter is handed out after it was asked for once: a process may die with it.
pub const REDRIVE_TRIES: u32 = 3;

/// So many bytes of letters are handed out or listed at once, give or take one letter: their keys, values and headers.
pub const LETTER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Who is said to have set aside what was set aside before that was kept. Nobody would take such a letter back.
const NOBODY: ParticipantName = ParticipantName::new("unknown");

/// How long a letter that was handed out to somebody who then died waits for the next.
pub(crate) const REDRIVE_LEASE: Duration = Duration::from_secs(30);

/// A message that was set aside, with everything needed to handle it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Names this dead letter.
    pub id: MessageId,
    /// Who set it aside, and handles it again when it is redriven.
    pub consumer: ParticipantName,
    /// Where the message was received.
    pub topic: Topic,
    /// The partition that it was received in.
    pub partition: u32,
    /// Its place in the partition. A message that is received again after a crash is the same dead
    /// letter: (consumer, topic, partition, offset) is kept once.
    pub offset: u64,
    /// When it was produced.
    pub timestamp: Timestamp,
    /// The original key.
    pub key: Bytes,
    /// The original value.
    pub value: Bytes,
    /// The original headers.
    pub headers: Vec<(String, Bytes)>,
    /// Why it was set aside: a short class such as `undecodable`.
    pub reason: String,
    /// What was found, for a person.
    pub detail: String,
    /// How often it was tried to handle it: the tries of each time that it was set aside, added up. 0 if it was not tried, for
    /// it is no message for this consumer, or waits for another one, or if that is not known.
    ///
    /// It is for a person, and not exact: tries together with others, and those that an outage cut off, are not counted,
    /// and those before a commit whose outcome was not known may count twice.
    pub attempts: u32,
    /// True if it comes back by itself, once those of its key before it are settled: nothing is wrong with it, or it
    /// failed only once and may succeed.
    pub waits: bool,
    /// How often it was handed out again.
    pub redrives: u32,
    /// From when on it is handed out again; nothing if nobody asked for it, or it was set aside again since.
    pub redrive_at: Option<Timestamp>,
}

impl DeadLetter {
    /// Sets a delivery aside.
    #[must_use]
    pub fn new(consumer: &ParticipantName, delivery: Delivery, reason: &str, detail: &str) -> Self {
        let Delivery { position, key, value, headers, timestamp } = delivery;
        Self {
            id: MessageId::now(),
            consumer: consumer.clone(),
            topic: position.topic,
            partition: position.partition,
            offset: position.offset,
            timestamp,
            key,
            value,
            headers,
            reason: reason.to_owned(),
            // A database's text takes no NUL, and the detail may quote the message.
            detail: detail.chars().filter(|c| !c.is_control()).take(1000).collect(),
            attempts: 0,
            waits: false,
            redrives: 0,
            redrive_at: None,
        }
    }

    /// Returns true if it is not known who set it aside, so that it can only be discarded.
    pub(crate) fn is_of_nobody(&self) -> bool {
        self.consumer == NOBODY
    }

    /// Returns the message as it was received.
    #[must_use]
    pub fn into_delivery(self) -> Delivery {
        let Self { topic, partition, offset, key, value, headers, timestamp, .. } = self;
        let position = Position { topic, partition, offset, generation: 0 };
        Delivery { position, key, value, headers, timestamp }
    }
}

/// Hands out again what was set aside: what an engine and a participant need of the store.
///
/// A letter that is handed out is like a delivery: whoever takes it handles it, makes the outcome
/// durable, and then [settles](Self::settled) it. A crash in between hands it out once more, and
/// the inbox or the saga's key makes its effect happen once.
///
/// # Laws
///
/// Each law is a test of the same name in `saga_testkit::dead_letters`, with those of [`DeadLetters`].
///
/// - `a_letter_is_handed_out_when_it_was_asked_for`: to its consumer, for its partitions, not before its time.
/// - `a_letter_is_handed_out_three_times_at_most`: counted before it is handled, so that a message
///   which kills whoever handles it comes to rest.
/// - `a_settled_letter_is_gone_and_one_set_aside_again_is_not`, with all its attempts.
/// - `a_letter_that_waits_comes_after_those_before_it`: by itself, in the order of offsets.
/// - `large_letters_are_handed_out_a_few_at_a_time`: they all go through the memory of whoever handles them.
/// - `a_held_key_is_told_with_its_first_letter`.
pub trait Redrive: Send + Sync + 'static {
    /// Hands out up to `limit` letters of a consumer that were received in some partitions and are due.
    ///
    /// Due is a letter that was asked for, at most [`REDRIVE_TRIES`] times for each time that it was
    /// asked for, or that [waits](DeadLetter::waits) and is the first of its key, or has none. A letter that is
    /// handed out is not due again within `lease`. No further one is handed out once [`LETTER_BYTES_MAX`] is reached.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]; what was handed out then is due again when the lease ends.
    fn redriven(
        &self,
        consumer: &ParticipantName,
        partitions: &[u32],
        lease: Duration,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<DeadLetter>, StoreError>> + Send;

    /// Removes letters that were handed out and handled; those that were set aside again stay.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]; the call can be repeated.
    fn settled(&self, letters: &[MessageId])
    -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns the first letter of each topic, partition and key that a consumer has letters of; those without a key are left out.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the store cannot be reached.
    fn held(
        &self,
        consumer: &ParticipantName,
    ) -> impl Future<Output = Result<Vec<HeldKey>, StoreError>> + Send;
}

/// A key that has letters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeldKey {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: u32,
    /// The key.
    pub key: Bytes,
    /// The place of its first letter in the partition.
    pub first: u64,
}

/// Lists what was set aside, and does with it what a person decided. [`LetterTask`](crate::LetterTask) is for many at once.
///
/// # Laws
///
/// Each law is a test of the same name in `saga_testkit::dead_letters`.
///
/// - `letters_are_listed_in_pages`: in the order of their ids, as they were set aside.
/// - `large_letters_are_listed_a_few_at_a_time`.
/// - `a_filter_leaves_the_others_out`.
/// - `a_discarded_letter_is_gone`.
/// - `what_was_decided_is_on_record`: one entry per letter, in the transaction that did it.
pub trait DeadLetters: Send + Sync + 'static {
    /// Lists up to `limit` letters with an id after `after`, in the order of their ids. A page ends once
    /// [`LETTER_BYTES_MAX`] is reached, so what ends the list is a page without letters.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the store cannot be reached.
    fn letters(
        &self,
        filter: &LetterFilter,
        after: Option<MessageId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<DeadLetter>, StoreError>> + Send;

    /// Does something to letters, each after a pause from now, and puts it on record; all of it or nothing.
    ///
    /// Returns to how many; those that are gone are left out. Asking twice for a redrive moves its
    /// time. A discard takes effect at once, whatever the pause.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]; a repetition does no harm.
    fn operate(
        &self,
        operation: &LetterOperation,
        letters: &[(MessageId, Duration)],
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Returns what was done to letters, up to `limit` entries after the one with number `after`, oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the store cannot be reached.
    fn operations(
        &self,
        after: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<OperatedLetter>, StoreError>> + Send;
}

/// Which letters; all by default. What is given must all apply.
///
/// ```
/// use saga_core::store::LetterFilter;
/// use saga_core::Topic;
///
/// let filter = LetterFilter::all().topic(Topic::new("orders.events")).reason("undecodable-fact");
/// # let _ = filter;
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LetterFilter {
    /// Only this one.
    pub id: Option<MessageId>,
    /// Only those that this consumer set aside.
    pub consumer: Option<ParticipantName>,
    /// Only those of this topic.
    pub topic: Option<Topic>,
    /// Only those with this key.
    pub key: Option<Bytes>,
    /// Only those that were set aside for this reason.
    pub reason: Option<String>,
}

impl LetterFilter {
    /// Leaves nothing out.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Leaves out all but one.
    #[must_use]
    pub fn one(id: MessageId) -> Self {
        Self { id: Some(id), ..Self::default() }
    }

    /// Leaves out what others than this consumer set aside.
    #[must_use]
    pub fn consumer(self, consumer: ParticipantName) -> Self {
        Self { consumer: Some(consumer), ..self }
    }

    /// Leaves out other topics.
    #[must_use]
    pub fn topic(self, topic: Topic) -> Self {
        Self { topic: Some(topic), ..self }
    }

    /// Leaves out other keys.
    #[must_use]
    pub fn key(self, key: impl Into<Bytes>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// Leaves out other reasons.
    #[must_use]
    pub fn reason(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }

    /// Returns true if a letter is one of these.
    #[must_use]
    pub fn matches(&self, letter: &DeadLetter) -> bool {
        self.id.is_none_or(|it| it == letter.id)
            && self.consumer.as_ref().is_none_or(|it| *it == letter.consumer)
            && self.topic.as_ref().is_none_or(|it| *it == letter.topic)
            && self.key.as_ref().is_none_or(|it| *it == letter.key)
            && self.reason.as_ref().is_none_or(|it| *it == letter.reason)
    }
}

/// What a person does to letters, with who and why for the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterOperation {
    /// Who acts.
    pub by: String,
    /// Why.
    pub reason: String,
    /// What is to be done.
    pub action: LetterAction,
}

/// What a person can do to a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LetterAction {
    /// Let its consumer handle it again.
    Redrive,
    /// Give it up: it is removed, and what waits behind it goes on.
    Discard,
}

impl LetterAction {
    /// Returns the name under which it is recorded.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Redrive => "redrive",
            Self::Discard => "discard",
        }
    }

    /// Finds an action by its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Redrive, Self::Discard].into_iter().find(|it| it.as_str() == name)
    }
}

/// What was done to one letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatedLetter {
    /// Grows from entry to entry.
    pub number: u64,
    /// When it was done, by the store's clock.
    pub at: Timestamp,
    /// What was done, by whom and why.
    pub operation: LetterOperation,
    /// The letter.
    pub letter: MessageId,
    /// The topic that it was received from.
    pub topic: Topic,
    /// The partition that it was received in.
    pub partition: u32,
    /// Its place in the partition.
    pub offset: u64,
}
