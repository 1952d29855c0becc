//! Durable sagas: business operations across services that complete or are undone, whatever crashes in between.
//!
//! ```
//! # use saga_core::*;
//! # use serde::{Deserialize, Serialize};
//! # const SHOP: ParticipantName = ParticipantName::new("shop");
//! # #[derive(Serialize, Deserialize)] struct Done;
//! # impl Message for Done { const TYPE: MessageType = MessageType::new("Done"); type Codec = Json; }
//! # macro_rules! command { ($name:ident { $($field:ident: $type:ty),* }) => {
//! #     #[derive(Serialize, Deserialize)] struct $name { $($field: $type),* }
//! #     impl Message for $name { const TYPE: MessageType = MessageType::new(stringify!($name)); type Codec = Json; }
//! #     impl Command for $name { type Reply = Done; const PARTICIPANT: ParticipantName = SHOP; }
//! # }}
//! # command!(Reserve { order: String });
//! # command!(Release { order: String });
//! # command!(Charge { cents: i64 });
//! # command!(Ship { order: String });
//! # #[derive(Serialize, Deserialize)] struct PlaceOrder { order: String, cents: i64 }
//! # impl SagaData for PlaceOrder { const SAGA: SagaName = SagaName::new("place-order"); type Codec = Json; }
//! # struct ChargeCard;
//! # impl Step<PlaceOrder> for ChargeCard {
//! #     const NAME: StepName = StepName::new("charge-card"); type Command = Charge;
//! #     fn command(&self, data: &PlaceOrder) -> Charge { Charge { cents: data.cents } }
//! # }
//! # struct ShipOrder;
//! # impl Step<PlaceOrder> for ShipOrder {
//! #     const NAME: StepName = StepName::new("ship-order"); type Command = Ship;
//! #     fn command(&self, data: &PlaceOrder) -> Ship { Ship { order: data.order.clone() } }
//! # }
//! # struct Shop;
//! # macro_rules! handler { ($name:ident, |$command:ident| $reply:expr) => {
//! #     impl Handle<$name, MemoryConnection<()>> for Shop {
//! #         async fn handle(&self, $command: $name, _: &mut Context<'_, MemoryConnection<()>>) -> HandlerResult<Done> { $reply }
//! #     }
//! # }}
//! # handler!(Reserve, |_command| Ok(Reply::succeeded(Done)));
//! # handler!(Release, |_command| Ok(Reply::succeeded(Done)));
//! # handler!(Charge, |command| Ok(if command.cents > 50_000 { Reply::rejected("card-declined") } else { Reply::succeeded(Done) }));
//! # handler!(Ship, |_command| Ok(Reply::succeeded(Done)));
//! struct ReserveStock;
//!
//! impl Step<PlaceOrder> for ReserveStock {
//!     const NAME: StepName = StepName::new("reserve-stock");
//!     type Command = Reserve;
//!     fn command(&self, data: &PlaceOrder) -> Reserve {
//!         Reserve { order: data.order.clone() } // a value; the engine stores and sends it
//!     }
//! }
//!
//! impl Compensate<PlaceOrder> for ReserveStock {
//!     type Compensation = Release;
//!     fn compensation(&self, data: &PlaceOrder, _cause: &Cause) -> Release {
//!         Release { order: data.order.clone() }
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let shop = Participant::builder(SHOP).handle::<Reserve>(Shop).handle::<Release>(Shop).handle::<Charge>(Shop).handle::<Ship>(Shop).build()?;
//! let saga = Saga::<PlaceOrder>::builder()
//!     .step(ReserveStock) // undone if a later step fails, so it must be `Compensate`
//!     .pivot(ChargeCard) // the point of no return, one per saga: from here on it only goes forward
//!     .then(ShipOrder) // retried until it succeeds
//!     .build()?;
//! let engine = Engine::builder(SHOP, MemoryStore::new()).saga(saga).local(shop).start()?;
//!
//! let data = PlaceOrder { order: "o-1".into(), cents: 99_900 };
//! let order = engine.start(IdempotencyKey::new("o-1")?, data).await?; // durable when this returns
//! assert_eq!(order.outcome().await?, Status::Compensated); // the card was declined, the stock is back
//! # Ok(()) }
//! ```
//!
//! The [guide] builds such a program line by line ([`_02_first_saga`](guide::_02_first_saga)) and says
//! why each part is there. Here the participant is [local](EngineBuilder::local) and everything is in
//! memory; with a store of `saga-postgres` and a transport of `saga-kafka` the same definition runs
//! across services, without another line changed in it.
//!
//! # Map
//!
//! | to | there is |
//! |---|---|
//! | say what a saga is | [`Saga`], [`Step`], [`Compensate`], [`SagaData`] |
//! | say what services tell each other | [`Message`], [`Command`], [`Fact`], [`Reply`] |
//! | run sagas, look at them, list them, act on them | [`Engine`] |
//! | carry out commands | [`Participant`], [`Handle`], [`HandleAll`], [`HandleExternal`] |
//! | handle facts of other services, exactly once | [`HandleFact`], [`HandleAllFacts`] |
//! | publish what a transaction of your own made true | [`OutboxRow::fact`](store::OutboxRow::fact), [`Relay`] |
//! | deal with what was set aside | [`LetterTask`], [`DeadLetters`](store::DeadLetters) |
//! | drop what is over | [`Retention`], [`RetentionPolicy`] |
//! | choose when to ask again | [`RetryPolicy`], [`Backoff`] |
//! | run without anything installed | [`MemoryStore`], [`MemoryTransport`] |
//! | write a store or a transport of your own | [`store`], [`participant::Inbox`], [`transport`] |
//! | see metrics and traces | [`telemetry`] |
//! | see how it decides | [`machine`] |
//!
//! Two modules carry the idea: [`machine`] *decides*, as a pure function without I/O, clock or
//! randomness; [`engine`] *acts*: it gathers what has happened, decides, commits everything at once,
//! and only then publishes and acknowledges.
//!
//! # Features
//!
//! None that you need. Drivers are crates of their own, so that this one names no database, no broker and no network.

