//! The HTTP interface: list sagas, look at one and at what they follow, and turn one back.

use anyhow::Context as _;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chassis::http::{Page, Path, Problem, Query, ShownProblem, documented, limit, no_next};
use saga_core::machine::HistoryEntry;
use saga_core::store::{ListedSaga, SagaFilter};
use saga_core::{Engine, Error, IdempotencyKey, SagaData as _, SagaId, Status};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use super::place_order::{PlaceOrder, place_order};
use crate::contract::timeline::{ShownEntry, ShownSaga, ShownStep};

pub(super) fn router(engine: Engine) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(documented(__path_list_sagas, list_sagas))
        .routes(documented(__path_show_saga, show_saga))
        .routes(documented(__path_cancel_saga, cancel_saga))
        .routes(documented(__path_list_definitions, list_definitions))
        .with_state(engine)
}

/// Which sagas are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListSagas {
    /// Only sagas of this status.
    status: Option<SagaStatus>,
    /// The `next` of the page before.
    after: Option<String>,
    /// How many at most: 50 unless said otherwise.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

/// Where a saga can stand.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum SagaStatus {
    /// Its steps are carried out.
    Running,
    /// Its steps are undone.
    Compensating,
    /// Every step succeeded.
    Completed,
    /// Every effect was undone.
    Compensated,
    /// A person must look.
    Parked,
}

impl From<SagaStatus> for Status {
    fn from(asked: SagaStatus) -> Self {
        match asked {
            SagaStatus::Running => Self::Running,
            SagaStatus::Compensating => Self::Compensating,
            SagaStatus::Completed => Self::Completed,
            SagaStatus::Compensated => Self::Compensated,
            SagaStatus::Parked => Self::Parked,
        }
    }
}

/// A saga in a list.
#[derive(Debug, Serialize, ToSchema)]
struct SagaInList {
    /// Its id.
    #[schema(example = "0199c0de-0000-7000-8000-000000000001")]
    id: String,
    /// The key that it was started under: the order's id.
    #[schema(example = "o-1")]
    key: Option<String>,
    /// The name of its definition.
    #[schema(example = "place-order")]
    name: String,
    /// The version of that.
    #[schema(example = 1)]
    version: u32,
    /// `running`, `compensating`, `completed`, `compensated` or `parked`.
    #[schema(example = "parked")]
    status: String,
    /// When it started: ISO 8601, in UTC.
    #[schema(example = "2026-01-31T12:00:00Z")]
    started_at: String,
    /// When it last changed.
    #[schema(example = "2026-01-31T12:00:01Z")]
    updated_at: String,
}

/// Lists sagas, the newest first.
#[utoipa::path(
    get,
    path = "/sagas",
    tag = "sagas",
    params(ListSagas),
    responses(
        (status = 200, description = "A page of sagas.", body = Page<SagaInList>),
        (status = 400, description = "A field cannot be used.", body = ShownProblem, content_type = "application/problem+json"),
    ),
)]
async fn list_sagas(
    State(engine): State<Engine>,
    Query(asked): Query<ListSagas>,
) -> Result<Json<Page<SagaInList>>, Problem> {
    let limit = limit(asked.limit)?;
    let after = asked.after.map(|text| text.parse().map_err(|_| no_next())).transpose()?;
    let filter = SagaFilter { status: asked.status.map(Status::from), ..SagaFilter::all() };
    let sagas = engine.list(&filter, after, limit + 1).await.map_err(anyhow::Error::from)?;
    let page = Page::new(sagas, limit, |last| last.saga.to_string());
    Ok(Json(page.map(|saga| in_list(&saga))))
}

/// Shows the saga that was started under a key, with what happened to it and what is still to come.
#[utoipa::path(
    get,
    path = "/sagas/{key}",
    tag = "sagas",
    params(("key" = String, Path, description = "The key, for example an order's id.", example = "o-1")),
    responses(
        (status = 200, description = "The saga.", body = ShownSaga),
        (status = 404, description = "There is no such saga.", body = ShownProblem, content_type = "application/problem+json"),
    ),
)]
async fn show_saga(
    State(engine): State<Engine>,
    Path(key): Path,
) -> Result<Json<ShownSaga>, Problem> {
    let saga = find(&engine, &key).await?;
    Ok(Json(show(&engine, saga).await?))
}

