//! A shop whose participants keep accounts, so that a test can ask whether they balance.

use saga_core::{
    Cause, Command, Compensate, Context, Handle, HandlerResult, Json, MemoryConnection,
    MemoryStore, Message, MessageType, Participant, ParticipantName, Reply, Saga, SagaData,
    SagaName, Status, Step, StepName,
};
use saga_testkit::{SimulatedClock, Subject};
use serde::{Deserialize, Serialize};

/// What the participants keep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    pub reserved: i32,
    pub held: i32,
    pub captured: i32,
    pub shipped: i32,
    /// How often somebody who listens has heard that something was done.
    pub told: i32,
}

type Conn = MemoryConnection<Accounts>;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    pub amount: i32,
}

impl SagaData for Order {
    const SAGA: SagaName = SagaName::new("order");
    type Codec = Json;
}

#[derive(Serialize, Deserialize)]
pub struct Done {}

impl Message for Done {
    const TYPE: MessageType = MessageType::new("Done");
    type Codec = Json;
}

macro_rules! command {
    ($name:ident, $participant:literal, |$accounts:ident, $amount:ident| $work:expr) => {
        #[derive(Serialize, Deserialize)]
        pub struct $name {
            amount: i32,
        }

        impl Message for $name {
            const TYPE: MessageType = MessageType::new(stringify!($name));
            type Codec = Json;
        }

        impl Command for $name {
            type Reply = Done;
            const PARTICIPANT: ParticipantName = ParticipantName::new($participant);
        }

        impl Handle<$name, Conn> for Shop {
            async fn handle(
                &self,
                command: $name,
                cx: &mut Context<'_, Conn>,
            ) -> HandlerResult<Done> {
                let ($accounts, $amount) = (cx.connection(), command.amount);
                $work;
                Ok(Reply::succeeded(Done {}))
            }
        }
    };
}

command!(Reserve, "stock", |accounts, amount| accounts.reserved += amount);
command!(Release, "stock", |accounts, amount| accounts.reserved -= amount);
command!(Authorize, "bank", |accounts, amount| accounts.held += amount);
command!(Void, "bank", |accounts, amount| accounts.held -= amount);
command!(Capture, "bank", |accounts, amount| accounts.captured += amount);
command!(Ship, "stock", |accounts, amount| accounts.shipped += amount);

macro_rules! step {
    ($step:ident, $name:literal, $command:ident $(, $compensation:ident)?) => {
        struct $step;

        impl Step<Order> for $step {
            const NAME: StepName = StepName::new($name);
            type Command = $command;

            fn command(&self, order: &Order) -> $command {
                $command { amount: order.amount }
            }
        }

        $(impl Compensate<Order> for $step {
            type Compensation = $compensation;

            fn compensation(&self, order: &Order, _: &Cause) -> $compensation {
                $compensation { amount: order.amount }
            }
        })?
    };
}

step!(ReserveStock, "reserve", Reserve, Release);
step!(AuthorizeCard, "authorize", Authorize, Void);
step!(CaptureMoney, "capture", Capture);
step!(ShipGoods, "ship", Ship);

/// Two steps that can be undone, a pivot, and a step that must succeed.
#[derive(Clone)]
pub struct Shop;

impl Subject for Shop {
    type Data = Order;
    type Store = MemoryStore<Accounts>;

    fn saga(&self) -> Saga<Order> {
        let builder = Saga::<Order>::builder().step(ReserveStock).step(AuthorizeCard);
        builder.pivot(CaptureMoney).then(ShipGoods).build().expect("the saga is sound")
    }

    fn data(&self) -> Order {
        Order { amount: 7 }
    }

    fn store(&self, clock: &SimulatedClock) -> MemoryStore<Accounts> {
        MemoryStore::with_state(Accounts::default()).clock(clock.clone())
    }

    fn participants(&self) -> Vec<Participant<Conn>> {
        let stock = Participant::builder(Reserve::PARTICIPANT)
            .handle::<Reserve>(Self)
            .handle::<Release>(Self)
            .handle::<Ship>(Self);
        let bank = Participant::builder(Authorize::PARTICIPANT)
            .handle::<Authorize>(Self)
            .handle::<Void>(Self)
            .handle::<Capture>(Self);
        [stock, bank].map(|it| it.build().expect("the handlers are sound")).into()
    }

    fn check(&self, store: &MemoryStore<Accounts>, status: Status) -> Result<(), String> {
        let have = store.read(Clone::clone);
        let (done, told) = (7, have.told);
        let want = match status {
            Status::Completed => {
                Accounts { reserved: done, held: done, captured: done, shipped: done, told }
            }
            _ => Accounts { told, ..Accounts::default() },
        };
        if have == want { Ok(()) } else { Err(format!("the accounts are {have:?}, not {want:?}")) }
    }
}
