//! A shop on PostgreSQL: a saga of two steps, and a participant whose effects are rows.

#![allow(dead_code, reason = "each test program uses its part")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use saga_core::{
    Cause, Command, Compensate, Context, Handle, HandlerResult, Json, Message, MessageType,
    Participant, ParticipantName, Reply, Saga, SagaData, SagaName, Step, StepName,
};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

pub(crate) const SHOP: ParticipantName = ParticipantName::new("shop");
pub(crate) const STOCK: ParticipantName = ParticipantName::new("stock");

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) order: String,
}

impl SagaData for Order {
    const SAGA: SagaName = SagaName::new("order");
    type Codec = Json;
}

macro_rules! messages {
    ($($name:ident),*) => {$(
        #[derive(Debug, Serialize, Deserialize)]
        pub(crate) struct $name {
            pub(crate) order: String,
        }

        impl Message for $name {
            const TYPE: MessageType = MessageType::new(stringify!($name));
            type Codec = Json;
        }
    )*};
}

messages!(Done);

/// Writes an effect and then goes on for a while, in which the connection may be lost.
#[derive(Clone, Default)]
pub(crate) struct Stock {
    pub(crate) calls: Arc<AtomicU32>,
    /// What else it does for each command.
    pub(crate) also: &'static [&'static str],
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
                command: $command,
                cx: &mut Context<'_, PgConnection>,
            ) -> HandlerResult<Done> {
                self.calls.fetch_add(1, Ordering::SeqCst);
                let effect = format!("{} {}", command.order, stringify!($command));
                let insert = sqlx::query("insert into effect (key) values ($1)").bind(effect);
                insert.execute(&mut *cx.connection()).await?;
                sqlx::query("select pg_sleep(0.002)").execute(&mut *cx.connection()).await?;
                for &statement in self.also {
                    sqlx::query(statement).execute(&mut *cx.connection()).await?;
                }
                Ok(Reply::succeeded(Done { order: command.order }))
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
        Reserve { order: order.order.clone() }
    }
}

impl Compensate<Order> for ReserveStock {
    type Compensation = Release;

    fn compensation(&self, order: &Order, _: &Cause) -> Release {
        Release { order: order.order.clone() }
    }
}

impl Step<Order> for ShipGoods {
    const NAME: StepName = StepName::new("ship");
    type Command = Ship;

    fn command(&self, order: &Order) -> Ship {
        Ship { order: order.order.clone() }
    }
}

/// Reserves the stock and ships it.
pub(crate) fn saga() -> Saga<Order> {
    Saga::<Order>::builder().step(ReserveStock).pivot(ShipGoods).build().expect("the saga is sound")
}

pub(crate) fn stock(stock: &Stock) -> Participant<PgConnection> {
    Participant::builder(STOCK)
        .handle::<Reserve>(stock.clone())
        .handle::<Release>(stock.clone())
        .handle::<Ship>(stock.clone())
        .handler_timeout(Duration::from_secs(1))
        .build()
        .expect("the handlers are sound")
}

/// Calls again for as long as the database is away, as whoever starts a saga would: with the same key.
pub(crate) async fn insist<T, E: std::fmt::Debug, F>(mut call: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, E>>,
{
    let calls = async {
        loop {
            match call().await {
                Ok(answer) => return answer,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_mins(3), calls).await.expect("it is done in time")
}
