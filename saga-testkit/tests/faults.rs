//! A faulty store is a store, until its script says otherwise.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use saga_core::store::{DeadLetter, Lane, MemoryConnection, MemoryStore, OutboxRow, Tick};
use saga_core::transport::{Received, Record, Subscription};
use saga_core::{
    MemoryTransport, Outbox, OutboxId, ParticipantName, Publisher as _, SagaStore, StoreError,
    Subscriber as _, Topic, Transport as _,
};
use saga_testkit::{Faults, Faulty, Fixture, Moment, Operation};

struct Fresh(Faulty<MemoryStore<Vec<String>>>);

async fn fresh() -> Fresh {
    Fresh(Faulty::new(MemoryStore::default(), &Faults::new()))
}

impl Fixture for Fresh {
    type Store = Faulty<MemoryStore<Vec<String>>>;

    fn store(&self) -> &Self::Store {
        &self.0
    }

    async fn write_effect(&self, effects: &mut MemoryConnection<Vec<String>>, key: &str) {
        effects.push(key.to_owned());
    }

    async fn effects(&self) -> Vec<String> {
        self.0.inner().read(Vec::clone)
    }

    async fn dead_letters(&self) -> Vec<DeadLetter> {
        self.0.inner().dead_letters()
    }
}

saga_testkit::store_conformance!(fresh);
saga_testkit::inbox_conformance!(fresh);

fn scripted() -> (Faulty<MemoryStore>, Faults) {
    let faults = Faults::new();
    (Faulty::new(MemoryStore::new(), &faults), faults)
}

fn append() -> Tick {
    let row = OutboxRow { id: OutboxId::now(), lane: Lane::application(), body: "body".into() };
    Tick { outbox: vec![row], ..Tick::default() }
}

fn is_unavailable<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Unavailable { .. }))
}

async fn is_pending<T>(call: impl Future<Output = T>) -> bool {
    tokio::select! {
        biased;
        _ = call => false,
        () = tokio::task::yield_now() => true,
    }
}

#[tokio::test]
async fn one_call_fails_before_or_after_its_effect() {
    let (store, faults) = scripted();
    faults.fail_at(Operation::Commit, 1, Moment::Before);
    faults.fail_at(Operation::Commit, 3, Moment::After);
    let expected = [(true, 0), (false, 1), (true, 2), (false, 3)];
    for (fails, rows) in expected {
        assert_eq!(is_unavailable(&store.commit(append()).await), fails);
        assert_eq!(store.inner().outbox_len(), rows);
    }
    assert_eq!(faults.calls(Operation::Commit), 4);
    assert_eq!(faults.calls(Operation::Write), 4);
    assert_eq!(faults.calls(Operation::Load), 0);
}

#[tokio::test]
async fn death_stops_every_call_until_revival() {
    for (moment, rows) in [(Moment::Before, 1), (Moment::After, 2)] {
        let (store, faults) = scripted();
        faults.kill_at(Operation::Write, 2, moment);
        store.commit(append()).await.unwrap();
        {
            let mut deadly = pin!(store.commit(append()));
            assert!(is_pending(&mut deadly).await, "the call that died must not return");
            faults.killed().await;
            assert_eq!(store.inner().outbox_len(), rows, "{moment:?}");
            assert!(is_pending(store.load(&[])).await, "a later call must not return");
            faults.revive();
            assert!(is_unavailable(&deadly.await), "a paused process does not know the outcome");
        }
        store.commit(append()).await.unwrap();
        assert_eq!(store.inner().outbox_len(), rows + 1);
    }
}

#[tokio::test]
async fn stores_of_one_process_die_together() {
    let (store, faults) = scripted();
    let other = Faulty::new(MemoryStore::new(), &faults);
    faults.kill_at(Operation::Due, 1, Moment::Before);
    assert!(is_pending(store.due(Duration::ZERO, 1)).await);
    assert!(is_pending(other.load(&[])).await);
}

#[tokio::test]
async fn an_outage_fails_every_call_and_counts_none() {
    let (store, faults) = scripted();
    faults.outage();
    assert!(is_unavailable(&store.commit(append()).await));
    assert!(is_unavailable(&store.unsent(&[], 1).await));
    assert_eq!(faults.calls(Operation::Commit), 0);
    faults.revive();
    store.commit(append()).await.unwrap();
    assert_eq!(store.inner().outbox_len(), 1);
}

/// As the contract of a subscriber has it: a dropped call loses nothing, whatever its limit was.
#[tokio::test(start_paused = true)]
async fn who_stands_still_over_what_was_received_has_it_afterwards() {
    const TOPIC: Topic = Topic::new("orders.events");
    let (topics, faults) = (MemoryTransport::new(), Faults::new());
    faults.pause_at(Operation::Receive, 2, Moment::After, Duration::from_secs(1));
    topics.ensure_topics(&[TOPIC]).await.unwrap();
    let transport = Faulty::new(topics.clone(), &faults);
    let group = ParticipantName::new("orders");
    let subscription = Subscription { group, topics: vec![TOPIC] };
    let mut subscriber = transport.subscriber(subscription).await.unwrap();
    let assigned = subscriber.receive(1).await.unwrap();
    assert!(matches!(assigned, Received::Assigned(_)), "{assigned:?}");

    let record = |value: &'static str| {
        let (key, value) = ("o-1".into(), value.into());
        Record { topic: TOPIC, partition: Some(0), key, value, headers: Vec::new() }
    };
    let records = ["a", "b", "c"].map(record).to_vec();
    topics.publisher().await.unwrap().publish(records).await.unwrap();
    assert!(is_pending(subscriber.receive(3)).await, "it stands still");
    let mut values = Vec::new();
    for expected in [2, 1] {
        let received = subscriber.receive(2).await.unwrap();
        let Received::Deliveries(deliveries) = received else { panic!("{received:?}") };
        assert_eq!(deliveries.len(), expected);
        values.extend(deliveries.into_iter().map(|it| it.value));
    }
    assert_eq!(values, ["a", "b", "c"]);
}
