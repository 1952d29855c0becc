//! Sound envelopes around a payload that is not what its type says.

use saga_core::Envelope;

use super::wire::{Fields, PAYLOAD};
use super::{ANY, Flaw, Poison};

pub(super) fn all() -> impl Iterator<Item = Poison> {
    replaced().chain(bent())
}

/// Payloads that do not depend on the sound one.
fn replaced() -> impl Iterator<Item = Poison> {
    let all: [(&str, Vec<u8>); 18] = [
        ("an-empty-payload", Vec::new()),
        ("a-payload-of-null", b"null".to_vec()),
        ("a-payload-of-true", b"true".to_vec()),
        ("a-payload-of-a-list", b"[]".to_vec()),
        ("a-payload-of-no-fields", b"{}".to_vec()),
        ("a-payload-of-a-text", br#""order""#.to_vec()),
        ("a-payload-of-nan", b"NaN".to_vec()),
        ("a-payload-of-infinity", b"-Infinity".to_vec()),
        ("a-payload-of-the-lowest-number", b"-9223372036854775809".to_vec()),
        ("a-payload-of-1e999", b"1e999".to_vec()),
        ("a-payload-of-zeros", vec![0; 1000]),
        ("a-payload-of-garbage", (0..=255).cycle().take(1000).collect()),
        ("a-payload-of-900-kilobytes", vec![b'x'; 900_000]),
        // A message that quotes it with escapes is three times as long.
        (
            "a-payload-of-900-kilobytes-to-escape",
            format!("\"{}\"", "\u{200b}".repeat(300_000)).into(),
        ),
        ("lists-a-hundred-deep", nested("[", 100)),
        ("lists-a-hundred-thousand-deep", nested("[", 100_000)),
        ("objects-a-hundred-thousand-deep", nested("{\"x\":", 100_000)),
        ("a-payload-of-another-format", vec![0x0a, 3, b'o', b'-', b'1']),
    ];
    all.into_iter().map(|(name, payload)| poison(name, Flaw::Payload, move |_| payload.clone()))
}

fn nested(opening: &str, depth: usize) -> Vec<u8> {
    opening.repeat(depth).into_bytes()
}

/// Sound payloads with one change.
fn bent() -> impl Iterator<Item = Poison> {
    let with = |name, flaw, field: String| poison(name, flaw, move |sound| inside(sound, &field));
    let deep = format!("\"x\":{}{},", "[".repeat(100), "]".repeat(100));
    let text = |name, flaw, start: &'static [u8]| {
        poison(name, flaw, move |sound| in_first_text(sound, start))
    };
    [
        poison("half-a-payload", Flaw::Payload, |sound| sound[..sound.len() / 2].to_vec()),
        poison("a-payload-and-garbage", Flaw::Payload, |sound| [sound, &b"\0}"[..]].concat()),
        poison("a-payload-twice", Flaw::Payload, |sound| [sound, sound].concat()),
        poison("a-byte-order-mark", Flaw::Payload, |sound| [b"\xef\xbb\xbf", sound].concat()),
        with("an-amount-that-is-nan", Flaw::Payload, "\"x\":NaN,".to_owned()),
        with("an-amount-that-is-infinite", Flaw::Payload, "\"x\":Infinity,".to_owned()),
        with("an-amount-that-is-empty", Flaw::Payload, "\"x\":,".to_owned()),
        with("an-amount-of-1e999", Flaw::Strange, "\"x\":1e999,".to_owned()),
        with(
            "an-amount-of-a-thousand-digits",
            Flaw::Strange,
            format!("\"x\":{},", "9".repeat(1000)),
        ),
        with("a-future-field-a-hundred-deep", Flaw::Strange, deep),
        text("half-a-surrogate", Flaw::Payload, br"\ud800"),
        text("a-text-that-is-not-utf-8", Flaw::Payload, b"\xc3\x28"),
        text("a-text-with-a-control-character", Flaw::Payload, b"\x01"),
        text("a-text-with-nul", Flaw::Text, br"\u0000"),
        text("a-text-with-escapes", Flaw::Text, br"\u001b[2J\r\n\u202e"),
    ]
    .into_iter()
}

fn poison(
    name: &str,
    flaw: Flaw,
    payload: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static,
) -> Poison {
    Poison::new(name, flaw, ANY, move |sound: &Envelope| {
        Fields::of(sound).bytes(PAYLOAD, &payload(sound.payload.as_bytes())).encode()
    })
}

/// Puts a field in front of those of a JSON object.
fn inside(sound: &[u8], field: &str) -> Vec<u8> {
    let fields = sound.strip_prefix(b"{").expect("the sound payload is a JSON object");
    [b"{", field.as_bytes(), fields].concat()
}

/// Puts something in front of the first text that is the value of a field.
fn in_first_text(sound: &[u8], start: &[u8]) -> Vec<u8> {
    let opening = b":\"";
    let at = sound.windows(opening.len()).position(|it| it == opening);
    let at = at.expect("the sound payload has a text in it") + opening.len();
    [&sound[..at], start, &sound[at..]].concat()
}
