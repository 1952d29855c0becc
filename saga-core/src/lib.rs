//! Durable sagas: steps, compensations, outbox, inbox and idempotency.

pub mod codec;
pub mod definition;
pub mod error;
pub mod ids;
pub mod machine;
pub mod message;
pub mod names;
pub mod participant;
pub mod policy;
pub mod store;
pub mod time;
pub mod transport;
mod wire;

pub use codec::{Codec, CodecError, Json, Payload, Protobuf};
pub use definition::{Cause, Compensate, DefinitionError, Saga, SagaBuilder, SagaData, Step};
pub use error::{BoxError, Error};
pub use ids::{CorrelationId, IdempotencyKey, InvalidKey, MessageId, OutboxId, SagaId};
pub use message::{Command, Envelope, Fact, Message, Rejection, Reply};
pub use names::{InvalidName, MessageType, ParticipantName, SagaName, StepName, Topic};
pub use participant::Inbox;
pub use policy::retry::{Backoff, RetryPolicy};
pub use store::{MemoryStore, Outbox, SagaStore, StoreError};
pub use time::{Clock, SystemClock, Timestamp};
pub use transport::{MemoryTransport, Publisher, Subscriber, Transport, TransportError};
