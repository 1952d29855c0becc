//! What the fuzzer and the tests do with bytes that may be anything. A panic is a defect.

#![allow(dead_code, reason = "each fuzz target uses its own body")]

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use saga_core::machine::{
    Event, Operation, OperatorAction, Progress, ReplyEvent, Resolution, Verdict, decide,
};
use saga_core::message::{ENVELOPE_BYTES_MAX, Outcome};
use saga_core::store::{Lane, OutboxRow};
use saga_core::{
    Cause, Command, Compensate, CorrelationId, Envelope, IdempotencyKey, Json, Message, MessageId,
    MessageType, OutboxId, ParticipantName, Payload, Saga, SagaData, SagaId, SagaName, Status,
    Step, StepName, Timestamp, Topic,
};
use saga_postgres::SchemaName;
use serde::{Deserialize, Serialize};

/// What can be read as an envelope can be sent on, and is read as the same then.
pub(crate) fn envelope(bytes: &[u8]) {
    let Ok(envelope) = Envelope::decode(Bytes::copy_from_slice(bytes)) else { return };
    let sent_on = envelope.encode();
    // An id may have been given in a shorter form.
    if sent_on.len() <= ENVELOPE_BYTES_MAX {
        let again =
            Envelope::decode(sent_on).unwrap_or_else(|error| panic!("{error}: {envelope:?}"));
        assert_eq!(again, envelope);
    }
}

/// What can be read as an outbox row can be stored again, and holds the same records then.
pub(crate) fn outbox_row(bytes: &[u8]) {
    let lane = Lane::application();
    let row = OutboxRow { id: OutboxId::now(), lane, body: Bytes::copy_from_slice(bytes) };
    let Ok(records) = row.records() else { return };
    let again = OutboxRow::new(row.lane, &records).records().expect("it can be stored again");
    assert_eq!(again, records);
}

/// A text that is taken for a name can be quoted, printed and stored without a thought.
pub(crate) fn names(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let is_plain = text.bytes().all(|it| it.is_ascii_alphanumeric() || b"._-".contains(&it))
        && text.starts_with(|first: char| first.is_ascii_alphanumeric());
    let names = [
        StepName::parse(&text).map(|it| it.to_string()),
        SagaName::parse(&text).map(|it| it.to_string()),
        MessageType::parse(&text).map(|it| it.to_string()),
        ParticipantName::parse(&text).map(|it| it.to_string()),
    ];
    for name in names {
        assert_eq!(name.is_ok(), is_plain && text.len() <= 128, "{text:?}");
        assert!(name.is_ok_and(|name| name == text) || !is_plain || text.len() > 128);
    }
    let topic = Topic::parse(&text);
    assert_eq!(topic.is_ok(), is_plain && text.len() <= 249, "{text:?}");
    if let Ok(schema) = SchemaName::parse(&text) {
        assert_eq!(schema.as_str(), text);
        let is_lower = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'_';
        assert!(text.bytes().all(is_lower) && (1..=63).contains(&text.len()), "{text:?}");
        assert!(!text.starts_with(|first: char| first.is_ascii_digit()), "{text:?}");
        assert!(!text.starts_with("pg_") && text != "information_schema", "{text:?}");
    }
    let is_key = (1..=255).contains(&text.len()) && !text.chars().any(char::is_control);
    assert_eq!(IdempotencyKey::new(&*text).is_ok(), is_key, "{text:?}");
    assert_eq!(CorrelationId::new(&*text).is_ok(), is_key, "{text:?}");
    let ids = [text.parse::<MessageId>().map(|it| it.0), text.parse::<SagaId>().map(|it| it.0)];
    for id in ids.into_iter().flatten() {
        assert_eq!(id.to_string().parse(), Ok(MessageId(id)));
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        assert_eq!(time.to_string().parse(), Ok(time), "{text:?}");
    }
}

/// A stored state that can be read is stored again as the same, and every event can be decided on.
///
/// The first byte is the status that stands beside the state in its row.
pub(crate) fn saga_state(bytes: &[u8]) {
    let Some((&status, state)) = bytes.split_first() else { return };
    let status = STATUSES[usize::from(status) % STATUSES.len()];
    let read = |state: Bytes| Progress::decode(SAGA.definition(), *ID, status, state);
    let Ok(progress) = read(Bytes::copy_from_slice(state)) else { return };
    let stored = progress.encode(SAGA.definition()).expect("what was read can be stored");
    for event in events(&progress) {
        let progress = read(stored.clone()).expect("what was stored can be read");
        let again = progress.encode(SAGA.definition()).expect("it was stored before");
        assert_eq!(again, stored, "a state must not change by being read");
        let now = now(&event);
        let decision = decide(SAGA.definition(), progress, event, now);
        let changed = decision.progress.encode(SAGA.definition()).expect("it can be stored");
        if decision.verdict != Verdict::Applied {
            assert_eq!(changed, stored, "what is not applied must not change anything");
        }
        let status = decision.progress.status();
        Progress::decode(SAGA.definition(), *ID, status, changed).expect("it can be read back");
    }
}

