//! What brokers do to sagas that are under way: it uses up no attempt, doubles nothing and loses nothing.

#![expect(clippy::future_not_send, reason = "the mock broker's handle stays on its thread")]

mod broker;
mod private;
#[path = "../../saga-core/tests/support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use saga_core::machine::HistoryKind;
use saga_core::{
    Engine, MemoryStore, RunningParticipant, Saga, StartedSaga, Status, Step, StepName, Transport,
};
use saga_kafka::{KafkaConfig, KafkaTransport};

use private::Private;
use support::{
    BANK, Db, Effects, Order, Reserve, SHOP, STOCK, Shop, bank, key, order, saga, stock,
};

/// Longer than any time-out of these brokers and clients.
const PATIENCE: Duration = Duration::from_mins(1);

/// An engine and two participants on one broker, and the databases that outlive them.
struct World {
    engine: Engine,
    participants: [RunningParticipant; 2],
    sagas: MemoryStore,
    effects: Db,
    shop: Shop,
    started: AtomicU32,
}

impl World {
    fn new(transport: &(impl Transport + Clone), saga: Saga<Order>) -> Self {
        let effects = MemoryStore::with_state(Effects::new());
        Self::over(MemoryStore::new(), effects, Shop::default(), transport, saga)
    }

    fn over(
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
    async fn restarted(self, transport: &(impl Transport + Clone), saga: Saga<Order>) -> Self {
        let Self { sagas, effects, shop, started, .. } = &self;
        let (sagas, effects, shop) = (sagas.clone(), effects.clone(), shop.clone());
        let started = AtomicU32::new(started.load(Ordering::SeqCst));
        let ended = tokio::time::timeout(Duration::from_secs(10), self.end()).await;
        ended.expect("an orderly end takes 10 s at most");
        Self { started, ..Self::over(sagas, effects, shop, transport, saga) }
    }

    async fn start(&self) -> StartedSaga {
        let name = format!("o-{}", self.started.fetch_add(1, Ordering::SeqCst));
        self.engine.start(key(&name), order(&name, "")).await.expect("accepted")
    }

    async fn start_all(&self, count: u32) -> Vec<StartedSaga> {
        let mut started = Vec::new();
        for _ in 0..count {
            started.push(self.start().await);
        }
        started
    }

    /// Waits until these sagas have completed, without a failed attempt and each effect once.
    async fn complete(&self, sagas: Vec<StartedSaga>, why: &str) {
        for saga in sagas {
            let end = tokio::time::timeout(PATIENCE, saga.outcome()).await;
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

    async fn end(self) {
        self.engine.shutdown().await.expect("an orderly end");
        for participant in self.participants {
            participant.shutdown().await.expect("an orderly end");
        }
    }
}

type Cluster = MockCluster<'static, DefaultProducerContext>;

/// A broker of the client library's own, which fails on demand, with everything on it that the shop uses.
fn mock() -> (Cluster, KafkaTransport) {
    let cluster = MockCluster::new(1).expect("a mock broker can be started");
    for service in [SHOP, STOCK, BANK] {
        for topic in [service.commands(), service.events()] {
            for topic in [topic.dead_letters(), topic] {
                cluster.create_topic(topic.as_str(), 4, 1).expect("the mock broker makes topics");
            }
        }
    }
    // The client takes the acknowledgement of a later batch for that of an earlier one that failed: a broker
    // refuses what is out of order, and this one does not. So it gets one batch at a time.
    let config = KafkaConfig::new(cluster.bootstrap_servers());
    let config = config.setting("max.in.flight.requests.per.connection", "1");
    (cluster, KafkaTransport::new(config).expect("the configuration is valid"))
}

/// Lets a kind of request fail with each of some errors, a few times in a row, while sagas run.
async fn fail_with(request: RDKafkaApiKey, errors: &[RDKafkaRespErr]) {
    let (cluster, transport) = mock();
    let world = World::new(&transport, saga());
    let warm = world.start_all(5).await;
    world.complete(warm, "warm").await;
    for error in errors {
        let before = world.start_all(5).await;
        cluster.request_errors(request, &[*error; 3]);
        let after = world.start_all(20).await;
        let why = format!("{request:?} answers {error:?}");
        world.complete(before, &why).await;
        world.complete(after, &why).await;
        cluster.clear_request_errors(request);
    }
    world.end().await;
}

/// F16, I4, I5: what passes by itself, what a person must mend, and what ends a producer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f16_every_error_of_producing_uses_up_no_attempt_and_doubles_nothing() {
    use RDKafkaRespErr::*;
    let errors = [
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
        RD_KAFKA_RESP_ERR_UNKNOWN,
        RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
        RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
        RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
        RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
        RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
        RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID,
        RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
    ];
    let (cluster, transport) = mock();
    let world = World::new(&transport, saga());
    for error in errors {
        cluster.request_errors(RDKafkaApiKey::Produce, &[error; 3]);
        let why = format!("producing answers {error:?}");
        // One after the other: two batches of one partition are on their way at once when the first is tried
        // again, and the second one's acknowledgement would count for both; a broker refuses it then.
        for _ in 0..4 {
            world.complete(world.start_all(1).await, &why).await;
        }
        cluster.clear_request_errors(RDKafkaApiKey::Produce);
    }
    world.end().await;
}

/// F17, I4, I6.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f17_offsets_that_cannot_be_committed_double_nothing() {
    use RDKafkaRespErr::*;
    let errors = [
        RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
        RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
        RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
        RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
        RD_KAFKA_RESP_ERR_UNKNOWN,
    ];
    fail_with(RDKafkaApiKey::OffsetCommit, &errors).await;
}

/// F17, I4, I6.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f17_a_coordinator_that_moves_or_forgets_its_members_doubles_nothing() {
    use RDKafkaRespErr::*;
    let errors = [
        RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
        RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
        RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
        RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
    ];
    fail_with(RDKafkaApiKey::Heartbeat, &errors).await;
}

