//! Each limit of what is received, stored and sent: one below it, at it, and one above.

use saga_core::message::{
    CommandHeaders, ENVELOPE_BYTES_MAX, EnvelopeError, Kind, Outcome, ReplyHeaders,
};
use saga_core::store::{DeadLetter, MemoryConnection, MemoryStore, OutboxRow};
use saga_core::transport::{Delivery, Position};
use saga_core::{
    Codec, Command, Context, CorrelationId, Engine, Envelope, Error, Fact, Handle, HandlerResult,
    IdempotencyKey, Json, Message, MessageId, MessageType, Participant, ParticipantName, Payload,
    Rejection, Reply, Saga, SagaData, SagaId, SagaName, Status, Step, StepName, Timestamp, Topic,
};
use serde::{Deserialize, Serialize};

/// What the headers of an envelope may take beside the payload.
const PAYLOAD_BYTES_MAX: usize = ENVELOPE_BYTES_MAX - 8 * 1024;
const SHOP: ParticipantName = ParticipantName::new("shop");

fn text(bytes: usize) -> String {
    "x".repeat(bytes)
}

fn reply(outcome: Outcome) -> Envelope {
    Envelope {
        id: MessageId::now(),
        message_type: MessageType::new("Said"),
        source: SHOP,
        correlation: CorrelationId::new("o-1").expect("it is short"),
        causation: Some(MessageId::now()),
        traceparent: None,
        timestamp: Timestamp::from_micros(0),
        kind: Kind::Reply(ReplyHeaders {
            saga: SagaId::now(),
            step: StepName::new("say"),
            attempt: 1,
            outcome,
        }),
        payload: Payload::default(),
    }
}

/// Returns the outcome as the receiver reads it.
fn read(outcome: Outcome) -> Outcome {
    let envelope = Envelope::decode(reply(outcome).encode()).expect("it is sound");
    let Kind::Reply(ReplyHeaders { outcome, .. }) = envelope.kind else { panic!("a reply") };
    outcome
}

/// F30, I16, S10.
#[test]
fn an_envelope_is_read_up_to_its_size() {
    let of_size = |bytes: usize| {
        let mut envelope = reply(Outcome::Succeeded);
        envelope.payload = Payload::from(vec![b'x'; PAYLOAD_BYTES_MAX]);
        let rest = bytes - envelope.encode().len();
        envelope.payload = Payload::from(vec![b'x'; PAYLOAD_BYTES_MAX + rest]);
        envelope.encode()
    };
    for bytes in [ENVELOPE_BYTES_MAX - 1, ENVELOPE_BYTES_MAX] {
        let encoded = of_size(bytes);
        assert_eq!(encoded.len(), bytes);
        Envelope::decode(encoded).expect("it is not too large");
    }
    let read = Envelope::decode(of_size(ENVELOPE_BYTES_MAX + 1));
    let Err(EnvelopeError::TooLarge { bytes }) = read else { panic!("got {read:?}") };
    assert_eq!(bytes, ENVELOPE_BYTES_MAX + 1);
}

/// S10.
#[test]
fn names_and_keys_have_a_longest() {
    for (bytes, is_name) in [(127, true), (128, true), (129, false)] {
        let text = text(bytes);
        assert_eq!(SagaName::parse(&text).is_ok(), is_name, "{bytes}");
        assert_eq!(StepName::parse(&text).is_ok(), is_name, "{bytes}");
        assert_eq!(ParticipantName::parse(&text).is_ok(), is_name, "{bytes}");
        assert_eq!(MessageType::parse(&text).is_ok(), is_name, "{bytes}");
    }
    for (bytes, is_topic) in [(248, true), (249, true), (250, false)] {
        assert_eq!(Topic::parse(text(bytes)).is_ok(), is_topic, "{bytes}");
    }
    for (bytes, is_key) in [(0, false), (1, true), (254, true), (255, true), (256, false)] {
        assert_eq!(IdempotencyKey::new(text(bytes)).is_ok(), is_key, "{bytes}");
        assert_eq!(CorrelationId::new(text(bytes)).is_ok(), is_key, "{bytes}");
    }
}

/// S10.
#[test]
fn names_are_checked_where_they_are_received() {
    for (bytes, is_name) in [(127, true), (128, true), (129, false)] {
        // What stands in a name's place on the wire, behind its length.
        let mut envelope = reply(Outcome::Succeeded);
        envelope.message_type = MessageType::parse(text(bytes.min(128))).expect("a type");
        let mut wire = envelope.encode().to_vec();
        if bytes == 129 {
            let at = wire.windows(128).position(|it| it == text(128).as_bytes()).expect("the type");
            wire.insert(at, b'x');
            wire[at - 2] += 1;
        }
        assert_eq!(Envelope::decode(wire.into()).is_ok(), is_name, "{bytes}");
    }
}

#[test]
fn a_trace_that_is_too_long_is_dropped_and_its_message_is_not() {
    for (bytes, is_kept) in [(63, true), (64, true), (65, false)] {
        let mut envelope = reply(Outcome::Succeeded);
        envelope.traceparent = Some(text(bytes));
        let read = Envelope::decode(envelope.encode()).expect("it is sound");
        assert_eq!(read.traceparent.is_some(), is_kept, "{bytes}");
    }
}

