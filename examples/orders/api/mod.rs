//! The HTTP interface: place an order, look at an order.

use anyhow::ensure;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use saga_core::RelayWaker;
use serde::Serialize;
use tracing::{info, warn};

use super::place::{Placed, place};
use super::{Order, OrderRepository, PlacedOrder, Status, request};
use crate::shared::database::Database;
use crate::shared::http::{Client, Problem};
use crate::shared::timeline::ShownSaga;

const BODY_BYTES_MAX: usize = 64 * 1024;

/// What the interface works with.
#[derive(Debug, Clone)]
pub struct Api<D> {
    database: D,
    outbox: RelayWaker,
    orchestrator: Client,
}

impl<D: Database<Connection: OrderRepository>> Api<D> {
    /// Makes the interface on a database; `orchestrator` is asked for the timelines of orders.
    #[must_use]
    pub const fn new(database: D, outbox: RelayWaker, orchestrator: Client) -> Self {
        Self { database, outbox, orchestrator }
    }

    /// Returns the routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/orders", post(place_order::<D>))
            .route("/orders/{order_id}", get(show_order::<D>))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(self)
    }

    /// Asks the orchestrator for an order's saga; without an answer the order is shown without it.
    async fn saga(&self, order_id: &str) -> Option<ShownSaga> {
        match self.ask_for_saga(order_id).await {
            Ok(saga) => saga,
            Err(error) => {
                warn!(order_id, error = format!("{error:#}"), "the saga cannot be shown");
                None
            }
        }
    }

    async fn ask_for_saga(&self, order_id: &str) -> anyhow::Result<Option<ShownSaga>> {
        let (status, answer) = self.orchestrator.get(&format!("/sagas/{order_id}")).await?;
        // The fact that the order exists may still be on its way.
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        ensure!(status == StatusCode::OK, "the orchestrator answered {status}");
        Ok(Some(serde_json::from_value(answer)?))
    }
}

/// An order as it is shown: what was asked for, what became of it, and its saga.
#[derive(Serialize)]
struct ShownOrder<'a> {
    #[serde(flatten)]
    placed: PlacedOrder<'a>,
    status: Status,
    reason: &'a Option<String>,
    /// `null` while there is none, or while the orchestrator does not answer.
    saga: Option<ShownSaga>,
}

/// `POST /orders`: 202 with the order, also if the same was sent before.
async fn place_order<D: Database<Connection: OrderRepository>>(
    State(api): State<Api<D>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body = body.map_err(|_| Problem::invalid("body", "must be at most 65536 bytes"))?;
    let order = request::read(&body)?;
    match place(&api.database, &order).await? {
        Placed::Now => {
            info!(order_id = order.order_id, "order accepted");
            api.outbox.wake();
        }
        Placed::Before => {}
        Placed::Taken => {
            let id = &order.order_id;
            return Err(Problem::conflict(format!("another order has the id {id}")));
        }
    }
    let location = [(header::LOCATION, format!("/orders/{}", order.order_id))];
    Ok((StatusCode::ACCEPTED, location, Json(order.as_placed())).into_response())
}

/// `GET /orders/{order_id}`: the order, what became of it, and its saga with the timeline.
async fn show_order<D: Database<Connection: OrderRepository>>(
    State(api): State<Api<D>>,
    Path(order_id): Path<String>,
) -> Result<Response, Problem> {
    let order = find(&api.database, &order_id).await?;
    let order = order.ok_or_else(|| Problem::not_found(format!("there is no order {order_id}")))?;
    let saga = api.saga(&order.order_id).await;
    let (placed, status, reason) = (order.as_placed(), order.status, &order.reason);
    Ok(Json(ShownOrder { placed, status, reason, saga }).into_response())
}

async fn find<D: Database<Connection: OrderRepository>>(
    database: &D,
    order_id: &str,
) -> anyhow::Result<Option<Order>> {
    let mut transaction = database.begin().await?;
    D::connection(&mut transaction).find(order_id).await
}
