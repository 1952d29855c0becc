//! Creating the tables: once, by several at a time, and not with too little power.

mod support;

use std::time::Duration;

use saga_core::store::{DeadLetters as _, LetterFilter, StoreError};
use saga_core::{SagaId, SagaStore};
use saga_postgres::PostgresStore;
use sqlx::postgres::PgPoolOptions;
use support::{Fresh, database, fresh, next, start, tick, unmigrated};

/// How many migrations there are.
const LATEST: i64 = 4;

fn reason(result: Result<(), StoreError>) -> String {
    match result {
        Err(StoreError::Configuration { reason }) => reason,
        other => panic!("must be a matter of configuration: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_processes_may_migrate_at_once() {
    let fresh = unmigrated().await;
    let migrating: Vec<_> = (0..8)
        .map(|_| {
            let store = fresh.store.clone();
            tokio::spawn(async move { store.migrate().await })
        })
        .collect();
    for one in migrating {
        one.await.expect("a task").expect("migrate");
    }
    assert_eq!(fresh.count("migration").await, LATEST);
    fresh.store.migrate().await.expect("nothing is left to do");
}

#[tokio::test]
async fn a_store_without_tables_says_what_to_do() {
    let fresh = unmigrated().await;
    for result in [
        fresh.store.check().await,
        fresh.store.commit(tick([start(SagaId::now())])).await,
        fresh.store.due(Duration::ZERO, 1).await.map(drop),
    ] {
        let reason = reason(result);
        assert!(reason.contains("PostgresStore::migrate"), "{reason}");
        assert!(reason.contains(&fresh.schema), "{reason}");
    }
    fresh.store.migrate().await.expect("migrate");
    fresh.store.check().await.expect("the tables are there");
}

#[tokio::test]
async fn a_store_that_is_behind_says_so() {
    let fresh = fresh().await;
    fresh.execute("delete from {schema}.migration").await;
    let store = same_schema(&fresh, fresh.pool.clone());
    let reason = reason(store.commit(tick([start(SagaId::now())])).await);
    assert!(reason.contains(&format!("is at migration 0 of {LATEST}")), "{reason}");
}

/// F69.
#[tokio::test]
async fn a_newer_version_may_have_migrated_before() {
    let fresh = fresh().await;
    fresh.execute("insert into {schema}.migration values (99, '')").await;
    let store = same_schema(&fresh, fresh.pool.clone());
    store.migrate().await.expect("migrate");
    store.commit(tick([start(SagaId::now())])).await.expect("commit");
}

/// F69: while a new version is rolled out, the old ones go on.
#[tokio::test]
async fn what_older_versions_call_still_sets_messages_aside() {
    let fresh = fresh().await;
    let letter = |offset: u32, who: &str, waits: &str| {
        format!(
            "select {{schema}}.keep_dead_letters(array[gen_random_uuid()], {who} array['orders.events'], \
             array[1], array[{offset}::bigint], array[now()], array['key'::bytea], \
             array['value'::bytea], array['undecodable'], array['no envelope'], {waits} \
             array[1], array[1], array['name'::bytea], array['value'::bytea])"
        )
    };
    fresh.execute(&letter(1, "", "")).await;
    fresh.execute(&letter(2, "array['orders'],", "array[false],")).await;
    let letters = fresh.store.letters(&LetterFilter::all(), None, 10).await.expect("letters");
    let mut shown: Vec<_> = letters
        .iter()
        .map(|it| (it.offset, it.consumer.as_str(), it.attempts, it.headers.len()))
        .collect();
    shown.sort_unstable();
    assert_eq!(shown, [(1, "unknown", 0, 1), (2, "orders", 0, 1)]);
}

#[tokio::test]
async fn a_migration_that_is_another_one_is_noticed() {
    let fresh = fresh().await;
    fresh.execute("update {schema}.migration set checksum = sha256('another')").await;
    let reason = reason(fresh.store.migrate().await);
    assert!(reason.contains("migration 1") && reason.contains(&fresh.schema), "{reason}");
}

#[tokio::test]
async fn a_schema_with_other_tables_is_left_alone() {
    let fresh = unmigrated().await;
    fresh.execute("create schema {schema}; create table {schema}.saga (mine int)").await;
    let reason = reason(fresh.store.migrate().await);
    assert!(reason.contains("already exists"), "{reason}");
    let tables = "select count(*) from pg_tables where schemaname = '{schema}'";
    let tables: i64 =
        sqlx::query_scalar(fresh.sql(tables)).fetch_one(&fresh.pool).await.expect("count");
    assert_eq!(tables, 1, "a migration that fails must leave nothing");
}

#[tokio::test]
async fn schemas_of_one_database_are_separate() {
    let (one, other) = (fresh().await, fresh().await);
    let saga = SagaId::now();
    one.store.commit(tick([start(saga)])).await.expect("commit");
    assert!(other.store.load(&[saga]).await.expect("load").is_empty());
    other.store.commit(tick([start(saga)])).await.expect("commit");
}

/// The running service needs no right to create anything.
#[tokio::test]
async fn a_role_that_may_only_read_and_write_rows_is_enough() {
    let fresh = fresh().await;
    let role = format!("saga_{}", SagaId::now().0.simple());
    fresh.execute(&format!("create role {role} login password 'x'")).await;
    fresh
        .execute(&format!(
            "grant usage on schema {{schema}} to {role}; \
             grant select, insert, update, delete on all tables in schema {{schema}} to {role}"
        ))
        .await;
    let options = database().await.username(&role).password("x");
    let pool = PgPoolOptions::new().connect_with(options).await.expect("connect");
    let store = same_schema(&fresh, pool.clone());
    store.migrate().await.expect("there is nothing to create");
    let saga = SagaId::now();
    let whole = saga_core::store::Tick { outbox: vec![support::row("x")], ..tick([start(saga)]) };
    store.commit(whole).await.expect("commit");
    store.commit(tick([next(saga, 1)])).await.expect("commit");
    pool.close().await;

    fresh.execute(&format!("revoke select on {{schema}}.saga from {role}")).await;
    let options = database().await.username(&role).password("x");
    let store =
        same_schema(&fresh, PgPoolOptions::new().connect_with(options).await.expect("pool"));
    let reason = reason(store.load(&[saga]).await.map(drop));
    assert!(reason.contains("permission denied") && reason.contains("grant"), "{reason}");
    fresh.execute(&format!("drop owned by {role}; drop role {role}")).await;
}

fn same_schema(fresh: &Fresh, pool: sqlx::PgPool) -> PostgresStore {
    let schema = saga_postgres::SchemaName::parse(&fresh.schema).expect("a name");
    PostgresStore::new(pool).schema(schema)
}
