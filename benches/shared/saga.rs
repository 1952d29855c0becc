//! The saga that the benches measure: reserve, authorize, confirm; and who carries its commands out.

use saga_core::{
    Cause, Command, Compensate, Context, DefinitionError, Engine, Error, Handle, HandlerResult,
    Json, Message, MessageType, Participant, ParticipantName, Reply, Saga, SagaData, SagaName,
    SagaStore, Step, StepName,
};
use serde::{Deserialize, Serialize};

/// Who carries the commands out.
pub const SHOP: ParticipantName = ParticipantName::new("shop");

/// The saga's data: about 256 bytes as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// The order's number.
    pub order: u64,
    /// What an order carries along.
    pub note: String,
}

impl Order {
    /// Makes an order of the usual size.
    #[must_use]
    pub fn new(order: u64) -> Self {
        Self { order, note: "x".repeat(220) }
    }
}

impl SagaData for Order {
    const SAGA: SagaName = SagaName::new("order");
    type Codec = Json;
}

/// Asks for one step of the order.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct Do {
    /// The order's number.
    #[prost(uint64, tag = "1")]
    pub order: u64,
}

impl Message for Do {
    const TYPE: MessageType = MessageType::new("Do");
    type Codec = Json;
}

impl Command for Do {
    type Reply = Done;
    const PARTICIPANT: ParticipantName = SHOP;
}

/// A step was carried out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Done {}

impl Message for Done {
    const TYPE: MessageType = MessageType::new("Done");
    type Codec = Json;
}

macro_rules! step {
    ($(#[$doc:meta])* $step:ident, $name:literal) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $step;

        impl Step<Order> for $step {
            const NAME: StepName = StepName::new($name);
            type Command = Do;

            fn command(&self, order: &Order) -> Do {
                Do { order: order.order }
            }
        }

        impl Compensate<Order> for $step {
            type Compensation = Do;

            fn compensation(&self, order: &Order, _cause: &Cause) -> Do {
                Do { order: order.order }
            }
        }
    };
}

step!(
    /// Reserves inventory.
    Reserve,
    "reserve"
);
step!(
    /// Authorizes the payment.
    Authorize,
    "authorize"
);
step!(
    /// Confirms the order.
    Confirm,
    "confirm"
);

/// Builds the definition.
///
/// # Errors
///
/// [`DefinitionError`] if it were not sound.
pub fn saga() -> Result<Saga<Order>, DefinitionError> {
    Saga::<Order>::builder().step(Reserve).step(Authorize).step(Confirm).build()
}

/// Succeeds without an effect, so that the engine's own cost is what is seen.
#[derive(Debug)]
pub struct Shop;

impl<Conn: Send> Handle<Do, Conn> for Shop {
    async fn handle(&self, _: Do, _: &mut Context<'_, Conn>) -> HandlerResult<Done> {
        Ok(Reply::succeeded(Done {}))
    }
}

/// Starts an engine that carries the commands out itself, on a store.
///
/// # Errors
///
/// [`Error`] if its parts did not fit.
pub fn engine<S: SagaStore>(store: S) -> Result<Engine, Error>
where
    S::Connection: 'static,
{
    let shop = Participant::builder(SHOP).handle::<Do>(Shop).build()?;
    Engine::builder(ParticipantName::new("bench"), store).saga(saga()?).local(shop).start()
}
