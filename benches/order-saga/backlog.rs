//! What gathers in the outbox while the broker is away, and how fast it goes out afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use serde::Serialize;
use sqlx::PgConnection;
use tokio::task::JoinSet;

use crate::arguments::{Arguments, Participants};
use crate::closed_loop::{Shop as _, progress_bar};
use crate::database::METER;
use crate::engine::{self, Orchestrator, Services};
use crate::figures::as_f64;
use crate::orders::Order;
use crate::place::Place;

/// An address where no broker listens.
const NOWHERE: &str = "127.0.0.1:1";
const LOOK_EVERY: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_mins(2);

#[derive(Debug, Serialize)]
struct Figures {
    peer: &'static str,
    n: u64,
    concurrency: u64,
    /// While the broker was away.
    accepted_per_s: f64,
    /// Once it was back.
    drained_per_s: f64,
    /// From then to the end of the last saga.
    ended_after_s: f64,
}

/// Accepts all orders without a broker, lets their commands go out, carries them through, and verifies the effects.
pub(crate) async fn backlog(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.participants == Participants::Local {
        bail!("--backlog needs --participants kafka");
    }
    let place = Place::prepare(arguments).await?;
    engine::remove_topics(arguments).await?;
    let orders: Vec<_> =
        (0..arguments.n).map(|number| Order::new(number, arguments.variant)).collect();
    let accepted = accept(arguments, &place, &orders).await?;

    let begun = Instant::now();
    let orchestrator = Orchestrator::start(arguments, &place.orchestrator).await?;
    let mut tables = METER.connect(&place.orchestrator).await?;
    until_none(&mut tables, "select count(*) from saga.outbox").await?;
    let drained = begun.elapsed();
    let services = Services::start(arguments, &place).await?;
    until_none(&mut tables, "select count(*) from saga.saga where status in (0, 1)").await?;
    let ended = begun.elapsed();
    orchestrator.shutdown().await?;
    services.shutdown().await?;
    place.verify(&orders).await?;
    let per_second = |span: Duration| as_f64(arguments.n) / span.as_secs_f64();
    let figures = Figures {
        peer: "orderweaver",
        n: arguments.n,
        concurrency: arguments.concurrency,
        accepted_per_s: per_second(accepted),
        drained_per_s: per_second(drained),
        ended_after_s: ended.as_secs_f64(),
    };
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

/// Starts the orders' sagas with an engine that has no broker; returns how long it took.
async fn accept(
    arguments: &Arguments,
    place: &Place,
    orders: &[Order],
) -> anyhow::Result<Duration> {
    let away = Arguments { brokers: Some(NOWHERE.to_owned()), ..arguments.clone() };
    let orchestrator = Orchestrator::start(&away, &place.orchestrator).await?;
    let (orders, next) = (Arc::new(orders.to_vec()), Arc::new(AtomicU64::new(0)));
    let progress = progress_bar(arguments.n);
    let begun = Instant::now();
    let mut customers = JoinSet::new();
    for _ in 0..arguments.concurrency {
        let (engine, progress) = (orchestrator.engine.clone(), progress.clone());
        let (orders, next) = (Arc::clone(&orders), Arc::clone(&next));
        customers.spawn(async move {
            loop {
                let index = usize::try_from(next.fetch_add(1, Ordering::Relaxed))?;
                let Some(&order) = orders.get(index) else { return anyhow::Ok(()) };
                engine::start(&engine, order).await?;
                progress.inc(1);
            }
        });
    }
    while let Some(accepted) = customers.join_next().await {
        accepted??;
    }
    let elapsed = begun.elapsed();
    progress.finish_and_clear();
    orchestrator.shutdown().await?;
    Ok(elapsed)
}

/// Waits until a count is zero.
async fn until_none(tables: &mut PgConnection, count: &'static str) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let left: i64 = sqlx::query_scalar(count).fetch_one(&mut *tables).await?;
        if left == 0 {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            bail!("{left} are left after {PATIENCE:?}: `{count}`");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
