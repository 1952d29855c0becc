//! A memory store with one defect, as a backend might have it.

mod dead_letters;
mod inbox;
mod outbox;
mod purge;
mod sagas;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use saga_core::store::{
    DeadLetter, Lane, MemoryConnection, MemoryStore, MemoryTransaction, OutboxRow, Tick,
    Transactional,
};
use saga_core::{BoxError, MessageId, OutboxId, SagaId, SagaStore, StoreError};
use saga_testkit::Fixture;
use tokio::time::sleep;

/// What is wrong with a backend: it …
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    ChecksKeysThenWrites,
    ChecksLeasesThenWrites,
    ChecksVersionsThenWrites,
    ClaimsToCountWhatIsRecorded,
    ClaimsWhatItLooksFor,
    CommitsOneByOne,
    CommitsTheEffectAlone,
    CommitsTheEffectFirst,
    CountsACommitTwice,
    CountsAttemptsOnce,
    CountsNoAttempts,
    CountsNoRedrives,
    CutsDeadLetters,
    CutsReplies,
    CutsRows,
    CutsStates,
    DeletesInSpiteOfAConflict,
    DiscardsEverything,
    DiscardsNothing,
    DoubtsWhatIsRecorded,
    DueInOrderOfIds,
    EndsNoAttempts,
    FailsOnRowsThatAreGone,
    FailsOnUnknownSagas,
    FiltersByNameAlone,
    FindsByKeyAlone,
    FindsOnlyOne,
    FindsUnknownKeys,
    FoldsFingerprints,
    ForgetsChanges,
    ForgetsDeadLetters,
    ForgetsEmptyReplies,
    ForgetsEndings,
    ForgetsHistory,
    ForgetsHome,
    ForgetsKeptWakeTimes,
    ForgetsKeys,
    ForgetsOperations,
    ForgetsTheEffect,
    ForgetsWhatToSend,
    ForgetsWhatWasSent,
    ForgetsTries,
    FreesKeysOfEndedSagas,
    HandlesBlindly,
    HidesWhatItPurged,
    HistoryComesBackwards,
    HistoryIsSortedAsText,
    HoldsByTheLast,
    HoldsForAnybody,
    HoldsNothing,
    HoldsWithoutAKey,
    IgnoresAges,
    IgnoresFilters,
    IgnoresLimits,
    IgnoresSecondRecords,
    IgnoresTheHorizon,
    CountsNoSagas,
    InventsRecords,
    IsAlwaysDue,
    IsNeverDue,
    KeepsEveryDeadLetter,
    KeepsKeysWithoutTheirDefinition,
    KeepsWakeTimesForEver,
    KeepsWakeTimesThatMove,
    LeasesAllLanesAtOnce,
    LeasesForEver,
    LeasesToAnybody,
    LetsAnybodyRelease,
    LimitsBeforeItFilters,
    LimitsBeforeItSorts,
    LimitsFromTheEnd,
    ListsAllOfThem,
    ListsFromTheStart,
    ListsInOrderOfStarts,
    ListsOldestFirst,
    LoadsEverything,
    LocksInTheOrderGiven,
    MixesHistories,
    MixesLanesOfAnOwner,
    MixesOwners,
    NumbersFromTheStart,
    OutboxComesBackwards,
    OverwritesOnStart,
    OverwritesWhatIsStale,
    PurgesFromTheStart,
    PurgesNothing,
    PurgesWhateverIsOld,
    ReadsOneLaneOnly,
    RedrivesAllOfThem,
    RedrivesAtOnce,
    RedrivesForEver,
    RedrivesFromAnywhere,
    RedrivesInAnyOrder,
    RedrivesNoneWithoutAKey,
    RedrivesToAnybody,
    RedrivesUnasked,
    RedrivesWithoutALease,
    RefusesASecondDeadLetter,
    RefusesRenewal,
    RoundsWakeTimes,
    SendsInSpiteOfAConflict,
    SentDoesNothing,
    SentIsACursor,
    SetsAsideInSpiteOfAConflict,
    SettlesNothing,
    SettlesWhatFailedAgain,
    SwallowsConflicts,
    SwallowsConflictsOfBlindHandlers,
    WritesOutsideTheTransaction,
    WritesTheEffectTwice,
}

