//! What must hold once a run is over, whatever died in it.

use std::collections::HashSet;

use saga_core::store::{DeadLetters as _, LetterFilter};
use saga_core::{IdempotencyKey, SagaData as _, SagaId, SagaStore as _, Status};
use saga_postgres::PostgresStore;
use sqlx::PgPool;

use super::points::Scenario;
use super::shop::Order;
use super::stores::unsent;

/// Says what does not hold.
pub(crate) async fn judge(
    scenario: Scenario,
    order: &str,
    (sagas, effects): &(PostgresStore, PostgresStore),
    pool: &PgPool,
    effect_table: &str,
) -> Vec<String> {
    let mut flaws = Vec::new();
    let key = IdempotencyKey::new(order).expect("a short key");
    let found = sagas.find(&[(Order::SAGA, key)]).await.expect("find");
    match found[..] {
        [(.., saga)] => flaws.extend(judge_saga(scenario, saga, sagas).await),
        _ => flaws.push(format!("{} sagas (I3)", found.len())),
    }
    let done = format!("select key from {effect_table} where starts_with(key, $1) order by ctid");
    let done = sqlx::query_scalar(sqlx::AssertSqlSafe(done)).bind(format!("{order} "));
    let done: Vec<String> = done.fetch_all(pool).await.expect("the effects");
    let done: Vec<_> = done.iter().filter_map(|it| it.split(' ').next_back()).collect();
    flaws.extend(judge_effects(scenario, &done));
    for store in [sagas, effects] {
        let letters = store.letters(&LetterFilter::all(), None, 10).await.expect("letters");
        if !letters.is_empty() {
            flaws.push(format!("set aside: {letters:?} (I11)"));
        }
        let left = unsent(store).await.len();
        if left > 0 {
            flaws.push(format!("{left} rows were never sent (I5)"));
        }
    }
    flaws
}

async fn judge_saga(scenario: Scenario, saga: SagaId, sagas: &PostgresStore) -> Vec<String> {
    let mut flaws = Vec::new();
    let snapshot = sagas.load(&[saga]).await.expect("load").pop();
    let Some(snapshot) = snapshot else { return vec!["its key has no saga (I3)".to_owned()] };
    let end = match scenario {
        Scenario::Refused | Scenario::LocalRefused | Scenario::Overtaken | Scenario::LateReply => {
            Status::Compensated
        }
        _ => Status::Completed,
    };
    if snapshot.status != end {
        flaws.push(format!("it is {:?}, not {end:?} (I1)", snapshot.status));
    }
    let history = sagas.history(saga).await.expect("history");
    let versions: Vec<_> = history.iter().map(|record| record.version).collect();
    if !versions.is_sorted_by(|a, b| a < b) || versions.last() > Some(&snapshot.version) {
        flaws.push(format!("versions {versions:?} up to {:?} (I10)", snapshot.version));
    }
    flaws
}

/// Says what is wrong with the effects of an order, in the order that they were made.
fn judge_effects(scenario: Scenario, done: &[&str]) -> Vec<String> {
    let expected: &[&str] = match scenario {
        Scenario::Refused | Scenario::LocalRefused => &["reserve", "pack", "unpack", "release"],
        Scenario::Parked => &["reserve", "ship"],
        Scenario::Overtaken => &[],
        Scenario::LateReply => &["reserve", "release"],
        _ => &["reserve", "pack", "ship"],
    };
    let mut known = HashSet::new();
    let once: Vec<_> = done.iter().copied().filter(|effect| known.insert(*effect)).collect();
    let mut flaws = Vec::new();
    if once.len() < done.len() {
        flaws.push(format!("done was {done:?}, something of it twice (I4)"));
    }
    if scenario == Scenario::Overtaken && !once.is_empty() {
        flaws.push(format!("done was {once:?}, after it had been undone (I9)"));
    } else if once != expected {
        flaws.push(format!("done was {once:?}, not {expected:?} (I8)"));
    }
    flaws
}
