//! The orchestrator: runs the sagas, and shows them.

mod api;
pub mod place_order;

use chassis::broker::Broker;
use chassis::database::Database;
use chassis::service::{Service, Worker};
use saga_core::{Engine, SagaStore};

use self::place_order::{PlaceOrder, place_order};
use crate::contract::{ORCHESTRATOR, OrderCreated};

/// Starts the service. Whether it works in memory or not, it does not know.
///
/// # Errors
///
/// If the saga's definition has a mistake.
pub fn start<D: Database + SagaStore>(database: D, broker: impl Broker) -> anyhow::Result<Service> {
    let engine = Engine::builder(ORCHESTRATOR, database.clone())
        .transport(broker.clone())
        .saga(place_order()?)
        .start_on::<OrderCreated, PlaceOrder>(place_order::start)
        .start()?;
    Ok(Service::new(ORCHESTRATOR, database, broker)
        .routes(api::router(engine.clone()))
        .worker(Worker::Engine(engine)))
}
