//! One envelope of each kind: a command, its reply, a fact.

use saga_core::message::{CommandHeaders, Kind, Outcome, ReplyHeaders};
use saga_core::{
    Codec, CorrelationId, Envelope, Fact, Json, Message, MessageId, MessageType, ParticipantName,
    Payload, SagaId, Step as _, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{Do, Done, Order, Reserve, SHOP};

const TIME: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

/// Tells of an order: about 256 bytes as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Told(pub Order);

impl Message for Told {
    const TYPE: MessageType = MessageType::new("Told");
    type Codec = Json;
}

impl Fact for Told {
    const SOURCE: ParticipantName = ParticipantName::new("bench-relay");
}

/// Makes the command that asks for the first step of an order.
#[must_use]
pub fn command(id: MessageId, saga: SagaId, order: u64) -> Envelope {
    let headers = CommandHeaders {
        saga,
        step: Reserve::NAME,
        attempt: 1,
        attempts_before: 0,
        compensates: None,
        reply_partition: Some(0),
    };
    Envelope {
        id,
        message_type: Do::TYPE,
        source: ParticipantName::new("bench"),
        correlation: CorrelationId::from(saga),
        causation: None,
        traceparent: None,
        timestamp: TIME,
        kind: Kind::Command(headers),
        payload: encoded(&Do { order }),
    }
}

/// Makes the reply to a command.
#[must_use]
pub fn reply(id: MessageId, command: MessageId, saga: SagaId) -> Envelope {
    let headers =
        ReplyHeaders { saga, step: Reserve::NAME, attempt: 1, outcome: Outcome::Succeeded };
    Envelope {
        id,
        message_type: Done::TYPE,
        source: SHOP,
        correlation: CorrelationId::from(saga),
        causation: Some(command),
        traceparent: None,
        timestamp: TIME,
        kind: Kind::Reply(headers),
        payload: encoded(&Done {}),
    }
}

/// Makes the envelope of a fact.
#[must_use]
pub fn fact(id: MessageId) -> Envelope {
    Envelope {
        id,
        message_type: Told::TYPE,
        source: Told::SOURCE,
        correlation: CorrelationId::from(id),
        causation: None,
        traceparent: None,
        timestamp: TIME,
        kind: Kind::Fact,
        payload: encoded(&Told(Order::new(1))),
    }
}

fn encoded<M: Message>(message: &M) -> Payload {
    M::Codec::encode(message).expect("a message of the benches can be encoded")
}
