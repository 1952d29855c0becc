//! What a bench runs on: a runtime, and schemas of its own on PostgreSQL.

use anyhow::Context as _;
use saga_postgres::{PostgresStore, SchemaName};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::runtime::{Builder, Runtime};

/// Makes a runtime of one thread, which is what serves an engine best.
#[must_use]
pub fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("the system has what a runtime needs")
}

/// The database of `DATABASE_URL`.
#[derive(Debug)]
pub struct Database {
    url: String,
}

impl Database {
    /// Finds the database. Without one, says on standard error that PostgreSQL is left out.
    #[must_use]
    pub fn find() -> Option<Self> {
        let url = std::env::var("DATABASE_URL").ok();
        if url.is_none() {
            eprintln!(
                "DATABASE_URL is not set: PostgreSQL is left out; `make bench-criterion` sets it"
            );
        }
        url.map(|url| Self { url })
    }

    /// Makes a schema anew, with the library's tables, and returns the store in it.
    ///
    /// # Errors
    ///
    /// What the database says.
    pub async fn fresh(&self, schema: &SchemaName) -> anyhow::Result<PostgresStore> {
        self.remove(schema).await?;
        let store = PostgresStore::connect(&self.url).await?.schema(schema.clone());
        store.migrate().await?;
        Ok(store)
    }

    /// Drops a schema.
    ///
    /// # Errors
    ///
    /// What the database says.
    pub async fn remove(&self, schema: &SchemaName) -> anyhow::Result<()> {
        drop_schema(&mut self.connect().await?, schema.as_str()).await
    }

    /// Opens a connection.
    ///
    /// # Errors
    ///
    /// What the database says.
    pub async fn connect(&self) -> anyhow::Result<PgConnection> {
        let connected = PgConnection::connect(&self.url).await;
        connected.context("the database does not answer; `scripts/services up` starts one")
    }
}

/// Drops a schema with all that is in it.
///
/// # Errors
///
/// What the database says.
pub async fn drop_schema(connection: &mut PgConnection, schema: &str) -> anyhow::Result<()> {
    let text = format!("drop schema if exists \"{schema}\" cascade");
    sqlx::raw_sql(AssertSqlSafe(text)).execute(connection).await?;
    Ok(())
}
