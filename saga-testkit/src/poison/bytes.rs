//! Bytes that are no envelope.

use saga_core::Envelope;

use super::wire::{
    ATTEMPT, CAUSATION, CORRELATION, FUTURE, Fields, ID, KIND, PAYLOAD, SAGA, SOURCE, STEP,
    TIMESTAMP, TRACEPARENT, TYPE, Value, groups, key, varint,
};
use super::{ANY, Flaw, OF_SAGAS, Poison};

const MEGABYTE: usize = 1 << 20;

pub(super) fn all() -> impl Iterator<Item = Poison> {
    constant().chain(cut()).chain(spoiled()).chain(wrong_wire_types())
}

/// What has nothing to do with the message that should have been sent.
fn constant() -> impl Iterator<Item = Poison> {
    let all: [(&str, Vec<u8>); 17] = [
        ("empty", Vec::new()),
        ("one-zero-byte", vec![0]),
        ("one-byte", vec![0xff]),
        ("text", b"not an envelope".to_vec()),
        ("json", br#"{"id":"0190b5a0-0000-7000-8000-000000000001","type":"OrderCreated"}"#.into()),
        ("xml", b"<?xml version=\"1.0\"?><order/>".to_vec()),
        ("utf-16", vec![0xff, 0xfe, b'{', 0, b'}', 0]),
        ("gzip", vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("zeros", vec![0; 1000]),
        ("ones", vec![0xff; 1000]),
        ("ten-megabytes", vec![0; 10 * MEGABYTE]),
        ("a-length-of-the-whole-memory", length(u64::MAX)),
        ("a-length-of-two-gigabytes", length(1 << 31)),
        ("a-varint-without-end", [vec![8], vec![0xff; 64]].concat()),
        ("field-number-0", vec![2, 1, b'x']),
        ("field-number-too-large", [huge_key(), vec![0]].concat()),
        ("a-hundred-thousand-groups", groups(100_000)),
    ];
    all.into_iter().map(|(name, bytes)| {
        Poison::new(name, Flaw::Undecodable, ANY, move |_: &Envelope| bytes.clone())
    })
}

/// A payload that claims to be so long.
fn length(length: u64) -> Vec<u8> {
    let mut out = Vec::new();
    key(PAYLOAD, 2, &mut out);
    varint(length, &mut out);
    out
}

/// The key of field 2^29, which is one too many.
fn huge_key() -> Vec<u8> {
    let mut out = Vec::new();
    varint(1 << 32, &mut out);
    out
}

/// What arrives when a producer or a copy stops half way.
fn cut() -> impl Iterator<Item = Poison> {
    let inside = [
        ("cut-in-the-id", ID),
        ("cut-in-the-type", TYPE),
        ("cut-in-the-source", SOURCE),
        ("cut-in-the-correlation", CORRELATION),
        ("cut-in-the-timestamp", TIMESTAMP),
        ("cut-in-the-payload", PAYLOAD),
    ];
    let inside = inside.map(|(name, field)| {
        poison(name, move |sound| {
            let whole = Fields::of(sound).up_to(field).encode();
            whole[..whole.len() - 2].to_vec()
        })
    });
    let behind = [
        ("nothing-behind-the-id", ID),
        ("nothing-behind-the-type", TYPE),
        ("nothing-behind-the-source", SOURCE),
        ("nothing-behind-the-correlation", CORRELATION),
    ];
    let behind = behind
        .map(|(name, field)| poison(name, move |sound| Fields::of(sound).up_to(field).encode()));
    let bytes = [1, 2, 3, 20].map(|count| {
        poison(format!("the-first-{count}-bytes"), move |sound| sound.encode()[..count].to_vec())
    });
    let last = poison("without-the-last-byte", |sound| {
        let whole = sound.encode();
        whole[..whole.len() - 1].to_vec()
    });
    inside.into_iter().chain(behind).chain(bytes).chain([last])
}

/// A sound envelope with something behind, before or around it.
fn spoiled() -> impl Iterator<Item = Poison> {
    let behind: [(&str, Vec<u8>); 12] = [
        ("a-zero-byte-behind", vec![0]),
        ("garbage-behind", vec![0xff; 16]),
        ("text-behind", b"\n".to_vec()),
        ("half-a-field-behind", vec![0xc8, 1]),
        ("a-group-without-end", [0xc3, 0x3e].to_vec()),
        ("the-end-of-no-group", [0xc4, 0x3e].to_vec()),
        ("the-end-of-another-group", vec![0xc3, 0x3e, 0xcc, 0x3e]),
        ("wire-type-6", vec![0xc6, 0x3e, 0]),
        ("wire-type-7", vec![0xc7, 0x3e, 0]),
        ("groups-too-deep", groups(101)),
        ("ten-thousand-groups", groups(10_000)),
        ("a-varint-of-eleven-bytes", [vec![0xc0, 0x3e], vec![0x80; 10], vec![1]].concat()),
    ];
    let behind = behind
        .into_iter()
        .map(|(name, bytes)| poison(name, move |sound| [&sound.encode()[..], &bytes[..]].concat()));
    let framed = poison("framed-by-a-schema-registry", |sound| {
        [&[0, 0, 0, 0, 1], &sound.encode()[..]].concat()
    });
    let twice_wrapped = poison("an-envelope-in-a-length", |sound| {
        let whole = sound.encode();
        let mut out = Vec::new();
        varint(whole.len() as u64, &mut out);
        [out, whole.to_vec()].concat()
    });
    let too_long = poison("ten-megabytes-of-payload", |sound| {
        Fields::of(sound).bytes(PAYLOAD, &vec![b'x'; 10 * MEGABYTE]).encode()
    });
    behind.chain([framed, twice_wrapped, too_long])
}

fn wrong_wire_types() -> impl Iterator<Item = Poison> {
    let numbers = [
        ("the-id-is-a-number", ID),
        ("the-type-is-a-number", TYPE),
        ("the-timestamp-is-a-number", TIMESTAMP),
        ("the-payload-is-a-number", PAYLOAD),
    ];
    let numbers = numbers.map(|(name, field)| {
        poison(name, move |sound| Fields::of(sound).set(field, Value::Varint(1)).encode())
    });
    let others = [
        ("the-kind-is-a-text", KIND, Value::Bytes(b"command".to_vec())),
        ("the-id-is-fixed64", ID, Value::Fixed64),
        ("the-payload-is-fixed32", PAYLOAD, Value::Fixed32),
        ("the-attempt-is-fixed32", ATTEMPT, Value::Fixed32),
    ];
    let others = others.map(|(name, field, value)| {
        poison(name, move |sound| Fields::of(sound).set(field, value.clone()).encode())
    });
    let texts = [
        ("the-id-is-not-utf-8", ID, ANY),
        ("the-type-is-not-utf-8", TYPE, ANY),
        ("the-source-is-not-utf-8", SOURCE, ANY),
        ("the-correlation-is-not-utf-8", CORRELATION, ANY),
        ("the-causation-is-not-utf-8", CAUSATION, ANY),
        ("the-trace-is-not-utf-8", TRACEPARENT, ANY),
        ("the-timestamp-is-not-utf-8", TIMESTAMP, ANY),
        ("the-step-is-not-utf-8", STEP, ANY),
    ];
    let texts = texts.map(|(name, field, sorts)| {
        Poison::new(name, Flaw::Undecodable, sorts, move |sound: &Envelope| {
            Fields::of(sound).bytes(field, b"a\xc3\x28\xff").encode()
        })
    });
    let saga = Poison::new("the-saga-is-a-number", Flaw::Undecodable, OF_SAGAS, |sound| {
        Fields::of(sound).number(SAGA, 7).encode()
    });
    // The bytes of a packed list, which a decoder of a single number does not take.
    let packed = poison("the-kind-is-a-list", |sound| {
        Fields::of(sound).without(KIND).and(KIND, Value::Bytes(vec![1, 1])).encode()
    });
    let future = poison("a-future-field-of-no-length", |sound| {
        let mut out = sound.encode().to_vec();
        key(FUTURE, 2, &mut out);
        out
    });
    numbers.into_iter().chain(others).chain(texts).chain([saga, packed, future])
}

fn poison(
    name: impl Into<String>,
    value: impl Fn(&Envelope) -> Vec<u8> + Send + Sync + 'static,
) -> Poison {
    Poison::new(name, Flaw::Undecodable, ANY, value)
}
