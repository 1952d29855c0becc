//! The orders service: takes orders over HTTP, and learns from the saga what became of them.

mod api;
mod db;
mod handlers;
mod order;
mod place;
pub mod story;
pub mod together;

use chassis::broker::Broker;
use chassis::database::{self, Database};
use chassis::http::Client;
use chassis::service::{Service, Worker};
use saga_core::store::Transactional as _;
use saga_core::{Participant, Relay};
use saga_postgres::PostgresStore;

use crate::contract::{ConfirmOrder, ORDERS, RejectOrder};

pub use api::{Api, FOLLOWERS_MAX, ShownOrder};
pub use db::{OrderFilter, OrderRepository, OrderTable, Place};
pub use handlers::Orders;
pub use order::{Item, Order, PlacedOrder, Status};

const MIGRATIONS: &[(&str, &str)] = &[
    ("orders", include_str!("migrations/0001_orders.sql")),
    ("lists of orders", include_str!("migrations/0002_lists.sql")),
];

/// Makes what carries out the service's commands, on a connection of whatever kind.
///
/// # Errors
///
/// If two handlers claim one command.
pub fn participant<C: OrderRepository>() -> anyhow::Result<Participant<C>> {
    let participant = Participant::builder(ORDERS)
        .handle_all::<ConfirmOrder>(Orders)
        .handle::<RejectOrder>(Orders);
    Ok(participant.build()?)
}

/// Starts the service. Whether it works in memory or not, it does not know.
///
/// `orchestrator` is asked for the timelines of orders.
///
/// # Errors
///
/// If two handlers claim one command.
pub fn start<D>(database: D, broker: impl Broker, orchestrator: Client) -> anyhow::Result<Service>
where
    D: Database<Connection: OrderRepository>,
{
    let participant = participant()?.start(database.clone(), broker.clone());
    // What the API writes goes through the same outbox, but nobody's tick publishes it.
    let relay = Relay::start(database.clone(), broker.clone());
    let service = Service::new(ORDERS, database.clone(), broker);
    let api = Api::new(database, relay.waker(), orchestrator, service.draining());
    Ok(service
        .routes(api.router())
        .for_customers()
        .worker(Worker::Participant(participant))
        .worker(Worker::Relay(relay)))
}

/// Opens a database; on a first start, creates the tables.
///
/// # Errors
///
/// One line that says what to do.
pub async fn open(url: &str) -> anyhow::Result<PostgresStore> {
    let store = database::connect(url).await?;
    let mut transaction = store.begin().await?;
    database::create_tables(&mut transaction, MIGRATIONS).await?;
    transaction.commit().await?;
    Ok(store)
}
