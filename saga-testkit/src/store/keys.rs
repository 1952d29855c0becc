//! Laws of idempotency keys: a key starts one saga.

use std::sync::Arc;

use saga_core::machine::Status;
use saga_core::store::{Commit, SagaStore, Tick, WakeAt};
use saga_core::{IdempotencyKey, SagaId, SagaName, StoreError};

use crate::Fixture;
use crate::given::{
    CANCEL_ORDER, PLACE_ORDER, assert_conflict, commit, key, lane, load, next, row, start_under,
    tick, unsent,
};
use crate::run::race;

/// A second start under a key changes nothing, also when both come at once or the first saga has ended.
pub async fn a_second_start_of_a_key_is_a_conflict<F: Fixture<Store: SagaStore>>(fixture: F) {
    let (store, lane, order) = (fixture.store(), lane(0), key("order-1"));
    let (first, second) = (SagaId::now(), SagaId::now());
    commit(store, tick([start_under(first, PLACE_ORDER, &order)]), "a start").await;
    let again = || Tick {
        outbox: vec![row(&lane, "again")],
        ..tick([start_under(second, PLACE_ORDER, &order)])
    };
    assert_conflict(&store.commit(again()).await, "a second start under a key");

    let end = next(first, 1, "ended");
    let end = Commit { status: Status::Completed, wake_at: WakeAt::Never, ..end };
    commit(store, tick([end]), "the end of the saga").await;
    assert_conflict(&store.commit(again()).await, "a start under the key of an ended saga");
    assert!(load(store, second).await.is_none(), "the second saga may not start");
    assert_eq!(find(store, PLACE_ORDER, &order).await, Some(first), "the key stays the first's");
    assert_eq!(unsent(store, &lane).await, [], "a second start must send nothing");

    starts_at_once_have_one_winner(fixture).await;
}

async fn starts_at_once_have_one_winner<F: Fixture<Store: SagaStore>>(fixture: F) {
    let (fixture, order) = (Arc::new(fixture), key("order-2"));
    let sagas: Vec<_> = (0..8).map(|_| SagaId::now()).collect();
    let starts = sagas.iter().map(|&saga| {
        let (fixture, start) = (Arc::clone(&fixture), start_under(saga, PLACE_ORDER, &order));
        async move { fixture.store().commit(tick([start])).await }
    });
    let mut winners = Vec::new();
    for (&saga, result) in sagas.iter().zip(race(starts.collect()).await) {
        match result {
            Ok(()) => winners.push(saga),
            Err(StoreError::Conflict) => {}
            Err(error) => panic!("a start that comes second must be a conflict: {error:?}"),
        }
    }
    assert_eq!(winners.len(), 1, "one of the starts under one key must win: {winners:?} did");
    let found = find(fixture.store(), PLACE_ORDER, &order).await;
    assert_eq!(found, Some(winners[0]), "the key must find the winner");
    let stored = fixture.store().load(&sagas).await.expect("load");
    assert_eq!(stored.len(), 1, "no other saga may start");
}

/// A key finds the saga that was started under it; a key that was not used is left out.
pub async fn a_key_finds_its_saga<F: Fixture<Store: SagaStore>>(fixture: F) {
    let store = fixture.store();
    let mut started = Vec::new();
    for order in ["order-1", "order-2", "order-\u{e9}'\"\\%"].map(key) {
        let saga = SagaId::now();
        commit(store, tick([start_under(saga, PLACE_ORDER, &order)]), "a start").await;
        started.push((PLACE_ORDER, order, saga));
    }
    let mut keys: Vec<_> =
        started.iter().map(|(name, key, _)| (name.clone(), key.clone())).collect();
    keys.insert(1, (PLACE_ORDER, key("order-3")));
    let mut found = store.find(&keys).await.expect("find");
    found.sort_by_key(|(_, _, saga)| *saga);
    assert_eq!(found, started, "every key that was used must find its saga");
    assert_eq!(store.find(&[]).await.expect("find"), [], "nothing was asked for");
}

/// The same key under two definitions starts two sagas.
pub async fn keys_of_different_definitions_are_different<F: Fixture<Store: SagaStore>>(fixture: F) {
    let (store, order) = (fixture.store(), key("order-1"));
    let (place, cancel) = (SagaId::now(), SagaId::now());
    commit(store, tick([start_under(place, PLACE_ORDER, &order)]), "a start").await;
    let found = find(store, CANCEL_ORDER, &order).await;
    assert_eq!(found, None, "a key must not find a saga of another definition");
    let other = tick([start_under(cancel, CANCEL_ORDER, &order)]);
    commit(store, other, "a start of another definition under the same key").await;
    assert_eq!(find(store, PLACE_ORDER, &order).await, Some(place), "each has its own saga");
    assert_eq!(find(store, CANCEL_ORDER, &order).await, Some(cancel), "each has its own saga");
}

async fn find(store: &impl SagaStore, name: SagaName, key: &IdempotencyKey) -> Option<SagaId> {
    let mut found = store.find(&[(name, key.clone())]).await.expect("find");
    assert!(found.len() <= 1, "one key must not find several sagas: {found:?}");
    found.pop().map(|(_, _, saga)| saga)
}