/// F10, I3, I4: starts are accepted while the broker is away, and go on when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f10_a_broker_that_goes_away_under_load_uses_up_no_attempt() {
    let (cluster, transport) = mock();
    let world = World::new(&transport, saga());
    let mut sagas = world.start_all(50).await;
    for _ in 0..3 {
        cluster.broker_down(-1).expect("the mock broker stops");
        sagas.extend(world.start_all(50).await);
        tokio::time::sleep(Duration::from_secs(2)).await;
        cluster.broker_up(-1).expect("the mock broker starts");
        sagas.extend(world.start_all(50).await);
    }
    world.complete(sagas, "the broker was away").await;
    world.end().await;
}

/// Sends a command of some kilobytes for one order, and a small one for the others.
struct ReserveInBulk;

impl Step<Order> for ReserveInBulk {
    const NAME: StepName = StepName::new("reserve");
    type Command = Reserve;

    fn command(&self, order: &Order) -> Reserve {
        let bytes = if order.order == "o-3" { 30_000 } else { 10 };
        // No compression makes it short.
        let noise = (0..bytes)
            .map(|n: u32| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 24) as u8 % 26));
        Reserve { order: order.order.clone(), trouble: noise.collect() }
    }
}

/// F16, I5, I12: a topic with a limit of its own, on a real broker.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f16_a_record_that_a_topic_refuses_waits_alone_until_the_limit_is_raised() {
    let prefix = broker::prefix("limit");
    let transport = Private::new(broker::transport().await, &prefix);
    let topic = format!("{prefix}.{}", STOCK.commands());
    let brokers = std::env::var("KAFKA_BROKERS").expect("the transport was made of it");
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().expect("a client");
    let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1)).set("max.message.bytes", "5000");
    let made = admin.create_topics(&[new], &AdminOptions::new()).await.expect("an answer");
    made[0].as_ref().expect("the topic is made");

    let saga = Saga::<Order>::builder().then(ReserveInBulk).build().expect("sound");
    let world = World::new(&transport, saga);
    let mut sagas = world.start_all(40).await;
    let refused = sagas.remove(3);
    world.complete(sagas, "another saga's command is refused").await;
    let view = world.engine.inspect(refused.saga()).await.expect("inspected").expect("it exists");
    assert_eq!(view.status(), Status::Running);

    let raise =
        AlterConfig::new(ResourceSpecifier::Topic(&topic)).set("max.message.bytes", "500000");
    let raised = admin.alter_configs([&raise], &AdminOptions::new()).await.expect("an answer");
    raised[0].as_ref().expect("the limit is raised");
    world.complete(vec![refused], "the limit is raised").await;
    world.end().await;
}

