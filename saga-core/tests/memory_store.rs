//! The laws of every contract that the memory store keeps, on the memory store.

use std::time::Duration;

use saga_core::machine::Status;
use saga_core::store::{
    Commit, DeadLetter, Lane, MemoryConnection, MemoryStore, NewSaga, OutboxRow, Tick,
    Transactional, Version, WakeAt,
};
use saga_core::{Clock, Outbox, OutboxId, SagaId, SagaName, SagaStore, StoreError};
use saga_testkit::{Fixture, ManualClock};

/// A store whose application state is the effects that the laws write.
struct Fresh(MemoryStore<Vec<String>>);

async fn fresh() -> Fresh {
    Fresh(MemoryStore::default())
}

impl Fixture for Fresh {
    type Store = MemoryStore<Vec<String>>;

    fn store(&self) -> &Self::Store {
        &self.0
    }

    async fn write_effect(&self, effects: &mut MemoryConnection<Vec<String>>, key: &str) {
        effects.push(key.to_owned());
    }

    async fn effects(&self) -> Vec<String> {
        self.0.read(Vec::clone)
    }

    async fn dead_letters(&self) -> Vec<DeadLetter> {
        self.0.dead_letters()
    }
}

saga_testkit::store_conformance!(fresh);
saga_testkit::inbox_conformance!(fresh);
saga_testkit::purge_conformance!(fresh);
saga_testkit::dead_letter_conformance!(fresh);

const MINUTE: Duration = Duration::from_mins(1);

fn row() -> OutboxRow {
    OutboxRow { id: OutboxId::now(), lane: Lane::application(), body: "body".into() }
}

#[tokio::test]
async fn an_enqueued_row_shares_the_fate_of_its_transaction() {
    let store = MemoryStore::new();
    let mut dropped = store.begin().await.unwrap();
    MemoryStore::connection(&mut dropped).enqueue(row());
    drop(dropped);
    assert_eq!(store.outbox_len(), 0);

    let (first, second, third) = (row(), row(), row());
    let mut transaction = store.begin().await.unwrap();
    MemoryStore::connection(&mut transaction).enqueue(first.clone());
    transaction.commit().await.unwrap();
    let mut transaction = store.begin().await.unwrap();
    MemoryStore::connection(&mut transaction).enqueue(second.clone());
    let tick = Tick { outbox: vec![third.clone()], ..Tick::default() };
    store.commit_with(transaction, tick).await.unwrap();
    let unsent = store.unsent(&[Lane::application()], 10_000).await.unwrap();
    assert_eq!(unsent, [first, second, third]);
}

#[tokio::test]
async fn a_row_that_is_there_already_is_a_conflict() {
    let (store, row) = (MemoryStore::with_state(0), row());
    let tick = Tick { outbox: vec![row.clone()], ..Tick::default() };
    store.commit(tick).await.unwrap();
    let mut transaction = store.begin().await.unwrap();
    let connection = MemoryStore::connection(&mut transaction);
    **connection += 1;
    connection.enqueue(row);
    assert!(matches!(transaction.commit().await, Err(StoreError::Conflict)));
    assert_eq!(store.read(|state| *state), 0, "the write shares the fate of the row");
}

#[tokio::test]
async fn what_is_due_and_leased_follows_the_clock() {
    let clock = ManualClock::new();
    let store = MemoryStore::new().clock(clock.clone());
    let (saga, lane) = (SagaId::now(), Lane::application());
    let new = NewSaga {
        name: SagaName::new("place-order"),
        definition_version: 1,
        fingerprint: 1,
        key: None,
        home: 0,
    };
    let start = Commit {
        saga,
        expected: Version(0),
        new: Some(new),
        status: Status::Running,
        wake_at: WakeAt::At(clock.now() + MINUTE),
        state: "state".into(),
        history: "started".into(),
    };
    store.commit(Tick { commits: vec![start], ..Tick::default() }).await.unwrap();
    let (first, second) = (OutboxId::now(), OutboxId::now());
    assert!(store.lease(&lane, first, MINUTE).await.unwrap());

    clock.advance(MINUTE.checked_sub(Duration::from_micros(1)).unwrap());
    assert!(store.due(Duration::ZERO, 1).await.unwrap().sagas.is_empty());
    assert!(!store.lease(&lane, second, MINUTE).await.unwrap());
    clock.advance(Duration::from_micros(1));
    assert_eq!(store.due(Duration::ZERO, 1).await.unwrap().sagas[0].saga, saga);
    assert!(store.lease(&lane, second, MINUTE).await.unwrap());
}

#[tokio::test]
async fn a_transaction_of_another_store_is_refused() {
    let (store, other) = (MemoryStore::new(), MemoryStore::new());
    let transaction = other.begin().await.unwrap();
    let result = store.commit_with(transaction, Tick::default()).await;
    assert!(matches!(result, Err(StoreError::Configuration { .. })));
}

/// The names in the list under `# Laws` of a contract's documentation.
fn documented(sources: &[&str]) -> Vec<String> {
    let bullets = sources.iter().flat_map(|source| source.split("/// - ").skip(1));
    let mut laws: Vec<_> = bullets
        .flat_map(|bullet| {
            let names = bullet.split_once(':').map_or(bullet, |(names, _)| names);
            names.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    laws.sort();
    laws
}

fn sorted(laws: &[&str]) -> Vec<String> {
    let mut laws: Vec<_> = laws.iter().map(|&law| law.to_owned()).collect();
    laws.sort();
    laws
}

#[test]
fn the_laws_that_are_tested_are_the_documented_ones() {
    let store =
        documented(&[include_str!("../src/store/mod.rs"), include_str!("../src/store/outbox.rs")]);
    assert_eq!(store, sorted(saga_testkit::store::LAWS));
    let inbox = documented(&[include_str!("../src/participant/inbox.rs")]);
    assert_eq!(inbox, sorted(saga_testkit::inbox::LAWS));
    let purge = documented(&[include_str!("../src/store/purge.rs")]);
    assert_eq!(purge, sorted(saga_testkit::purge::LAWS));
}