/// Turns a saga back: what was done is undone. May be repeated.
#[utoipa::path(
    post,
    path = "/sagas/{key}/cancel",
    tag = "sagas",
    params(("key" = String, Path, description = "The key, for example an order's id.", example = "o-1")),
    responses(
        (status = 202, description = "It turns back.", body = ShownSaga),
        (status = 404, description = "There is no such saga.", body = ShownProblem, content_type = "application/problem+json"),
        (status = 409, description = "It has reached its pivot, or has completed.", body = ShownProblem, content_type = "application/problem+json"),
    ),
)]
async fn cancel_saga(
    State(engine): State<Engine>,
    Path(key): Path,
) -> Result<(StatusCode, Json<ShownSaga>), Problem> {
    let saga = find(&engine, &key).await?;
    match engine.cancel(saga).await {
        Ok(()) => Ok((StatusCode::ACCEPTED, Json(show(&engine, saga).await?))),
        Err(Error::Refused { reason, .. }) => Err(Problem::conflict(reason)),
        Err(Error::Stopped) => Err(Problem::unavailable("the service stops; ask another one")),
        Err(error) => Err(anyhow::Error::from(error).into()),
    }
}

/// What sagas follow.
#[derive(Debug, Serialize, ToSchema)]
struct ShownDefinition {
    /// Its name.
    #[schema(example = "place-order")]
    name: String,
    /// Its version.
    #[schema(example = 1)]
    version: u32,
    /// Its steps, in order.
    steps: Vec<String>,
    /// The same as a Mermaid flowchart.
    mermaid: String,
}

/// Lists what sagas follow.
#[utoipa::path(
    get,
    path = "/definitions",
    tag = "sagas",
    responses((status = 200, description = "The definitions.", body = Vec<ShownDefinition>)),
)]
async fn list_definitions() -> Result<Json<Vec<ShownDefinition>>, Problem> {
    let saga = place_order().map_err(anyhow::Error::from)?;
    let definition = saga.definition();
    Ok(Json(vec![ShownDefinition {
        name: definition.name().to_string(),
        version: definition.version(),
        steps: definition.step_names().map(ToString::to_string).collect(),
        mermaid: definition.mermaid(),
    }]))
}

async fn find(engine: &Engine, key: &str) -> Result<SagaId, Problem> {
    let nobody = || Problem::not_found(format!("there is no saga of {key}"));
    let key = IdempotencyKey::new(key).map_err(|_| nobody())?;
    let found = engine.find(PlaceOrder::SAGA, key).await.map_err(anyhow::Error::from)?;
    found.ok_or_else(nobody)
}

async fn show(engine: &Engine, saga: SagaId) -> anyhow::Result<ShownSaga> {
    let view = engine.inspect(saga).await?.context("a saga disappeared")?;
    // After the status: so a saga that has ended is shown with its last entry.
    let timeline = engine.history(saga).await?;
    let step = |step: saga_core::machine::StepView| ShownStep {
        name: step.name.to_string(),
        state: step.state.to_string(),
    };
    Ok(ShownSaga {
        id: saga.to_string(),
        name: view.name().to_string(),
        version: view.definition_version(),
        status: view.status().to_string(),
        steps: view.steps().into_iter().map(step).collect(),
        timeline: timeline.iter().map(shown).collect(),
    })
}

fn in_list(saga: &ListedSaga) -> SagaInList {
    SagaInList {
        id: saga.saga.to_string(),
        key: saga.key.as_ref().map(ToString::to_string),
        name: saga.name.to_string(),
        version: saga.definition_version,
        status: saga.status.to_string(),
        started_at: saga.started_at.to_string(),
        updated_at: saga.updated_at.to_string(),
    }
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
