//! The work done with the library, by its public API and its defaults.

mod kafka;
mod local;

use anyhow::bail;
use saga_core::{Engine, IdempotencyKey, StartedSaga, Status};

use crate::orders::Order;
use crate::saga::OrderData;

pub(crate) use kafka::{Kafka, Orchestrator, Services, remove_topics};
pub(crate) use local::Local;

/// Starts a saga: durable when this returns.
pub(crate) async fn start(engine: &Engine, order: Order) -> anyhow::Result<StartedSaga> {
    let key = IdempotencyKey::new(order.id.to_string())?;
    Ok(engine.start(key, OrderData::from(order)).await?)
}

/// Starts a saga and waits for its end.
async fn carry_through(engine: &Engine, order: Order) -> anyhow::Result<bool> {
    let started = start(engine, order).await?;
    match started.outcome().await? {
        Status::Completed => Ok(true),
        Status::Compensated => Ok(false),
        status => bail!("saga {} of order {} is {status:?}", started.saga(), order.id),
    }
}
