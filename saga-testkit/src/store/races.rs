//! Laws of commits that meet each other.

use std::sync::Arc;

use saga_core::store::{Commit, OutboxRow, SagaStore, Tick, Version};
use saga_core::{OutboxId, SagaId, StoreError};

use crate::Fixture;
use crate::given::{
    PLACE_ORDER, bytes, commit, key, lane, next, row, start, start_under, stored, tick, unsent,
};
use crate::run::race;

/// As many as meet in a law; few enough for a small pool of connections.
const ENGINES: usize = 8;
const ROUNDS: u64 = 5;

/// Of many commits that are based on one version, one is made and the others change nothing.
pub async fn concurrent_commits_of_one_saga_have_one_winner<F: Fixture<Store: SagaStore>>(
    fixture: F,
) {
    let (fixture, lane, saga) = (Arc::new(fixture), lane(0), SagaId::now());
    commit(fixture.store(), tick([start(saga)]), "a start").await;
    let mut sent: Vec<OutboxRow> = Vec::new();
    for version in 1..=ROUNDS {
        let rows: Vec<_> = (0..ENGINES).map(|n| row(&lane, &format!("{version} by {n}"))).collect();
        let ticks = rows.iter().map(|row| {
            let body = std::str::from_utf8(&row.body).expect("a law's row is text");
            Tick { outbox: vec![row.clone()], ..tick([next(saga, version, body)]) }
        });
        let winner = commit_at_once(&fixture, ticks.collect()).await;
        let kept = stored(fixture.store(), saga).await;
        assert_eq!(kept.version, Version(version + 1), "one commit must advance the saga by one");
        assert_eq!(kept.state, rows[winner].body, "the state must be the winner's");
        sent.push(rows[winner].clone());
        let outbox = unsent(fixture.store(), &lane).await;
        assert_eq!(outbox, sent, "only the winner may send");
    }
}

/// Ticks that change the same sagas, keys and outbox rows in different orders do not wait for each other in a circle.
pub async fn commits_of_the_same_sagas_in_any_order_do_not_deadlock<
    F: Fixture<Store: SagaStore>,
>(
    fixture: F,
) {
    let (fixture, lane) = (Arc::new(fixture), lane(0));
    let sagas: Vec<_> = (0..16).map(|_| SagaId::now()).collect();
    let starts = |engine: usize| {
        let start = |saga: &SagaId| start_under(*saga, PLACE_ORDER, &key(&saga.to_string()));
        tick(shuffled(&sagas, engine).iter().map(start))
    };
    commit_at_once(&fixture, (0..ENGINES).map(starts).collect()).await;
    for version in 1..=ROUNDS {
        let rows: Vec<_> = sagas.iter().map(|saga| row(&lane, &saga.to_string())).collect();
        let sent: Vec<OutboxId> = rows.iter().map(|row| row.id).collect();
        commit(fixture.store(), Tick { outbox: rows, ..Tick::default() }, "an append").await;
        let ticks = |engine: usize| {
            let step = |saga: &SagaId| -> Commit { next(*saga, version, &engine.to_string()) };
            let sent = shuffled(&sent, engine);
            Tick { sent, ..tick(shuffled(&sagas, engine).iter().map(step)) }
        };
        let winner = commit_at_once(&fixture, (0..ENGINES).map(ticks).collect()).await;
        for &saga in &sagas {
            let state = stored(fixture.store(), saga).await.state;
            assert_eq!(state, bytes(&winner.to_string()), "every saga must be the winner's");
        }
        assert_eq!(unsent(fixture.store(), &lane).await, [], "what was sent must be gone");
    }
}

/// Commits all ticks at the same time and returns which one won; the others must be conflicts.
async fn commit_at_once<F: Fixture<Store: SagaStore>>(fixture: &Arc<F>, ticks: Vec<Tick>) -> usize {
    let commits = ticks.into_iter().map(|tick| {
        let fixture = Arc::clone(fixture);
        async move { fixture.store().commit(tick).await }
    });
    let mut winners = Vec::new();
    for (engine, result) in race(commits.collect()).await.into_iter().enumerate() {
        match result {
            Ok(()) => winners.push(engine),
            Err(StoreError::Conflict) => {}
            Err(error) => panic!("a commit that comes second must be a conflict: {error:?}"),
        }
    }
    assert_eq!(winners.len(), 1, "one of the commits must win: {winners:?} did");
    winners[0]
}

/// Another order for each engine: rotated, and backwards for every second one.
fn shuffled<T: Clone>(items: &[T], engine: usize) -> Vec<T> {
    let mut items = items.to_vec();
    items.rotate_left(2 * engine);
    if engine % 2 == 1 {
        items.reverse();
    }
    items
}
