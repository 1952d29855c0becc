//! Durable sagas in `PostgreSQL`: the saga store, the inbox and the outbox of `saga-core`.
//!
//! ```no_run
//! use saga_core::{SagaStore, Inbox};
//! use saga_postgres::PostgresStore;
//!
//! # async fn connect() -> Result<(), Box<dyn std::error::Error>> {
//! let store = PostgresStore::connect(&std::env::var("DATABASE_URL")?).await?;
//! store.migrate().await?;
//! # fn engine(store: impl SagaStore) {}
//! # fn participant(store: impl Inbox) {}
//! engine(store.clone());
//! participant(store);
//! # Ok(())
//! # }
//! ```
//!
//! | for | there is |
//! |---|---|
//! | an engine or a participant | [`PostgresStore`] |
//! | a message in the application's own transaction | [`outbox::enqueue`] |
//! | tables in another place than the schema `saga` | [`SchemaName`] |
//!
//! The tables are in a schema of their own, with migrations of their own
//! ([`PostgresStore::migrate`]); the application's never meet them. `migrations/` holds them, commented.
//!
//! The role that migrates must be allowed to create the schema, or to create in it if it is there. The role of
//! the running service needs no more than `usage` of the schema and `select`, `insert`, `update` and `delete`
//! on its tables.

mod arguments;
mod dead_letters;
mod error;
mod inbox;
mod migrate;
pub mod outbox;
mod pool;
mod purge;
mod sagas;
mod schema;
mod sql;
mod store;
mod value;

pub use schema::{InvalidSchemaName, SchemaName};
pub use store::PostgresStore;
