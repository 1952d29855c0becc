//! The database of a service: in memory, or PostgreSQL. The services are written once for both.

use std::future::Future;
use std::time::Duration;

use anyhow::Context as _;
use saga_core::store::OutboxRow;
use saga_core::{Inbox, MemoryConnection, MemoryStore};
use saga_postgres::{PostgresStore, outbox};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{PgConnection, SqlSafeStr as _};

/// A store whose transactions a service also opens itself, outside of any command.
///
/// The library needs no such trait. It is here so that one function serves both modes.
pub trait Database: Inbox + Clone {
    /// Puts a message into the outbox, in the transaction that makes it true.
    fn enqueue(
        connection: &mut Self::Connection,
        row: OutboxRow,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Commits what was written and enqueued.
    fn commit(transaction: Self::Transaction) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Returns true if the database answers, within a second.
    fn is_ready(&self) -> impl Future<Output = bool> + Send {
        async {
            let opened = tokio::time::timeout(Duration::from_secs(1), self.begin()).await;
            matches!(opened, Ok(Ok(_)))
        }
    }
}

impl<T: Clone + Send + Sync + 'static> Database for MemoryStore<T> {
    async fn enqueue(connection: &mut MemoryConnection<T>, row: OutboxRow) -> anyhow::Result<()> {
        connection.enqueue(row);
        Ok(())
    }

    async fn commit(transaction: Self::Transaction) -> anyhow::Result<()> {
        Ok(transaction.commit().await?)
    }
}

impl Database for PostgresStore {
    async fn enqueue(connection: &mut PgConnection, row: OutboxRow) -> anyhow::Result<()> {
        Ok(outbox::enqueue(connection, &row).await?)
    }

    async fn commit(transaction: Self::Transaction) -> anyhow::Result<()> {
        Ok(transaction.commit().await?)
    }

    async fn is_ready(&self) -> bool {
        let answer = tokio::time::timeout(Duration::from_secs(1), self.check()).await;
        matches!(answer, Ok(Ok(())))
    }
}

/// Connects to a database and brings the library's tables in it up to date.
///
/// # Errors
///
/// One line that says what to do, without the URL: it holds the password.
pub async fn connect(url: &str) -> anyhow::Result<PostgresStore> {
    let store = PostgresStore::connect(url).await.map_err(|error| {
        let advice = if error.is_transient() {
            "the database of DATABASE_URL does not answer; start it, or correct the URL"
        } else {
            "DATABASE_URL cannot be used; correct it"
        };
        anyhow::Error::from(error).context(advice)
    })?;
    store.migrate().await.context("the library's tables could not be created")?;
    Ok(store)
}

/// Brings the service's own tables up to date. Returns true if they are new: then they need seed data.
///
/// It is the caller's transaction that makes the tables appear together with what is in them first,
/// whatever crashes and however many copies of a service start at once.
///
/// # Errors
///
/// What the database said. The transaction can then only be rolled back.
pub async fn create_tables(
    connection: &mut PgConnection,
    migrations: &[(&'static str, &'static str)],
) -> anyhow::Result<bool> {
    sqlx::query("select pg_advisory_xact_lock(hashtext('orderweaver examples'))")
        .execute(&mut *connection)
        .await?;
    let is_new = sqlx::query_scalar("select to_regclass('_sqlx_migrations') is null")
        .fetch_one(&mut *connection)
        .await?;
    let migrations = (1..).zip(migrations).map(|(version, (description, sql))| {
        let sql = sql.into_sql_str();
        Migration::new(version, (*description).into(), MigrationType::Simple, sql, false)
    });
    Migrator::with_migrations(migrations.collect()).run(connection).await.context(
        "the database holds another service's tables, or those of another version; give each service a database of its own",
    )?;
    Ok(is_new)
}
