//! The payments service: keeps accounts with double entry, and holds and takes money for orders.

mod api;
mod db;
mod handlers;
mod seed;
mod summary;

use chassis::broker::Broker;
use chassis::database::{self, Database};
use chassis::seed::Seeded;
use chassis::service::{Service, Worker};
use saga_core::store::Transactional as _;
use saga_core::{MemoryStore, Participant};
use saga_postgres::PostgresStore;

use crate::contract::{AuthorizePayment, CapturePayment, PAYMENTS, VoidPayment};

pub use db::{
    Account, AccountRepository, BookQueries, Books, Entry, Hold, PaymentState, Standing, Summary,
    SummaryRepository,
};
pub use handlers::Payments;

const MIGRATIONS: &[(&str, &str)] = &[
    ("accounts, ledger and payments", include_str!("migrations/0001_payments.sql")),
    ("deposits", include_str!("migrations/0002_deposits.sql")),
    ("summaries", include_str!("migrations/0003_summary.sql")),
];

/// Makes what carries out the service's commands, on a connection of whatever kind.
///
/// # Errors
///
/// If two handlers claim one command.
pub fn participant<C: AccountRepository>() -> anyhow::Result<Participant<C>> {
    let participant = Participant::builder(PAYMENTS)
        .handle_all::<AuthorizePayment>(Payments)
        .handle_all::<CapturePayment>(Payments)
        .handle::<VoidPayment>(Payments);
    Ok(participant.build()?)
}

/// Starts the service. Whether it works in memory or not, it does not know.
///
/// # Errors
///
/// If two handlers claim one message.
pub fn start<D>(database: D, broker: impl Broker) -> anyhow::Result<Service>
where
    D: Database<Connection: BookQueries + SummaryRepository>,
{
    let participant = participant()?.start(database.clone(), broker.clone());
    let summary = summary::participant()?.start(database.clone(), broker.clone());
    Ok(Service::new(PAYMENTS, database.clone(), broker)
        .routes(api::router(database))
        .worker(Worker::Participant(participant))
        .worker(Worker::Participant(summary)))
}

/// Makes a database in memory, with the seed data in it.
///
/// # Errors
///
/// If the seed data does not fit together.
pub async fn in_memory() -> anyhow::Result<MemoryStore<Books>> {
    let store = MemoryStore::with_state(Books::default());
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
