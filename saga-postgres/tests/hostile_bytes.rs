//! The bodies of the fuzz targets on the corpus that is kept, on every poison, and on what comes of
//! changing a byte of each: what the fuzzer does at length, any compiler does in short.

#[path = "../../fuzz/bodies.rs"]
mod bodies;

use std::path::{Path, PathBuf};
use std::{env, fs};

use saga_core::message::{CommandHeaders, Kind, Outcome, ReplyHeaders};
use saga_core::{
    CorrelationId, Envelope, MessageId, MessageType, ParticipantName, Payload, SagaId, StepName,
    Timestamp,
};
use saga_testkit::poison;

/// How much of an input is changed byte by byte.
const CHANGED: usize = 300;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

/// Returns the kept corpus of a target, which `UPDATE_CORPUS=1` writes.
fn kept(target: &str, seeds: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let folder = corpus(target);
    if env::var_os("UPDATE_CORPUS").is_some() {
        fs::create_dir_all(&folder).expect("the source tree is writable");
        for (index, seed) in seeds.iter().enumerate() {
            fs::write(folder.join(format!("seed-{index:03}")), seed).expect("writable");
        }
    }
    let files =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let files = files.map(|file| fs::read(file.expect("a file").path()).expect("readable"));
    let files: Vec<_> = files.collect();
    assert!(!files.is_empty(), "the corpus of {target} is empty");
    files
}

/// Runs a body on inputs, on everything that they begin with, and on each with one byte changed.
fn replay(body: fn(&[u8]), inputs: impl IntoIterator<Item = Vec<u8>>) {
    for mut input in inputs {
        body(&input);
        for end in 0..input.len().min(CHANGED) {
            body(&input[..end]);
        }
        for at in 0..input.len().min(CHANGED) {
            let byte = input[at];
            for changed in [0, 1, 0x7f, 0x80, 0xff, byte ^ 1, byte ^ 0x80, byte.wrapping_add(1)] {
                input[at] = changed;
                body(&input);
            }
            input[at] = byte;
        }
    }
}

/// A command, a reply and a fact.
fn sound() -> [Envelope; 3] {
    let id = |last: u8| {
        MessageId(format!("0190b5a0-0000-7000-8000-0000000000{last:02}").parse().expect("an id"))
    };
    let (saga, step) = (SagaId(id(1).0), StepName::new("reserve"));
    let fact = Envelope {
        id: id(2),
        message_type: MessageType::new("OrderPlaced"),
        source: ParticipantName::new("shop"),
        correlation: CorrelationId::from(saga),
        causation: Some(id(3)),
        traceparent: None,
        timestamp: Timestamp::from_micros(1_767_225_600_123_456),
        kind: Kind::Fact,
        payload: Payload::from(br#"{"order":"o-1"}"#.to_vec()),
    };
    let command = Kind::Command(CommandHeaders {
        saga,
        step: step.clone(),
        attempt: 2,
        attempts_before: 1,
        compensates: Some(id(4)),
        reply_partition: Some(3),
    });
    let outcome = Outcome::Rejected("no".to_owned());
    let reply = Kind::Reply(ReplyHeaders { saga, step, attempt: 2, outcome });
    [Envelope { kind: command, ..fact.clone() }, Envelope { kind: reply, ..fact.clone() }, fact]
}

fn small_poisons() -> Vec<Vec<u8>> {
    let all = poison::all();
    let mut small = Vec::new();
    for sound in sound() {
        for poison in all.iter().filter(|poison| poison.is_for(&sound)) {
            let value = poison.dose(&sound).value;
            if value.len() < 2_000 {
                small.push(value.to_vec());
            }
        }
    }
    small
}

/// F30.
#[test]
fn envelopes() {
    for sound in sound() {
        for poison in poison::all().iter().filter(|poison| poison.is_for(&sound)) {
            bodies::envelope(&poison.dose(&sound).value);
        }
    }
    let seeds: Vec<_> = sound().iter().map(|it| it.encode().to_vec()).collect();
    replay(bodies::envelope, kept("envelope", &seeds));
}

/// F30.
#[test]
fn outbox_rows() {
    use saga_core::store::{Lane, OutboxRow};
    use saga_core::transport::Record;

    for (_, body) in poison::rows() {
        bodies::outbox_row(&body);
    }
    let record = Record {
        topic: saga_core::Topic::new("stock.commands"),
        partition: Some(3),
        key: "key".into(),
        value: "value".into(),
        headers: vec![("name".to_owned(), "value".into())],
    };
    let row = OutboxRow::new(Lane::application(), &[record.clone(), record]).body.to_vec();
    let rows = poison::rows().into_iter().map(|(_, body)| body.to_vec());
    let seeds: Vec<_> = rows.filter(|row| row.len() < 300).chain([row]).collect();
    replay(bodies::outbox_row, kept("outbox_row", &seeds));
}

/// F30.
#[test]
fn saga_states() {
    let seeds = bodies::saga_states();
    assert!(seeds.len() > 30, "a saga comes through many states: {}", seeds.len());
    seeds.iter().for_each(|seed| bodies::saga_state(seed));
    let few: Vec<_> = seeds.into_iter().step_by(4).collect();
    replay(bodies::saga_state, kept("saga_state", &few));
    // What is no state at all.
    replay(bodies::saga_state, small_poisons().into_iter().take(20));
}

/// F30.
#[test]
fn names() {
    let seeds = ["reserve-stock", "pg_catalog", "0190b5a0-0000-7000-8000-000000000001", "a\0b"];
    let times = ["2026-01-31T12:00:00Z", "-009999-01-02T01:59:59Z", "saga_2", "é", "x y", "9"];
    let seeds: Vec<_> = seeds.iter().chain(&times).map(|it| it.as_bytes().to_vec()).collect();
    replay(bodies::names, kept("names", &seeds));
    small_poisons().iter().for_each(|bytes| bodies::names(bytes));
    for length in [63, 64, 128, 129, 249, 250, 255, 256] {
        bodies::names(&vec![b'x'; length]);
    }
}
