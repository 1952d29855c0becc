//! The envelope: headers around a payload, and their form on the wire.

use bytes::Bytes;
use prost::Message as _;
use uuid::Uuid;

use crate::wire;
use crate::{
    CorrelationId, MessageId, MessageType, ParticipantName, Payload, Rejection, SagaId, StepName,
    Timestamp,
};

/// Largest envelope that is sent or read, in bytes.
///
/// Below the million that Kafka's clients and brokers take by default, so that what was committed can be sent.
pub const ENVELOPE_BYTES_MAX: usize = 960 * 1024;

/// Largest payload, in bytes; the rest of what an envelope may have is for its headers.
pub(crate) const PAYLOAD_BYTES_MAX: usize = ENVELOPE_BYTES_MAX - 8 * 1024;

/// Longest message of a failure that a saga keeps, in bytes; what is longer is cut.
pub(crate) const FAILURE_BYTES_MAX: usize = 2048;

/// Longest `traceparent` that is carried on, in bytes; a longer one is dropped.
const TRACEPARENT_BYTES_MAX: usize = 64;

/// A message with its headers.
///
/// On the wire it is the Protocol Buffers message `orderweaver.saga.v1.EventEnvelope`. The headers
/// stand in the value and not in the transport's headers, which would cost three times as much to produce.
///
/// # Examples
///
/// ```
/// use saga_core::message::{Envelope, Kind};
/// use saga_core::{CorrelationId, MessageId, MessageType, ParticipantName, Payload, Timestamp};
///
/// let envelope = Envelope {
///     id: MessageId::now(),
///     message_type: MessageType::new("OrderCreated"),
///     source: ParticipantName::new("orders"),
///     correlation: CorrelationId::new("o-1")?,
///     causation: None,
///     traceparent: None,
///     timestamp: Timestamp::from_micros(1_000_000),
///     kind: Kind::Fact,
///     payload: Payload::from(b"{}".to_vec()),
/// };
/// assert_eq!(Envelope::decode(envelope.encode())?, envelope);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Names the message. A command keeps its id over all attempts.
    pub id: MessageId,
    /// What the payload is.
    pub message_type: MessageType,
    /// The service that sent it.
    pub source: ParticipantName,
    /// The business operation that it belongs to; the saga, for commands and replies.
    pub correlation: CorrelationId,
    /// The message that led to this one; for a reply, the command that it answers.
    pub causation: Option<MessageId>,
    /// W3C trace context, carried on unchanged.
    pub traceparent: Option<String>,
    /// When the message was made.
    pub timestamp: Timestamp,
    /// Command, reply or fact, with what only that has.
    pub kind: Kind,
    /// The message itself, in the format of its type.
    pub payload: Payload,
}

/// What sort of message an envelope carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Something happened.
    Fact,
    /// A saga asks a participant to do something.
    Command(CommandHeaders),
    /// A participant answers; [`Envelope::causation`] is the command.
    Reply(ReplyHeaders),
}

/// What only a command has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandHeaders {
    /// The saga that asks.
    pub saga: SagaId,
    /// The step that it asks for.
    pub step: StepName,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// How many of them were made before an operator had the command tried anew: these do not count any more.
    pub attempts_before: u32,
    /// For a compensation, the command that it undoes.
    pub compensates: Option<MessageId>,
    /// The partition of the participant's events topic that the reply should be sent to.
    pub reply_partition: Option<u32>,
}

/// What only a reply has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyHeaders {
    /// The saga that asked.
    pub saga: SagaId,
    /// The step that it asked for.
    pub step: StepName,
    /// The attempt that is answered, from 1.
    pub attempt: u32,
    /// How it went.
    pub outcome: Outcome,
}

/// How a command went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was carried out; the payload is the reply.
    Succeeded,
    /// It was refused for a business reason, with a code such as `card-declined`.
    Rejected(String),
    /// It could not be carried out now and may be asked again; nothing was changed.
    FailedTransiently(String),
    /// It cannot be carried out by the program as it is; nothing was changed.
    FailedPermanently(String),
}

