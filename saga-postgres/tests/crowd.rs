//! A crowd comes to a slow participant inside the engine; alone in its program, so that only this is measured.

#![cfg(target_os = "linux")]

#[path = "../../saga-kafka/tests/memory/mod.rs"]
mod memory;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use saga_core::{
    Command, Context, Engine, Handle, HandlerResult, IdempotencyKey, Json, Message, MessageType,
    Participant, ParticipantName, Reply, Saga, SagaData, SagaName, StartedSaga, Status, Step,
    StepName,
};
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::task::JoinSet;
use tokio::time::timeout;

use memory::{MEGABYTE, memory};

const SHOP: ParticipantName = ParticipantName::new("shop");
const STOCK: ParticipantName = ParticipantName::new("stock");

const CROWD: usize = 2_400;
const CALLERS: usize = 100;
/// So that what waits is felt if it waits in memory.
const BYTES: usize = 100_000;
/// What is kept of sagas that run and of commands that wait for their turn, and more for all else; much less than the crowd.
const GROWN_MAX: u64 = 400 * MEGABYTE;

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

/// Takes a tenth of a second per command, until it has been told to hurry.
#[derive(Clone)]
struct Stock {
    schema: String,
    hurries: Arc<AtomicBool>,
}

impl Handle<Reserve, PgConnection> for Stock {
    async fn handle(
        &self,
        Reserve(Order { order, goods }): Reserve,
        cx: &mut Context<'_, PgConnection>,
    ) -> HandlerResult<Reserved> {
        assert_eq!(goods.len(), BYTES, "the command is whole");
        if !self.hurries.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let insert = AssertSqlSafe(format!("insert into {}.effect (key) values ($1)", self.schema));
        sqlx::query(insert).bind(order).execute(cx.connection()).await?;
        Ok(Reply::succeeded(Reserved))
    }
}

async fn start(engine: &Engine, number: usize) -> StartedSaga {
    let order = format!("o-{number}");
    let key = IdempotencyKey::new(&*order).expect("a short key");
    engine.start(key, Order { order, goods: "g".repeat(BYTES) }).await.expect("accepted")
}

/// I16.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f73_a_crowd_before_a_slow_local_participant_waits_in_the_database() {
    let sagas = support::fresh().await;
    let stock = Stock { schema: sagas.schema.clone(), hurries: Arc::default() };
    let participant = Participant::builder(STOCK).handle::<Reserve>(stock.clone()).build();
    let hour = Duration::from_hours(1);
    let saga = Saga::<Order>::builder().pivot(ReserveStock).deadline(hour).build().expect("sound");
    let engine = Engine::builder(SHOP, sagas.store.clone()).saga(saga);
    let engine = engine.local(participant.expect("sound")).start().expect("the parts fit");
    let first = start(&engine, 0).await;
    assert_eq!(first.outcome().await.expect("an end"), Status::Completed);

    let resident = memory("VmRSS");
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
    let accepted = callers.join_all();
    tokio::pin!(accepted);
    let crowd = timeout(Duration::from_mins(5), &mut accepted).await.expect("accepted");
    let grown = memory("VmHWM").saturating_sub(resident);
    let waiting = CROWD + 1 - usize::try_from(sagas.count("effect").await).expect("some");
    println!(
        "{waiting} sagas wait, with {} MB; they took {} MB",
        (waiting * BYTES) >> 20,
        grown / MEGABYTE
    );
    assert!(waiting > CROWD / 2, "most of them wait: {waiting}");
    assert!(grown <= GROWN_MAX, "a crowd took {} MB", grown / MEGABYTE);

    stock.hurries.store(true, Ordering::SeqCst);
    for saga in crowd.into_iter().flatten() {
        let end = timeout(Duration::from_mins(2), saga.outcome()).await.expect("it ends");
        assert_eq!(end.expect("an end"), Status::Completed);
    }
    assert_eq!(sagas.count("effect").await, i64::try_from(CROWD + 1).expect("some"));
    engine.shutdown().await.expect("an orderly end");
}
