//! What a store is given, and what it gives back.

use bytes::Bytes;

use crate::machine::Status;
use crate::store::{DeadLetter, OutboxRow};
use crate::{IdempotencyKey, OutboxId, SagaId, SagaName, Timestamp};

/// How often a saga has been committed: 1 after its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version(pub u64);

impl Version {
    /// Returns the version after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Everything that one round of the engine makes durable: one transaction.
#[derive(Debug, Clone, Default)]
pub struct Tick {
    /// The sagas that changed, each at most once.
    pub commits: Vec<Commit>,
    /// What is to be published.
    pub outbox: Vec<OutboxRow>,
    /// Outbox rows whose records the broker has acknowledged; they are deleted.
    pub sent: Vec<OutboxId>,
    /// Messages that are set aside.
    pub dead_letters: Vec<DeadLetter>,
}

impl Tick {
    /// Returns true if there is nothing to make durable.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.commits.is_empty()
            && self.outbox.is_empty()
            && self.sent.is_empty()
            && self.dead_letters.is_empty()
    }
}

/// The new state of one saga.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The saga.
    pub saga: SagaId,
    /// The version that this was decided on; 0 if the saga starts here.
    pub expected: Version,
    /// What never changes again; given exactly if `expected` is 0.
    pub new: Option<NewSaga>,
    /// Where the saga stands.
    pub status: Status,
    /// When somebody must look at the saga again.
    pub wake_at: WakeAt,
    /// The engine's record of the saga.
    pub state: Bytes,
    /// What happened, encoded; empty if nothing worth keeping did.
    pub history: Bytes,
}

/// What is stored of a saga once, when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSaga {
    /// The definition that the saga follows.
    pub name: SagaName,
    /// The version of the definition; the saga ends on it.
    pub definition_version: u32,
    /// The fingerprint of that version's shape.
    pub fingerprint: u64,
    /// The key that the saga was started under, unique per definition name.
    pub key: Option<IdempotencyKey>,
    /// The partition that the saga's commands and replies travel in.
    pub home: u32,
}

/// A lower bound of the next time that something is due, indexed by the store.
///
/// It may be early: then whoever looks finds nothing due and sets a later one. It is never late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WakeAt {
    /// Leave what is stored: the bound still holds. Cheapest.
    Keep,
    /// Store this time.
    At(Timestamp),
    /// Nothing will be due by itself.
    Never,
}

/// A saga as it is stored.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The saga.
    pub saga: SagaId,
    /// How often it was committed.
    pub version: Version,
    /// What was stored when it started.
    pub new: NewSaga,
    /// Where it stands.
    pub status: Status,
    /// The stored lower bound; `None` if nothing is due by itself.
    pub wake_at: Option<Timestamp>,
    /// The engine's record of it.
    pub state: Bytes,
}

/// One commit's entry in a saga's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRecord {
    /// The version that the commit made.
    pub version: Version,
    /// What happened, as it was given in [`Commit::history`].
    pub entries: Bytes,
}

/// The sagas that need a look, and the time by the store's clock.
#[derive(Debug, Clone)]
pub struct DueSagas {
    /// The store's time.
    pub now: Timestamp,
    /// The sagas, earliest first.
    pub sagas: Vec<DueSaga>,
}

/// A shape of a definition that sagas are under way on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DefinitionInUse {
    /// The name of the saga.
    pub saga: SagaName,
    /// The version of the definition.
    pub version: u32,
    /// The fingerprint of that version's shape.
    pub fingerprint: u64,
    /// How many sagas are under way on it.
    pub sagas: u64,
}

/// A saga that needs a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueSaga {
    /// The saga.
    pub saga: SagaId,
    /// The partition that its commands and replies travel in.
    pub home: u32,
    /// The stored lower bound.
    pub wake_at: Timestamp,
}
