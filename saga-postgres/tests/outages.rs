//! What the database does to sagas that are under way: it uses up no attempt, and doubles nothing.

#[path = "support/shop.rs"]
mod shop;
mod support;
#[path = "support/world.rs"]
mod world;

use std::error::Error as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use saga_core::SagaId;
use saga_core::store::{SagaStore as _, StoreError, Transactional as _};
use saga_postgres::{PostgresStore, SchemaName};
use saga_testkit::Side;
use sqlx::postgres::PgDatabaseError;
use sqlx::{Connection as _, PgConnection};

use shop::Stock;
use support::{database, fresh, proxy};
use world::{Stand, World};

/// Cuts the connections after so many bytes, over and over: before, in and behind each statement and each commit.
async fn cut_everywhere(stand: Stand) {
    let world = World::new(8, stand).await;
    world.place("warm", 1, async {}).await;
    let mut orders = 1;
    let before = world.stock.calls.load(Ordering::SeqCst);
    for side in [Side::Client, Side::Server] {
        for step in 0..40 {
            // An order has some thousand bytes of each side.
            world.proxy.cut_after(side, step * 97);
            world.place(&format!("{side:?}-{step}"), 1, async {}).await;
            orders += 1;
        }
    }
    world.all_is_done_once(orders).await;
    let calls = world.stock.calls.load(Ordering::SeqCst) - before;
    let carried = 2 * 80;
    assert!(calls > carried, "some transactions must have been lost: {calls} calls");
    assert!(calls < 2 * carried, "and some only seemed to be: {calls} calls");
    world.end().await;
}

/// One commit of so many ends after its client has given up on it, and has its effect all the same.
async fn commit_late(stand: Stand, of: u32) {
    const ORDERS: usize = 5;
    let dawdle = "create sequence {schema}.commits; create table {schema}.late (number bigint);
        create function {schema}.dawdle() returns trigger language plpgsql as $$
            declare number bigint := nextval('{schema}.commits');
            begin
                if number % {of} = 0 then
                    perform pg_sleep(2);
                    insert into {schema}.late values (number);
                end if;
                return null;
            end$$;";
    let world = World::new(8, stand).await;
    world.fresh.execute(&dawdle.replace("{of}", &of.to_string())).await;
    for table in ["inbox", "saga"] {
        let trigger = format!(
            "create constraint trigger dawdles after insert or update on {{schema}}.{table} \
             deferrable initially deferred for each row execute function {{schema}}.dawdle()"
        );
        world.fresh.execute(&trigger).await;
    }
    for order in 0..ORDERS {
        world.place(&format!("late-{order}"), 1, async {}).await;
    }
    world.all_is_done_once(ORDERS).await;
    let late = world.fresh.count("late").await;
    assert!(late >= 2, "{late} commits that were given up have ended");
    world.end().await;
}

/// Terminates connections again and again, and then lets nobody answer for seconds.
async fn go_away(stand: Stand) {
    let world = World::new(8, stand).await;
    world.place("warm", 20, async {}).await;
    let idle = world.proxy.open();
    world
        .place("killed", 200, async {
            for _ in 0..20 {
                world.kill().await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    world
        .place("away", 200, async {
            world.half_is_done(200).await;
            world.proxy.refuse();
            world.proxy.cut();
            tokio::time::sleep(Duration::from_secs(6)).await;
            world.proxy.pass();
        })
        .await;
    world.all_is_done_once(420).await;
    assert!(world.proxy.open() <= idle.max(8), "connections are back to their number");
    world.end().await;
}

/// Swallows everything, more often than there are connections.
async fn swallow(stand: Stand) {
    let world = World::new(3, stand).await;
    for round in 0..5 {
        world
            .place(&format!("swallowed-{round}"), 20, async {
                world.half_is_done(20).await;
                world.proxy.blackhole();
                tokio::time::sleep(Duration::from_millis(300)).await;
                world.proxy.pass();
            })
            .await;
    }
    world.all_is_done_once(100).await;
    world.end().await;
}

/// Somebody else has every connection, for longer than anybody waits for one.
async fn use_up(stand: Stand) {
    let world = World::new(2, stand).await;
    let used_up = async {
        world.half_is_done(50).await;
        let all = world.take_all().await;
        let calls = world.stock.calls.load(Ordering::SeqCst);
        let meanwhile = async {
            let longer = tokio::time::sleep(Duration::from_millis(2_500));
            let (another, ()) = tokio::join!(world.store.begin(), longer);
            assert!(matches!(another, Err(StoreError::Unavailable { .. })), "there is no other");
            let called = world.stock.calls.load(Ordering::SeqCst) - calls;
            assert_eq!(called, 0, "nothing is handled without a connection");
            drop(all);
        };
        // These want one, whatever is left of the others.
        Box::pin(world.place("meanwhile", 10, meanwhile)).await;
    };
    world.place("used-up", 50, used_up).await;
    world.all_is_done_once(60).await;
    world.end().await;
}

/// The server says for two seconds that its disk is full, to whatever needs room.
async fn be_full(stand: Stand) {
    const TABLES: [&str; 2] = ["inbox", "saga"];
    let full = "create function {schema}.full() returns trigger language plpgsql as
        $$begin raise exception 'could not extend file' using errcode = 'disk_full'; end$$";
    let world = World::new(8, stand).await;
    world
        .place("full", 200, async {
            world.half_is_done(200).await;
            world.fresh.execute(full).await;
            // One table at a time: who locks two may come across a transaction that does as well.
            for table in TABLES {
                let trigger = format!(
                    "create trigger is_full before insert or update on {{schema}}.{table} \
                     execute function {{schema}}.full()"
                );
                world.fresh.execute(&trigger).await;
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
            for table in TABLES {
                world.fresh.execute(&format!("drop trigger is_full on {{schema}}.{table}")).await;
            }
        })
        .await;
    world.all_is_done_once(200).await;
    world.end().await;
}

/// F03, I3, I4, I6.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f03_a_connection_that_is_lost_anywhere_in_a_transaction_doubles_nothing() {
    cut_everywhere(Stand::Apart).await;
}

/// F03, I3, I4, I6: the handler's effect and the engine's tick are one transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f03_a_connection_that_is_lost_in_a_local_step_doubles_nothing() {
    cut_everywhere(Stand::Inside).await;
}

/// F03, I3, I4, I6.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f03_a_commit_that_ends_after_it_was_given_up_doubles_nothing() {
    commit_late(Stand::Apart, 4).await;
}

/// F03, I3, I4, I6.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f03_a_local_step_whose_commit_ends_after_it_was_given_up_doubles_nothing() {
    commit_late(Stand::Inside, 2).await;
}

