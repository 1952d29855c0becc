//! What nobody sound would send, to every consumer, on a real broker and a real database.

#[path = "../broker/mod.rs"]
mod broker;
#[path = "../../../saga-postgres/tests/support/mod.rs"]
mod database;
#[path = "../private/mod.rs"]
mod private;
mod raw;

use std::env;
use std::time::Duration;

use bytes::Bytes;
use saga_core::transport::{Delivery, Received, Subscription};
use saga_core::{ParticipantName, Subscriber, Topic, Transport as _};
use saga_kafka::{KafkaConfig, KafkaTransport};
use saga_testkit::poison;
use tokio::time::timeout;

use private::Private;

/// A transport with the defaults, and one to the same topics that sends ten megabytes at once.
async fn transports() -> (Private<KafkaTransport>, Private<KafkaTransport>) {
    let prefix = broker::prefix("poison");
    let sound = broker::transport().await;
    let brokers = env::var("KAFKA_BROKERS").expect("the other transport was made of it");
    let hostile = KafkaConfig::new(brokers).setting("message.max.bytes", "20971520");
    let hostile = KafkaTransport::new(hostile).expect("the configuration is valid");
    (Private::new(sound, &prefix), Private::new(hostile, &prefix))
}

/// F30, F31, F33, F34, I12.
#[test]
fn commands_one_by_one() {
    saga_testkit::run(async {
        let (transport, hostile) = transports().await;
        let store = database::fresh().await;
        poison::behind_poison_commands_are_carried_out(store, transport, &hostile).await;
    });
}

/// F30, F31, F33, F34, I12.
#[test]
fn commands_together() {
    saga_testkit::run(async {
        let (transport, hostile) = transports().await;
        let store = database::fresh().await;
        poison::behind_poison_commands_are_carried_out_together(store, transport, &hostile).await;
    });
}

/// F30, F31, F33, F34, I12.
#[test]
fn external_calls() {
    saga_testkit::run(async {
        let (transport, hostile) = transports().await;
        let store = database::fresh().await;
        poison::behind_poison_external_calls_are_made(store, transport, &hostile).await;
    });
}

/// F30, F31, F33, F34, I12.
#[test]
fn replies() {
    saga_testkit::run(async {
        let (transport, hostile) = transports().await;
        let store = database::fresh().await;
        poison::behind_poison_replies_are_taken(store, transport, &hostile).await;
    });
}

/// F30, F31, F33, I12.
#[test]
fn facts() {
    saga_testkit::run(async {
        let (transport, hostile) = transports().await;
        let store = database::fresh().await;
        poison::behind_poison_facts_start_sagas(store, transport, &hostile).await;
    });
}

/// F30, F31, F33, I12.
#[test]
fn participant_facts() {
    saga_testkit::run(async {
        let (transport, hostile) = transports().await;
        let store = database::fresh().await;
        poison::behind_poison_facts_are_handled(store, transport, &hostile).await;
    });
}

/// F30, F31, F33, I12.
#[test]
fn participant_facts_together() {
    saga_testkit::run(async {
        let (transport, hostile) = transports().await;
        let store = database::fresh().await;
        poison::behind_poison_facts_are_handled_together(store, transport, &hostile).await;
    });
}

/// F30, I12.
#[test]
fn outbox_rows() {
    saga_testkit::run(async {
        let (transport, _) = transports().await;
        let store = database::fresh().await;
        poison::behind_poison_outbox_rows_are_sent(store, transport).await;
    });
}

/// F30, I12.
///
/// The client library panics over a header whose name is no text.
#[tokio::test]
async fn a_header_name_that_is_not_utf_8_ends_no_subscriber() {
    let transport = broker::transport().await;
    let topic = Topic::parse(broker::prefix("header-names")).expect("the prefix is a topic name");
    transport.ensure_topics(std::slice::from_ref(&topic)).await.expect("topics are created");
    let brokers = env::var("KAFKA_BROKERS").expect("the transport was made of it");
    let append = |key: &[u8], value: Option<&[u8]>, headers: &[raw::Header<'_>]| {
        raw::append(&brokers, topic.as_str(), 0, key, value, headers);
    };
    append(
        b"bad",
        Some(b"value"),
        &[(b"first", Some(b"1")), (b"\xff\xfe", Some(b"2")), (b"third", None)],
    );
    append(b"null", None, &[]);
    append(b"good", Some(b"sound"), &[(b"h", Some(b"\0\xff"))]);

    let group = ParticipantName::parse(topic.as_str()).expect("the prefix is a group name");
    let subscription = Subscription { group, topics: vec![topic] };
    let mut subscriber = transport.subscriber(subscription).await.expect("a member can join");
    let mut deliveries: Vec<Delivery> = Vec::new();
    let taken = timeout(Duration::from_secs(30), async {
        while deliveries.len() < 3 {
            if let Received::Deliveries(more) = subscriber.receive(10).await.expect("receives") {
                deliveries.extend(more);
            }
        }
    });
    taken.await.expect("the records arrive");
    let header = |name: &str, value: &'static [u8]| (name.to_owned(), Bytes::from_static(value));
    assert_eq!((&deliveries[0].key[..], &deliveries[0].value[..]), (&b"bad"[..], &b"value"[..]));
    let expected = [header("first", b"1"), header("\u{fffd}", b""), header("third", b"")];
    assert_eq!(deliveries[0].headers, expected, "what can be read of the headers is kept");
    assert_eq!((&deliveries[1].key[..], &deliveries[1].value[..]), (&b"null"[..], &b""[..]));
    assert_eq!(deliveries[2].headers, [header("h", b"\0\xff")]);
}
