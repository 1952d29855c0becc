//! What the laws commit, and how they look at what became of it.

use std::time::Duration;

use bytes::Bytes;
use saga_core::machine::Status;
use saga_core::store::{
    Commit, DeadLetter, Lane, NewSaga, OutboxRow, SagaStore, Snapshot, Tick, Transactional,
    Version, WakeAt,
};
use saga_core::{
    IdempotencyKey, MessageId, Outbox, OutboxId, ParticipantName, SagaId, SagaName, StoreError,
    Timestamp, Topic,
};

use crate::Fixture;

pub(crate) const PLACE_ORDER: SagaName = SagaName::new("place-order");
pub(crate) const CANCEL_ORDER: SagaName = SagaName::new("cancel-order");
pub(crate) const ORCHESTRATOR: ParticipantName = ParticipantName::new("orchestrator");
pub(crate) const HOUR: Duration = Duration::from_hours(1);
/// More rows than a law appends.
pub(crate) const ALL: usize = 1_000_000;

pub(crate) fn lane(number: u32) -> Lane {
    Lane::new(ORCHESTRATOR, number)
}

pub(crate) fn row(lane: &Lane, body: &str) -> OutboxRow {
    OutboxRow { id: OutboxId::now(), lane: lane.clone(), body: bytes(body) }
}

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey::new(text).expect("a law's key is valid")
}

/// A saga without a key starts.
pub(crate) fn start(saga: SagaId) -> Commit {
    Commit {
        saga,
        expected: Version(0),
        new: Some(NewSaga {
            name: PLACE_ORDER,
            definition_version: 1,
            fingerprint: 1,
            key: None,
            home: 0,
        }),
        status: Status::Running,
        wake_at: WakeAt::Never,
        state: bytes("started"),
        history: bytes("started"),
    }
}

pub(crate) fn start_under(saga: SagaId, name: SagaName, key: &IdempotencyKey) -> Commit {
    let mut commit = start(saga);
    let new = commit.new.as_mut().expect("a start has a new saga");
    (new.name, new.key) = (name, Some(key.clone()));
    commit
}

pub(crate) fn start_due(saga: SagaId, wake_at: Timestamp) -> Commit {
    Commit { wake_at: WakeAt::At(wake_at), ..start(saga) }
}

/// A running saga goes on.
pub(crate) fn next(saga: SagaId, expected: u64, state: &str) -> Commit {
    Commit {
        saga,
        expected: Version(expected),
        new: None,
        status: Status::Running,
        wake_at: WakeAt::Keep,
        state: bytes(state),
        history: bytes(state),
    }
}

pub(crate) fn tick(commits: impl IntoIterator<Item = Commit>) -> Tick {
    Tick { commits: commits.into_iter().collect(), ..Tick::default() }
}

pub(crate) fn outbox_tick(outbox: Vec<OutboxRow>) -> Tick {
    Tick { outbox, ..Tick::default() }
}

pub(crate) fn dead_letter(offset: u64) -> DeadLetter {
    DeadLetter {
        id: MessageId::now(),
        consumer: ORCHESTRATOR,
        topic: Topic::new("orchestrator.events"),
        partition: 3,
        offset,
        timestamp: Timestamp::from_micros(1_767_225_600_123_456),
        key: Bytes::from_static(b"\x00key\xff"),
        value: Bytes::from_static(b"\x00no envelope\xff"),
        headers: vec![
            ("trace".to_owned(), Bytes::from_static(b"\x01\x00\xfe")),
            ("trace".to_owned(), Bytes::new()),
        ],
        reason: "undecodable".to_owned(),
        detail: "a law put it here: \u{fc}".to_owned(),
        attempts: 0,
        waits: false,
        redrives: 0,
        redrive_at: None,
    }
}

pub(crate) async fn commit(store: &impl SagaStore, tick: Tick, what: &str) {
    store.commit(tick).await.unwrap_or_else(|error| panic!("{what} must commit: {error:?}"));
}

pub(crate) async fn load(store: &impl SagaStore, saga: SagaId) -> Option<Snapshot> {
    let mut found = store.load(&[saga]).await.expect("load");
    assert!(found.len() <= 1, "one saga was asked for and {} were loaded", found.len());
    found.pop()
}

pub(crate) async fn stored(store: &impl SagaStore, saga: SagaId) -> Snapshot {
    load(store, saga).await.expect("a committed saga must be there")
}

pub(crate) async fn unsent(store: &impl Outbox, lane: &Lane) -> Vec<OutboxRow> {
    store.unsent(std::slice::from_ref(lane), ALL).await.expect("unsent")
}

pub(crate) async fn begin_with_effect<F: Fixture>(
    fixture: &F,
    key: &str,
) -> <F::Store as Transactional>::Transaction {
    let mut transaction = fixture.store().begin().await.expect("begin");
    fixture.write_effect(F::Store::connection(&mut transaction), key).await;
    transaction
}

pub(crate) fn assert_conflict<T: std::fmt::Debug>(result: &Result<T, StoreError>, what: &str) {
    assert!(
        matches!(result, Err(StoreError::Conflict)),
        "{what} must be a conflict: got {result:?}"
    );
}
