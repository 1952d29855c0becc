//! A small shop: one saga over two participants whose effects are a list that tests can read.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of the shop")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use saga_core::participant::RunningParticipant;
use saga_core::store::SagaStore;
use saga_core::{
    Backoff, Cause, Command, Compensate, Context, Engine, Fact, Handle, HandlerError,
    HandlerResult, IdempotencyKey, Inbox, Json, MemoryConnection, MemoryStore, MemoryTransport,
    Message, MessageType, Participant, ParticipantName, Reply, RetryPolicy, Saga, SagaData, SagaId,
    SagaName, Status, Step, StepName,
};
use serde::{Deserialize, Serialize};

pub const SHOP: ParticipantName = ParticipantName::new("shop");
pub const STOCK: ParticipantName = ParticipantName::new("stock");
pub const BANK: ParticipantName = ParticipantName::new("bank");

/// What the participants did, in order.
pub type Effects = Vec<String>;
pub type Db = MemoryStore<Effects>;
pub type Conn = MemoryConnection<Effects>;

macro_rules! command {
    ($name:ident, $participant:expr) => {
        #[derive(Debug, Clone, Serialize, Deserialize)]
        pub struct $name {
            pub order: String,
            pub trouble: String,
        }

        impl Message for $name {
            const TYPE: MessageType = MessageType::new(stringify!($name));
            type Codec = Json;
        }

        impl Command for $name {
            type Reply = Done;
            const PARTICIPANT: ParticipantName = $participant;
        }

        impl From<&Order> for $name {
            fn from(order: &Order) -> Self {
                Self { order: order.order.clone(), trouble: order.trouble.clone() }
            }
        }
    };
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Done {}

impl Message for Done {
    const TYPE: MessageType = MessageType::new("Done");
    type Codec = Json;
}

command!(Reserve, STOCK);
command!(Release, STOCK);
command!(Authorize, BANK);
command!(Void, BANK);
command!(Capture, BANK);
command!(Ship, STOCK);

/// The saga's data; `trouble` names what the participants do to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    pub order: String,
    pub trouble: String,
}

impl SagaData for Order {
    const SAGA: SagaName = SagaName::new("order");
    type Codec = Json;
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OrderPlaced {
    pub order: String,
    pub trouble: String,
}

impl Message for OrderPlaced {
    const TYPE: MessageType = MessageType::new("OrderPlaced");
    type Codec = Json;
}

impl Fact for OrderPlaced {
    const SOURCE: ParticipantName = ParticipantName::new("web");
}

macro_rules! step {
    ($step:ident, $name:literal, $command:ident) => {
        pub struct $step;

        impl Step<Order> for $step {
            const NAME: StepName = StepName::new($name);
            type Command = $command;

            fn command(&self, order: &Order) -> $command {
                order.into()
            }
        }
    };
    ($step:ident, $name:literal, $command:ident, $compensation:ident) => {
        step!($step, $name, $command);

        impl Compensate<Order> for $step {
            type Compensation = $compensation;

            fn compensation(&self, order: &Order, _cause: &Cause) -> $compensation {
                order.into()
            }
        }
    };
}

step!(ReserveStock, "reserve", Reserve, Release);
step!(AuthorizeCard, "authorize", Authorize, Void);
step!(CaptureMoney, "capture", Capture);
step!(ShipGoods, "ship", Ship);

pub fn saga() -> Saga<Order> {
    let quick = RetryPolicy::attempts(3).backoff(Backoff::fixed(Duration::from_millis(10)));
    Saga::<Order>::builder()
        .step(ReserveStock)
        .retry(quick)
        .step(AuthorizeCard)
        .retry(quick)
        .pivot(CaptureMoney)
        .then(ShipGoods)
        .build()
        .expect("the shop's saga is sound")
}

/// Does what the order's trouble says, else notes the effect.
#[derive(Clone, Default)]
pub struct Shop {
    /// How often a handler ran.
    pub calls: Arc<AtomicU32>,
}

impl Shop {
    fn work(
        &self,
        name: &str,
        order: &str,
        trouble: &str,
        cx: &mut Context<'_, Conn>,
    ) -> HandlerResult<Done> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        cx.connection().push(format!("{name} {order}"));
        match trouble.split_once(':') {
            Some((step, "reject")) if step == name => {
                cx.connection().pop();
                return Ok(Reply::rejected(format!("{name}-refused")));
            }
            // Four calls fail: more than the three quick tries of one attempt.
            Some((step, "flaky")) if step == name && call < 5 => return Err("not now".into()),
            Some((step, "fail")) if step == name => return Err("never".into()),
            Some((step, "terminal")) if step == name => {
                return Err(HandlerError::terminal("broken"));
            }
            Some((step, "panic")) if step == name => panic!("the handler of {name} panics"),
            _ => {}
        }
        Ok(Reply::succeeded(Done {}))
    }
}

