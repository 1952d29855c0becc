//! A database for this run of the tests, and a fresh schema in it for each of them.

#![allow(dead_code, reason = "each test program uses its part")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use saga_core::machine::Status;
use saga_core::store::{
    Commit, DeadLetter, DeadLetters as _, Lane, LetterFilter, NewSaga, OutboxRow, Tick, Version,
    WakeAt,
};
use saga_core::{MessageId, OutboxId, ParticipantName, SagaId, SagaName, Timestamp, Topic};
use saga_postgres::{PostgresStore, SchemaName};
use saga_testkit::{Fixture, Proxy};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, PgPool};
use tokio::sync::OnceCell;

/// A store in a schema of its own, with a table that handlers write effects into.
pub(crate) struct Fresh {
    pub(crate) store: PostgresStore,
    pub(crate) pool: PgPool,
    pub(crate) schema: String,
}

/// Makes a fresh store. Fails with what to do when there is no server.
pub(crate) async fn fresh() -> Fresh {
    let fresh = unmigrated().await;
    fresh.store.migrate().await.expect("migrate");
    fresh.execute("create table {schema}.effect (key text not null)").await;
    fresh
}

/// A store whose schema does not exist yet.
pub(crate) async fn unmigrated() -> Fresh {
    static TESTS: AtomicU32 = AtomicU32::new(0);
    let schema = format!("t{}", TESTS.fetch_add(1, Ordering::Relaxed));
    let pool = pool().await;
    let store =
        PostgresStore::new(pool.clone()).schema(SchemaName::parse(&schema).expect("a schema name"));
    Fresh { store, pool, schema }
}

/// A pool for this test alone: one that outlives its runtime hangs.
pub(crate) async fn pool() -> PgPool {
    let options = PgPoolOptions::new().max_connections(10).test_before_acquire(false);
    options.connect_with(database().await).await.expect("connect to the database of this run")
}

/// The store of a test on one connection, whose statistics are those of the test.
pub(crate) async fn one_connection(fresh: &Fresh) -> (PgPool, PostgresStore) {
    let options = PgPoolOptions::new().max_connections(1);
    let pool = options.connect_with(database().await).await.expect("connect");
    let schema = SchemaName::parse(&fresh.schema).expect("a name");
    (pool.clone(), PostgresStore::new(pool).schema(schema))
}

/// Returns the database of this run; the first test makes it and drops those of runs that are over.
pub(crate) async fn database() -> PgConnectOptions {
    static DATABASE: OnceCell<(PgConnectOptions, Mutex<PgConnection>)> = OnceCell::const_new();
    DATABASE.get_or_init(make_database).await.0.clone()
}

/// The connection stays open until the process ends: a database that somebody uses is not dropped.
async fn make_database() -> (PgConnectOptions, Mutex<PgConnection>) {
    let url = std::env::var("DATABASE_URL").unwrap_or_else(|_| {
        panic!("DATABASE_URL is not set: run `make test`, which starts the services")
    });
    let server: PgConnectOptions = url.parse().expect("DATABASE_URL");
    let mut connection = PgConnection::connect_with(&server).await.unwrap_or_else(|error| {
        panic!("no PostgreSQL at DATABASE_URL: run `make test`, which starts one ({error})")
    });
    let lock = "select pg_advisory_lock(hashtext('databases of saga-postgres tests'))";
    sqlx::query(lock).execute(&mut connection).await.expect("lock");
    let prefix = "saga_postgres_test_";
    // A run that is still going on is connected.
    let others = "select datname from pg_database as it where starts_with(datname, $1) \
        and not exists (select from pg_stat_activity where datname = it.datname)";
    let others = sqlx::query_scalar(others).bind(prefix);
    let others: Vec<String> = others.fetch_all(&mut connection).await.expect("list");
    for other in others {
        // Fails for a run that has just begun.
        let drop = AssertSqlSafe(format!("drop database \"{other}\""));
        let _ = sqlx::query(drop).execute(&mut connection).await;
    }
    let name = format!("{prefix}{}", OutboxId::now().0.simple());
    let create = AssertSqlSafe(format!("create database \"{name}\""));
    sqlx::query(create).execute(&mut connection).await.expect("create a database");
    let own = server.database(&name);
    let user = PgConnection::connect_with(&own).await.expect("connect to the database of this run");
    connection.close().await.expect("close");
    (own, Mutex::new(user))
}

