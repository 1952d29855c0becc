//! Records whose key or headers are what is bad, around a sound value and around none.

use bytes::Bytes;
use saga_core::Envelope;

use super::{ANY, Dose, Flaw, Poison};

type Headers = Vec<(String, Bytes)>;

pub(super) fn all() -> impl Iterator<Item = Poison> {
    let sound = with_headers().chain(with_keys());
    let broken = with_headers().chain(with_keys()).map(|poison| {
        let Poison { name, bend, .. } = poison;
        // These are kept byte for byte with the message, and sent on with it if there is room.
        let bend = move |sound: &Envelope| Dose {
            value: Bytes::from_static(b"no envelope"),
            ..bend(sound)
        };
        let name = format!("no-envelope-with-{name}");
        Poison { name, flaw: Flaw::Undecodable, bends: ANY, bend: Box::new(bend) }
    });
    sound.chain(broken)
}

fn with_headers() -> impl Iterator<Item = Poison> {
    let all: [(&str, Headers); 9] = [
        ("a-thousand-headers", (0..1000).map(|n| header(&format!("h-{n}"), b"v")).collect()),
        ("one-header-a-thousand-times", vec![header("again", b"v"); 1000]),
        ("headers-that-differ", vec![header("a", b"1"), header("a", b"2"), header("A", b"3")]),
        ("headers-that-are-not-utf-8", vec![header("h", b"\xff\xfe\0\xc3\x28")]),
        ("headers-without-names", vec![header("", b"v"), header("", b"")]),
        // A million bytes, and the names are the smaller part of it. Some clients read no more headers.
        ("a-hundred-thousand-headers", vec![header("overhead", b""); 100_000]),
        ("headers-of-900-kilobytes", vec![header("h", &[b'x'; 900_000])]),
        ("a-name-of-60-kilobytes", vec![header(&"n".repeat(60_000), b"v")]),
        (
            "the-headers-of-a-dead-letter",
            vec![header("ow-dlq-reason", b"forged"), header("kafka_dlt-original-topic", b"other")],
        ),
    ];
    all.into_iter().map(|(name, headers)| {
        let key = Bytes::from(name);
        around(name, move |sound| Dose {
            key: key.clone(),
            value: sound.encode(),
            headers: headers.clone(),
        })
    })
}

fn with_keys() -> impl Iterator<Item = Poison> {
    let all: [(&str, Vec<u8>); 3] = [
        ("no-key", Vec::new()),
        ("a-key-that-is-not-utf-8", b"\xff\0\xc3\x28".to_vec()),
        // As large as Kafka takes with the defaults, so that nothing fits beside it.
        ("a-key-of-a-megabyte", vec![b'k'; 1_030_000]),
    ];
    all.into_iter().map(|(name, key)| {
        let key = Bytes::from(key);
        around(name, move |sound| Dose {
            key: key.clone(),
            value: sound.encode(),
            headers: Vec::new(),
        })
    })
}

fn around(name: &str, bend: impl Fn(&Envelope) -> Dose + Send + Sync + 'static) -> Poison {
    Poison { name: name.to_owned(), flaw: Flaw::Strange, bends: ANY, bend: Box::new(bend) }
}

fn header(name: &str, value: &[u8]) -> (String, Bytes) {
    (name.to_owned(), Bytes::copy_from_slice(value))
}
