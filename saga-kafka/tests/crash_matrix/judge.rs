//! What must hold once a run is over, whatever died in it.

use saga_core::store::{DeadLetters as _, LetterFilter};
use saga_core::{IdempotencyKey, SagaData as _, SagaStore as _, Status};
use saga_postgres::PostgresStore;
use sqlx::PgPool;

use super::life::unsent;
use super::points::Scenario;
use super::shop::Order;

/// Says what does not hold.
pub(crate) async fn judge(
    scenario: Scenario,
    order: &str,
    (sagas, effects): &(PostgresStore, PostgresStore),
    pool: &PgPool,
    effect_table: &str,
) -> Result<(), String> {
    let key = IdempotencyKey::new(order).expect("a short key");
    let found = sagas.find(&[(Order::SAGA, key)]).await.map_err(|it| it.to_string())?;
    let [(.., saga)] = found[..] else { return Err(format!("{} sagas (I3)", found.len())) };
    let [snapshot] = &sagas.load(&[saga]).await.map_err(|it| it.to_string())?[..] else {
        return Err("its key has no saga (I3)".to_owned());
    };
    let (end, expected): (_, &[&str]) = match scenario {
        Scenario::Refused => (Status::Compensated, &["reserve", "pack", "unpack", "release"]),
        Scenario::Parked => (Status::Completed, &["reserve", "ship"]),
        _ => (Status::Completed, &["reserve", "pack", "ship"]),
    };
    if snapshot.status != end {
        return Err(format!("it is {:?}, not {end:?} (I1, I8)", snapshot.status));
    }
    let history = sagas.history(saga).await.map_err(|it| it.to_string())?;
    let versions: Vec<_> = history.iter().map(|record| record.version).collect();
    if !versions.is_sorted_by(|a, b| a < b) || versions.last() > Some(&snapshot.version) {
        return Err(format!("versions {versions:?} up to {:?} (I10)", snapshot.version));
    }
    let done = format!("select key from {effect_table} where starts_with(key, $1) order by ctid");
    let done = sqlx::query_scalar(sqlx::AssertSqlSafe(done)).bind(format!("{order} "));
    let done: Vec<String> = done.fetch_all(pool).await.map_err(|it| it.to_string())?;
    let expected: Vec<_> = expected.iter().map(|effect| format!("{order} {effect}")).collect();
    if done != expected {
        return Err(format!("done was {done:?}, not {expected:?} (I4, I8, I9)"));
    }
    let letters = sagas.letters(&LetterFilter::all(), None, 10).await;
    let others = effects.letters(&LetterFilter::all(), None, 10).await;
    let letters: Vec<_> = letters.into_iter().chain(others).flatten().collect();
    if !letters.is_empty() {
        return Err(format!("set aside: {letters:?} (I11)"));
    }
    let left = unsent(sagas).await + unsent(effects).await;
    if left > 0 {
        return Err(format!("{left} rows were never sent (I5, I13)"));
    }
    Ok(())
}
