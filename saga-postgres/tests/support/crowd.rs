//! Orders of some size, in a crowd, before a participant that is slow until it has been told to hurry.

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

pub(crate) const SHOP: ParticipantName = ParticipantName::new("shop");
pub(crate) const STOCK: ParticipantName = ParticipantName::new("stock");

/// So many start orders at the same time.
const CALLERS: usize = 100;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
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

/// A saga of one step, which may wait for an hour.
pub(crate) fn saga() -> Saga<Order> {
    let hour = Duration::from_hours(1);
    Saga::<Order>::builder().pivot(ReserveStock).deadline(hour).build().expect("sound")
}

/// Takes some time per command, until it has been told to hurry.
#[derive(Clone)]
pub(crate) struct Stock {
    pub(crate) schema: String,
    /// So that what waits is felt if it waits in memory.
    pub(crate) bytes: usize,
    pub(crate) pause: Duration,
    pub(crate) hurries: Arc<AtomicBool>,
}

impl Handle<Reserve, PgConnection> for Stock {
    async fn handle(
        &self,
        Reserve(Order { order, goods }): Reserve,
        cx: &mut Context<'_, PgConnection>,
    ) -> HandlerResult<Reserved> {
        assert_eq!(goods.len(), self.bytes, "the command is whole");
        if !self.hurries.load(Ordering::SeqCst) {
            tokio::time::sleep(self.pause).await;
        }
        let insert = AssertSqlSafe(format!("insert into {}.effect (key) values ($1)", self.schema));
        sqlx::query(insert).bind(order).execute(cx.connection()).await?;
        Ok(Reply::succeeded(Reserved))
    }
}

impl Stock {
    pub(crate) fn participant(&self) -> Participant<PgConnection> {
        let stock = Participant::builder(STOCK).handle::<Reserve>(self.clone());
        stock.build().expect("sound")
    }

    pub(crate) async fn start(&self, engine: &Engine, number: usize) -> StartedSaga {
        let order = format!("o-{number}");
        let key = IdempotencyKey::new(&*order).expect("a short key");
        let goods = "g".repeat(self.bytes);
        engine.start(key, Order { order, goods }).await.expect("accepted")
    }

    /// Starts orders from 1 on; all are accepted within some time.
    pub(crate) async fn crowd(
        &self,
        engine: &Engine,
        orders: usize,
        within: Duration,
    ) -> Vec<StartedSaga> {
        let callers = (1..=CALLERS).map(|caller| {
            let (engine, stock) = (engine.clone(), self.clone());
            async move {
                let mut started = Vec::new();
                for number in (caller..=orders).step_by(CALLERS) {
                    started.push(stock.start(&engine, number).await);
                }
                started
            }
        });
        let callers: JoinSet<_> = callers.collect();
        let accepted = timeout(within, callers.join_all()).await.expect("accepted in time");
        accepted.into_iter().flatten().collect()
    }

    /// Lets the participant hurry, and waits until all orders have gone through.
    pub(crate) async fn hurry(&self, crowd: Vec<StartedSaga>) {
        self.hurries.store(true, Ordering::SeqCst);
        for saga in crowd {
            let end = timeout(Duration::from_mins(2), saga.outcome()).await.expect("it ends");
            assert_eq!(end.expect("an end"), Status::Completed);
        }
    }
}
