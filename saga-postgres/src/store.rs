//! [`PostgresStore`]: what it is made of, and how it talks to the server.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use saga_core::BoxError;
use saga_core::store::{StoreError, Transactional};
use sqlx::postgres::{PgArguments, PgPoolOptions, PgRow};
use sqlx::query::Query;
use sqlx::{Connection as _, PgConnection, PgPool, Postgres, SqlStr, Transaction};
use tokio::time::timeout;

use crate::pool::{self, Suspicion};
use crate::sql::{self, Sql};
use crate::{SchemaName, error};

/// Longest wait for an answer, unless [`PostgresStore::timeout`] says otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Sagas, outbox and inbox in a schema of a `PostgreSQL` database (version 14 or later).
///
/// It implements [`SagaStore`](saga_core::SagaStore), [`Inbox`](saga_core::Inbox) and
/// [`Outbox`](saga_core::Outbox). A tick is one round trip and one commit. What is committed is as
/// durable as the server's `synchronous_commit` makes it; with `off` a crash of the server may
/// take back what was published already.
///
/// It keeps no state in a session, so it works behind a pooler of transactions that knows prepared
/// statements (`PgBouncer` 1.21 or later). A clone shares the pool.
///
/// # Examples
///
/// ```no_run
/// use saga_postgres::{PostgresStore, SchemaName};
///
/// # async fn connect() -> Result<(), Box<dyn std::error::Error>> {
/// let store = PostgresStore::connect("postgres://localhost/orders").await?;
/// let store = store.schema(SchemaName::new("orders_saga")); // `saga` by default
/// store.migrate().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PostgresStore {
    pool: PgPool,
    schema: SchemaName,
    sql: Arc<Sql>,
    /// Whether the migrations were seen to be applied.
    checked: Arc<AtomicBool>,
    timeout: Duration,
    /// Opens a transaction, and says when the server is to end it.
    begin: SqlStr,
    suspicion: Suspicion,
}