/// F40, I1, I4, I14.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f40_an_outage_under_load_uses_up_no_attempt() {
    go_away(Stand::Apart).await;
}

/// F40, I1, I4, I14.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f40_an_outage_under_load_of_local_steps_uses_up_no_attempt() {
    go_away(Stand::Inside).await;
}

/// F45.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f45_a_network_that_swallows_everything_uses_up_no_attempt() {
    swallow(Stand::Apart).await;
}

/// F45.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f45_a_network_that_swallows_local_steps_uses_up_no_attempt() {
    swallow(Stand::Inside).await;
}

/// F45: nobody tells the server that its client is gone.
#[tokio::test]
async fn f45_a_transaction_that_nobody_goes_on_with_lets_go_of_its_locks() {
    let fresh = fresh().await;
    fresh
        .execute("create table {schema}.thing (id int); insert into {schema}.thing values (1)")
        .await;
    let lock = || sqlx::raw_sql(fresh.sql("select from {schema}.thing for update"));
    let (proxy, url) = proxy().await;
    let store = PostgresStore::connect(&url).await.expect("it answers");
    let store = store.schema(SchemaName::parse(&fresh.schema).expect("a name"));
    let mut gone = store.timeout(Duration::from_millis(200)).begin().await.expect("begin");
    lock().execute(&mut *gone).await.expect("nobody else has it");
    proxy.blackhole();
    let locked = tokio::time::timeout(Duration::from_secs(20), lock().execute(&fresh.pool)).await;
    locked.expect("the server gives the lock away").expect("lock");
}

/// F46, I4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f46_a_disk_that_is_full_uses_up_no_attempt() {
    be_full(Stand::Apart).await;
    be_full(Stand::Inside).await;
}

/// F44: the engine and the participant share two connections, and 200 sagas want them at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f44_two_connections_for_two_hundred_sagas_are_enough() {
    let world = World::new(2, Stand::Apart).await;
    world.place("few", 200, async {}).await;
    world.all_is_done_once(200).await;
    world.end().await;
}

/// F44, I4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f44_a_pool_that_is_used_up_uses_up_no_attempt() {
    use_up(Stand::Apart).await;
    use_up(Stand::Inside).await;
}

/// Two rows that handlers lock, one after the other.
const CROSSING: [&str; 3] = [
    "update pair set handled = handled + 1 where id = 1",
    "select pg_sleep(0.05)",
    "update pair set handled = handled + 1 where id = 2",
];

/// Somebody else who comes across what sagas lock.
struct Other(PgConnection);

impl Other {
    async fn new(world: &World) -> Self {
        let mut connection = PgConnection::connect_with(&database().await).await.expect("connect");
        // It waits for longer than the sagas, so that they are the ones who must give way.
        let settings = world.fresh.sql("set search_path = {schema}; set deadlock_timeout = '1min'");
        sqlx::raw_sql(settings).execute(&mut connection).await.expect("settings");
        Self(connection)
    }

    async fn does(&mut self, statement: &'static str) {
        sqlx::raw_sql(statement).execute(&mut self.0).await.expect(statement);
    }
}

