//! The messages and the saga that the kit's own consumers are about.

use saga_core::message::{CommandHeaders, Envelope, Kind, Outcome, ReplyHeaders};
use saga_core::{
    Codec as _, Command, CorrelationId, Fact, IdempotencyKey, Json, Message, MessageId,
    MessageType, ParticipantName, Payload, Saga, SagaData, SagaId, SagaName, Step, StepName,
    Timestamp,
};
use serde::{Deserialize, Serialize};

pub(super) const SHOP: ParticipantName = ParticipantName::new("shop");
pub(super) const STOCK: ParticipantName = ParticipantName::new("stock");
pub(super) const WEB: ParticipantName = ParticipantName::new("web");
const RESERVE: StepName = StepName::new("reserve");

macro_rules! message {
    ($name:ident) => {
        #[derive(Debug, Clone, Serialize, Deserialize)]
        pub(super) struct $name {
            pub(super) order: String,
        }

        impl Message for $name {
            const TYPE: MessageType = MessageType::new(stringify!($name));
            type Codec = Json;
        }
    };
}

message!(Reserve);
message!(Reserved);
message!(OrderPlaced);

impl Command for Reserve {
    type Reply = Reserved;
    const PARTICIPANT: ParticipantName = STOCK;
}

impl Fact for OrderPlaced {
    const SOURCE: ParticipantName = WEB;
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) order: String,
}

impl SagaData for Order {
    const SAGA: SagaName = SagaName::new("order");
    type Codec = Json;
}

struct ReserveStock;

impl Step<Order> for ReserveStock {
    const NAME: StepName = RESERVE;
    type Command = Reserve;

    fn command(&self, data: &Order) -> Reserve {
        Reserve { order: data.order.clone() }
    }
}

/// A saga of one step.
pub(super) fn saga() -> Saga<Order> {
    Saga::<Order>::builder().then(ReserveStock).build().expect("the kit's saga is sound")
}

pub(super) fn key(order: &str) -> IdempotencyKey {
    IdempotencyKey::new(order).expect("the kit's keys are short")
}

/// A new command of a new saga.
pub(super) fn command(order: &str) -> Envelope {
    let saga = SagaId::now();
    let kind = Kind::Command(CommandHeaders {
        saga,
        step: RESERVE,
        attempt: 1,
        attempts_before: 0,
        compensates: None,
        reply_partition: Some(0),
    });
    envelope(SHOP, CorrelationId::from(saga), kind, &Reserve { order: order.to_owned() })
}

/// The answer to a command that it succeeded, with an id of its own.
pub(super) fn reply(command: &Envelope, order: &str) -> Envelope {
    let Kind::Command(CommandHeaders { saga, step, attempt, .. }) = command.kind.clone() else {
        panic!("only commands are answered");
    };
    let outcome = Outcome::Succeeded;
    let kind = Kind::Reply(ReplyHeaders { saga, step, attempt, outcome });
    let reserved = Reserved { order: order.to_owned() };
    let reply = envelope(STOCK, command.correlation.clone(), kind, &reserved);
    Envelope { causation: Some(command.id), ..reply }
}

pub(super) fn fact(order: &str) -> Envelope {
    let correlation = CorrelationId::new("o-1").expect("it is short");
    envelope(WEB, correlation, Kind::Fact, &OrderPlaced { order: order.to_owned() })
}

fn envelope<M: Message<Codec = Json>>(
    source: ParticipantName,
    correlation: CorrelationId,
    kind: Kind,
    message: &M,
) -> Envelope
where
    Json: saga_core::Codec<M>,
{
    let payload: Payload = Json::encode(message).expect("it is plain data");
    Envelope {
        id: MessageId::now(),
        message_type: M::TYPE,
        source,
        correlation,
        causation: None,
        traceparent: None,
        timestamp: Timestamp::from_micros(1_767_225_600_000_000),
        kind,
        payload,
    }
}
