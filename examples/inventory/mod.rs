//! The inventory service: keeps the stock, and reserves it for orders.

mod api;
mod db;
mod expiry;
mod handlers;
mod seed;

use chassis::broker::Broker;
use chassis::database::{self, Database};
use chassis::seed::Seeded;
use chassis::service::{Service, Worker};
use saga_core::store::Transactional as _;
use saga_core::{MemoryStore, Participant};
use saga_postgres::PostgresStore;

use crate::contract::{INVENTORY, ReleaseInventory, ReserveInventory, SellInventory};

pub use db::{Article, Reservation, ReservationState, Stock, StockQueries, StockRepository};
pub use expiry::expire;
pub use handlers::Inventory;

const MIGRATIONS: &[(&str, &str)] = &[
    ("stock and reservations", include_str!("migrations/0001_stock.sql")),
    ("deliveries", include_str!("migrations/0002_deliveries.sql")),
    ("expiry of reservations", include_str!("migrations/0003_expiry.sql")),
];

/// Makes what carries out the service's commands, on a connection of whatever kind.
///
/// # Errors
///
/// If two handlers claim one command.
pub fn participant<C: StockRepository>(inventory: Inventory) -> anyhow::Result<Participant<C>> {
    let participant = Participant::builder(INVENTORY)
        .handle_all::<ReserveInventory>(inventory)
        .handle::<ReleaseInventory>(inventory)
        .handle_all::<SellInventory>(inventory);
    Ok(participant.build()?)
}

/// Starts the service. Whether it works in memory or not, it does not know.
///
/// # Errors
///
/// If two handlers claim one command.
pub fn start<D>(database: D, broker: impl Broker) -> anyhow::Result<Service>
where
    D: Database<Connection: StockQueries>,
{
    start_as(Inventory::default(), database, broker)
}

/// Starts the service with settings of its own.
///
/// # Errors
///
/// If two handlers claim one command.
pub fn start_as<D>(
    inventory: Inventory,
    database: D,
    broker: impl Broker,
) -> anyhow::Result<Service>
where
    D: Database<Connection: StockQueries>,
{
    let participant = participant(inventory)?.start(database.clone(), broker.clone());
    Ok(Service::new(INVENTORY, database.clone(), broker)
        .routes(api::router(database.clone()))
        .worker(Worker::Participant(participant))
        .worker(Worker::Periodic(expiry::watch(database))))
}

/// Makes a database in memory, with the seed data in it.
///
/// # Errors
///
/// If the seed data does not fit together.
pub async fn in_memory() -> anyhow::Result<MemoryStore<Stock>> {
    let store = MemoryStore::with_state(Stock::default());
    let mut transaction = store.begin().await?;
    seed::load(MemoryStore::connection(&mut transaction)).await?;
    transaction.commit().await?;
    Ok(store)
}

/// Opens a database; on a first start, creates the tables and loads the seed data.
///
/// # Errors
///
/// One line that says what to do.
pub async fn open(url: &str) -> anyhow::Result<PostgresStore> {
    let store = database::connect(url).await?;
    let mut transaction = store.begin().await?;
    if database::create_tables(&mut transaction, MIGRATIONS).await? {
        seed::load(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(store)
}

/// Loads the seed data, into tables that are created if there are none. What is there stays as it is, so twice is once.
///
/// # Errors
///
/// One line that says what to do.
pub async fn seed(url: &str) -> anyhow::Result<Seeded> {
    let store = database::connect(url).await?;
    let mut transaction = store.begin().await?;
    database::create_tables(&mut transaction, MIGRATIONS).await?;
    let seeded = seed::load(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(seeded)
}
