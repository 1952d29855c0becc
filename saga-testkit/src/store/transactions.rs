//! Laws of transactions: what a handler wrote shares the fate of its tick.

use saga_core::SagaId;
use saga_core::store::{SagaStore, Tick, Version};

use crate::Fixture;
use crate::given::{
    assert_conflict, begin_with_effect, commit, lane, load, next, row, start, stored, tick, unsent,
};

/// A transaction that is dropped has no effect and is in nobody's way.
pub async fn a_dropped_transaction_changes_nothing<F: Fixture<Store: SagaStore>>(fixture: F) {
    let (store, saga) = (fixture.store(), SagaId::now());
    drop(begin_with_effect(&fixture, "dropped").await);
    let effects = fixture.effects().await;
    assert!(effects.is_empty(), "a dropped transaction must be rolled back: {effects:?}");
    let transaction = begin_with_effect(&fixture, "committed").await;
    store.commit_with(transaction, tick([start(saga)])).await.expect("a start must commit");
    let effects = fixture.effects().await;
    assert_eq!(effects, ["committed"], "what was dropped must not come back with what follows");
}

/// A handler's effect and the tick that follows from it are there together.
pub async fn an_effect_and_its_tick_commit_together<F: Fixture<Store: SagaStore>>(fixture: F) {
    let (store, lane, saga) = (fixture.store(), lane(0), SagaId::now());
    let (earlier, later) = (row(&lane, "earlier"), row(&lane, "later"));
    let first = Tick { outbox: vec![earlier.clone()], ..tick([start(saga)]) };
    let transaction = begin_with_effect(&fixture, "first").await;
    store.commit_with(transaction, first).await.expect("a start must commit");
    assert_eq!(fixture.effects().await, ["first"], "the effect must be there, once");
    assert_eq!(stored(store, saga).await.version, Version(1), "and the saga");
    assert_eq!(unsent(store, &lane).await, vec![earlier.clone()], "and what it sends");

    let commits = vec![next(saga, 1, "second")];
    let outbox = vec![later.clone()];
    let second = Tick { commits, outbox, sent: vec![earlier.id], ..Tick::default() };
    let transaction = begin_with_effect(&fixture, "second").await;
    store.commit_with(transaction, second).await.expect("a next step must commit");
    let mut effects = fixture.effects().await;
    effects.sort();
    assert_eq!(effects, ["first", "second"], "both effects must be there, once");
    assert_eq!(stored(store, saga).await.version, Version(2), "and the saga has moved");
    assert_eq!(unsent(store, &lane).await, [later], "and so has the outbox");
}

/// An effect is undone if its tick is in conflict.
pub async fn a_conflict_undoes_the_effect<F: Fixture<Store: SagaStore>>(fixture: F) {
    let (store, lane) = (fixture.store(), lane(0));
    let (saga, other) = (SagaId::now(), SagaId::now());
    commit(store, tick([start(saga)]), "a start").await;
    commit(store, tick([next(saga, 1, "winner")]), "a next step").await;
    let commits = vec![start(other), next(saga, 1, "loser")];
    let stale = Tick { commits, outbox: vec![row(&lane, "loser")], ..Tick::default() };
    let transaction = begin_with_effect(&fixture, "loser").await;
    assert_conflict(&store.commit_with(transaction, stale).await, "a stale tick");
    let effects = fixture.effects().await;
    assert!(effects.is_empty(), "a conflict must undo the effect: {effects:?}");
    assert!(load(store, other).await.is_none(), "a conflict must start no saga");
    assert_eq!(stored(store, saga).await.version, Version(2), "the winner's commit stays");
    assert_eq!(unsent(store, &lane).await, [], "a conflict must send nothing");
}
