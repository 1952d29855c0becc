//! The stores of the engine and of the participant.

use saga_core::Outbox as _;
use saga_core::store::{Lane, OutboxRow};
use saga_postgres::{PostgresStore, SchemaName};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use super::shop::{SHOP, STOCK};
use super::told::Told;

/// A topic gets so many, unless it is told otherwise.
const PARTITIONS: u32 = 8;

/// Connects to the stores of the engine and of the participant.
pub(crate) async fn stores(told: &Told) -> (PostgresStore, PostgresStore) {
    let options: PgConnectOptions = told.url.parse().expect("a URL");
    let pool = |schema: &str| {
        let options = options.clone().options([("search_path", schema)]);
        PgPoolOptions::new().max_connections(3).connect_lazy_with(options)
    };
    let store = |schema: &str| {
        let name = SchemaName::parse(schema).expect("a schema");
        PostgresStore::new(pool(schema)).schema(name)
    };
    (store(&told.sagas), store(&told.effects))
}

/// Returns what waits in all lanes that an engine, a participant or a relay may have.
pub(crate) async fn unsent(store: &PostgresStore) -> Vec<OutboxRow> {
    let lanes = [SHOP, STOCK]
        .into_iter()
        .flat_map(|owner| (0..PARTITIONS).map(move |number| Lane::new(owner.clone(), number)));
    let lanes: Vec<_> = lanes.chain([Lane::application()]).collect();
    store.unsent(&lanes, 1_000_000).await.expect("unsent")
}
