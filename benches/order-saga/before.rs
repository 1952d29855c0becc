//! Sagas that are in the tables before a run begins, as a service has them that has worked for long.

use anyhow::{Context as _, ensure};
use saga_core::store::{
    Commit, HistoryRecord, NewSaga, SagaStore, Snapshot, Tick, Version, WakeAt,
};
use saga_core::{Engine, IdempotencyKey, SagaId, Status};
use saga_postgres::PostgresStore;
use sqlx::AssertSqlSafe;

use crate::arguments::{Arguments, Variant};
use crate::closed_loop::progress_bar;
use crate::database::METER;
use crate::orders::Order;
use crate::place::Place;
use crate::saga::{Nap, OrderData};

/// How many sagas one commit stores.
const BATCH: u64 = 512;

/// The number of the first order that was there before; no run has as many.
const BEFORE: u64 = u64::MAX / 4;

/// Stores as many finished and waiting sagas as were asked for, with an engine of its own.
pub(crate) async fn fill(
    arguments: &Arguments,
    place: &Place,
    store: &PostgresStore,
    engine: impl FnOnce() -> anyhow::Result<Engine>,
) -> anyhow::Result<()> {
    let Arguments { finished_before, waiting_before, .. } = *arguments;
    if finished_before + waiting_before == 0 {
        return Ok(());
    }
    let engine = engine()?;
    let models = async {
        Ok::<_, anyhow::Error>((finished(place, &engine).await?, napping(&engine).await?))
    };
    let (finished, napping) = models.await?;
    engine.shutdown().await?;
    Model::read(store, finished).await?.copy(store, finished_before).await?;
    Model::read(store, napping).await?.copy(store, waiting_before).await?;
    // What autovacuum has done by then.
    let mut admin = METER.connect(&place.orchestrator).await?;
    sqlx::query("vacuum analyze").execute(&mut admin).await?;
    Ok(())
}

/// Lets the engine finish one saga, and removes its effects.
async fn finished(place: &Place, engine: &Engine) -> anyhow::Result<SagaId> {
    let order = Order::new(BEFORE - 1, Variant::A);
    let key = IdempotencyKey::new(order.id.to_string())?;
    let started = engine.start(key, OrderData::from(order)).await?;
    ensure!(started.outcome().await? == Status::Completed, "the first saga was not completed");
    for url in &place.participants {
        let mut admin = METER.connect(url).await?;
        let text = format!("delete from {} where saga_id = $1", place.effects);
        sqlx::query(AssertSqlSafe(text)).bind(order.id).execute(&mut admin).await?;
    }
    Ok(started.saga())
}

/// Starts a saga that waits for an hour.
async fn napping(engine: &Engine) -> anyhow::Result<SagaId> {
    let key = IdempotencyKey::new("waits-for-an-hour")?;
    Ok(engine.start(key, Nap::new()).await?.saga())
}

/// A saga as the engine has stored it, to make copies of.
struct Model {
    snapshot: Snapshot,
    history: Vec<HistoryRecord>,
}

impl Model {
    async fn read(store: &PostgresStore, saga: SagaId) -> anyhow::Result<Self> {
        let snapshot = store.load(&[saga]).await?.pop().context("the saga is gone")?;
        Ok(Self { snapshot, history: store.history(saga).await? })
    }

    /// Stores copies, version after version, as the engine does.
    async fn copy(&self, store: &PostgresStore, count: u64) -> anyhow::Result<()> {
        let progress = progress_bar(count);
        let mut number = 0;
        while number < count {
            let end = count.min(number + BATCH);
            let copies = (number..end).map(|number| self.new_saga(number));
            let copies = copies.collect::<anyhow::Result<Vec<_>>>()?;
            for record in &self.history {
                store.commit(self.tick(&copies, record)).await?;
            }
            progress.inc(end - number);
            number = end;
        }
        progress.finish_and_clear();
        Ok(())
    }

    fn new_saga(&self, number: u64) -> anyhow::Result<(SagaId, NewSaga)> {
        // A key as the run's own, so that it lies among them in the index.
        let order = Order::new(BEFORE + number, Variant::A);
        let key = Some(IdempotencyKey::new(order.id.to_string())?);
        Ok((SagaId::now(), NewSaga { key, ..self.snapshot.new.clone() }))
    }

    /// One commit of each copy.
    fn tick(&self, copies: &[(SagaId, NewSaga)], record: &HistoryRecord) -> Tick {
        let is_last = usize::try_from(record.version.0) == Ok(self.history.len());
        let Snapshot { status, wake_at, state, .. } = &self.snapshot;
        let commit = |(saga, new): &(SagaId, NewSaga)| Commit {
            saga: *saga,
            expected: Version(record.version.0 - 1),
            new: (record.version.0 == 1).then(|| new.clone()),
            status: if is_last { *status } else { Status::Running },
            wake_at: wake_at.map_or(WakeAt::Never, WakeAt::At),
            state: state.clone(),
            history: record.entries.clone(),
        };
        Tick { commits: copies.iter().map(commit).collect(), ..Tick::default() }
    }
}
