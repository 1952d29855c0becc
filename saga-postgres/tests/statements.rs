//! What a commit and a look cost: one statement, and plans that stay good.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use saga_core::machine::Status;
use saga_core::store::{Commit, OutboxRow, SagaFilter, Tick, WakeAt};
use saga_core::{OutboxId, SagaId, SagaName, SagaStore};
use saga_postgres::{PostgresStore, SchemaName};
use saga_testkit::Proxy;
use sqlx::PgPool;
use support::{Fresh, database, fresh, next, one_connection, row, server, start, through, tick};
use tokio::time::Instant;
use uuid::Uuid;

/// What a client sends, message by message; those that execute something are counted.
struct Requests {
    executed: Arc<AtomicU64>,
    /// What came of a message that is not whole.
    begun: Vec<u8>,
    /// The first message has no type.
    is_first: bool,
}

impl Requests {
    const fn new(executed: Arc<AtomicU64>) -> Self {
        Self { executed, begun: Vec::new(), is_first: true }
    }

    fn observer(mut self) -> impl FnMut(&[u8]) + Send + 'static {
        move |bytes| {
            self.begun.extend(bytes);
            while self.take() {}
        }
    }

    /// Takes a message off what has come; returns false if none is whole.
    fn take(&mut self) -> bool {
        let start = usize::from(!self.is_first);
        let Some(length) = self.begun.get(start..start + 4) else { return false };
        let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        if self.begun.len() < start + length {
            return false;
        }
        if !self.is_first && matches!(self.begun[0], b'E' | b'Q') {
            self.executed.fetch_add(1, Ordering::SeqCst);
        }
        self.begun.drain(..start + length);
        self.is_first = false;
        true
    }
}

/// One statement outside of a transaction is one round trip and one commit.
#[tokio::test]
async fn a_tick_is_one_statement() {
    let fresh = fresh().await;
    let statements = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&statements);
    let observer = move || Requests::new(Arc::clone(&seen)).observer();
    let database = database().await;
    let proxy = Proxy::observed(server(&database), observer).await;
    let url = through(&proxy, database);
    let schema = SchemaName::parse(&fresh.schema).expect("a name");
    let store = PostgresStore::connect(&url).await.expect("connect").schema(schema);
    store.check().await.expect("check");
    let counted = || statements.load(Ordering::SeqCst);
    let before = counted();
    let sagas: Vec<_> = (0..64).map(|_| SagaId::now()).collect();
    let mut sent: Vec<OutboxId> = Vec::new();
    for version in 0..3 {
        let commit = |&saga: &SagaId| if version == 0 { start(saga) } else { next(saga, version) };
        let outbox: Vec<OutboxRow> = vec![row("first"), row("second")];
        let appended = outbox.iter().map(|row| row.id).collect();
        let whole = Tick { outbox, sent, ..tick(sagas.iter().map(commit)) };
        store.commit(whole).await.expect("commit");
        sent = appended;
    }
    assert_eq!(counted() - before, 3, "three ticks must be three statements");
    assert_eq!(fresh.count("saga_history").await, 3 * 64);
    assert_eq!(fresh.count("outbox").await, 2);
    let due = store.due(Duration::ZERO, 1).await.expect("due");
    assert!(due.sagas.is_empty());
    assert_eq!(counted() - before, 4, "and a look at the timers is one");
}

/// A plan that was made while the tables were small must not read them whole when they are large.
#[tokio::test]
async fn plans_of_small_tables_do_not_scan_large_ones() {
    let fresh = fresh().await;
    let (pool, store) = one_connection(&fresh).await;
    let first = SagaId::now();
    store.commit(tick([start(first)])).await.expect("start");
    for version in 1..8 {
        store.commit(tick([next(first, version)])).await.expect("step");
        store.load(&[first]).await.expect("load");
    }
    for _ in 0..20 {
        let sagas = (0..500).map(|_| start(SagaId::now()));
        store.commit(tick(sagas)).await.expect("start");
    }
    for version in 8..40 {
        store.commit(tick([next(first, version)])).await.expect("step");
        store.load(&[first]).await.expect("load");
        store.due(Duration::ZERO, 10).await.expect("due");
    }
    let statistics = "select seq_tup_read, idx_scan from pg_stat_user_tables \
                      where schemaname = '{schema}' and relname = 'saga'";
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (scanned, found): (i64, i64) =
            sqlx::query_as(fresh.sql(statistics)).fetch_one(&pool).await.expect("statistics");
        assert_eq!(scanned, 0, "the table was read whole");
        if found >= 32 * 3 {
            break;
        }
        assert!(Instant::now() < deadline, "{found} index scans after 20 s");
    }
}

