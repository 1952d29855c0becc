//! A shop whose participant notes each call past its transaction, so that those which come to nothing are seen too.

use std::process;
use std::time::Duration;

use saga_core::{
    Backoff, Cause, Command, Compensate, Context, Fact, Handle, HandlerResult, Json, Message,
    MessageType, Participant, ParticipantName, Reply, RetryPolicy, Saga, SagaData, SagaName, Step,
    StepName,
};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool};

pub(crate) const SHOP: ParticipantName = ParticipantName::new("shop");
pub(crate) const STOCK: ParticipantName = ParticipantName::new("stock");

/// How often stock is asked to reserve before the saga turns back.
pub(crate) const ATTEMPTS: u32 = 5;

/// Both its handlers take a while.
pub(crate) const SLOW: &str = "slow";

/// The process that is to reserve goods for it dies.
pub(crate) const KILLS: &str = "kills";

/// What a slow handler takes.
const A_WHILE: Duration = Duration::from_millis(10);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) order: String,
    /// The command that fails, [`SLOW`] or [`KILLS`].
    pub(crate) trouble: String,
}

impl SagaData for Order {
    const SAGA: SagaName = SagaName::new("order");
    type Codec = Json;
}

macro_rules! messages {
    ($($name:ident),*) => {$(
        #[derive(Debug, Serialize, Deserialize)]
        pub(crate) struct $name(pub(crate) Order);

        impl Message for $name {
            const TYPE: MessageType = MessageType::new(stringify!($name));
            type Codec = Json;
        }
    )*};
}

messages!(OrderPlaced, Done);

impl Fact for OrderPlaced {
    const SOURCE: ParticipantName = ParticipantName::new("web");
}

#[derive(Clone)]
pub(crate) struct Stock {
    /// Not the connections that effects are written through.
    pub(crate) journal: PgPool,
}

impl Stock {
    async fn carry_out(
        &self,
        command: &'static str,
        order: Order,
        cx: &mut Context<'_, PgConnection>,
    ) -> HandlerResult<Done> {
        let key = format!("{} {command}", order.order);
        let note = "insert into call (key, attempt, process) values ($1, $2, $3)";
        let (attempt, process) = (i64::from(cx.attempt()), i64::from(process::id()));
        let note = sqlx::query(note).bind(&key).bind(attempt).bind(process);
        note.execute(&self.journal).await?;
        if order.trouble == KILLS {
            process::abort();
        }
        if order.trouble == command {
            let mended = "select exists (select from mended where \"order\" = $1)";
            let mended = sqlx::query_scalar(mended).bind(&order.order);
            if !mended.fetch_one(cx.connection()).await? {
                return Err("busy".into());
            }
        }
        let effect = sqlx::query("insert into effect (key) values ($1)").bind(&key);
        effect.execute(cx.connection()).await?;
        if order.trouble == SLOW {
            tokio::time::sleep(A_WHILE).await;
        }
        Ok(Reply::succeeded(Done(order)))
    }
}

macro_rules! commands {
    ($($command:ident),*) => {$(
        messages!($command);

        impl Command for $command {
            type Reply = Done;
            const PARTICIPANT: ParticipantName = STOCK;
        }

        impl Handle<$command, PgConnection> for Stock {
            async fn handle(
                &self,
                $command(order): $command,
                cx: &mut Context<'_, PgConnection>,
            ) -> HandlerResult<Done> {
                self.carry_out(stringify!($command), order, cx).await
            }
        }
    )*};
}

commands!(Reserve, Release, Ship);

struct ReserveStock;
struct ShipGoods;

impl Step<Order> for ReserveStock {
    const NAME: StepName = StepName::new("reserve");
    type Command = Reserve;

    fn command(&self, order: &Order) -> Reserve {
        Reserve(order.clone())
    }
}

impl Compensate<Order> for ReserveStock {
    type Compensation = Release;

    fn compensation(&self, order: &Order, _: &Cause) -> Release {
        Release(order.clone())
    }
}

impl Step<Order> for ShipGoods {
    const NAME: StepName = StepName::new("ship");
    type Command = Ship;

    fn command(&self, order: &Order) -> Ship {
        Ship(order.clone())
    }
}

/// Reserving is given up after some attempts, shipping never.
pub(crate) fn saga() -> Saga<Order> {
    let second = Backoff::fixed(Duration::from_secs(1));
    let soon = Backoff::fixed(Duration::from_millis(100));
    let builder = Saga::<Order>::builder().step(ReserveStock);
    let builder = builder.retry(RetryPolicy::attempts(ATTEMPTS).backoff(second));
    let builder = builder.pivot(ShipGoods).retry(RetryPolicy::attempts(u32::MAX).backoff(soon));
    builder.build().expect("the saga is sound")
}

pub(crate) fn stock(stock: &Stock) -> Participant<PgConnection> {
    Participant::builder(STOCK)
        .handle::<Reserve>(stock.clone())
        .handle::<Release>(stock.clone())
        .handle::<Ship>(stock.clone())
        .build()
        .expect("the handlers are sound")
}
