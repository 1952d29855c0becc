//! `GET /orders/{order_id}`.

use axum::Json;
use axum::extract::State;
use chassis::database::Database;
use chassis::http::{Caller, Path, Problem, ShownProblem};
use serde::Serialize;
use tracing::warn;
use utoipa::ToSchema;

use super::super::{Order, OrderRepository, PlacedOrder, Status};
use super::Api;
use crate::contract::timeline::ShownSaga;

/// An order as it is shown: what was asked for, what became of it, and its saga.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownOrder {
    #[serde(flatten)]
    placed: PlacedOrder,
    /// What became of it.
    status: Status,
    /// Why it was rejected, if it was: a code such as `card-declined`.
    reason: Option<String>,
    /// When it was placed: ISO 8601, in UTC.
    placed_at: String,
    /// `null` in lists, while there is none yet, and while the orchestrator does not answer.
    saga: Option<ShownSaga>,
}

impl ShownOrder {
    /// Shows an order, with its saga if it is known.
    #[must_use]
    pub fn new(order: Order, saga: Option<ShownSaga>) -> Self {
        Self {
            placed: order.as_placed(),
            status: order.status,
            reason: order.reason,
            placed_at: order.placed_at.to_string(),
            saga,
        }
    }
}

/// Shows an order: what became of it, and its saga with the timeline.
#[utoipa::path(
    get,
    path = "/orders/{order_id}",
    tag = "orders",
    params(("order_id" = String, Path, description = "The order.", example = "o-1")),
    responses(
        (status = 200, description = "The order.", body = ShownOrder),
        (status = 404, description = "There is no such order.", body = ShownProblem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn show_order<D: Database<Connection: OrderRepository>>(
    State(api): State<Api<D>>,
    caller: Caller,
    Path(order_id): Path,
) -> Result<Json<ShownOrder>, Problem> {
    let order = api.find(&order_id, &caller).await?;
    // Without an answer the order is shown without it.
    let saga = api.saga(&order_id).await.unwrap_or_else(|error| {
        warn!(order_id, error = format!("{error:#}"), "the saga cannot be shown");
        None
    });
    Ok(Json(ShownOrder::new(order, saga)))
}