/// Bytes that are no envelope that this library can act on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// More bytes than [`ENVELOPE_BYTES_MAX`].
    #[error("{bytes} bytes are more than the {ENVELOPE_BYTES_MAX} that an envelope may have")]
    TooLarge {
        /// How many there are.
        bytes: usize,
    },
    /// Not Protocol Buffers of the right shape.
    #[error("not an envelope")]
    Undecodable(#[source] prost::DecodeError),
    /// A header is missing or has a value that makes no sense.
    #[error("header `{header}`: {problem}")]
    Header {
        /// The header's name on the wire.
        header: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

impl Envelope {
    /// Turns the envelope into bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        wire::EventEnvelope::from(self).encode_to_vec().into()
    }

    /// Turns bytes back into an envelope; the payload shares the bytes.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError`] if the bytes are too many, are no envelope, or lack a header. Size is checked first.
    pub fn decode(bytes: Bytes) -> Result<Self, EnvelopeError> {
        if bytes.len() > ENVELOPE_BYTES_MAX {
            return Err(EnvelopeError::TooLarge { bytes: bytes.len() });
        }
        let envelope = wire::EventEnvelope::decode(bytes).map_err(EnvelopeError::Undecodable)?;
        envelope.try_into()
    }
}

impl From<&Envelope> for wire::EventEnvelope {
    fn from(envelope: &Envelope) -> Self {
        let mut wire = Self {
            id: envelope.id.to_string(),
            r#type: envelope.message_type.to_string(),
            source: envelope.source.to_string(),
            correlation_id: envelope.correlation.to_string(),
            causation_id: envelope.causation.map(|id| id.to_string()).unwrap_or_default(),
            traceparent: envelope.traceparent.clone().unwrap_or_default(),
            timestamp: envelope.timestamp.to_string(),
            payload: envelope.payload.0.clone(),
            ..Self::default()
        };
        match &envelope.kind {
            Kind::Fact => {}
            Kind::Command(command) => {
                wire.set_kind(match command.compensates {
                    Some(_) => wire::Kind::Compensation,
                    None => wire::Kind::Command,
                });
                wire.saga_id = Bytes::copy_from_slice(command.saga.as_bytes());
                wire.step = command.step.to_string();
                wire.attempt = command.attempt;
                wire.attempts_before = command.attempts_before;
                wire.compensates = command
                    .compensates
                    .map(|id| Bytes::copy_from_slice(id.as_bytes()))
                    .unwrap_or_default();
                wire.reply_partition = command.reply_partition;
            }
            Kind::Reply(reply) => {
                wire.set_kind(wire::Kind::Reply);
                wire.saga_id = Bytes::copy_from_slice(reply.saga.as_bytes());
                wire.step = reply.step.to_string();
                wire.attempt = reply.attempt;
                let (outcome, reason) = reply.outcome.to_wire();
                wire.set_outcome(outcome);
                reason.clone_into(&mut wire.reason);
            }
        }
        wire
    }
}

impl TryFrom<wire::EventEnvelope> for Envelope {
    type Error = EnvelopeError;

    fn try_from(wire: wire::EventEnvelope) -> Result<Self, EnvelopeError> {
        let id = named("id", &wire.id)?;
        let kind = kind(&wire)?;
        if matches!(&kind, Kind::Command(command) if command.compensates == Some(id)) {
            let problem = "a command cannot compensate itself".to_owned();
            return Err(EnvelopeError::Header { header: "compensates", problem });
        }
        Ok(Self {
            id,
            message_type: header("type", MessageType::parse(&wire.r#type))?,
            source: header("source", ParticipantName::parse(&wire.source))?,
            correlation: header("correlation_id", CorrelationId::new(wire.correlation_id))?,
            causation: match wire.causation_id.as_str() {
                "" => None,
                id => Some(named("causation_id", id)?),
            },
            // Only correlates; a strange one is no reason to refuse the message.
            traceparent: Some(wire.traceparent)
                .filter(|text| !text.is_empty() && text.len() <= TRACEPARENT_BYTES_MAX),
            timestamp: header("timestamp", wire.timestamp.parse())?,
            kind,
            payload: Payload(wire.payload),
        })
    }
}

fn kind(wire: &wire::EventEnvelope) -> Result<Kind, EnvelopeError> {
    let unknown = || EnvelopeError::Header { header: "kind", problem: wire.kind.to_string() };
    match wire::Kind::try_from(wire.kind).map_err(|_| unknown())? {
        wire::Kind::Unspecified => Ok(Kind::Fact),
        kind @ (wire::Kind::Command | wire::Kind::Compensation) => {
            Ok(Kind::Command(CommandHeaders {
                saga: SagaId(uuid("saga_id", &wire.saga_id)?),
                step: header("step", StepName::parse(&wire.step))?,
                attempt: wire.attempt.max(1),
                attempts_before: wire.attempts_before,
                compensates: match kind {
                    wire::Kind::Compensation => {
                        Some(MessageId(uuid("compensates", &wire.compensates)?))
                    }
                    _ => None,
                },
                reply_partition: wire.reply_partition,
            }))
        }
        wire::Kind::Reply => {
            if wire.causation_id.is_empty() {
                let problem = "a reply names the command that it answers".to_owned();
                return Err(EnvelopeError::Header { header: "causation_id", problem });
            }
            Ok(Kind::Reply(ReplyHeaders {
                saga: SagaId(uuid("saga_id", &wire.saga_id)?),
                step: header("step", StepName::parse(&wire.step))?,
                attempt: wire.attempt.max(1),
                outcome: Outcome::from_wire(wire.outcome, wire.reason.clone())?.cut(),
            }))
        }
    }
}

impl Outcome {
    /// Returns the outcome's number and reason on the wire.
    pub(crate) fn to_wire(&self) -> (wire::Outcome, &str) {
        match self {
            Self::Succeeded => (wire::Outcome::Succeeded, ""),
            Self::Rejected(code) => (wire::Outcome::Rejected, code),
            Self::FailedTransiently(message) => (wire::Outcome::FailedTransient, message),
            Self::FailedPermanently(message) => (wire::Outcome::FailedPermanent, message),
        }
    }

    /// Cuts what a foreign participant says to what one of this library says: the saga keeps it, and
    /// hands the code of a rejection on.
    fn cut(self) -> Self {
        let cut = |mut message: String| {
            message.truncate(message.floor_char_boundary(FAILURE_BYTES_MAX));
            message
        };
        match self {
            Self::Succeeded => Self::Succeeded,
            Self::Rejected(code) => Self::Rejected(Rejection::new(code).code().to_owned()),
            Self::FailedTransiently(message) => Self::FailedTransiently(cut(message)),
            Self::FailedPermanently(message) => Self::FailedPermanently(cut(message)),
        }
    }

    /// Reads an outcome back from its number and reason on the wire.
    pub(crate) fn from_wire(outcome: i32, reason: String) -> Result<Self, EnvelopeError> {
        match wire::Outcome::try_from(outcome) {
            Ok(wire::Outcome::Succeeded) => Ok(Self::Succeeded),
            Ok(wire::Outcome::Rejected) => Ok(Self::Rejected(reason)),
            Ok(wire::Outcome::FailedTransient) => Ok(Self::FailedTransiently(reason)),
            Ok(wire::Outcome::FailedPermanent) => Ok(Self::FailedPermanently(reason)),
            Ok(wire::Outcome::Unspecified) | Err(_) => {
                Err(EnvelopeError::Header { header: "outcome", problem: outcome.to_string() })
            }
        }
    }
}

fn header<T, E: std::fmt::Display>(
    header: &'static str,
    value: Result<T, E>,
) -> Result<T, EnvelopeError> {
    value.map_err(|problem| EnvelopeError::Header { header, problem: problem.to_string() })
}

fn named(name: &'static str, text: &str) -> Result<MessageId, EnvelopeError> {
    not_nil(name, header(name, text.parse())?).map(MessageId)
}

fn uuid(name: &'static str, bytes: &Bytes) -> Result<Uuid, EnvelopeError> {
    not_nil(name, header(name, Uuid::from_slice(bytes))?)
}

/// The nil id is what a producer sends that has forgotten to make one. It names nothing: two commands
/// under it would be one to the inbox, and the second would never be carried out.
fn not_nil(header: &'static str, id: Uuid) -> Result<Uuid, EnvelopeError> {
    match id.is_nil() {
        true => {
            Err(EnvelopeError::Header { header, problem: "the nil id names nothing".to_owned() })
        }
        false => Ok(id),
    }
}