/// States that a saga comes through, each with its status in front: where the fuzzer begins.
pub(crate) fn saga_states() -> Vec<Vec<u8>> {
    let origin = saga_core::machine::Origin {
        correlation: CorrelationId::from(*ID),
        causation: Some(MessageId(ID.0)),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
    };
    let new = Progress::start(SAGA.definition(), *ID, origin, Order { order: "o-1".to_owned() });
    let mut found = Vec::new();
    let mut open = vec![(decide(SAGA.definition(), new, Event::Started, NOW).progress, 0)];
    while let Some((progress, depth)) = open.pop() {
        let state = progress.encode(SAGA.definition()).expect("plain data");
        let status = STATUSES.iter().position(|it| *it == progress.status()).expect("all");
        let status = u8::try_from(status).expect("there are five");
        let row = [&[status], &state[..]].concat();
        if found.contains(&row) || depth > 5 {
            continue;
        }
        found.push(row);
        for event in events(&progress) {
            let same = Progress::decode(SAGA.definition(), *ID, progress.status(), state.clone());
            let same = same.expect("it was just stored");
            let now = now(&event);
            open.push((decide(SAGA.definition(), same, event, now).progress, depth + 1));
        }
    }
    found
}

/// The saga of all states, as it is always the same.
static ID: LazyLock<SagaId> =
    LazyLock::new(|| "0190b5a0-0000-7000-8000-000000000001".parse().expect("an id"));
const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);
const SHOP: ParticipantName = ParticipantName::new("shop");
const STATUSES: [Status; 5] =
    [Status::Running, Status::Compensating, Status::Completed, Status::Compensated, Status::Parked];

/// A timer fires when everything is due.
fn now(event: &Event) -> Timestamp {
    match event {
        Event::TimerFired { .. } => NOW + Duration::from_hours(24),
        _ => NOW,
    }
}

/// Everything that can happen to a saga: each outstanding command is answered in each way.
fn events(progress: &Progress) -> Vec<Event> {
    let by_hand = |action| {
        let (by, reason) = ("carol".to_owned(), "a test".to_owned());
        Event::Operator(Operation { by, reason, action })
    };
    let timer = progress.steps(SAGA.definition()).find(|it| it.name == Charge::STEP);
    let from = timer.and_then(|it| it.due).unwrap_or_default();
    let mut events = vec![
        Event::Started,
        Event::TimerFired { reachable_since: Timestamp::default() },
        Event::CancelRequested,
        by_hand(OperatorAction::Retry),
        by_hand(OperatorAction::Skip),
        by_hand(OperatorAction::Resolve(Resolution::Succeeded(Payload::from(b"null".to_vec())))),
        by_hand(OperatorAction::Resolve(Resolution::Rejected("found out".to_owned()))),
        by_hand(OperatorAction::MoveTimer { step: Charge::STEP, from, to: NOW }),
        by_hand(OperatorAction::Cancel),
    ];
    for command in progress.outstanding(SAGA.definition()) {
        for outcome in [
            Outcome::Succeeded,
            Outcome::Rejected("no".to_owned()),
            Outcome::FailedTransiently("busy".to_owned()),
            Outcome::FailedPermanently("broken".to_owned()),
        ] {
            for payload in [&b"null"[..], b"garbage"] {
                events.push(Event::Reply(ReplyEvent {
                    command: command.id,
                    attempt: command.attempt,
                    outcome: outcome.clone(),
                    payload: Payload::from(payload.to_vec()),
                }));
            }
        }
    }
    events
}

static SAGA: LazyLock<Saga<Order>> = LazyLock::new(|| {
    Saga::<Order>::builder()
        .step(Reserve)
        .wait(StepName::new("pause"), |_| Duration::from_secs(1))
        .pivot(Charge)
        .then(Ship)
        .build()
        .expect("the saga is sound")
});

#[derive(Serialize, Deserialize)]
struct Order {
    order: String,
}

impl SagaData for Order {
    const SAGA: SagaName = SagaName::new("order");
    type Codec = Json;
}

#[derive(Serialize, Deserialize)]
struct Done;

impl Message for Done {
    const TYPE: MessageType = MessageType::new("Done");
    type Codec = Json;
}

macro_rules! step {
    ($name:ident, $stored:literal) => {
        #[derive(Serialize, Deserialize)]
        struct $name;

        impl $name {
            const STEP: StepName = StepName::new($stored);
        }

        impl Message for $name {
            const TYPE: MessageType = MessageType::new(stringify!($name));
            type Codec = Json;
        }

        impl Command for $name {
            type Reply = Done;
            const PARTICIPANT: ParticipantName = SHOP;
        }

        impl Step<Order> for $name {
            const NAME: StepName = Self::STEP;
            type Command = Self;

            fn command(&self, _: &Order) -> Self {
                Self
            }
        }
    };
}

step!(Reserve, "reserve");
step!(Charge, "charge");
step!(Ship, "ship");

impl Compensate<Order> for Reserve {
    type Compensation = Self;

    fn compensation(&self, _: &Order, _: &Cause) -> Self {
        Self
    }
}