/// Waits until a handler has locked the first row.
async fn meet_a_handler(world: &World) {
    let free =
        "select count(*) from (select from {schema}.pair where id = 1 for update skip locked) free";
    // Not in a transaction, which would keep the lock.
    let free = || sqlx::query_scalar::<_, i64>(world.fresh.sql(free)).fetch_one(&world.fresh.pool);
    while free().await.expect("the pair") == 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Lets every order meet somebody else twice, with statements that make its handler fail, and
/// settings of its connections that they are to fail with.
async fn come_across(
    stand: Stand,
    settings: &[(&str, &str)],
    met: &'static str,
    after: &'static str,
) {
    const ORDERS: usize = 5;
    let stock = Stock { also: &CROSSING, ..Stock::default() };
    let world = World::with(8, stand, stock, settings).await;
    let pair = "create table {schema}.pair (id int primary key, handled int, others int); \
                insert into {schema}.pair values (1, 0, 0), (2, 0, 0)";
    world.fresh.execute(pair).await;
    let mut other = Other::new(&world).await;
    for order in 0..ORDERS {
        world
            .place(&format!("crossed-{order}"), 1, async {
                for _ in 0..2 {
                    other.does("begin; update pair set others = others + 1 where id = 2").await;
                    meet_a_handler(&world).await;
                    let calls = world.stock.calls.load(Ordering::SeqCst);
                    other.does(met).await;
                    other.does(after).await;
                    world.is_called_again(calls).await;
                }
            })
            .await;
    }
    world.all_is_done_once(ORDERS).await;
    let calls = world.stock.calls.load(Ordering::SeqCst) as usize;
    assert!(calls >= 4 * ORDERS, "handlers must have failed: {calls} calls");
    let handled = world.fresh.sql("select handled from {schema}.pair");
    let handled: Vec<i32> =
        sqlx::query_scalar(handled).fetch_all(&world.fresh.pool).await.expect("the pair");
    assert_eq!(handled, [2 * 5; 2], "what failed was rolled back");
    world.end().await;
}

/// F43: 40P01, a deadlock.
async fn deadlock(stand: Stand) {
    let at_once = [("deadlock_timeout", "10ms")];
    come_across(stand, &at_once, "select from pair where id = 1 for update", "commit").await;
}

/// F43: 55P03, a lock that is not granted in time.
async fn lock_timeout(stand: Stand) {
    let soon = [("lock_timeout", "20ms")];
    come_across(stand, &soon, "select pg_sleep(0.1)", "commit").await;
}

/// F43: 40001, a serialization failure.
async fn serialization(stand: Stand) {
    let strict = [("default_transaction_isolation", "repeatable%20read")];
    come_across(stand, &strict, "commit", "select").await;
}

/// Waits until a statement of a saga waits for a table.
async fn meet_a_statement(world: &World) {
    let waits = "select exists (select from pg_stat_activity where datname = current_database() \
                 and application_name = '{schema}' and wait_event = 'relation')";
    let waits =
        || sqlx::query_scalar::<_, bool>(world.fresh.sql(waits)).fetch_one(&world.fresh.pool);
    while !waits().await.expect("the activity") {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// F43: 57014, a statement that takes too long, for somebody else has locked its table.
async fn statement_timeout(stand: Stand) {
    let soon = [("statement_timeout", "100ms")];
    let world = World::with(8, stand, Stock::default(), &soon).await;
    let mut other = Other::new(&world).await;
    let slow = async {
        world.half_is_done(50).await;
        other.does("begin; lock table saga, inbox in access exclusive mode").await;
        let meanwhile = async {
            meet_a_statement(&world).await;
            let late = world.store.load(&[SagaId::now()]).await.expect_err("it cannot be read");
            let reported = late.source().and_then(|it| it.downcast_ref::<PgDatabaseError>());
            assert_eq!(reported.map(PgDatabaseError::code), Some("57014"), "{late:?}");
            tokio::time::sleep(Duration::from_millis(500)).await;
            other.does("commit").await;
        };
        // These want the tables, whatever is left of the others.
        Box::pin(world.place("meanwhile", 10, meanwhile)).await;
    };
    world.place("slow", 50, slow).await;
    world.all_is_done_once(60).await;
    world.end().await;
}

/// F43, I4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f43_a_deadlock_uses_up_no_attempt() {
    deadlock(Stand::Apart).await;
    deadlock(Stand::Inside).await;
}

/// F43, I4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f43_a_lock_that_is_not_granted_in_time_uses_up_no_attempt() {
    lock_timeout(Stand::Apart).await;
    lock_timeout(Stand::Inside).await;
}

/// F43, I4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f43_a_statement_that_takes_too_long_uses_up_no_attempt() {
    statement_timeout(Stand::Apart).await;
    statement_timeout(Stand::Inside).await;
}

/// F43, I4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f43_a_serialization_failure_uses_up_no_attempt() {
    serialization(Stand::Apart).await;
    serialization(Stand::Inside).await;
}
