//! Finished sagas that are in the tables before a run begins, as a service has them that has worked for long.

use anyhow::{Context as _, ensure};
use saga_core::store::{Commit, HistoryRecord, NewSaga, SagaStore as _, Snapshot, Tick, WakeAt};
use saga_core::{Engine, IdempotencyKey, SagaId, Status};
use saga_postgres::PostgresStore;
use sqlx::AssertSqlSafe;

use crate::arguments::{Arguments, Variant};
use crate::closed_loop::progress_bar;
use crate::database::METER;
use crate::orders::Order;
use crate::place::Place;
use crate::saga::OrderData;

/// How many sagas one commit stores.
const BATCH: u64 = 512;

/// Stores copies of a saga that the engine has finished, version after version, as the engine does.
pub(crate) async fn fill(
    arguments: &Arguments,
    place: &Place,
    engine: &Engine,
    store: &PostgresStore,
) -> anyhow::Result<()> {
    let count = arguments.finished_before;
    if count == 0 {
        return Ok(());
    }
    let (snapshot, history) = finish_one(place, engine, store).await?;
    let progress = progress_bar(count);
    let mut number = 0;
    while number < count {
        let end = count.min(number + BATCH);
        let batch = copies(&snapshot, number..end)?;
        for record in &history {
            store.commit(tick(&batch, &snapshot, record, history.len())).await?;
        }
        progress.inc(end - number);
        number = end;
    }
    progress.finish_and_clear();
    // What autovacuum has done by then.
    let mut admin = METER.connect(&place.orchestrator).await?;
    sqlx::query("vacuum analyze").execute(&mut admin).await?;
    Ok(())
}

/// Lets the engine finish one saga, and removes its effects.
async fn finish_one(
    place: &Place,
    engine: &Engine,
    store: &PostgresStore,
) -> anyhow::Result<(Snapshot, Vec<HistoryRecord>)> {
    let order = Order::new(u64::MAX / 4, Variant::A);
    let key = IdempotencyKey::new(order.id.to_string())?;
    let started = engine.start(key, OrderData::from(order)).await?;
    ensure!(started.outcome().await? == Status::Completed, "the first saga was not completed");
    let snapshot = store.load(&[started.saga()]).await?.pop().context("the saga is gone")?;
    let history = store.history(started.saga()).await?;
    for url in &place.participants {
        let mut admin = METER.connect(url).await?;
        let text = format!("delete from {} where saga_id = $1", place.effects);
        sqlx::query(AssertSqlSafe(text)).bind(order.id).execute(&mut admin).await?;
    }
    Ok((snapshot, history))
}

/// Returns new sagas like the one that was finished.
fn copies(
    finished: &Snapshot,
    numbers: std::ops::Range<u64>,
) -> anyhow::Result<Vec<(SagaId, NewSaga)>> {
    let copy = |number| {
        let key = Some(IdempotencyKey::new(format!("00000000-finished-before-{number:012}"))?);
        Ok((SagaId::now(), NewSaga { key, ..finished.new.clone() }))
    };
    numbers.map(copy).collect()
}

/// One commit of each saga.
fn tick(
    sagas: &[(SagaId, NewSaga)],
    finished: &Snapshot,
    record: &HistoryRecord,
    versions: usize,
) -> Tick {
    let is_last = usize::try_from(record.version.0) == Ok(versions);
    let commit = |(saga, new): &(SagaId, NewSaga)| Commit {
        saga: *saga,
        expected: saga_core::store::Version(record.version.0 - 1),
        new: (record.version.0 == 1).then(|| new.clone()),
        status: if is_last { finished.status } else { Status::Running },
        wake_at: WakeAt::Never,
        state: finished.state.clone(),
        history: record.entries.clone(),
    };
    Tick { commits: sagas.iter().map(commit).collect(), ..Tick::default() }
}
