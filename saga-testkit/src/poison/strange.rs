//! Envelopes that can be read and are not what the consumer expects.

use saga_core::{Envelope, MessageId, SagaId};

use super::wire::{
    ATTEMPT, CAUSATION, COMPENSATES, CORRELATION, FUTURE, Fields, ID, KIND, OUTCOME, PAYLOAD,
    REASON, REPLY_PARTITION, SAGA, SOURCE, STEP, TIMESTAMP, TRACEPARENT, TYPE, Value, groups, key,
    varint,
};
use super::{ANY, COMMANDS, FACTS, Flaw, OF_SAGAS, Poison, REPLIES, Sort};

pub(super) fn all() -> impl Iterator<Item = Poison> {
    misplaced().chain(unknown()).chain(future()).chain(extreme())
}

fn misplaced() -> impl Iterator<Item = Poison> {
    [
        bent("a-fact-for-a-command", Flaw::Misplaced, COMMANDS, |it| it.without(KIND)),
        bent("a-reply-for-a-command", Flaw::Misplaced, COMMANDS, |it| {
            it.number(KIND, 3).number(OUTCOME, 1).text(CAUSATION, &MessageId::now().to_string())
        }),
        bent("a-command-for-a-reply", Flaw::Misplaced, REPLIES, |it| it.number(KIND, 1)),
        bent("a-command-for-a-fact", Flaw::Misplaced, FACTS, |it| {
            it.number(KIND, 1).bytes(SAGA, SagaId::now().as_bytes()).text(STEP, "reserve")
        }),
    ]
    .into_iter()
}

fn unknown() -> impl Iterator<Item = Poison> {
    let stranger = || SagaId::now().as_bytes().to_vec();
    [
        bent("an-unknown-type", Flaw::UnknownType, &[Sort::Command, Sort::Fact], |it| {
            it.text(TYPE, "NobodyKnowsThis")
        }),
        bent("the-longest-type", Flaw::UnknownType, &[Sort::Command, Sort::Fact], |it| {
            it.text(TYPE, &"x".repeat(128))
        }),
        bent("a-type-in-other-case", Flaw::UnknownType, &[Sort::Command, Sort::Fact], |it| {
            it.text(TYPE, "rESERVE")
        }),
        // What counts is the command that is answered, and whether the answer can be read.
        bent("an-unknown-type-of-reply", Flaw::Strange, REPLIES, |it| it.text(TYPE, "Unknown")),
        bent("an-unknown-step", Flaw::Strange, OF_SAGAS, |it| it.text(STEP, "nobody-knows-this")),
        bent("an-unknown-source", Flaw::Strange, ANY, |it| it.text(SOURCE, "nobody-knows-this")),
        bent("a-reply-to-an-unknown-saga", Flaw::Stray, REPLIES, move |it| {
            it.bytes(SAGA, &stranger())
        }),
        bent("a-reply-to-an-unknown-command", Flaw::Stray, REPLIES, |it| {
            it.text(CAUSATION, &MessageId::now().to_string())
        }),
        bent("a-refusal-of-an-unknown-command", Flaw::Stray, REPLIES, |it| {
            it.text(CAUSATION, &MessageId::now().to_string()).number(OUTCOME, 2)
        }),
        bent("a-failure-of-an-attempt-never-made", Flaw::Stray, REPLIES, |it| {
            it.number(ATTEMPT, i64::from(u32::MAX)).number(OUTCOME, 4)
        }),
        bent("a-reply-for-a-fact", Flaw::Stray, FACTS, move |it| {
            it.number(KIND, 3)
                .number(OUTCOME, 2)
                .bytes(SAGA, &stranger())
                .text(STEP, "reserve")
                .text(CAUSATION, &MessageId::now().to_string())
        }),
        bent("a-compensation-of-an-unknown-command", Flaw::Stray, COMMANDS, |it| {
            it.number(KIND, 2).bytes(COMPENSATES, MessageId::now().as_bytes())
        }),
        bent("a-compensation-of-the-highest-id", Flaw::Stray, COMMANDS, |it| {
            it.number(KIND, 2).bytes(COMPENSATES, &[0xff; 16])
        }),
    ]
    .into_iter()
}