/// F06, I4, I15: what is in hand is done, what is not is left to whoever comes next, and nothing is done twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i15_an_orderly_end_under_load_is_quick_and_repeats_no_effect() {
    const ROUNDS: u32 = 3;
    const ORDERS: u32 = 300;
    let transport = Private::new(broker::transport().await, &broker::prefix("orderly"));
    let mut world = World::new(&transport, saga());
    let mut sagas = Vec::new();
    for round in 1..=ROUNDS {
        sagas.extend(world.start_all(ORDERS).await.into_iter().map(|it| it.saga()));
        // In the midst of it.
        while world.shop.calls.load(Ordering::SeqCst) < (round - 1) * 4 * ORDERS + ORDERS {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        world = world.restarted(&transport, saga()).await;
    }
    for saga in sagas {
        let end = tokio::time::timeout(PATIENCE, world.engine.outcome(saga)).await;
        assert_eq!(end.expect("it ends").expect("the engine works"), Status::Completed);
    }
    let (effects, calls) = (world.effects.read(Vec::len), world.shop.calls.load(Ordering::SeqCst));
    let expected = 4 * ROUNDS * ORDERS;
    assert_eq!((effects, calls), (expected as usize, expected), "effects, and tries to make one");
    world.end().await;
}

/// F12, I4: engines and participants join and leave while orders keep coming, and nobody outside sees any of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f12_services_that_come_and_go_use_up_no_attempt_and_double_nothing() {
    let transport = Private::new(broker::transport().await, &broker::prefix("rebalance"));
    let world = World::new(&transport, saga());
    let mut sagas = world.start_all(50).await;
    for _ in 0..4 {
        let (store, effects, shop) =
            (world.sagas.clone(), world.effects.clone(), world.shop.clone());
        let guest = World::over(store, effects, shop, &transport, saga());
        for _ in 0..20 {
            sagas.extend(world.start_all(5).await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        guest.end().await;
    }
    world.complete(sagas, "services come and go").await;
    world.end().await;
}

/// I4, I10: attempts are counted in the saga, so it does not matter how many engines and participants there are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_are_those_of_the_policy_with_one_three_and_twelve_of_each() {
    const ORDERS: usize = 10;
    for count in [1, 3, 12] {
        let transport = Private::new(broker::transport().await, &broker::prefix("attempts"));
        let first = World::new(&transport, saga());
        let mut others = Vec::new();
        for _ in 1..count {
            let (store, effects, shop) =
                (first.sagas.clone(), first.effects.clone(), first.shop.clone());
            others.push(World::over(store, effects, shop, &transport, saga()));
        }
        let mut sagas = Vec::new();
        for number in 0..ORDERS {
            let name = format!("o-{number}");
            let engine = others.get(number % count).map_or(&first.engine, |it| &it.engine);
            let start = engine.start(key(&name), order(&name, "reserve:fail"));
            sagas.push(start.await.expect("accepted").saga());
        }
        for saga in sagas {
            let end = tokio::time::timeout(PATIENCE, first.engine.outcome(saga)).await;
            assert_eq!(end.expect("it ends").expect("the engine works"), Status::Compensated);
            let history = first.engine.history(saga).await.expect("a history");
            let failed = history.iter().filter(|it| it.kind == HistoryKind::AttemptFailed).count();
            assert_eq!(failed, 3, "{count} of each: {history:#?}");
        }
        for other in others {
            other.end().await;
        }
        first.end().await;
    }
}
