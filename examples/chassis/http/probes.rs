//! What whoever runs a service asks it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, header};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::{Problem, ShownProblem, documented};
use crate::broker::Broker;
use crate::database::Database;
use crate::telemetry;

/// How long a broker may be away before others are asked instead: what is accepted meanwhile waits in the outbox.
const BROKER_MAY_BE_AWAY: Duration = Duration::from_secs(5);
/// The group of these operations.
pub(super) const PROBES: &str = "probes";
/// What metrics are written in.
const TEXT: &str = "text/plain; version=0.0.4";

/// How a service is.
#[derive(Debug, Serialize, ToSchema)]
struct Health {
    /// `ok`, or `ready`.
    #[schema(example = "ok")]
    status: &'static str,
}

/// What a service needs to be of use.
#[derive(Clone)]
struct Needs<D, B> {
    database: D,
    broker: B,
    /// Since when the broker has not answered.
    away_since: Arc<Mutex<Option<Instant>>>,
    /// Cancelled once the service is to stop.
    draining: CancellationToken,
}

/// Answers `/health` (the process runs), `/ready` (its database and its broker answer, and it is not about to stop:
/// `draining` is not cancelled) and `/metrics`.
pub fn probes(
    database: impl Database,
    broker: impl Broker,
    draining: CancellationToken,
) -> OpenApiRouter {
    let needs = Needs { database, broker, away_since: Arc::default(), draining };
    OpenApiRouter::new()
        .routes(documented(__path_health, health))
        .routes(documented(__path_metrics, metrics))
        .merge(needs.probe())
}

impl<D: Database, B: Broker> Needs<D, B> {
    fn probe(self) -> OpenApiRouter {
        OpenApiRouter::new().routes(documented(__path_ready, ready::<D, B>)).with_state(self)
    }

    /// Returns true if the broker has not answered for longer than a restart of it takes.
    async fn is_broker_away(&self) -> bool {
        let answers = self.broker.answers().await;
        let mut since = self.away_since.lock().unwrap_or_else(PoisonError::into_inner);
        if answers {
            *since = None;
        }
        !answers && since.get_or_insert_with(Instant::now).elapsed() > BROKER_MAY_BE_AWAY
    }
}

/// Says that the process runs.
#[utoipa::path(
    get, path = "/health", tag = PROBES,
    responses((status = 200, description = "It runs.", body = Health)),
)]
async fn health() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Says whether requests can be served: whether the database answers and its tables are there, the broker has answered
/// of late, and the service is not about to stop.
#[utoipa::path(
    get, path = "/ready", tag = PROBES,
    responses(
        (status = 200, description = "They can.", body = Health),
        (status = 503, description = "The database does not answer, the broker is away, or the service stops.", body = ShownProblem, content_type = "application/problem+json"),
    ),
)]
async fn ready<D: Database, B: Broker>(
    State(needs): State<Needs<D, B>>,
) -> Result<Json<Health>, Problem> {
    if needs.draining.is_cancelled() {
        return Err(Problem::unavailable("the service stops; ask another one"));
    }
    let (has_database, lacks_broker) =
        tokio::join!(needs.database.is_ready(), needs.is_broker_away());
    if !has_database {
        return Err(Problem::unavailable("the database does not answer"));
    }
    if lacks_broker {
        return Err(Problem::unavailable("the broker does not answer; what is accepted waits"));
    }
    Ok(Json(Health { status: "ready" }))
}

/// Shows the metrics of the process.
#[utoipa::path(
    get, path = "/metrics", tag = PROBES,
    responses((status = 200, description = "As Prometheus reads them.", body = String, content_type = TEXT)),
)]
async fn metrics() -> Result<([(HeaderName, &'static str); 1], String), Problem> {
    let metrics = telemetry::metrics()?;
    Ok(([(header::CONTENT_TYPE, TEXT)], metrics))
}
