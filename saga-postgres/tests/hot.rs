//! Updates of a saga are HOT. Alone in its program, and so in its database: while somebody else's
//! statement may still see the versions of before, the server cannot take back their room.

mod support;

use std::time::Duration;

use saga_core::machine::Status;
use saga_core::store::{Commit, WakeAt};
use saga_core::{SagaId, SagaStore};
use sqlx::PgPool;
use support::{Fresh, fresh, next, one_connection, start, tick};
use tokio::time::Instant;

const SAGAS: u32 = 200;
const STEPS: u32 = 4;

#[tokio::test]
async fn steps_that_keep_the_wake_time_and_the_status_are_hot() {
    let fresh = fresh().await;
    let (pool, store) = one_connection(&fresh).await;
    let sagas: Vec<_> = (0..SAGAS).map(|_| SagaId::now()).collect();
    store.commit(tick(sagas.iter().map(|&saga| start(saga)))).await.expect("start");
    for version in 1..=STEPS {
        let steps = sagas.iter().map(|&saga| {
            let state = format!("{version}").repeat(200).into();
            // The status stays as well: it is in an index, and turns back once at most.
            Commit { state, ..next(saga, version.into()) }
        });
        store.commit(tick(steps)).await.expect("step");
    }
    let expected = i64::from(SAGAS * STEPS);
    let (updates, hot) = updates(&fresh, &pool, expected).await;
    assert_eq!(updates, expected);
    assert!(hot * 100 >= updates * 99, "only {hot} of {updates} updates were HOT");

    let ends = sagas.iter().map(|&saga| {
        let end = next(saga, (STEPS + 1).into());
        Commit { status: Status::Completed, wake_at: WakeAt::Never, ..end }
    });
    store.commit(tick(ends)).await.expect("end");
    let in_index = "select count(*) from {schema}.saga where wake_at < 'infinity'";
    let waiting: i64 =
        sqlx::query_scalar(fresh.sql(in_index)).fetch_one(&pool).await.expect("count");
    assert_eq!(waiting, 0, "what has ended leaves the index of wake times");
}

/// A connection reports its own statistics before it answers, once they are a second old.
async fn updates(fresh: &Fresh, pool: &PgPool, expected: i64) -> (i64, i64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let statistics = "select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables \
                      where schemaname = '{schema}' and relname = 'saga'";
    loop {
        let counts = sqlx::query_as(fresh.sql(statistics)).fetch_one(pool).await;
        let (updates, hot) = counts.expect("statistics");
        if updates >= expected {
            return (updates, hot);
        }
        assert!(Instant::now() < deadline, "{updates} of {expected} updates after 20 s");
    }
}
