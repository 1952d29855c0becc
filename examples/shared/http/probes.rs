//! What whoever runs a service asks it.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, header};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::{Problem, ShownProblem, documented};
use crate::shared::database::Database;
use crate::shared::telemetry;

/// What metrics are written in.
const TEXT: &str = "text/plain; version=0.0.4";

/// How a service is.
#[derive(Debug, Serialize, ToSchema)]
struct Health {
    /// `ok`, or `ready`.
    #[schema(example = "ok")]
    status: &'static str,
}

/// Answers `/health` (the process runs), `/ready` (its database answers) and `/metrics`.
pub fn probes<D: Database>(database: D) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(documented(__path_health, health))
        .routes(documented(__path_ready, ready::<D>))
        .routes(documented(__path_metrics, metrics))
        .with_state(database)
}

/// Says that the process runs.
#[utoipa::path(
    get, path = "/health", tag = "probes",
    responses((status = 200, description = "It runs.", body = Health)),
)]
async fn health() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Says whether requests can be served: whether the database answers.
#[utoipa::path(
    get, path = "/ready", tag = "probes",
    responses(
        (status = 200, description = "They can.", body = Health),
        (status = 503, description = "The database does not answer.", body = ShownProblem, content_type = "application/problem+json"),
    ),
)]
async fn ready<D: Database>(State(database): State<D>) -> Result<Json<Health>, Problem> {
    if !database.is_ready().await {
        return Err(Problem::unavailable("the database does not answer"));
    }
    Ok(Json(Health { status: "ready" }))
}

/// Shows the metrics of the process.
#[utoipa::path(
    get, path = "/metrics", tag = "probes",
    responses((status = 200, description = "As Prometheus reads them.", body = String, content_type = TEXT)),
)]
async fn metrics() -> Result<([(HeaderName, &'static str); 1], String), Problem> {
    let metrics = telemetry::metrics()?;
    Ok(([(header::CONTENT_TYPE, TEXT)], metrics))
}