/// Few sagas are found among many, whatever was true when the table was analyzed and the plans were made.
#[tokio::test]
async fn a_list_reads_little_more_than_it_shows() {
    const FEW: usize = 3;
    const RARE: [Status; 4] =
        [Status::Running, Status::Compensating, Status::Compensated, Status::Parked];
    let fresh = fresh().await;
    let (pool, store) = one_connection(&fresh).await;
    let few: Vec<_> = RARE.into_iter().flat_map(|status| starts(status, FEW)).collect();
    let last_of_few = few[few.len() - 1].saga;
    store.commit(tick(few)).await.expect("start");
    let crowds: Vec<Vec<_>> = RARE.map(|status| starts(status, 500).collect()).into();
    for crowd in crowds.clone() {
        store.commit(tick(crowd)).await.expect("start");
    }
    fresh.execute("analyze {schema}.saga").await;
    for filter in RARE.map(|status| SagaFilter::all().status(status)) {
        assert_eq!(store.list(&filter, None, 50).await.expect("list").len(), 50);
        pages_read(&fresh, &pool, &filter, None).await;
    }
    for crowd in crowds {
        let ends = crowd.into_iter().map(|it| Commit {
            status: Status::Completed,
            wake_at: WakeAt::Never,
            ..next(it.saga, 1)
        });
        store.commit(tick(ends)).await.expect("end");
    }
    for _ in 0..16 {
        store.commit(tick(starts(Status::Completed, 500))).await.expect("start");
    }
    fresh.execute("vacuum {schema}.saga").await;

    let place_order = SagaName::new("place-order");
    let rare = RARE.map(|status| SagaFilter::all().status(status));
    for filter in rare.into_iter().flat_map(|it| [it.clone(), it.name(place_order.clone())]) {
        assert_eq!(store.list(&filter, None, 50).await.expect("list").len(), FEW);
        let pages = pages_read(&fresh, &pool, &filter, None).await;
        assert!(pages < 100, "{pages} pages were read for {FEW} sagas of {filter:?}");
    }
    for filter in [SagaFilter::all(), SagaFilter::all().status(Status::Completed)] {
        for after in [None, Some(SagaId::now()), Some(last_of_few)] {
            let pages = pages_read(&fresh, &pool, &filter, after).await;
            assert!(pages < 200, "{pages} pages were read for 50 sagas of {filter:?}");
        }
    }
}

/// Starts of sagas that stand somewhere already.
fn starts(status: Status, sagas: usize) -> impl Iterator<Item = Commit> + Clone {
    let wake_at = if status.is_at_rest() { WakeAt::Never } else { start(SagaId::now()).wake_at };
    (0..sagas).map(move |_| Commit { status, wake_at, ..start(SagaId::now()) })
}

/// Counts the pages that a list of 50 reads, of the table and of its indexes.
async fn pages_read(
    fresh: &Fresh,
    pool: &PgPool,
    filter: &SagaFilter,
    after: Option<SagaId>,
) -> u64 {
    let code = |status: Status| match status {
        Status::Running => 0_i16,
        Status::Compensating => 1,
        Status::Completed => 2,
        Status::Compensated => 3,
        Status::Parked => 4,
    };
    let list = "explain (analyze, buffers, costs off, timing off, summary off) \
                select * from {schema}.list($1, $2, $3, 50)";
    let plan: Vec<String> = sqlx::query_scalar(fresh.sql(list))
        .bind(filter.name.as_ref().map(SagaName::as_str))
        .bind(filter.status.map(code))
        .bind(after.map_or(Uuid::max(), |saga| saga.0))
        .fetch_all(pool)
        .await
        .expect("a plan");
    let buffers = plan.iter().find(|line| line.contains("Buffers: shared"));
    let counts = buffers.expect("what was read").split([' ', '=']);
    counts.filter_map(|count| count.parse::<u64>().ok()).sum()
}

/// A scan that is switched off counts as so dear that the server would compile the plan, each time.
#[tokio::test]
async fn no_plan_is_compiled_for_its_price() {
    let fresh = fresh().await;
    let (pool, _) = one_connection(&fresh).await;
    let functions = "select count(*), count(*) filter (where proconfig @> '{jit=off}') from pg_proc \
                     where pronamespace = '{schema}'::regnamespace and proconfig is not null";
    let (tuned, not_compiled): (i64, i64) =
        sqlx::query_as(fresh.sql(functions)).fetch_one(&pool).await.expect("functions");
    assert!(tuned > 0, "the functions that tune their plans must be there");
    assert_eq!(not_compiled, tuned, "some functions have plans that may be compiled");
}
