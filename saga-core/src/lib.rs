//! Durable sagas: steps, compensations, outbox, inbox and idempotency.

pub mod codec;
pub mod definition;
pub mod engine;
pub mod error;
pub mod ids;
pub mod machine;
pub mod message;
pub mod names;
mod outlet;
pub mod participant;
pub mod policy;
pub mod relay;
pub mod store;
pub mod time;
pub mod transport;
mod wire;

pub use codec::{Codec, CodecError, Json, Payload, Protobuf};
pub use definition::{Cause, Compensate, DefinitionError, Saga, SagaBuilder, SagaData, Step};
pub use engine::{Engine, EngineBuilder, SagaView, StartedSaga};
pub use error::{BoxError, Error};
pub use ids::{CorrelationId, IdempotencyKey, InvalidKey, MessageId, OutboxId, SagaId};
pub use machine::Status;
pub use message::{Command, Envelope, Fact, Message, Rejection, Reply};
pub use names::{InvalidName, MessageType, ParticipantName, SagaName, StepName, Topic};
pub use participant::{
    Context, Handle, HandleAll, HandleExternal, HandlerError, HandlerResult, Inbox, Participant,
    ParticipantBuilder, RunningParticipant, Terminal,
};
pub use policy::retry::{Backoff, RetryPolicy};
pub use relay::{Relay, RelayWaker};
pub use store::{MemoryConnection, MemoryStore, Outbox, SagaStore, StoreError};
pub use time::{Clock, SystemClock, Timestamp};
pub use transport::{MemoryTransport, Publisher, Subscriber, Transport, TransportError};
