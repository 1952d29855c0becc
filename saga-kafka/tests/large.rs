//! What large records cost in memory; alone in its program, so that only they are measured.

#![cfg(target_os = "linux")]

mod broker;
#[path = "../../saga-postgres/tests/support/mod.rs"]
mod database;
mod memory;

use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use bytes::Bytes;
use saga_core::transport::Record;
use saga_core::{Participant, ParticipantName, Publisher as _, Topic, Transport as _};
use saga_kafka::{KafkaConfig, KafkaTransport};

use database::Fresh;
use memory::{MEGABYTE, memory};

/// Appends records of so many bytes to a topic; in a process of its own, whose memory does not count.
async fn send(topic: Topic, count: usize, bytes: usize) {
    let brokers = env::var("KAFKA_BROKERS").expect("it is that of the test");
    let config = KafkaConfig::new(brokers).setting("message.max.bytes", "20971520");
    let publisher = KafkaTransport::new(config).expect("valid").publisher().await.expect("made");
    // The broker's limit is on what is compressed: only zeros can be longer than that.
    let value = if bytes > 1_000_000 { vec![0; bytes] } else { noise(bytes) };
    let value = Bytes::from(value);
    for _ in 0..count {
        let (topic, value) = (topic.clone(), value.clone());
        let record = Record { topic, partition: Some(0), key: "k".into(), value, headers: vec![] };
        publisher.publish(vec![record]).await.expect("appended");
    }
}

/// What no compression makes shorter.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    };
    (0..bytes).map(|_| next()).collect()
}

fn spawn_sender(topic: &Topic, count: usize, bytes: usize) {
    let mut sender = Command::new(env::current_exe().expect("a test knows its own path"));
    sender.env("SEND", format!("{topic} {count} {bytes}"));
    assert!(sender.status().expect("it can be run").success(), "the records are appended");
}

async fn until_set_aside(store: &Fresh, count: i64) {
    let all = async {
        while store.count("dead_letter").await < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_mins(1), all).await;
    assert!(in_time.is_ok(), "never: {count} dead letters");
}

/// Returns how much the process grew at most while that many records were set aside.
async fn growth(store: &Fresh, topic: &Topic, before: i64, count: usize, bytes: usize) -> u64 {
    // From now on the highest figure is that of what comes.
    fs::write("/proc/self/clear_refs", "5").expect("Linux takes it");
    let resident = memory("VmRSS");
    spawn_sender(topic, count, bytes);
    until_set_aside(store, before + i64::try_from(count).expect("a few")).await;
    memory("VmHWM").saturating_sub(resident)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i16_large_records_are_set_aside_in_bounded_memory() {
    if let Ok(order) = env::var("SEND") {
        let mut order = order.split(' ');
        let topic = Topic::parse(order.next().expect("a topic")).expect("a topic");
        let mut number = || order.next().expect("a number").parse().expect("a number");
        return send(topic, number(), number()).await;
    }
    let transport = broker::transport().await;
    let store = database::fresh().await;
    let name = ParticipantName::parse(broker::prefix("large")).expect("a name");
    let topic = name.commands();
    transport.ensure_topics(std::slice::from_ref(&topic)).await.expect("topics are created");
    let participant = Participant::builder(name).build().expect("it has no handlers");
    let participant = participant.start(store.store.clone(), transport);
    spawn_sender(&topic, 100, 100);
    until_set_aside(&store, 100).await;

    let one = growth(&store, &topic, 100, 1, 10 << 20).await;
    assert!(one <= 64 * MEGABYTE, "ten megabytes took {} MB", one / MEGABYTE);
    // What is on its way in queues and outbox counts several times; how much there is does not.
    let many = growth(&store, &topic, 101, 300, 970_000).await;
    assert!(many <= 448 * MEGABYTE, "290 megabytes took {} MB", many / MEGABYTE);
    println!("one: {} MB, many: {} MB", one / MEGABYTE, many / MEGABYTE);
    participant.shutdown().await.expect("an orderly end");
}
