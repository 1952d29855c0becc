//! The orchestrator: runs the sagas, and shows them.

mod api;
pub mod place_order;

use saga_core::{Engine, SagaStore, Transport};

use self::place_order::{PlaceOrder, place_order};
use crate::shared::contract::{ORCHESTRATOR, OrderCreated};
use crate::shared::database::Database;
use crate::shared::service::{Service, Worker};

/// Starts the service. Whether it works in memory or not, it does not know.
///
/// # Errors
///
/// If the saga's definition has a mistake.
pub fn start<D: Database + SagaStore>(
    database: D,
    transport: impl Transport,
) -> anyhow::Result<Service> {
    let engine = Engine::builder(ORCHESTRATOR, database.clone())
        .transport(transport)
        .saga(place_order()?)
        .start_on::<OrderCreated, PlaceOrder>(place_order::start)
        .start()?;
    Ok(Service::new(ORCHESTRATOR, database)
        .routes(api::router(engine.clone()))
        .worker(Worker::Engine(engine)))
}