impl Fresh {
    /// Puts this test's schema into a text.
    pub(crate) fn sql(&self, text: &str) -> AssertSqlSafe<String> {
        AssertSqlSafe(text.replace("{schema}", &self.schema))
    }

    /// Runs statements of a test.
    pub(crate) async fn execute(&self, text: &str) {
        sqlx::raw_sql(self.sql(text)).execute(&self.pool).await.expect(text);
    }

    /// Counts the rows of a table of the store.
    pub(crate) async fn count(&self, table: &str) -> i64 {
        let count = format!("select count(*) from {{schema}}.{table}");
        sqlx::query_scalar(self.sql(&count)).fetch_one(&self.pool).await.expect(table)
    }
}

/// Starts a proxy before the server, and returns the URL of this run's database through it.
pub(crate) async fn proxy() -> (Proxy, String) {
    let database = database().await;
    let proxy = Proxy::start(server(&database)).await;
    let url = through(&proxy, database);
    (proxy, url)
}

pub(crate) fn server(database: &PgConnectOptions) -> String {
    format!("{}:{}", database.get_host(), database.get_port())
}

/// Returns the URL of a database through a proxy.
pub(crate) fn through(proxy: &Proxy, database: PgConnectOptions) -> String {
    let address = proxy.address();
    let through = database.host(&address.ip().to_string()).port(address.port());
    through.ssl_mode(PgSslMode::Disable).to_url_lossy().to_string()
}

impl Fixture for Fresh {
    type Store = PostgresStore;

    fn store(&self) -> &PostgresStore {
        &self.store
    }

    async fn write_effect(&self, connection: &mut PgConnection, key: &str) {
        let insert = sqlx::query(self.sql("insert into {schema}.effect (key) values ($1)"));
        insert.bind(key).execute(connection).await.expect("write an effect");
    }

    async fn effects(&self) -> Vec<String> {
        let select = sqlx::query_scalar(self.sql("select key from {schema}.effect"));
        select.fetch_all(&self.pool).await.expect("read the effects")
    }

    async fn dead_letters(&self) -> Vec<DeadLetter> {
        let mut letters: Vec<DeadLetter> = Vec::new();
        loop {
            let after = letters.last().map(|letter| letter.id);
            let page = self.store.letters(&LetterFilter::all(), after, 1_000_000).await;
            let page = page.expect("read the dead letters");
            if page.is_empty() {
                return letters;
            }
            letters.extend(page);
        }
    }
}

/// A saga starts, due in an hour.
pub(crate) fn start(saga: SagaId) -> Commit {
    Commit {
        saga,
        expected: Version(0),
        new: Some(NewSaga {
            name: SagaName::new("place-order"),
            definition_version: 1,
            fingerprint: u64::MAX,
            key: None,
            home: 0,
        }),
        status: Status::Running,
        wake_at: WakeAt::At(Timestamp::from_micros(4_102_444_800_000_000)),
        state: vec![b's'; 200].into(),
        history: vec![b'h'; 80].into(),
    }
}

/// A running saga goes on and keeps its wake time.
pub(crate) fn next(saga: SagaId, expected: u64) -> Commit {
    let wake_at = WakeAt::Keep;
    Commit { expected: Version(expected), new: None, wake_at, ..start(saga) }
}

/// A tick of these commits.
pub(crate) fn tick(commits: impl IntoIterator<Item = Commit>) -> Tick {
    Tick { commits: commits.into_iter().collect(), ..Tick::default() }
}

/// A row of the lane that applications write.
pub(crate) fn row(body: &str) -> OutboxRow {
    OutboxRow { id: OutboxId::now(), lane: Lane::application(), body: body.to_owned().into() }
}

/// A message that was set aside.
pub(crate) fn dead_letter(offset: u64) -> DeadLetter {
    DeadLetter {
        id: MessageId::now(),
        consumer: ParticipantName::new("orders"),
        topic: Topic::new("orders.commands"),
        partition: 1,
        offset,
        timestamp: Timestamp::from_micros(1_767_225_600_123_456),
        key: "key".into(),
        value: "value".into(),
        headers: vec![("one".to_owned(), "1".into()), ("two".to_owned(), "2".into())],
        reason: "undecodable".to_owned(),
        detail: "a test put it here".to_owned(),
        attempts: 0,
        waits: false,
        redrives: 0,
        redrive_at: None,
    }
}