type Memory = MemoryStore<Vec<String>>;

/// A memory store with at most one defect.
pub(crate) struct Broken {
    inner: Memory,
    defect: Option<Defect>,
    notes: Mutex<Notes>,
}

/// What a defect needs to remember.
#[derive(Default)]
struct Notes {
    effects: Vec<String>,
    dead_letters: Vec<DeadLetter>,
    claimed: Vec<MessageId>,
    sagas: Vec<SagaId>,
    rows: Vec<OutboxRow>,
    holders: HashMap<Lane, OutboxId>,
    looks: u32,
    locks: HashMap<SagaId, Arc<tokio::sync::Mutex<()>>>,
}

impl Broken {
    pub(crate) fn new(defect: Option<Defect>) -> Self {
        Self { inner: Memory::default(), defect, notes: Mutex::default() }
    }

    fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().expect("no law panics while it holds the notes")
    }

    /// What a tick or a handler leaves behind although it met a conflict.
    async fn after<T>(
        &self,
        result: Result<T, StoreError>,
        mut leftover: Tick,
        swallowed: T,
    ) -> Result<T, StoreError> {
        if !matches!(result, Err(StoreError::Conflict)) {
            return result;
        }
        leftover.commits.clear();
        if !self.has(Defect::SendsInSpiteOfAConflict) {
            leftover.outbox.clear();
        }
        if !self.has(Defect::DeletesInSpiteOfAConflict) {
            leftover.sent.clear();
        }
        if !self.has(Defect::SetsAsideInSpiteOfAConflict) {
            leftover.dead_letters.clear();
        }
        self.inner.commit(leftover).await?;
        if self.has(Defect::SwallowsConflicts) { Ok(swallowed) } else { result }
    }
}

/// Stands for the time between two statements of a backend that should have been one.
async fn between_two_statements() {
    sleep(Duration::from_millis(5)).await;
}

/// Cuts like a driver that takes bytes for a text of C.
fn cut(bytes: &bytes::Bytes) -> bytes::Bytes {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.slice(..end)
}

impl Transactional for Broken {
    type Connection = MemoryConnection<Vec<String>>;
    type Transaction = MemoryTransaction<Vec<String>>;

    async fn begin(&self) -> Result<Self::Transaction, StoreError> {
        self.inner.begin().await
    }

    async fn examine(
        &self,
        transaction: &mut Self::Transaction,
        failure: &BoxError,
    ) -> Result<(), StoreError> {
        self.inner.examine(transaction, failure).await
    }

    fn connection(transaction: &mut Self::Transaction) -> &mut Self::Connection {
        Memory::connection(transaction)
    }
}

impl Fixture for Broken {
    type Store = Self;

    fn store(&self) -> &Self {
        self
    }

    async fn write_effect(&self, effects: &mut MemoryConnection<Vec<String>>, key: &str) {
        if self.has(Defect::WritesOutsideTheTransaction) {
            self.notes().effects.push(key.to_owned());
            return;
        }
        effects.push(key.to_owned());
        if self.has(Defect::WritesTheEffectTwice) {
            effects.push(key.to_owned());
        }
    }

    async fn effects(&self) -> Vec<String> {
        let mut effects = self.inner.read(Vec::clone);
        effects.extend(self.notes().effects.iter().cloned());
        effects
    }

    async fn dead_letters(&self) -> Vec<DeadLetter> {
        if self.has(Defect::KeepsEveryDeadLetter) {
            return self.notes().dead_letters.clone();
        }
        self.inner.dead_letters()
    }
}
