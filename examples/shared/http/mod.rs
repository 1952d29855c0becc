//! HTTP: the probes that every service answers, errors as JSON, and a small client.

mod client;
mod problem;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Value, json};

pub use client::{Client, NoAnswer};
pub use problem::Problem;

use super::database::Database;

/// Answers `/health` (the process runs) and `/ready` (its database answers).
pub fn probes<D: Database>(database: D) -> Router {
    Router::new()
        .route("/health", get(async || axum::Json(json!({"status": "ok"}))))
        .route("/ready", get(ready::<D>))
        .with_state(database)
}

async fn ready<D: Database>(State(database): State<D>) -> Result<axum::Json<Value>, Problem> {
    if !database.is_ready().await {
        return Err(Problem::unavailable("the database does not answer"));
    }
    Ok(axum::Json(json!({"status": "ready"})))
}

/// Answers what no route answers.
pub async fn not_found() -> Problem {
    Problem::not_found("there is nothing at this path")
}
