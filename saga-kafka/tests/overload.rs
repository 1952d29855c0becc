//! A crowd comes to a participant that is slow; alone in its program, so that only this is measured.

#![cfg(target_os = "linux")]

mod broker;
#[path = "../../saga-postgres/tests/support/mod.rs"]
mod database;
mod memory;
mod private;

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::groups::GroupInfo;
use saga_core::{
    Command, Context, Engine, Handle, HandlerResult, IdempotencyKey, Json, Message, MessageType,
    Participant, ParticipantName, Reply, Saga, SagaData, SagaName, StartedSaga, Status, Step,
    StepName,
};
use saga_kafka::{KafkaConfig, KafkaTransport};
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::task::JoinSet;
use tokio::time::timeout;

use memory::{MEGABYTE, memory};
use private::Private;

const SHOP: ParticipantName = ParticipantName::new("shop");
const STOCK: ParticipantName = ParticipantName::new("stock");

/// A participant that takes a second per command carries out 30 in half a minute. So many come at once.
const CROWD: usize = 300 * 30;
const CALLERS: usize = 100;
/// So that what waits is felt if it waits in memory.
const BYTES: usize = 20_000;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Order {
    order: String,
    goods: String,
}

impl SagaData for Order {
    const SAGA: SagaName = SagaName::new("order");
    type Codec = Json;
}

#[derive(Debug, Serialize, Deserialize)]
struct Reserve(Order);

#[derive(Debug, Serialize, Deserialize)]
struct Reserved;

impl Message for Reserve {
    const TYPE: MessageType = MessageType::new("Reserve");
    type Codec = Json;
}

impl Message for Reserved {
    const TYPE: MessageType = MessageType::new("Reserved");
    type Codec = Json;
}

impl Command for Reserve {
    type Reply = Reserved;
    const PARTICIPANT: ParticipantName = STOCK;
}

struct ReserveStock;

impl Step<Order> for ReserveStock {
    const NAME: StepName = StepName::new("reserve");
    type Command = Reserve;

    fn command(&self, order: &Order) -> Reserve {
        Reserve(order.clone())
    }
}

/// Takes a second per command, until it has been told to hurry.
#[derive(Clone)]
struct Stock {
    schema: String,
    hurries: Arc<AtomicBool>,
}

impl Handle<Reserve, PgConnection> for Stock {
    async fn handle(
        &self,
        Reserve(Order { order, .. }): Reserve,
        cx: &mut Context<'_, PgConnection>,
    ) -> HandlerResult<Reserved> {
        if !self.hurries.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let insert = AssertSqlSafe(format!("insert into {}.effect (key) values ($1)", self.schema));
        sqlx::query(insert).bind(order).execute(cx.connection()).await?;
        Ok(Reply::succeeded(Reserved))
    }
}

/// Returns the members of a group, as the broker knows them.
fn members(group: &str) -> Vec<String> {
    let brokers = env::var("KAFKA_BROKERS").expect("it is that of the test");
    let client: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).create().expect("a client");
    let list = client.fetch_group_list(Some(group), Duration::from_secs(10)).expect("an answer");
    list.groups().iter().flat_map(GroupInfo::members).map(|it| it.id().to_owned()).collect()
}

async fn start(engine: &Engine, number: usize) -> StartedSaga {
    let order = format!("o-{number}");
    let key = IdempotencyKey::new(&*order).expect("a short key");
    engine.start(key, Order { order, goods: "g".repeat(BYTES) }).await.expect("accepted")
}

/// I16.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f73_a_crowd_before_a_slow_participant_waits_in_the_broker_and_the_database() {
    broker::transport().await;
    let brokers = env::var("KAFKA_BROKERS").expect("it is that of the test");
    // A member that polled only between its commands would be thrown out.
    let config = KafkaConfig::new(brokers);
    let config =
        config.setting("session.timeout.ms", "6000").setting("max.poll.interval.ms", "6000");
    let transport = KafkaTransport::new(config).expect("valid");
    let prefix = broker::prefix("overload");
    let transport = Private::new(transport, &prefix);
    let (sagas, effects) = (database::fresh().await, database::fresh().await);
    let stock = Stock { schema: effects.schema.clone(), hurries: Arc::default() };
    let participant = Participant::builder(STOCK).handle::<Reserve>(stock.clone()).build();
    let participant = participant.expect("sound").start(effects.store.clone(), transport.clone());
    let hour = Duration::from_hours(1);
    let saga = Saga::<Order>::builder().pivot(ReserveStock).deadline(hour).build().expect("sound");
    let engine = Engine::builder(SHOP, sagas.store.clone()).saga(saga).transport(transport);
    let engine = engine.start().expect("the parts fit");
    let first = start(&engine, 0).await;
    assert_eq!(first.outcome().await.expect("an end"), Status::Completed);

    let group = format!("{prefix}.{STOCK}");
    let (before, resident) = (members(&group), memory("VmRSS"));
    assert_eq!(before.len(), 1, "one participant");
    let callers = (1..=CALLERS).map(|caller| {
        let engine = engine.clone();
        async move {
            let mut started = Vec::new();
            for number in (caller..=CROWD).step_by(CALLERS) {
                started.push(start(&engine, number).await);
            }
            started
        }
    });
    let callers: JoinSet<_> = callers.collect();
    let crowd = timeout(Duration::from_mins(1), callers.join_all()).await.expect("soon accepted");
    let done = effects.count("inbox").await;
    let slowly = async {
        while effects.count("inbox").await < done + 20 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_mins(2), slowly).await.expect("it goes on, one by one");
    let grown = memory("VmHWM").saturating_sub(resident);
    assert_eq!(members(&group), before, "it is still a member");

    stock.hurries.store(true, Ordering::SeqCst);
    for saga in crowd.into_iter().flatten() {
        let end = timeout(Duration::from_mins(2), saga.outcome()).await.expect("it ends");
        assert_eq!(end.expect("an end"), Status::Completed);
    }
    assert_eq!(effects.count("effect").await, i64::try_from(CROWD + 1).expect("some"));
    println!("{CROWD} sagas with {} MB took {} MB", (CROWD * BYTES) >> 20, grown / MEGABYTE);
    assert!(grown <= 220 * MEGABYTE, "a crowd took {} MB", grown / MEGABYTE);
    engine.shutdown().await.expect("an orderly end");
    participant.shutdown().await.expect("an orderly end");
}
