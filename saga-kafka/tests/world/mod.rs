//! The shop at work on one broker.
#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use saga_core::machine::HistoryKind;
use saga_core::{
    Engine, MemoryStore, RunningParticipant, Saga, StartedSaga, Status, Topic, Transport,
};
use saga_kafka::KafkaTransport;

use crate::mock::{Mock, PATIENCE};
use crate::support::{BANK, Db, Effects, Order, SHOP, STOCK, Shop, bank, key, order, stock};

/// An engine and two participants on one broker, and the databases that outlive them.
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) participants: [RunningParticipant; 2],
    pub(crate) sagas: MemoryStore,
    pub(crate) effects: Db,
    pub(crate) shop: Shop,
    pub(crate) started: AtomicU32,
}

impl World {
    pub(crate) fn new(transport: &(impl Transport + Clone), saga: Saga<Order>) -> Self {
        let effects = MemoryStore::with_state(Effects::new());
        Self::over(MemoryStore::new(), effects, Shop::default(), transport, saga)
    }

    pub(crate) fn over(
        sagas: MemoryStore,
        effects: Db,
        shop: Shop,
        transport: &(impl Transport + Clone),
        saga: Saga<Order>,
    ) -> Self {
        let participants = [
            stock(&shop).start(effects.clone(), transport.clone()),
            bank(&shop).start(effects.clone(), transport.clone()),
        ];
        let engine = Engine::builder(SHOP, sagas.clone()).saga(saga);
        let engine = engine.transport(transport.clone()).start().expect("the parts fit");
        Self { engine, participants, sagas, effects, shop, started: AtomicU32::new(0) }
    }

    /// Stops everything in order, in bounded time, and starts it again on the same databases.
    pub(crate) async fn restarted(
        self,
        transport: &(impl Transport + Clone),
        saga: Saga<Order>,
    ) -> Self {
        self.restarted_after(std::future::ready(()), transport, saga).await
    }

    /// The same, with something done while nothing runs.
    pub(crate) async fn restarted_after(
        self,
        pause: impl Future<Output = ()>,
        transport: &(impl Transport + Clone),
        saga: Saga<Order>,
    ) -> Self {
        let Self { sagas, effects, shop, started, .. } = &self;
        let (sagas, effects, shop) = (sagas.clone(), effects.clone(), shop.clone());
        let started = AtomicU32::new(started.load(Ordering::SeqCst));
        let ended = tokio::time::timeout(Duration::from_secs(10), self.end()).await;
        ended.expect("an orderly end takes 10 s at most");
        pause.await;
        Self { started, ..Self::over(sagas, effects, shop, transport, saga) }
    }

    pub(crate) async fn start(&self) -> StartedSaga {
        let name = format!("o-{}", self.started.fetch_add(1, Ordering::SeqCst));
        self.engine.start(key(&name), order(&name, "")).await.expect("accepted")
    }

    pub(crate) async fn start_all(&self, count: u32) -> Vec<StartedSaga> {
        let mut started = Vec::new();
        for _ in 0..count {
            started.push(self.start().await);
        }
        started
    }

    /// Waits until these sagas have completed, without a failed attempt and each effect once.
    pub(crate) async fn complete(&self, sagas: Vec<StartedSaga>, why: &str) {
        for saga in sagas {
            let end = tokio::time::timeout(PATIENCE, self.engine.outcome(saga.saga())).await;
            let end = end.unwrap_or_else(|_| panic!("{why}: a saga does not end"));
            assert_eq!(end.expect("the engine works"), Status::Completed, "{why}");
            let history = self.engine.history(saga.saga()).await.expect("a history");
            let used = |kind| matches!(kind, HistoryKind::AttemptFailed | HistoryKind::TimedOut);
            assert!(history.iter().all(|it| !used(it.kind)), "{why}: {history:#?}");
        }
        let all = self.effects.read(Clone::clone);
        let different: BTreeSet<_> = all.iter().collect();
        assert_eq!(all.len(), different.len(), "{why}: an effect is doubled");
    }

    pub(crate) async fn end(self) {
        self.engine.shutdown().await.expect("an orderly end");
        for participant in self.participants {
            participant.shutdown().await.expect("an orderly end");
        }
    }
}

/// The topics that the shop uses.
pub(crate) fn topics() -> Vec<Topic> {
    let services = [SHOP, STOCK, BANK];
    services.iter().flat_map(|it| [it.commands(), it.events()]).collect()
}

/// How many partitions each of them has on mock brokers.
pub(crate) const PARTITIONS: i32 = 4;

/// Makes mock brokers with everything on them that the shop uses, on each of them.
pub(crate) fn mock(brokers: u32) -> (Mock, KafkaTransport) {
    let mock = Mock::new(brokers);
    let replication = i32::try_from(brokers).expect("a few");
    for topic in topics() {
        for topic in [topic.dead_letters(), topic] {
            mock.create_topic(topic.as_str(), PARTITIONS, replication);
        }
    }
    // The client takes the acknowledgement of a later batch for that of an earlier one that failed: a broker
    // refuses what is out of order, and this one does not. So it gets one batch at a time.
    let config = mock.config().setting("max.in.flight.requests.per.connection", "1");
    (mock, KafkaTransport::new(config).expect("the configuration is valid"))
}
