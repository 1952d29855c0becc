//! The HTTP interface: look at a saga.

use anyhow::Context as _;
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use saga_core::machine::HistoryEntry;
use saga_core::{Engine, IdempotencyKey, SagaData as _};

use super::place_order::PlaceOrder;
use crate::shared::http::Problem;
use crate::shared::timeline::{ShownEntry, ShownSaga};

pub(super) fn router(engine: Engine) -> Router {
    Router::new().route("/sagas/{key}", get(show)).with_state(engine)
}

/// `GET /sagas/{key}`: the saga that was started under a key, e.g. an order's id, and its timeline.
async fn show(
    State(engine): State<Engine>,
    Path(key): Path<String>,
) -> Result<Json<ShownSaga>, Problem> {
    let found = find(&engine, &key).await?;
    found.map(Json).ok_or_else(|| Problem::not_found(format!("there is no saga of {key}")))
}

async fn find(engine: &Engine, key: &str) -> anyhow::Result<Option<ShownSaga>> {
    let Ok(key) = IdempotencyKey::new(key) else { return Ok(None) };
    let Some(saga) = engine.find(PlaceOrder::SAGA, key).await? else { return Ok(None) };
    let view = engine.inspect(saga).await?.context("a saga disappeared")?;
    // After the status: so a saga that has ended is shown with its last entry.
    let timeline = engine.history(saga).await?;
    Ok(Some(ShownSaga {
        id: saga.to_string(),
        name: view.name().to_string(),
        status: view.status().to_string(),
        timeline: timeline.iter().map(shown).collect(),
    }))
}

fn shown(entry: &HistoryEntry) -> ShownEntry {
    ShownEntry {
        at: entry.at.to_string(),
        step: entry.step.as_ref().map(ToString::to_string),
        event: entry.kind.to_string(),
        attempt: entry.attempt,
        detail: entry.detail.clone(),
    }
}
