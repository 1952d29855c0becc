//! Envelopes with a header that makes no sense.

use saga_core::Envelope;

use super::wire::{
    CAUSATION, COMPENSATES, CORRELATION, Fields, ID, KIND, OUTCOME, REASON, SAGA, SOURCE, STEP,
    TIMESTAMP, TYPE,
};
use super::{ANY, COMMANDS, Flaw, OF_SAGAS, Poison, REPLIES, Sort};

pub(super) fn all() -> impl Iterator<Item = Poison> {
    texts().chain(numbers()).chain(bytes()).chain(together())
}

fn texts() -> impl Iterator<Item = Poison> {
    let all: [(&str, u32, String, &[Sort]); 43] = [
        ("no-id", ID, String::new(), ANY),
        ("an-id-that-is-no-uuid", ID, "42".into(), ANY),
        ("an-id-that-is-too-long", ID, "0190b5a0-0000-7000-8000-0000000000011".into(), ANY),
        ("an-id-with-nul", ID, "0190b5a0-0000-7000-8000-00000000000\0".into(), ANY),
        ("an-id-of-a-megabyte", ID, "0".repeat(900_000), ANY),
        ("the-nil-id", ID, NIL.into(), ANY),
        ("no-type", TYPE, String::new(), ANY),
        ("a-type-that-is-too-long", TYPE, "x".repeat(129), ANY),
        ("a-type-of-a-megabyte", TYPE, "x".repeat(900_000), ANY),
        ("a-type-with-nul", TYPE, "Reserve\0".into(), ANY),
        ("a-type-with-a-space", TYPE, "Reserve Stock".into(), ANY),
        ("a-type-with-a-newline", TYPE, "Reserve\nERROR forged".into(), ANY),
        ("a-type-that-is-a-path", TYPE, "../../etc/passwd".into(), ANY),
        ("a-type-that-is-sql", TYPE, "x'; drop table saga; --".into(), ANY),
        ("a-type-that-looks-like-ascii", TYPE, "Rеserve".into(), ANY),
        ("a-type-that-runs-backwards", TYPE, "\u{202e}evreseR".into(), ANY),
        ("a-type-that-starts-with-a-dash", TYPE, "-Reserve".into(), ANY),
        ("no-source", SOURCE, String::new(), ANY),
        ("a-source-that-is-too-long", SOURCE, "x".repeat(129), ANY),
        ("a-source-with-nul", SOURCE, "shop\0".into(), ANY),
        ("a-source-that-is-a-path", SOURCE, "/shop".into(), ANY),
        ("no-correlation", CORRELATION, String::new(), ANY),
        ("a-correlation-that-is-too-long", CORRELATION, "x".repeat(256), ANY),
        ("a-correlation-with-nul", CORRELATION, "o-1\0".into(), ANY),
        ("a-correlation-with-a-newline", CORRELATION, "o-1\r\nSet-Cookie: x".into(), ANY),
        ("a-correlation-with-an-escape", CORRELATION, "o-1\u{1b}[2J".into(), ANY),
        ("a-causation-that-is-no-uuid", CAUSATION, "http-1".into(), ANY),
        ("the-nil-causation", CAUSATION, NIL.into(), ANY),
        ("no-timestamp", TIMESTAMP, String::new(), ANY),
        ("a-timestamp-in-words", TIMESTAMP, "yesterday".into(), ANY),
        ("a-timestamp-in-seconds", TIMESTAMP, "1767225600".into(), ANY),
        ("a-timestamp-without-a-zone", TIMESTAMP, "2026-01-31T12:00:00".into(), ANY),
        ("a-timestamp-after-all-time", TIMESTAMP, "+010000-01-01T00:00:00Z".into(), ANY),
        ("a-timestamp-before-all-time", TIMESTAMP, "-010000-01-01T00:00:00Z".into(), ANY),
        ("a-timestamp-of-month-13", TIMESTAMP, "2026-13-01T00:00:00Z".into(), ANY),
        ("a-timestamp-with-nul", TIMESTAMP, "2026-01-31T12:00:00Z\0".into(), ANY),
        ("a-timestamp-of-many-digits", TIMESTAMP, "9".repeat(100_000), ANY),
        ("no-step", STEP, String::new(), OF_SAGAS),
        ("a-step-that-is-too-long", STEP, "x".repeat(129), OF_SAGAS),
        ("a-step-with-nul", STEP, "reserve\0".into(), OF_SAGAS),
        ("a-step-that-is-sql", STEP, "' or 1=1 --".into(), OF_SAGAS),
        ("a-reply-without-a-command", CAUSATION, String::new(), REPLIES),
        ("a-reason-of-a-megabyte", REASON, "x".repeat(1_000_000), ANY),
    ];
    all.into_iter().map(|(name, field, text, sorts)| {
        bent(name, sorts, move |fields| fields.text(field, &text))
    })
}