macro_rules! handles {
    ($($command:ident => $name:literal),* $(,)?) => {$(
        impl Handle<$command, Conn> for Shop {
            async fn handle(&self, command: $command, cx: &mut Context<'_, Conn>) -> HandlerResult<Done> {
                self.work($name, &command.order, &command.trouble, cx)
            }
        }
    )*};
}

handles!(
    Reserve => "reserve", Release => "release", Authorize => "authorize", Void => "void",
    Capture => "capture", Ship => "ship",
);

pub fn stock(shop: &Shop) -> Participant<Conn> {
    Participant::builder(STOCK)
        .handle::<Reserve>(shop.clone())
        .handle::<Release>(shop.clone())
        .handle::<Ship>(shop.clone())
        .build()
        .expect("stock's handlers are sound")
}

pub fn bank(shop: &Shop) -> Participant<Conn> {
    Participant::builder(BANK)
        .handle::<Authorize>(shop.clone())
        .handle::<Void>(shop.clone())
        .handle::<Capture>(shop.clone())
        .build()
        .expect("the bank's handlers are sound")
}

/// Starts both participants on one database.
pub fn participants(
    shop: &Shop,
    db: &(impl Inbox<Connection = Conn> + Clone),
    transport: &MemoryTransport,
) -> [RunningParticipant; 2] {
    [
        stock(shop).start(db.clone(), transport.clone()),
        bank(shop).start(db.clone(), transport.clone()),
    ]
}

pub fn engine(store: impl SagaStore, transport: &MemoryTransport) -> Engine {
    Engine::builder(SHOP, store)
        .saga(saga())
        .transport(transport.clone())
        .start_on::<OrderPlaced, Order>(|fact| {
            let key = IdempotencyKey::new(&*fact.order).ok()?;
            Some((key, Order { order: fact.order, trouble: fact.trouble }))
        })
        .start()
        .expect("the engine's parts fit")
}

pub fn key(order: &str) -> IdempotencyKey {
    IdempotencyKey::new(order).expect("a short key")
}

pub fn order(order: &str, trouble: &str) -> Order {
    Order { order: order.into(), trouble: trouble.into() }
}

/// Starts an order and waits for its end.
pub async fn place(engine: &Engine, name: &str, trouble: &str) -> Status {
    let started = engine.start(key(name), order(name, trouble)).await.expect("accepted");
    ended(engine, started.saga()).await
}

/// Waits for a saga's end; one that does not end in time is printed with its history.
pub async fn ended(engine: &Engine, saga: SagaId) -> Status {
    let outcome = tokio::time::timeout(Duration::from_secs(20), engine.outcome(saga)).await;
    if let Ok(status) = outcome {
        return status.expect("the engine works");
    }
    let view = engine.inspect(saga).await.expect("inspect").expect("exists");
    let history = engine.history(saga).await.expect("history");
    panic!("saga {saga} does not end: {:?} {:#?} {history:#?}", view.status(), view.steps());
}
