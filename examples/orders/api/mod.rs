//! The HTTP interface: place an order, look at orders, follow one, cancel one.

mod cancel;
mod events;
mod list;
mod place;
mod request;
mod show;

use std::sync::Arc;

use anyhow::ensure;
use axum::http::StatusCode;
use chassis::database::Database;
use chassis::http::fields::is_id;
use chassis::http::{Caller, Client, Problem, documented};
use saga_core::RelayWaker;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;

use super::place::Desk;
use super::{Order, OrderRepository};
use crate::contract::timeline::ShownSaga;

pub use events::FOLLOWERS_MAX;
pub use show::ShownOrder;

/// What the interface works with.
#[derive(Debug, Clone)]
pub struct Api<D> {
    database: D,
    desk: Desk,
    orchestrator: Client,
    /// Room for those who follow an order.
    followers: Arc<Semaphore>,
    draining: CancellationToken,
}

impl<D: Database<Connection: OrderRepository>> Api<D> {
    /// Makes the interface on a database; `orchestrator` is asked for the timelines of orders. Who follows an order is
    /// let go when `draining` is cancelled.
    ///
    /// Runs on the current Tokio runtime.
    #[must_use]
    pub fn new(
        database: D,
        outbox: RelayWaker,
        orchestrator: Client,
        draining: CancellationToken,
    ) -> Self {
        let desk = Desk::open(database.clone(), outbox);
        let followers = Arc::new(Semaphore::new(FOLLOWERS_MAX));
        Self { database, desk, orchestrator, followers, draining }
    }

    /// Returns the routes.
    pub fn router(self) -> OpenApiRouter {
        OpenApiRouter::new()
            .routes(documented(place::__path_place_order, place::place_order::<D>))
            .routes(documented(list::__path_list_orders, list::list_orders::<D>))
            .routes(documented(show::__path_show_order, show::show_order::<D>))
            .routes(documented(events::__path_follow_order, events::follow_order::<D>))
            .routes(documented(cancel::__path_cancel_order, cancel::cancel_order::<D>))
            .with_state(self)
    }

    /// Finds an order that the caller may see. What cannot be the id of one is not asked for.
    async fn find(&self, order_id: &str, caller: &Caller) -> Result<Order, Problem> {
        let order = if is_id(order_id) { self.read(order_id, caller).await? } else { None };
        order.ok_or_else(|| Problem::not_found(format!("there is no order {order_id}")))
    }

    async fn read(&self, order_id: &str, caller: &Caller) -> anyhow::Result<Option<Order>> {
        let mut transaction = self.database.begin().await?;
        D::connection(&mut transaction).find(order_id, caller.user_id.as_deref()).await
    }

    /// Asks the orchestrator for an order's saga.
    async fn saga(&self, order_id: &str) -> anyhow::Result<Option<ShownSaga>> {
        let (status, answer) = self.orchestrator.get(&format!("/sagas/{order_id}")).await?;
        // The fact that the order exists may still be on its way.
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        ensure!(status == StatusCode::OK, "the orchestrator answered {status}");
        Ok(Some(serde_json::from_value(answer)?))
    }
}
