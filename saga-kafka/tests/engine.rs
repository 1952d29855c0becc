//! What brokers do to sagas that are under way: it uses up no attempt, doubles nothing and loses nothing.

mod broker;
mod mock;
mod private;
#[path = "../../saga-core/tests/support/mod.rs"]
mod support;
mod world;

use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use saga_core::machine::HistoryKind;
use saga_core::{Backoff, ParticipantName, RetryPolicy, Saga, Status, Step, StepName, Topic};

use mock::{ENDING, PATIENCE, until};
use private::Private;
use support::{BANK, Order, Reserve, ReserveStock, SHOP, STOCK, Shop, key, order, saga};
use world::{World, mock};

/// How often a request fails in a row.
const ERRORS: usize = 3;

/// Lets a kind of request fail with each of some errors, a few times in a row, while sagas run.
async fn fail_with(request: RDKafkaApiKey, errors: &[RDKafkaRespErr]) {
    let (mock, transport) = mock(1);
    let world = World::new(&transport, saga());
    world.complete(world.start_all(5).await, "warm").await;
    for error in errors {
        let why = format!("{request:?} answers {error:?}");
        let mut sagas = world.start_all(5).await;
        mock.fail(request, &[*error; ERRORS]);
        // Work goes on until all of them are met.
        let met = tokio::time::timeout(PATIENCE, async {
            while mock.received(request) < ERRORS {
                sagas.extend(world.start_all(1).await);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        met.await.unwrap_or_else(|_| panic!("{why}: nobody has met it"));
        sagas.extend(world.start_all(10).await);
        world.complete(sagas, &why).await;
    }
    world.end().await;
}

/// F16, I4, I5: what passes by itself, what a person must mend, and what ends a producer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f16_every_error_of_producing_uses_up_no_attempt_and_doubles_nothing() {
    use RDKafkaRespErr::*;
    // The client tries these again by itself; it never asks for another id meanwhile.
    let passing = [
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
        RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
        RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID,
        RD_KAFKA_RESP_ERR_INVALID_MSG,
    ];
    let (mock, transport) = mock(1);
    let world = World::new(&transport, saga());
    world.complete(world.start_all(1).await, "warm").await;
    for error in passing.iter().chain(&ENDING) {
        mock.fail(RDKafkaApiKey::Produce, &[*error; ERRORS]);
        let why = format!("producing answers {error:?}");
        // One after the other: two batches of one partition are on their way at once when the first is tried
        // again, and the second one's acknowledgement would count for both; a broker refuses it then.
        for _ in 0..4 {
            world.complete(world.start_all(1).await, &why).await;
        }
        mock.has_received(RDKafkaApiKey::Produce, ERRORS).await;
        if ENDING.contains(error) {
            mock.has_received(RDKafkaApiKey::InitProducerId, 1).await;
        } else {
            let anew = mock.received(RDKafkaApiKey::InitProducerId);
            assert_eq!(anew, 0, "{why}: the producer goes on");
        }
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

/// F10, I3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f10_a_broker_that_is_down_at_the_start_uses_up_no_attempt() {
    let (mock, transport) = mock(1);
    mock.cluster().broker_down(-1).expect("the mock broker stops");
    let world = World::new(&transport, saga());
    let sagas = world.start_all(50).await;
    mock.cluster().broker_up(-1).expect("the mock broker starts");
    world.complete(sagas, "the broker was down").await;
    assert_eq!(world.effects.read(Vec::len), 4 * 50, "each effect once");
    world.end().await;
}

/// F10, I3, I4: starts are accepted while the broker is away, and go on when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f10_a_broker_that_goes_away_under_load_uses_up_no_attempt() {
    let (mock, transport) = mock(1);
    let world = World::new(&transport, saga());
    let mut sagas = world.start_all(50).await;
    for _ in 0..3 {
        mock.cluster().broker_down(-1).expect("the mock broker stops");
        sagas.extend(world.start_all(50).await);
        tokio::time::sleep(Duration::from_secs(2)).await;
        mock.cluster().broker_up(-1).expect("the mock broker starts");
        sagas.extend(world.start_all(50).await);
    }
    world.complete(sagas, "the broker was away").await;
    world.end().await;
}

/// Past the library, to the real broker.
fn client() -> ClientConfig {
    let brokers = std::env::var("KAFKA_BROKERS").expect("the transport was made of it");
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config
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
    let admin: AdminClient<DefaultClientContext> = client().create().expect("a client");
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

/// Notes what this process tells as an error.
struct Errors;

static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());

impl Errors {
    /// Whether somebody told that a partition stands still.
    fn stands_still(topic: &str, partition: i32) -> bool {
        let partition = format!("partition {partition} of `{topic}`");
        let told = TOLD.lock().expect("nobody panics over it");
        told.iter().any(|it| it.contains("stands still") && it.contains(&partition))
    }
}

impl tracing::Subscriber for Errors {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::ERROR
    }

    fn event(&self, event: &tracing::Event<'_>) {
        TOLD.lock().expect("nobody panics over it").push(format!("{event:?}"));
    }

    fn new_span(&self, _span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _span: &tracing::span::Id, _values: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _span: &tracing::span::Id, _follows: &tracing::span::Id) {}
    fn enter(&self, _span: &tracing::span::Id) {}
    fn exit(&self, _span: &tracing::span::Id) {}
}

/// The positions of a group without members, as a person reads and sets them.
struct Positions {
    group: BaseConsumer,
    topics: Vec<String>,
}

impl Positions {
    fn of(group: &ParticipantName, topics: &[Topic], prefix: &str) -> Self {
        let group = client().set("group.id", format!("{prefix}.{group}")).create();
        let topics = topics.iter().map(|topic| format!("{prefix}.{topic}")).collect();
        Self { group: group.expect("a client"), topics }
    }

    /// Reads them; one that was never set is the beginning.
    fn read(&self) -> Vec<(String, i32, Offset)> {
        let mut all = TopicPartitionList::new();
        self.topics.iter().for_each(|topic| all.add_partition_range(topic, 0, 7));
        let stored = self.group.committed_offsets(all, PATIENCE).expect("an answer");
        let stored = stored.elements().into_iter().map(|it| {
            let beginning = it.offset() == Offset::Invalid;
            let offset = if beginning { Offset::Offset(0) } else { it.offset() };
            (it.topic().to_owned(), it.partition(), offset)
        });
        stored.collect()
    }

    /// Sets all of them to where no record is, and returns them.
    fn lose(&self) -> Vec<(String, i32, Offset)> {
        let far = |(topic, partition, _)| (topic, partition, Offset::Offset(1_000_000));
        let gone: Vec<_> = self.read().into_iter().map(far).collect();
        self.set(&gone);
        gone
    }

    /// Removes all records, as retention does, and sets the positions to what comes next.
    async fn expire(&self) {
        let mut all = TopicPartitionList::new();
        self.topics.iter().for_each(|topic| all.add_partition_range(topic, 0, 7));
        all.set_all_offsets(Offset::End).expect("an offset");
        let admin: AdminClient<DefaultClientContext> = client().create().expect("a client");
        let deleted = admin.delete_records(&all, &AdminOptions::new()).await;
        deleted.expect("records can be deleted");
        let first = |(topic, partition, _): (String, i32, _)| {
            let range = self.group.fetch_watermarks(&topic, partition, PATIENCE);
            (topic, partition, Offset::Offset(range.expect("an answer").0))
        };
        let first: Vec<_> = self.read().into_iter().map(first).collect();
        self.set(&first);
    }

    fn set(&self, positions: &[(String, i32, Offset)]) {
        let mut list = TopicPartitionList::new();
        for (topic, partition, offset) in positions {
            list.add_partition_offset(topic, *partition, *offset).expect("an offset");
        }
        self.group.commit(&list, CommitMode::Sync).expect("the group has no members");
    }
}

/// F18, I4, I5: an engine or a participant whose position is gone says so and goes no further, until a person has
/// set the position and started it anew.
#[tokio::test]
async fn f18_a_position_that_is_gone_skips_nothing_and_uses_up_no_attempt() {
    tracing::subscriber::set_global_default(Errors).expect("nobody else listens");
    let prefix = broker::prefix("position");
    let transport = Private::new(broker::transport().await, &prefix);
    let mut world = World::new(&transport, saga());
    world.complete(world.start_all(40).await, "all is well").await;
    let of_participant = (STOCK, vec![STOCK.commands()]);
    let of_engine = (SHOP, vec![STOCK.events(), BANK.events()]);
    for (group, topics) in [of_participant, of_engine] {
        let positions = Positions::of(&group, &topics, &prefix);
        let (mut sound, mut gone) = (Vec::new(), Vec::new());
        let lose = async {
            sound = positions.read();
            assert!(sound.iter().any(|it| it.2 != Offset::Offset(0)), "it has come somewhere");
            gone = positions.lose();
        };
        world = world.restarted_after(lose, &transport, saga()).await;
        let sagas = world.start_all(40).await;
        for (topic, partition, _) in &gone {
            let told = format!("{topic}, partition {partition}: it stands still");
            until(&told, || Errors::stands_still(topic, *partition)).await;
        }
        for saga in &sagas {
            let view = world.engine.inspect(saga.saga()).await.expect("inspected");
            assert_eq!(view.expect("it exists").status(), Status::Running, "{group} goes on");
        }
        let mend = async {
            assert_eq!(positions.read(), gone, "nobody else has set a position");
            positions.set(&sound);
        };
        world = world.restarted_after(mend, &transport, saga()).await;
        world.complete(sagas, "the position is set").await;
    }
    let letters = [world.sagas.dead_letters(), world.effects.dead_letters()].concat();
    assert!(letters.is_empty(), "{letters:#?}");
    world.end().await;
}

/// F18, I4, I5: a person goes on with what is still there, and commands that retention took are sent again.
#[tokio::test]
async fn f18_commands_that_retention_took_are_carried_out_once_after_all() {
    let prefix = broker::prefix("retention");
    let transport = Private::new(broker::transport().await, &prefix);
    let retry = RetryPolicy::attempts(20).backoff(Backoff::fixed(Duration::from_millis(10)));
    let builder = || Saga::<Order>::builder().then(ReserveStock).retry(retry);
    let saga = || builder().deadline(Duration::from_secs(3)).build().expect("sound");
    let mut world = World::new(&transport, saga());
    world.complete(world.start_all(20).await, "all is well").await;
    let positions = Positions::of(&STOCK, &[STOCK.commands()], &prefix);
    let lose = async {
        positions.lose();
    };
    world = world.restarted_after(lose, &transport, saga()).await;
    let sagas = world.start_all(20).await;
    until("commands on the broker", || world.sagas.outbox_len() == 0).await;
    world = world.restarted_after(positions.expire(), &transport, saga()).await;
    for saga in &sagas {
        let end = tokio::time::timeout(PATIENCE, world.engine.outcome(saga.saga())).await;
        assert_eq!(end.expect("it ends").expect("the engine works"), Status::Completed);
        let history = world.engine.history(saga.saga()).await.expect("a history");
        let is_lost = history.iter().any(|it| it.kind == HistoryKind::TimedOut);
        assert!(is_lost, "its first command was lost: {history:#?}");
    }
    assert_eq!(world.effects.read(Vec::len), 40, "each effect once");
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
        let (store, effects) = (world.sagas.clone(), world.effects.clone());
        let guest = World::over(store, effects, Shop::default(), &transport, saga());
        for _ in 0..20 {
            sagas.extend(world.start_all(5).await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        println!("who came made {} calls", guest.shop.calls.load(Ordering::SeqCst));
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
