//! Writers that meet, and connections that break.

mod support;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use saga_core::participant::{Handled, InboxRecord};
use saga_core::store::{Lane, OutboxRow, StoreError, Tick, Transactional, Version};
use saga_core::{Inbox, MessageId, Outbox, SagaId, SagaStore};
use saga_postgres::{PostgresStore, SchemaName, outbox};
use saga_testkit::Fixture;
use support::{Fresh, fresh, next, pool, proxy, row, start, tick};
use tokio::task::JoinSet;
use tokio::time::Instant;

const ALL: usize = 1_000_000;

/// Tries until it succeeds, with a deadline.
async fn eventually<T, F: Future<Output = Result<T, StoreError>>>(
    mut call: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match call().await {
            Ok(value) => return value,
            Err(error) if error.is_transient() => {
                assert!(Instant::now() < deadline, "still failing after 20 s: {error:?}");
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

async fn unsent(store: &PostgresStore) -> Vec<OutboxRow> {
    store.unsent(&[Lane::application()], ALL).await.expect("unsent")
}

/// Another process's store on the same schema.
async fn another(fresh: &Fresh) -> PostgresStore {
    PostgresStore::new(pool().await).schema(SchemaName::parse(&fresh.schema).expect("a name"))
}

/// F76, I10.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_that_contend_for_one_saga_lose_no_commit() {
    const COMMITS_EACH: u64 = 20;
    let fresh = fresh().await;
    let saga = SagaId::now();
    fresh.store.commit(tick([start(saga)])).await.expect("start");
    let stores = [fresh.store.clone(), another(&fresh).await];
    let engines = (0..4).map(|engine| {
        let store = stores[engine % 2].clone();
        tokio::spawn(async move {
            for _ in 0..COMMITS_EACH {
                eventually(|| async {
                    let version = store.load(&[saga]).await?[0].version;
                    store.commit(tick([next(saga, version.0)])).await
                })
                .await;
            }
        })
    });
    for engine in engines.collect::<Vec<_>>() {
        engine.await.expect("an engine");
    }
    let kept = fresh.store.load(&[saga]).await.expect("load");
    assert_eq!(kept[0].version, Version(1 + 4 * COMMITS_EACH), "each commit must count once");
    let history = fresh.store.history(saga).await.expect("history");
    assert_eq!(history.len() as u64, 1 + 4 * COMMITS_EACH, "and be recorded once");
}

/// F48, I5.
///
/// The row that was appended first commits last: its position is the lower one.
#[tokio::test]
async fn a_row_that_commits_late_is_not_skipped() {
    let fresh = fresh().await;
    let (early, late) = (row("early"), row("late"));
    let mut slow = fresh.pool.begin().await.expect("begin");
    fresh.store.enqueue(&mut slow, &late).await.expect("enqueue");
    let mut quick = fresh.pool.begin().await.expect("begin");
    fresh.store.enqueue(&mut quick, &early).await.expect("enqueue");
    quick.commit().await.expect("commit");

    assert_eq!(
        unsent(&fresh.store).await,
        std::slice::from_ref(&early),
        "only what is committed is sent"
    );
    fresh.store.sent(&[early.id]).await.expect("sent");
    slow.commit().await.expect("commit");
    assert_eq!(unsent(&fresh.store).await, [late], "a lower position that comes late is not lost");
}

/// I13.
#[tokio::test]
async fn an_enqueued_row_shares_the_fate_of_its_transaction() {
    let fresh = fresh().await;
    let mut dropped = fresh.pool.begin().await.expect("begin");
    fresh.store.enqueue(&mut dropped, &row("dropped")).await.expect("enqueue");
    fresh.write_effect(&mut dropped, "dropped").await;
    drop(dropped);
    let kept = row("kept");
    let mut transaction = fresh.pool.begin().await.expect("begin");
    fresh.store.enqueue(&mut transaction, &kept).await.expect("enqueue");
    fresh.write_effect(&mut transaction, "kept").await;
    transaction.commit().await.expect("commit");
    assert_eq!(unsent(&fresh.store).await, std::slice::from_ref(&kept));
    assert_eq!(fresh.effects().await, ["kept"]);

    let mut connection = fresh.pool.acquire().await.expect("acquire");
    let again = fresh.store.enqueue(&mut connection, &kept).await;
    assert!(matches!(again, Err(StoreError::Conflict)), "got {again:?}");
}

#[tokio::test]
async fn without_a_store_rows_go_to_the_default_schema() {
    let store = PostgresStore::new(pool().await);
    store.migrate().await.expect("migrate");
    let row = row("default");
    let mut connection = pool().await.acquire().await.expect("acquire");
    outbox::enqueue(&mut connection, &row).await.expect("enqueue");
    assert_eq!(unsent(&store).await, [row]);
}

/// I6, I13.
///
/// `COMMIT` of an aborted transaction rolls back and reports success.
#[tokio::test]
async fn a_handler_that_swallows_an_error_commits_nothing() {
    let fresh = fresh().await;
    let aborted = || async {
        let mut transaction = fresh.store.begin().await.expect("begin");
        let connection = PostgresStore::connection(&mut transaction);
        fresh.write_effect(connection, "effect").await;
        let _ = sqlx::query("select 1 / 0").execute(connection).await.expect_err("an error");
        transaction
    };
    let committed = fresh.store.commit_with(aborted().await, Tick::default()).await;
    assert!(matches!(committed, Err(StoreError::Refused { .. })), "got {committed:?}");
    let recorded = fresh.store.record(aborted().await, Handled::default()).await;
    assert!(matches!(recorded, Err(StoreError::Refused { .. })), "got {recorded:?}");
    assert!(fresh.effects().await.is_empty());
}

/// It is no other writer of the command; deciding again would fail again for ever.
#[tokio::test]
async fn a_constraint_of_the_application_at_the_end_is_no_conflict() {
    let fresh = fresh().await;
    fresh
        .execute("alter table {schema}.effect add unique (key) deferrable initially deferred")
        .await;
    let mut transaction = fresh.store.begin().await.expect("begin");
    for _ in 0..2 {
        fresh.write_effect(PostgresStore::connection(&mut transaction), "twice").await;
    }
    let record = InboxRecord { command: MessageId::now(), reply: "done".into() };
    let handled = Handled { records: vec![record], ..Handled::default() };
    let recorded = fresh.store.record(transaction, handled).await;
    assert!(matches!(recorded, Err(StoreError::Refused { .. })), "got {recorded:?}");
    assert_eq!(fresh.count("inbox").await, 0);
}

/// F40.
#[tokio::test]
async fn a_connection_that_is_lost_in_a_transaction_writes_nothing() {
    let fresh = fresh().await;
    let saga = SagaId::now();
    let mut transaction = fresh.store.begin().await.expect("begin");
    let connection = PostgresStore::connection(&mut transaction);
    fresh.write_effect(connection, "lost").await;
    let own: i32 =
        sqlx::query_scalar("select pg_backend_pid()").fetch_one(connection).await.expect("pid");
    let kill = sqlx::query("select pg_terminate_backend($1, 10000)").bind(own);
    kill.execute(&fresh.pool).await.expect("kill");
    let lost = fresh.store.commit_with(transaction, tick([start(saga)])).await;
    assert!(matches!(lost, Err(StoreError::Unavailable { .. })), "got {lost:?}");
    assert!(fresh.effects().await.is_empty());
    fresh.store.commit(tick([start(saga)])).await.expect("the next one succeeds");
}

/// F40.
///
/// One call may find out; the others find connections that work.
#[tokio::test]
async fn a_restart_of_the_server_costs_one_call() {
    let fresh = fresh().await;
    let (_proxy, url) = proxy().await;
    let schema = SchemaName::parse(&fresh.schema).expect("a name");
    let store = PostgresStore::connect(&url).await.expect("connect").schema(schema);
    open_some(&store).await;
    let kill = "select pg_terminate_backend(pid, 10000) from pg_stat_activity \
                where datname = current_database() and application_name = 'saga-postgres'";
    sqlx::query(kill).execute(&fresh.pool).await.expect("kill");
    let first = store.commit(tick([start(SagaId::now())])).await;
    if let Err(error) = first {
        assert!(matches!(error, StoreError::Unavailable { .. }), "got {error:?}");
    }
    for _ in 0..8 {
        store.commit(tick([start(SagaId::now())])).await.expect("connections that work");
    }
}

/// F45, I14.
///
/// No packet comes back and no connection is closed: only a deadline tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_swallows_everything_does_not_use_up_the_pool() {
    const MORE_THAN_THE_POOL: usize = 20;
    let fresh = fresh().await;
    let (proxy, url) = proxy().await;
    let schema = SchemaName::parse(&fresh.schema).expect("a name");
    let store = PostgresStore::connect(&url).await.expect("connect").schema(schema);
    let store = store.timeout(Duration::from_millis(200));
    for _ in 0..3 {
        open_some(&store).await;
        proxy.blackhole();
        proxy.pass();
        let saga = SagaId::now();
        let began = Instant::now();
        let calls = at_once(MORE_THAN_THE_POOL, || {
            let store = store.clone();
            async move {
                let transaction = store.begin().await?;
                store.commit_with(transaction, Tick::default()).await?;
                store.load(&[saga]).await
            }
        });
        let calls = calls.await;
        assert!(began.elapsed() < Duration::from_secs(20), "took {:?}", began.elapsed());
        for call in calls {
            assert!(!matches!(call, Err(ref error) if !error.is_transient()), "got {call:?}");
        }
        eventually(|| store.commit(tick([start(saga)]))).await;
    }
}

/// Makes calls at the same time.
async fn at_once<T, F>(count: usize, call: impl Fn() -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut running = JoinSet::new();
    (0..count).for_each(|_| drop(running.spawn(call())));
    running.join_all().await
}

/// Opens as many transactions as it can, so that the pool has as many connections.
async fn open_some(store: &PostgresStore) {
    let opened = at_once(8, || {
        let store = store.clone();
        async move { store.begin().await }
    });
    let opened = opened.await;
    assert!(opened.iter().any(Result::is_ok), "{opened:?}");
}

/// F43.
///
/// Each handler of a pair holds what the other one needs; the server ends one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_with_a_handler_is_a_conflict() {
    let fresh = Arc::new(fresh().await);
    let (first, second) = (SagaId::now(), SagaId::now());
    fresh.store.commit(tick([start(first), start(second)])).await.expect("start");
    let holding = |saga: SagaId| {
        let fresh = Arc::clone(&fresh);
        async move {
            let mut transaction = fresh.store.begin().await.expect("begin");
            let lock = fresh.sql("select 1 from {schema}.saga where id = $1 for update");
            let lock = sqlx::query(lock).bind(saga.0);
            lock.execute(PostgresStore::connection(&mut transaction)).await.expect("lock");
            transaction
        }
    };
    let (one, other) = (holding(first).await, holding(second).await);
    let (one, other) = tokio::join!(
        fresh.store.commit_with(one, tick([next(second, 1)])),
        fresh.store.commit_with(other, tick([next(first, 1)])),
    );
    let results = [one, other];
    let won = results.iter().filter(|result| result.is_ok()).count();
    let lost = results.iter().filter(|result| matches!(result, Err(StoreError::Conflict))).count();
    assert_eq!((won, lost), (1, 1), "{results:?}");
}
