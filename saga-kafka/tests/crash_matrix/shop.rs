//! A saga of three steps, whose effects are rows of a table.

use saga_core::{
    Backoff, Cause, Command, Compensate, Context, Envelope, Fact, Handle, HandlerError,
    HandlerResult, Json, Message, MessageType, Participant, ParticipantName, Reply, RetryPolicy,
    Saga, SagaData, SagaName, Step, StepName,
};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use std::time::Duration;

use super::mine::Mine;
use super::points::{Call, Scenario};

pub(crate) const SHOP: ParticipantName = ParticipantName::new("shop");
pub(crate) const STOCK: ParticipantName = ParticipantName::new("stock");
pub(crate) const UNDONE: MessageType = MessageType::new("Undone");
pub(crate) const FIRST: StepName = StepName::new("reserve");

/// The saga's data; the trouble is what befalls it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) order: String,
    pub(crate) trouble: String,
}

impl SagaData for Order {
    const SAGA: SagaName = SagaName::new("order");
    type Codec = Json;
}

macro_rules! messages {
    ($($name:ident $kind:literal),* $(,)?) => {$(
        #[derive(Debug, Clone, Serialize, Deserialize)]
        pub(crate) struct $name {
            pub(crate) order: String,
            pub(crate) trouble: String,
        }

        impl Message for $name {
            const TYPE: MessageType = MessageType::new($kind);
            type Codec = Json;
        }
    )*};
}

messages!(OrderPlaced "OrderPlaced", OrderNoted "OrderNoted", Done "Done", Undone "Undone");

impl Fact for OrderPlaced {
    const SOURCE: ParticipantName = ParticipantName::new("web");
}

/// Nobody does anything about it.
impl Fact for OrderNoted {
    const SOURCE: ParticipantName = OrderPlaced::SOURCE;
}

/// Returns the order that a message is about, if it says so.
pub(crate) fn order_of(envelope: &Envelope) -> Option<String> {
    let message: Order = serde_json::from_slice(envelope.payload.as_bytes()).ok()?;
    Some(message.order)
}

/// Writes effects, between two mines.
#[derive(Clone)]
pub(crate) struct Stock(pub(crate) Mine);

impl Stock {
    async fn write(
        &self,
        effect: &str,
        order: &str,
        connection: &mut PgConnection,
    ) -> Result<(), HandlerError> {
        self.0.in_handler(Call::Handle).await?;
        sqlx::query("insert into effect (key) values ($1)")
            .bind(format!("{order} {effect}"))
            .execute(connection)
            .await?;
        self.0.in_handler(Call::Handled).await
    }
}

macro_rules! commands {
    ($($command:ident $effect:literal $reply:ident,)*) => {$(
        messages!($command $effect);

        impl Command for $command {
            type Reply = $reply;
            const PARTICIPANT: ParticipantName = STOCK;
        }

        impl Handle<$command, PgConnection> for Stock {
            async fn handle(
                &self,
                command: $command,
                cx: &mut Context<'_, PgConnection>,
            ) -> HandlerResult<$reply> {
                let $command { order, trouble } = command;
                match (trouble.as_str(), $effect) {
                    ("refused", "ship") => return Ok(Reply::rejected("no-way-to-ship")),
                    ("parked", "pack") => return Err(HandlerError::terminal("no box fits")),
                    ("retried", "pack") if cx.attempt() == 1 => return Err("busy".into()),
                    _ => {}
                }
                self.write($effect, &order, cx.connection()).await?;
                Ok(Reply::succeeded($reply { order, trouble }))
            }
        }
    )*};
}

commands! {
    Reserve "reserve" Done,
    Release "release" Undone,
    Pack "pack" Done,
    Unpack "unpack" Undone,
    Ship "ship" Done,
}

macro_rules! steps {
    ($($step:ident $command:ident $name:literal $($compensation:ident)?,)*) => {$(
        struct $step;

        impl Step<Order> for $step {
            const NAME: StepName = StepName::new($name);
            type Command = $command;

            fn command(&self, order: &Order) -> $command {
                let Order { order, trouble } = order.clone();
                $command { order, trouble }
            }
        }

        $(impl Compensate<Order> for $step {
            type Compensation = $compensation;

            fn compensation(&self, order: &Order, _: &Cause) -> $compensation {
                let Order { order, trouble } = order.clone();
                $compensation { order, trouble }
            }
        })?
    )*};
}

steps! {
    ReserveStock Reserve "reserve" Release,
    PackGoods Pack "pack" Unpack,
    ShipGoods Ship "ship",
}

/// What befalls the order of a scenario.
pub(crate) const fn trouble(scenario: Scenario) -> &'static str {
    match scenario {
        Scenario::Refused | Scenario::LocalRefused => "refused",
        Scenario::Retried | Scenario::Local => "retried",
        Scenario::Parked => "parked",
        _ => "",
    }
}

/// The saga of a scenario: they differ in how long they wait for the first step.
pub(crate) fn saga(scenario: Scenario) -> Saga<Order> {
    let soon = Backoff::fixed(Duration::from_millis(200));
    let (attempts, deadline) = match scenario {
        Scenario::Overtaken | Scenario::LateReply => (2, Duration::from_millis(500)),
        Scenario::AskedAgain => (200, Duration::from_millis(500)),
        _ => (5, Duration::from_secs(30)),
    };
    let builder = Saga::<Order>::builder().step(ReserveStock).deadline(deadline);
    let builder = builder.retry(RetryPolicy::attempts(attempts).backoff(soon));
    let builder = builder.step(PackGoods).retry(RetryPolicy::attempts(5).backoff(soon));
    builder.pivot(ShipGoods).build().expect("the saga is sound")
}

pub(crate) fn stock(mine: &Mine) -> Participant<PgConnection> {
    let stock = Stock(mine.clone());
    Participant::builder(STOCK)
        .handle::<Reserve>(stock.clone())
        .handle::<Release>(stock.clone())
        .handle::<Pack>(stock.clone())
        .handle::<Unpack>(stock.clone())
        .handle::<Ship>(stock)
        .build()
        .expect("the handlers are sound")
}