const NIL: &str = "00000000-0000-0000-0000-000000000000";

fn numbers() -> impl Iterator<Item = Poison> {
    let all: [(&str, u32, i64, &[Sort]); 9] = [
        ("kind-4", KIND, 4, ANY),
        ("kind-99", KIND, 99, ANY),
        ("kind-minus-1", KIND, -1, ANY),
        ("the-lowest-kind", KIND, i64::from(i32::MIN), ANY),
        ("no-outcome", OUTCOME, 0, REPLIES),
        ("outcome-5", OUTCOME, 5, REPLIES),
        ("outcome-99", OUTCOME, 99, REPLIES),
        ("outcome-minus-1", OUTCOME, -1, REPLIES),
        ("the-highest-outcome", OUTCOME, i64::from(i32::MAX), REPLIES),
    ];
    all.into_iter().map(|(name, field, number, sorts)| {
        bent(name, sorts, move |fields| fields.number(field, number))
    })
}

fn bytes() -> impl Iterator<Item = Poison> {
    let all: [(&str, &[u8]); 6] = [
        ("no-saga", b""),
        ("a-saga-of-15-bytes", &[7; 15]),
        ("a-saga-of-17-bytes", &[7; 17]),
        ("a-saga-in-words", b"0190b5a0-0000-7000-8000-000000000001"),
        ("a-saga-that-is-text", b"not a saga"),
        ("the-nil-saga", &[0; 16]),
    ];
    all.into_iter()
        .map(|(name, bytes)| bent(name, OF_SAGAS, move |fields| fields.bytes(SAGA, bytes)))
}

/// Headers that make no sense with one another.
fn together() -> impl Iterator<Item = Poison> {
    let compensation = |fields: Fields| fields.number(KIND, 2);
    [
        bent("a-compensation-of-nothing", COMMANDS, move |it| {
            compensation(it).bytes(COMPENSATES, b"")
        }),
        bent("a-compensation-of-3-bytes", COMMANDS, move |it| {
            compensation(it).bytes(COMPENSATES, b"abc")
        }),
        bent("a-compensation-of-the-nil-command", COMMANDS, move |it| {
            compensation(it).bytes(COMPENSATES, &[0; 16])
        }),
        Poison::new("a-compensation-of-itself", Flaw::Undecodable, COMMANDS, move |sound| {
            compensation(Fields::of(sound)).bytes(COMPENSATES, sound.id.as_bytes()).encode()
        }),
        bent("a-command-of-no-saga", super::FACTS, |it| it.number(KIND, 1)),
        bent("a-reply-of-no-saga", super::FACTS, |it| it.number(KIND, 3)),
    ]
    .into_iter()
}

fn bent(
    name: &str,
    sorts: &'static [Sort],
    bend: impl Fn(Fields) -> Fields + Send + Sync + 'static,
) -> Poison {
    Poison::new(name, Flaw::Undecodable, sorts, move |sound: &Envelope| {
        bend(Fields::of(sound)).encode()
    })
}
