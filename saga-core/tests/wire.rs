//! What is sent and stored keeps its format: the generated code is current, and the bytes of every
//! release still decode.

use std::path::{Path, PathBuf};
use std::{env, fmt, fs};

use bytes::Bytes;
use prost::Message;

use generated::{
    EventEnvelope, Failure, Header, History, HistoryEntry, Kind, OutboxBatch, OutboxRecord,
    Outcome, RecordedReply, SagaState, StepState, history_entry, step_state,
};

mod generated {
    #![allow(
        clippy::pedantic,
        dead_code,
        unreachable_pub,
        reason = "generated: the library keeps this module to itself, so the test includes it too"
    )]

    include!("../src/wire/orderweaver.saga.v1.rs");
}

const UPDATE: &str = "UPDATE_GENERATED=1 cargo test -p saga-core --test wire";

#[test]
fn generated_code_is_current() {
    let protos = crate_path("../proto");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wire");
    fs::create_dir_all(&out).expect("the build's temporary directory is writable");
    let files = protox::compile(
        ["orderweaver/saga/v1/envelope.proto", "orderweaver/saga/v1/state.proto"],
        [protos],
    )
    .expect("the schemas compile");
    prost_build::Config::new()
        .bytes(["."])
        .out_dir(&out)
        .compile_fds(files)
        .expect("code is generated");

    let name = "orderweaver.saga.v1.rs";
    let fresh = fs::read_to_string(out.join(name)).expect("the package has code");
    let checked_in = crate_path("src/wire").join(name);
    if updating() {
        fs::write(&checked_in, &fresh).expect("the source tree is writable");
    }
    let current = fs::read_to_string(&checked_in).unwrap_or_default();
    assert!(current == fresh, "{name} is not what the schemas generate; update it with `{UPDATE}`");
}

/// What a producer sends that knows only the eight fields that are older than this library.
#[test]
fn a_reference_envelope_keeps_its_format() {
    let envelope = EventEnvelope {
        id: "0190b5a0-0000-7000-8000-000000000001".into(),
        r#type: "OrderCreated".into(),
        source: "orders".into(),
        correlation_id: "o-1".into(),
        causation_id: "http-1".into(),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
        timestamp: "2024-07-15T08:30:00.123456Z".into(),
        payload: Bytes::from_static(b"\x0a\x03o-1"),
        ..EventEnvelope::default()
    };
    assert_eq!(envelope.kind(), Kind::Unspecified, "old producers send facts");
    keeps_its_format("EventEnvelope.reference", &envelope);
}

#[test]
fn an_envelope_keeps_its_format() {
    let envelope = EventEnvelope {
        id: "0190b5a0-0000-7000-8000-000000000002".into(),
        r#type: "PaymentDeclined".into(),
        source: "payments".into(),
        correlation_id: "o-1".into(),
        causation_id: "0190b5a0-0000-7000-8000-000000000001".into(),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
        timestamp: "2024-07-15T08:30:00.123456Z".into(),
        payload: Bytes::from_static(b"\x0a\x03o-1"),
        kind: Kind::Reply.into(),
        saga_id: uuid(3),
        step: "authorize-payment".into(),
        attempt: 2,
        compensates: uuid(4),
        // Zero is a partition, and differs from no partition.
        reply_partition: Some(0),
        outcome: Outcome::Rejected.into(),
        reason: "card-declined".into(),
        attempts_before: 0,
    };
    keeps_its_format("EventEnvelope.v1", &envelope);
    let retried = EventEnvelope { attempts_before: 1, ..envelope };
    keeps_its_format("EventEnvelope.retried", &retried);
}

