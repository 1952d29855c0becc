//! What the database does to sagas that are under way: it uses up no attempt, and doubles nothing.

#[path = "support/shop.rs"]
mod shop;
mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use saga_core::machine::HistoryKind;
use saga_core::{Engine, IdempotencyKey, MemoryTransport, RunningParticipant, Status};
use saga_postgres::{PostgresStore, SchemaName};
use saga_testkit::{Proxy, Side};
use sqlx::postgres::PgPoolOptions;

use shop::{Order, SHOP, Stock, insist};
use support::{Fresh, fresh, proxy};

/// Where the participant is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// In a service of its own.
    Apart,
    /// Inside the engine.
    Inside,
}

/// An engine and a participant that reach their database through a network that can fail.
struct World {
    fresh: Fresh,
    proxy: Proxy,
    stock: Stock,
    engine: Engine,
    participant: Option<RunningParticipant>,
}

impl World {
    async fn new(connections: u32, stand: Stand) -> Self {
        let fresh = fresh().await;
        let (proxy, url) = proxy().await;
        let url = format!("{url}&options[search_path]={0}&application_name={0}", fresh.schema);
        let pool = PgPoolOptions::new().max_connections(connections);
        let store = PostgresStore::connect_with(&url, pool).await.expect("it answers");
        let schema = SchemaName::parse(&fresh.schema).expect("a name");
        let store = store.schema(schema).timeout(Duration::from_millis(1_500));
        let (transport, stock) = (MemoryTransport::new(), Stock::default());
        let participant = shop::stock(&stock);
        let engine = Engine::builder(SHOP, store.clone()).saga(shop::saga());
        let (engine, participant) = match stand {
            Stand::Apart => {
                let participant = participant.start(store, transport.clone());
                (engine.transport(transport).start(), Some(participant))
            }
            Stand::Inside => (engine.local(participant).start(), None),
        };
        let engine = engine.expect("the parts fit");
        Self { fresh, proxy, stock, engine, participant }
    }

    /// Starts orders, does what happens to the database meanwhile, and waits for the ends of all.
    async fn place(&self, name: &str, orders: usize, meanwhile: impl Future<Output = ()>) {
        let starts = (0..orders).map(|number| async move {
            let order = format!("{name}-{number}");
            let key = IdempotencyKey::new(&*order).expect("a short key");
            let order = Order { order };
            insist(|| self.engine.start(key.clone(), order.clone())).await
        });
        let (started, ()) = tokio::join!(futures_util::future::join_all(starts), meanwhile);
        for saga in started {
            let end = insist(|| saga.outcome()).await;
            assert_eq!(end, Status::Completed);
            let history = insist(|| self.engine.history(saga.saga())).await;
            let used = |kind| matches!(kind, HistoryKind::AttemptFailed | HistoryKind::TimedOut);
            assert!(history.iter().all(|entry| !used(entry.kind)), "no attempt: {history:#?}");
        }
    }

    /// Waits until the participant has had as many commands as half of these orders need.
    async fn half_is_done(&self, orders: u32) {
        let until = self.stock.calls.load(Ordering::SeqCst) + orders;
        while self.stock.calls.load(Ordering::SeqCst) < until {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Every order was reserved and shipped, once.
    async fn all_is_done_once(&self, orders: usize) {
        use saga_testkit::Fixture as _;
        let mut effects = self.fresh.effects().await;
        effects.sort();
        let all = effects.len();
        effects.dedup();
        assert_eq!((effects.len(), all), (2 * orders, 2 * orders), "each effect once");
        assert!(self.fresh.dead_letters().await.is_empty(), "nothing is set aside");
    }

    async fn end(self) {
        if let Some(participant) = self.participant {
            participant.shutdown().await.expect("an orderly end");
        }
        self.engine.shutdown().await.expect("an orderly end");
    }
}

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

/// Terminates connections again and again, and then lets nobody answer for seconds.
async fn go_away(stand: Stand) {
    let world = World::new(8, stand).await;
    world.place("warm", 20, async {}).await;
    let idle = world.proxy.open();
    let kill = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1";
    world
        .place("killed", 200, async {
            for _ in 0..20 {
                let kill = sqlx::query(kill).bind(&world.fresh.schema);
                kill.execute(&world.fresh.pool).await.expect("kill");
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

/// F45, I14.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f45_a_network_that_swallows_everything_uses_up_no_attempt() {
    swallow(Stand::Apart).await;
}

/// F45, I14.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f45_a_network_that_swallows_local_steps_uses_up_no_attempt() {
    swallow(Stand::Inside).await;
}

/// F44: the engine and the participant share two connections, and 200 sagas want them at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f44_two_connections_for_two_hundred_sagas_are_enough() {
    let world = World::new(2, Stand::Apart).await;
    world.place("few", 200, async {}).await;
    world.all_is_done_once(200).await;
    world.end().await;
}
