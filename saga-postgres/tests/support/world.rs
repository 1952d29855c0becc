//! An engine and a participant on PostgreSQL, behind a proxy.

#![allow(dead_code, reason = "each test program uses its part")]

use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use saga_core::machine::HistoryKind;
use saga_core::store::Transactional as _;
use saga_core::{Engine, IdempotencyKey, MemoryTransport, RunningParticipant, Status};
use saga_postgres::{PostgresStore, SchemaName};
use saga_testkit::Proxy;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Postgres, Transaction};

use crate::shop::{self, Order, SHOP, Stock, insist};
use crate::support::{Fresh, fresh, proxy};

/// Where the participant is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stand {
    /// In a service of its own.
    Apart,
    /// Inside the engine.
    Inside,
}

/// An engine and a participant that reach their database through a network that can fail.
pub(crate) struct World {
    pub(crate) fresh: Fresh,
    pub(crate) proxy: Proxy,
    pub(crate) stock: Stock,
    pub(crate) engine: Engine,
    /// The store of both, which waits for 1.5 s.
    pub(crate) store: PostgresStore,
    connections: u32,
    participant: Option<RunningParticipant>,
}

impl World {
    pub(crate) async fn new(connections: u32, stand: Stand) -> Self {
        Self::with(connections, stand, Stock::default(), &[]).await
    }

    /// The settings are those of its connections.
    pub(crate) async fn with(
        connections: u32,
        stand: Stand,
        stock: Stock,
        settings: &[(&str, &str)],
    ) -> Self {
        let fresh = fresh().await;
        let (proxy, url) = proxy().await;
        let mut url = format!("{url}&options[search_path]={0}&application_name={0}", fresh.schema);
        for (name, value) in settings {
            write!(url, "&options[{name}]={value}").expect("a text takes all");
        }
        let pool = PgPoolOptions::new().max_connections(connections);
        let store = PostgresStore::connect_with(&url, pool).await.expect("it answers");
        let schema = SchemaName::parse(&fresh.schema).expect("a name");
        let store = store.schema(schema).timeout(Duration::from_millis(1_500));
        let transport = MemoryTransport::new();
        let participant = shop::stock(&stock);
        let engine = Engine::builder(SHOP, store.clone()).saga(shop::saga());
        let (engine, participant) = match stand {
            Stand::Apart => {
                let participant = participant.start(store.clone(), transport.clone());
                (engine.transport(transport).start(), Some(participant))
            }
            Stand::Inside => (engine.local(participant).start(), None),
        };
        let engine = engine.expect("the parts fit");
        Self { fresh, proxy, stock, engine, store, connections, participant }
    }

    /// Starts orders, does what happens to the database meanwhile, and waits for the ends of all.
    pub(crate) async fn place(
        &self,
        name: &str,
        orders: usize,
        meanwhile: impl Future<Output = ()>,
    ) {
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
    pub(crate) async fn half_is_done(&self, orders: u32) {
        self.is_called_again(self.stock.calls.load(Ordering::SeqCst) + orders - 1).await;
    }

    /// Waits until the participant has had more than so many commands.
    pub(crate) async fn is_called_again(&self, calls: u32) {
        while self.stock.calls.load(Ordering::SeqCst) <= calls {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Takes every connection of the pool, for transactions that may stand still for a minute.
    pub(crate) async fn take_all(&self) -> Vec<Transaction<'static, Postgres>> {
        let patient = self.store.clone().timeout(Duration::from_secs(30));
        let mut all = Vec::new();
        for _ in 0..self.connections {
            all.push(insist(|| Box::pin(patient.begin())).await);
        }
        all
    }

    /// Lets the server end the connections of the pool, and returns how many there were.
    pub(crate) async fn kill(&self) -> u64 {
        let kill =
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1";
        let kill = sqlx::query(kill).bind(&self.fresh.schema);
        kill.execute(&self.fresh.pool).await.expect("kill").rows_affected()
    }

    /// Every order was reserved and shipped, once.
    pub(crate) async fn all_is_done_once(&self, orders: usize) {
        use saga_testkit::Fixture as _;
        let mut effects = self.fresh.effects().await;
        effects.sort();
        let all = effects.len();
        effects.dedup();
        assert_eq!((effects.len(), all), (2 * orders, 2 * orders), "each effect once");
        assert!(self.fresh.dead_letters().await.is_empty(), "nothing is set aside");
    }

    pub(crate) async fn end(self) {
        if let Some(participant) = self.participant {
            participant.shutdown().await.expect("an orderly end");
        }
        self.engine.shutdown().await.expect("an orderly end");
    }
}
