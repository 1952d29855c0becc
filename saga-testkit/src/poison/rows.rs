//! Rows of an outbox that cannot be sent, and who reads them back.

use bytes::Bytes;
use saga_core::store::{Lane, OutboxRow, SagaStore, Tick};
use saga_core::transport::Record;
use saga_core::{Engine, Inbox, Outbox as _, OutboxId, Participant, Relay, Topic, Transport};

use super::shop::{SHOP, STOCK, saga};
use super::watch::{Reader, until};
use super::wire::{groups, key, varint};
use crate::Fixture;

/// Where the rows behind the bad ones are sent.
const SENT: Topic = Topic::new("sent");

/// Returns the bodies of outbox rows that nobody can send, each under a name that tells why.
///
/// They stay in the outbox: a person must look at them.
#[must_use]
pub fn rows() -> Vec<(&'static str, Bytes)> {
    let record = |topic: &str, value: &[u8]| {
        let record = [field(1, topic.as_bytes()), field(4, value)].concat();
        field(1, &record)
    };
    let sound = record("sent", b"value");
    let rows: [(&str, Vec<u8>); 16] = [
        ("one-byte", vec![0xff]),
        ("text", b"not a batch".to_vec()),
        ("zeros", vec![0; 1000]),
        ("cut", sound[..sound.len() - 1].to_vec()),
        ("garbage-behind", [&sound[..], &[0xff; 16]].concat()),
        (
            "a-length-of-the-whole-memory",
            vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ),
        ("groups-too-deep", [&sound[..], &groups(101)].concat()),
        ("a-record-that-is-a-number", vec![8, 1]),
        ("no-topic", record("", b"value")),
        ("a-topic-with-nul", record("sent\0", b"value")),
        ("a-topic-with-a-space", record("se nt", b"value")),
        ("a-topic-that-is-too-long", record(&"x".repeat(250), b"value")),
        ("a-topic-that-is-not-utf-8", [&[0x0a, 4, 0x0a, 2][..], b"\xc3\x28"].concat()),
        (
            "a-header-name-that-is-not-utf-8",
            field(1, &[field(1, b"sent"), field(5, &field(1, b"\xff"))].concat()),
        ),
        ("a-sound-record-and-a-bad-one", [sound.clone(), record("/", b"")].concat()),
        ("a-record-of-ten-megabytes", record("sent", &vec![b'x'; 10 << 20])),
    ];
    rows.into_iter().map(|(name, body)| (name, body.into())).collect()
}

fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    key(number, 2, &mut out);
    varint(bytes.len() as u64, &mut out);
    [&out, bytes].concat()
}

/// A relay, an engine and a participant leave outbox rows that cannot be sent where they are, and send the
/// sound row behind them.
pub async fn behind_poison_outbox_rows_are_sent<F, T>(fixture: F, transport: T)
where
    F: Fixture,
    F::Store: SagaStore + Inbox + Clone,
    T: Transport + Clone,
{
    transport.ensure_topics(&[SENT]).await.expect("topics can be created");
    let store = fixture.store();
    let lanes = [Lane::application(), Lane::new(SHOP, 0), Lane::new(STOCK, 0)];
    for lane in &lanes {
        let (topic, key) = (SENT, Bytes::from(lane.to_string()));
        let sound =
            Record { topic, partition: None, key, value: "sound".into(), headers: Vec::new() };
        let bad = rows().into_iter().map(|(_, body)| OutboxRow {
            id: OutboxId::now(),
            lane: lane.clone(),
            body,
        });
        let outbox = bad.chain([OutboxRow::new(lane.clone(), &[sound])]).collect();
        store.commit(Tick { outbox, ..Tick::default() }).await.expect("rows are only bytes");
    }

    let relay = Relay::start(store.clone(), transport.clone());
    let engine = Engine::builder(SHOP, store.clone()).saga(saga()).transport(transport.clone());
    let engine = engine.start().expect("the parts fit");
    let stock = Participant::builder(STOCK).build().expect("it has no handlers");
    let stock = stock.start(store.clone(), transport.clone());
    let mut reader = Reader::join(&transport, SENT).await;
    let mut waiting: Vec<_> = lanes.iter().map(Lane::to_string).collect();
    while !waiting.is_empty() {
        for delivery in reader.receive(|| format!("sound rows of {waiting:?}")).await {
            assert_eq!(delivery.value, "sound", "nothing of a bad row may be sent");
            waiting.retain(|lane| delivery.key != lane.as_bytes());
        }
    }

    let bodies: Vec<_> = rows().into_iter().map(|(_, body)| body).collect();
    for lane in &lanes {
        let only_bad_ones = async || {
            let rows = store.unsent(std::slice::from_ref(lane), usize::MAX).await;
            let rows = rows.expect("the outbox can be read");
            rows.into_iter().map(|row| row.body).eq(bodies.iter().cloned())
        };
        until(&format!("only the bad rows are left in {lane}"), only_bad_ones).await;
    }
    relay.shutdown().await.expect("bad rows must not end a relay");
    engine.shutdown().await.expect("bad rows must not end an engine");
    stock.shutdown().await.expect("bad rows must not end a participant");
}