#[test]
fn a_saga_state_keeps_its_format() {
    use step_state::State;

    let step = |state: State| StepState {
        name: format!("step-{}", i32::from(state)),
        state: state.into(),
        attempt: 300,
        due_us: 1_721_032_200_123_456,
        succeeded: true,
        refused: false,
        command: uuid(5),
        attempts_before: 0,
    };
    let states = [
        State::Unspecified,
        State::Skipped,
        State::Outstanding,
        State::Delayed,
        State::Succeeded,
        State::Refused,
        State::Unknown,
        State::Failed,
        State::Compensating,
        State::CompensationDelayed,
        State::Compensated,
        State::CompensationFailed,
        State::Waiting,
    ];
    let state = SagaState {
        steps: states.map(step).into(),
        parked: Some(Failure {
            step: "step-11".into(),
            code: "compensation-failed".into(),
            message: "the account is closed".into(),
        }),
        cause_step: "capture-payment".into(),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
        cause: "card-declined".into(),
        correlation_id: "o-1".into(),
        causation_id: "0190b5a0-0000-7000-8000-000000000001".into(),
        compensating: true,
        data: Bytes::from_static(br#"{"order_id":"o-1"}"#),
    };
    keeps_its_format("SagaState.v1", &state);
    let retried = StepState { attempts_before: 299, ..step(State::Outstanding) };
    keeps_its_format("SagaState.retried", &SagaState { steps: vec![retried], ..state });
}

#[test]
fn a_history_keeps_its_format() {
    use history_entry::Kind;

    let kinds = [
        Kind::Unspecified,
        Kind::Started,
        Kind::CommandSent,
        Kind::Succeeded,
        Kind::Rejected,
        Kind::AttemptFailed,
        Kind::TimedOut,
        Kind::RetryScheduled,
        Kind::Skipped,
        Kind::CompensationStarted,
        Kind::CompensationSent,
        Kind::Compensated,
        Kind::CompensationFailed,
        Kind::CancelRequested,
        Kind::Parked,
        Kind::Resumed,
        Kind::Operator,
        Kind::Completed,
        Kind::SagaCompensated,
        Kind::WaitStarted,
        Kind::WaitEnded,
    ];
    let entry = |kind: Kind| HistoryEntry {
        // A time before 1970 is negative.
        at_us: -1,
        kind: kind.into(),
        step: "capture-payment".into(),
        attempt: 1,
        detail: "by hand".into(),
    };
    keeps_its_format("History.v1", &History { entries: kinds.map(entry).into() });
}

#[test]
fn an_outbox_batch_keeps_its_format() {
    let addressed = OutboxRecord {
        topic: "payments.commands".into(),
        partition: Some(0),
        key: uuid(3),
        value: Bytes::from_static(b"value"),
        headers: vec![
            Header { name: "traceparent".into(), value: Bytes::from_static(b"00-0af7-b7ad-01") },
            Header { name: "empty".into(), value: Bytes::new() },
        ],
    };
    let hashed = OutboxRecord { partition: None, headers: Vec::new(), ..addressed.clone() };
    keeps_its_format("OutboxBatch.v1", &OutboxBatch { records: vec![addressed, hashed] });
}

#[test]
fn a_recorded_reply_keeps_its_format() {
    let reply = RecordedReply {
        reply_id: uuid(6),
        outcome: Outcome::FailedPermanent.into(),
        r#type: "PaymentAuthorized".into(),
        payload: Bytes::from_static(b"\x0a\x03o-1"),
        reason: "no-such-account".into(),
    };
    keeps_its_format("RecordedReply.v1", &reply);
}

/// The fixture decodes to `expected`, and `expected` encodes to the fixture.
///
/// An update writes a fixture that is missing and never changes one that exists: its bytes are in
/// somebody's database.
fn keeps_its_format<M: Message + Default + PartialEq + fmt::Debug>(name: &str, expected: &M) {
    let path = crate_path("tests/fixtures/wire").join(format!("{name}.hex"));
    if updating() && !path.exists() {
        fs::write(&path, to_hex(&expected.encode_to_vec())).expect("the source tree is writable");
    }
    let text = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{name}: {error}; write it with `{UPDATE}`"));
    let decoded = M::decode(&*from_hex(&text)).expect("bytes that were once written decode");
    assert_eq!(decoded, *expected, "{name} decodes to another value");
    assert_eq!(to_hex(&expected.encode_to_vec()), text, "{name} is encoded differently");
}

fn uuid(last: u8) -> Bytes {
    let mut bytes = *b"\x01\x90\xb5\xa0\x00\x00\x70\x00\x80\x00\x00\x00\x00\x00\x00\x00";
    bytes[15] = last;
    Bytes::copy_from_slice(&bytes)
}

/// 32 bytes a line, so that a diff shows where two encodings part.
fn to_hex(bytes: &[u8]) -> String {
    let line = |bytes| format!("{:x}\n", Bytes::copy_from_slice(bytes));
    bytes.chunks(32).map(line).collect::<Vec<_>>().concat()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|digit| !digit.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16);
    digits.chunks(2).map(byte).collect::<Result<_, _>>().expect("a fixture is pairs of hex digits")
}

fn updating() -> bool {
    env::var_os("UPDATE_GENERATED").is_some()
}

fn crate_path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