/// What a newer or another producer may write.
fn future() -> impl Iterator<Item = Poison> {
    let strange = |name, bend: fn(Fields) -> Fields| bent(name, Flaw::Strange, ANY, bend);
    [
        strange("a-future-number", |it| it.and(FUTURE, Value::Varint(u64::MAX))),
        strange("a-future-fixed64", |it| it.and(FUTURE, Value::Fixed64)),
        strange("a-future-fixed32", |it| it.and(FUTURE, Value::Fixed32)),
        strange("a-future-text", |it| it.and(FUTURE, Value::Bytes(vec![0xff; 1000]))),
        strange("the-highest-field-number", |it| it.and((1 << 29) - 1, Value::Varint(1))),
        strange("a-thousand-future-fields", |it| {
            (0..1000).fold(it, |it, n| it.and(FUTURE + n, Value::Varint(n.into())))
        }),
        strange("fields-in-reverse", Fields::reversed),
        // The last one of a field counts.
        raw("a-type-before-the-type", |sound| {
            [&[0x12, 5], &b"Other"[..], &sound.encode()].concat()
        }),
        raw("the-same-message-twice", |sound| [sound.encode(), sound.encode()].concat()),
        raw("some-groups", |sound| [sound.encode().to_vec(), groups(20)].concat()),
        raw("messages-a-hundred-deep", |sound| {
            let nested = (0..100).fold(Vec::new(), |inner, _| {
                let mut outer = Vec::new();
                key(FUTURE, 2, &mut outer);
                varint(inner.len() as u64, &mut outer);
                [outer, inner].concat()
            });
            [sound.encode().to_vec(), nested].concat()
        }),
        raw("a-varint-with-leading-zeros", |sound| {
            [&sound.encode()[..], &[0xc0, 0x3e, 0x80, 0x80, 0x80, 0]].concat()
        }),
    ]
    .into_iter()
}

fn extreme() -> impl Iterator<Item = Poison> {
    [
        bent("attempt-0", Flaw::Strange, OF_SAGAS, |it| it.number(ATTEMPT, 0)),
        bent("the-highest-attempt", Flaw::Strange, OF_SAGAS, |it| {
            it.number(ATTEMPT, i64::from(u32::MAX))
        }),
        bent("an-attempt-of-64-bits", Flaw::Strange, OF_SAGAS, |it| {
            it.number(ATTEMPT, i64::MIN + 1)
        }),
        bent("the-highest-reply-partition", Flaw::Strange, OF_SAGAS, |it| {
            it.number(REPLY_PARTITION, i64::from(u32::MAX))
        }),
        bent("a-reply-partition-that-does-not-exist", Flaw::Strange, COMMANDS, |it| {
            it.number(REPLY_PARTITION, 1_000)
        }),
        bent("an-outcome-of-a-command", Flaw::Strange, COMMANDS, |it| it.number(OUTCOME, 99)),
        bent("a-saga-of-a-fact", Flaw::Strange, FACTS, |it| it.bytes(SAGA, b"no saga")),
        bent("a-reason-with-nul", Flaw::Strange, ANY, |it| it.text(REASON, "a\0b")),
        bent("a-reason-of-900-kilobytes", Flaw::Strange, ANY, |it| {
            it.text(REASON, &"x".repeat(900_000))
        }),
        bent("a-trace-of-900-kilobytes", Flaw::Strange, ANY, |it| {
            it.text(TRACEPARENT, &"x".repeat(900_000))
        }),
        bent("a-trace-with-nul", Flaw::Strange, ANY, |it| it.text(TRACEPARENT, "00-\0-\n-01")),
        bent("the-first-timestamp", Flaw::Strange, ANY, |it| {
            it.text(TIMESTAMP, "-009999-01-02T01:59:59Z")
        }),
        bent("the-last-timestamp", Flaw::Strange, ANY, |it| {
            it.text(TIMESTAMP, "9999-12-30T22:00:00.999999999Z")
        }),
        bent("a-timestamp-with-a-zone", Flaw::Strange, ANY, |it| {
            it.text(TIMESTAMP, "2026-01-31T12:00:00+14:00")
        }),
        bent("the-longest-correlation", Flaw::Strange, ANY, |it| {
            it.text(CORRELATION, &"x".repeat(255))
        }),
        bent("a-correlation-that-runs-backwards", Flaw::Strange, ANY, |it| {
            it.text(CORRELATION, "\u{202e}1-o 😀")
        }),
        bent("an-id-without-hyphens", Flaw::Strange, ANY, |it| {
            it.text(ID, &MessageId::now().0.simple().to_string())
        }),
        bent("no-payload-field", Flaw::Payload, ANY, |it| it.without(PAYLOAD)),
    ]
    .into_iter()
}

fn bent(
    name: &str,
    flaw: Flaw,
    sorts: &'static [Sort],
    bend: impl Fn(Fields) -> Fields + Send + Sync + 'static,
) -> Poison {
    Poison::new(name, flaw, sorts, move |sound: &Envelope| bend(Fields::of(sound)).encode())
}

fn raw(name: &str, value: fn(&Envelope) -> Vec<u8>) -> Poison {
    Poison::new(name, Flaw::Strange, ANY, value)
}