impl PostgresStore {
    /// Connects to a database, with a pool of its own of up to 16 connections.
    ///
    /// The URL looks like `postgres://user:password@host:5432/database`; a driver in its scheme, as in
    /// `postgresql+asyncpg://`, is ignored, and so are parameters for other clients. The pool survives
    /// a network that swallows everything: connections that do not answer are replaced.
    ///
    /// # Errors
    ///
    /// [`StoreError::Configuration`] if the URL is wrong or the server refuses the login,
    /// [`StoreError::Unavailable`] if the server cannot be reached within 10 seconds. Neither quotes the URL.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::connect_with(url, pool::defaults()).await
    }

    /// As [`connect`](Self::connect), with a pool of another size or other limits.
    ///
    /// What the options say of a test before acquiring, and their hooks `before_acquire` and
    /// `after_release`, are replaced: with them connections are found that do not answer, or only read: a
    /// server that was demoted may keep them open.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect), with the options' own limit of waiting.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use saga_postgres::PostgresStore;
    /// use sqlx::postgres::PgPoolOptions;
    ///
    /// # async fn connect() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = PgPoolOptions::new().max_connections(40);
    /// let store = PostgresStore::connect_with("postgres://localhost/orders", pool).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect_with(url: &str, pool: PgPoolOptions) -> Result<Self, StoreError> {
        let suspicion = Suspicion::default();
        let pool = pool::connect(url, pool, &suspicion).await?;
        Ok(Self { suspicion, ..Self::new(pool) })
    }

    /// Uses a pool of the application.
    ///
    /// Switch `test_before_acquire` off in its options: each call would be two round trips with it. Only
    /// [`connect`](Self::connect) and [`connect_with`](Self::connect_with) make a pool that replaces
    /// connections which do not answer, or only read; in this one they stay until the operating system, or the server,
    /// gives them up.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        let schema = SchemaName::default();
        Self {
            pool,
            sql: Arc::new(Sql::new(&schema)),
            schema,
            checked: Arc::default(),
            timeout: TIMEOUT,
            begin: sql::begin(TIMEOUT * 2),
            suspicion: Suspicion::default(),
        }
    }

    /// Sets the schema that the tables are in. Default: `saga`.
    #[must_use]
    pub fn schema(self, schema: SchemaName) -> Self {
        Self { sql: Arc::new(Sql::new(&schema)), schema, checked: Arc::default(), ..self }
    }

    /// Sets how long the store waits for a connection, and for an answer on it, before it gives up with
    /// [`StoreError::Unavailable`]. Default: 30 seconds.
    ///
    /// The server rolls a transaction back, and closes its connection, once it has heard nothing in it
    /// for twice as long: whoever opened it may be behind a dead network, and others wait for its
    /// locks. A handler that does something else for longer than that loses its transaction.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, begin: sql::begin(timeout.saturating_mul(2)), ..self }
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub(crate) fn schema_name(&self) -> &SchemaName {
        &self.schema
    }

    pub(crate) fn sql(&self) -> &Sql {
        &self.sql
    }

    pub(crate) fn mark_checked(&self) {
        self.checked.store(true, Ordering::Relaxed);
    }

    async fn ensure_checked(&self) -> Result<(), StoreError> {
        if self.checked.load(Ordering::Relaxed) { Ok(()) } else { self.check().await }
    }

    /// Makes one call on a connection of the pool: one round trip, and a transaction of its own.
    pub(crate) async fn call(
        &self,
        operation: &'static str,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, StoreError> {
        self.ensure_checked().await?;
        let acquired = self.answered(operation, self.pool.acquire()).await?;
        let mut connection = acquired.map_err(|problem| error::statement(operation, problem))?;
        let rows = self.call_in(operation, &mut connection, query).await;
        if let Err(StoreError::Unavailable { .. }) = rows {
            // It may be broken, or still busy with a call that nobody waits for any more.
            connection.close_on_drop();
        }
        rows
    }

    /// Makes one call on a connection, most often inside an open transaction.
    pub(crate) async fn call_in(
        &self,
        operation: &'static str,
        connection: &mut PgConnection,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, StoreError> {
        let answer = self.answered(operation, query.fetch_all(connection)).await?;
        answer.map_err(|problem| self.suspect(error::statement(operation, problem)))
    }

    /// Commits a transaction. If no answer comes, nobody knows whether it was.
    pub(crate) async fn end(
        &self,
        operation: &'static str,
        transaction: Transaction<'static, Postgres>,
    ) -> Result<(), StoreError> {
        let answer = self.answered(operation, transaction.commit()).await?;
        answer.map_err(|problem| self.suspect(error::commit(operation, problem)))
    }

    /// Gives up when no answer comes in time.
    pub(crate) async fn answered<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = T> + Send,
    ) -> Result<T, StoreError> {
        timeout(self.timeout, call).await.map_err(|late| {
            self.suspect(StoreError::Unavailable { operation, source: late.into() })
        })
    }

    /// When one connection fails, the others of the pool are looked at before they are used.
    fn suspect(&self, error: StoreError) -> StoreError {
        if matches!(error, StoreError::Unavailable { .. }) {
            self.suspicion.raise();
        }
        error
    }
}

impl Transactional for PostgresStore {
    type Connection = PgConnection;
    type Transaction = Transaction<'static, Postgres>;

    async fn begin(&self) -> Result<Self::Transaction, StoreError> {
        const BEGIN: &str = "begin";
        self.ensure_checked().await?;
        let answer = self.answered(BEGIN, self.pool.begin_with(self.begin.clone())).await?;
        answer.map_err(|problem| self.suspect(error::statement(BEGIN, problem)))
    }

    async fn examine(
        &self,
        transaction: &mut Self::Transaction,
        failure: &BoxError,
    ) -> Result<(), StoreError> {
        const PING: &str = "ping";
        let answer = self.answered(PING, transaction.ping()).await?;
        answer.map_err(|problem| self.suspect(error::statement(PING, problem)))?;
        error::passing(&**failure).map_or(Ok(()), Err)
    }

    fn connection(transaction: &mut Self::Transaction) -> &mut Self::Connection {
        transaction
    }
}

impl fmt::Debug for PostgresStore {
    /// Leaves the pool's options out: they hold the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("schema", &self.schema.as_str())
            .field("connections", &self.pool.size())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