pub mod codec;
pub mod definition;
pub mod engine;
pub mod error;
pub mod guide;
mod held;
pub mod ids;
mod letter_task;
pub mod machine;
pub mod message;
pub mod names;
mod outage;
mod outlet;
mod pace;
pub mod participant;
#[cfg(feature = "planted-defects")]
#[doc(hidden)]
pub mod planted;
pub mod policy;
pub mod relay;
pub mod retention;
mod stopping;
pub mod store;
pub mod telemetry;
pub mod time;
pub mod transport;
mod wire;

pub use codec::{Codec, CodecError, Json, Payload, Protobuf};
pub use definition::{Cause, Compensate, DefinitionError, Saga, SagaBuilder, SagaData, Step};
pub use engine::{Engine, EngineBuilder, SagaView, StartedSaga};
pub use error::{BoxError, Error};
pub use ids::{CorrelationId, IdempotencyKey, InvalidKey, MessageId, OutboxId, SagaId};
pub use letter_task::{LetterReport, LetterTask};
pub use machine::Status;
pub use message::{Command, Envelope, Fact, Message, Rejection, Reply};
pub use names::{InvalidName, MessageType, ParticipantName, SagaName, StepName, Topic};
pub use participant::{
    Context, FactContext, Handle, HandleAll, HandleAllFacts, HandleExternal, HandleFact,
    HandlerError, HandlerResult, Inbox, Participant, ParticipantBuilder, RunningParticipant,
    Terminal,
};
pub use policy::retention::RetentionPolicy;
pub use policy::retry::{Backoff, RetryPolicy};
pub use relay::{Relay, RelayWaker};
pub use retention::Retention;
pub use store::{MemoryConnection, MemoryStore, Outbox, SagaStore, StoreError};
pub use time::{Clock, SystemClock, Timestamp};
pub use transport::{MemoryTransport, Publisher, Subscriber, Transport, TransportError};