/// S10.
#[test]
fn what_a_participant_says_is_cut_wherever_it_runs() {
    for bytes in [254, 255, 256, 900_000] {
        assert_eq!(Rejection::new(text(bytes)).code().len(), bytes.min(255));
        assert_eq!(read(Outcome::Rejected(text(bytes))), Outcome::Rejected(text(bytes.min(255))));
    }
    assert_eq!(read(Outcome::Rejected("a\0b\n".into())), Outcome::Rejected("ab".into()));
    for bytes in [2047, 2048, 2049, 900_000] {
        let cut = || text(bytes.min(2048));
        let transient = read(Outcome::FailedTransiently(text(bytes)));
        assert_eq!(transient, Outcome::FailedTransiently(cut()));
        let permanent = read(Outcome::FailedPermanently(text(bytes)));
        assert_eq!(permanent, Outcome::FailedPermanently(cut()));
    }
    // Nothing is cut in the middle of a character.
    let wide = read(Outcome::FailedTransiently("€".repeat(1000)));
    assert_eq!(wide, Outcome::FailedTransiently("€".repeat(682)));
}

#[test]
fn what_is_told_of_a_dead_letter_is_cut() {
    for length in [999, 1000, 1001] {
        let position = Position { topic: Topic::new("t"), partition: 0, offset: 0, generation: 0 };
        let delivery = Delivery {
            position,
            key: "key".into(),
            value: "value".into(),
            headers: Vec::new(),
            timestamp: Timestamp::from_micros(0),
        };
        let letter = DeadLetter::new(
            &ParticipantName::new("engine"),
            delivery,
            "reason",
            &"€".repeat(length),
        );
        assert_eq!(letter.detail.chars().count(), length.min(1000));
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Say {
    text: String,
    reply_bytes: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Said(String);

macro_rules! message {
    ($name:ident) => {
        impl Message for $name {
            const TYPE: MessageType = MessageType::new(stringify!($name));
            type Codec = Json;
        }
    };
}

message!(Say);
message!(Said);

impl Command for Say {
    type Reply = Said;
    const PARTICIPANT: ParticipantName = SHOP;
}

impl Fact for Said {
    const SOURCE: ParticipantName = SHOP;
}

impl SagaData for Say {
    const SAGA: SagaName = SagaName::new("say");
    type Codec = Json;
}

struct SayIt;

impl Step<Say> for SayIt {
    const NAME: StepName = StepName::new("say");
    type Command = Say;

    fn command(&self, data: &Say) -> Say {
        data.clone()
    }
}

struct Shop;

impl Handle<Say, MemoryConnection<()>> for Shop {
    async fn handle(
        &self,
        Say { reply_bytes, .. }: Say,
        _: &mut Context<'_, MemoryConnection<()>>,
    ) -> HandlerResult<Said> {
        // Two quotes stand around it.
        Ok(Reply::succeeded(Said(text(reply_bytes - 2))))
    }
}

async fn say(command_bytes: usize, reply_bytes: usize) -> Result<Status, Error> {
    let shop = Participant::builder(SHOP).handle::<Say>(Shop).build()?;
    let saga = Saga::<Say>::builder().then(SayIt).build()?;
    let engine = Engine::builder(SHOP, MemoryStore::<()>::new()).saga(saga).local(shop).start()?;
    let mut data = Say { text: String::new(), reply_bytes };
    let around = Json::encode(&data).expect("plain data").as_bytes().len();
    data.text = text(command_bytes - around);
    engine.start(IdempotencyKey::new("k").expect("a key"), data).await?.outcome().await
}

/// S10.
#[tokio::test]
async fn a_command_has_a_largest() {
    for bytes in [PAYLOAD_BYTES_MAX - 1, PAYLOAD_BYTES_MAX] {
        assert_eq!(say(bytes, 10).await.expect("it can be sent"), Status::Completed);
    }
    let refused = say(PAYLOAD_BYTES_MAX + 1, 10).await;
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
}

/// S10.
#[tokio::test]
async fn a_reply_has_a_largest() {
    for bytes in [PAYLOAD_BYTES_MAX - 1, PAYLOAD_BYTES_MAX] {
        assert_eq!(say(100, bytes).await.expect("it can be sent"), Status::Completed);
    }
    let parked = say(100, PAYLOAD_BYTES_MAX + 1).await.expect("it is accepted");
    assert_eq!(parked, Status::Parked, "the saga must hear of it");
}

#[test]
fn a_fact_has_a_largest() {
    for (bytes, fits) in
        [(PAYLOAD_BYTES_MAX - 1, true), (PAYLOAD_BYTES_MAX, true), (PAYLOAD_BYTES_MAX + 1, false)]
    {
        let row = OutboxRow::fact(&Said(text(bytes - 2)), "key");
        assert_eq!(row.is_ok(), fits, "{bytes}");
    }
    for (bytes, fits) in [(254, true), (255, true), (256, false)] {
        assert_eq!(OutboxRow::fact(&Said("x".into()), &text(bytes)).is_ok(), fits, "{bytes}");
    }
}

/// What is next to the payload fits into what is left for it, whatever it is.
#[test]
fn the_largest_payload_with_the_longest_headers_fits_an_envelope() {
    let longest = || text(128);
    let envelope = Envelope {
        message_type: MessageType::parse(longest()).expect("a type"),
        source: ParticipantName::parse(longest()).expect("a name"),
        correlation: CorrelationId::new(text(255)).expect("an id"),
        traceparent: Some(text(64)),
        payload: Payload::from(vec![b'x'; PAYLOAD_BYTES_MAX]),
        ..reply(Outcome::FailedPermanently(text(2048)))
    };
    assert!(envelope.encode().len() <= ENVELOPE_BYTES_MAX);
    let command = Kind::Command(CommandHeaders {
        saga: SagaId::now(),
        step: StepName::parse(longest()).expect("a step"),
        attempt: u32::MAX,
        attempts_before: u32::MAX,
        compensates: Some(MessageId::now()),
        reply_partition: Some(u32::MAX),
    });
    assert!(Envelope { kind: command, ..envelope }.encode().len() <= ENVELOPE_BYTES_MAX);
}
