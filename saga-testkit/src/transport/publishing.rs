//! What is published, where, and in which order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use saga_core::transport::{Record, partition_for};
use saga_core::{Clock, Publisher, SystemClock, Transport, TransportError};

use super::Fixture;
use super::reader::{marker, record, text, texts};

const HOUR: Duration = Duration::from_hours(1);

/// Key, value and headers arrive byte for byte, with the time of publishing.
pub async fn a_published_record_is_delivered<T: Transport>(fixture: Fixture<T>) {
    let (topic, _) = fixture.new_topic("bytes").await;
    let header = |name: &str, value: &'static [u8]| (name.to_owned(), Bytes::from_static(value));
    let plain = Record { key: "key".into(), ..record(&topic, 1, "value") };
    let records = vec![
        plain.clone(),
        Record { key: Bytes::from_static(b"\x00\xff\x80"), ..plain.clone() },
        Record { key: Bytes::new(), ..plain.clone() },
        Record { value: Bytes::new(), ..plain.clone() },
        Record { value: Bytes::from_static(b"\x00\xff\x80"), ..plain.clone() },
        Record { value: vec![0xa5; 100_000].into(), ..plain.clone() },
        Record {
            headers: vec![
                header("trace", b"\x00\xfe"),
                header("empty", b""),
                header("trace", b"second"),
            ],
            ..plain
        },
    ];
    let before = SystemClock::new().now();
    fixture.publish(records.clone()).await;
    let mut reader = fixture.join("reader", &[&topic]).await;
    let deliveries = reader.take(records.len()).await;
    assert_eq!(deliveries.len(), records.len(), "each record must be delivered once");
    for (delivery, record) in deliveries.iter().zip(&records) {
        assert_eq!(delivery.key, record.key, "the key must arrive as it was published");
        assert_eq!(delivery.value, record.value, "the value must arrive as it was published");
        assert_eq!(delivery.headers, record.headers, "headers must arrive as they were published");
        let (early, late) = (before - HOUR, before + HOUR);
        let timestamp = delivery.timestamp;
        assert!(early < timestamp && timestamp < late, "{timestamp} must be when it was published");
    }
}

/// Records of a partition arrive in the order that they were published in, on growing offsets, by
/// one publisher and by the next that starts when the receipts are there.
pub async fn records_of_a_partition_keep_their_order<T: Transport>(fixture: Fixture<T>) {
    let (topic, _) = fixture.new_topic("order").await;
    let mut sent = BTreeMap::<u32, Vec<String>>::new();
    for publisher_number in 0..2 {
        let publisher = fixture.publisher().await;
        let mut receipts = Vec::new();
        for batch in 0..20 {
            let records = (0..10_u32).map(|n| {
                let (partition, value) = (n % 3, format!("{publisher_number}-{batch}-{n}"));
                sent.entry(partition).or_default().push(value.clone());
                record(&topic, partition, value)
            });
            receipts.push(publisher.publish(records.collect()));
            if batch % 5 == 0 {
                for receipt in receipts.drain(..) {
                    fixture.settled(receipt).await.expect("the batch must be appended");
                }
            }
        }
        for receipt in receipts {
            fixture.settled(receipt).await.expect("the batch must be appended");
        }
    }
    fixture.publish((0..3).map(|partition| marker(&topic, partition)).collect()).await;
    let mut reader = fixture.join("reader", &[&topic]).await;
    let deliveries = reader.up_to_markers(3).await;
    for (partition, sent) in sent {
        let of_it = deliveries.iter().filter(|delivery| delivery.position.partition == partition);
        let of_it: Vec<_> = of_it.cloned().collect();
        assert_eq!(texts(&of_it), sent, "partition {partition} must keep its order");
        let offsets: Vec<_> = of_it.iter().map(|delivery| delivery.position.offset).collect();
        assert!(offsets.is_sorted_by(|one, next| one < next), "offsets must grow: {offsets:?}");
    }
}

/// Batches are in the order of the calls, although no receipt was awaited in between.
pub async fn batches_are_appended_in_call_order<T: Transport>(fixture: Fixture<T>) {
    let (topic, _) = fixture.new_topic("batches").await;
    let publisher = fixture.publisher().await;
    // The sizes differ, so that a small batch has a reason to overtake a big one.
    let batches = (0..60).map(|batch| {
        let size = if batch % 3 == 0 { 40 } else { 1 };
        let values = (0..size).map(|n| format!("{batch}-{n}"));
        values.collect::<Vec<_>>()
    });
    let batches: Vec<_> = batches.collect();
    let receipts = batches.iter().map(|batch| {
        publisher.publish(batch.iter().map(|value| record(&topic, 0, value)).collect())
    });
    let receipts: Vec<_> = receipts.collect();
    let last = publisher.publish(vec![marker(&topic, 0)]);
    fixture.settled(last).await.expect("the marker must be appended");
    for receipt in receipts.into_iter().rev() {
        fixture.settled(receipt).await.expect("each batch must be appended");
    }
    let mut reader = fixture.join("reader", &[&topic]).await;
    let deliveries = reader.up_to_markers(1).await;
    assert_eq!(texts(&deliveries), batches.concat(), "batches must be in the order of the calls");
}

/// Records without a partition go where [`partition_for`] says, whichever publisher they take.
pub async fn a_key_stays_in_one_partition<T: Transport>(fixture: Fixture<T>) {
    let (topic, partitions) = fixture.new_topic("keys").await;
    let keys: Vec<_> = (0..20).map(|key| Bytes::from(format!("key-{key}"))).collect();
    for round in 0..3 {
        let records = keys.iter().map(|key| Record {
            partition: None,
            key: key.clone(),
            ..record(&topic, 0, format!("{round}"))
        });
        fixture.publish(records.collect()).await;
    }
    let mut reader = fixture.join("reader", &[&topic]).await;
    let deliveries = reader.take(3 * keys.len()).await;
    for delivery in &deliveries {
        let (key, partition) = (&delivery.key, delivery.position.partition);
        assert_eq!(partition, partition_for(key, partitions), "the partition of key {key:?}");
    }
    let used: BTreeSet<_> = deliveries.iter().map(|delivery| delivery.position.partition).collect();
    assert!(used.len() > 1, "20 keys must not meet in one partition");
}

/// A record with a partition is delivered in that one, whatever its key.
pub async fn an_explicit_partition_is_kept<T: Transport>(fixture: Fixture<T>) {
    let (topic, partitions) = fixture.new_topic("explicit").await;
    let records = (0..partitions).map(|partition| record(&topic, partition, partition.to_string()));
    fixture.publish(records.collect()).await;
    let mut reader = fixture.join("reader", &[&topic]).await;
    for delivery in reader.take(partitions as usize).await {
        let partition = delivery.position.partition;
        assert_eq!(text(&delivery), partition.to_string(), "the partition that was asked for");
    }
}

/// After one record could not be appended, no later one is, of its call or of another one.
pub async fn a_failed_publisher_takes_nothing_more<T: Transport>(fixture: Fixture<T>) {
    let (topic, _) = fixture.new_topic("failing").await;
    let missing = fixture.topic("missing");
    let publisher = fixture.publisher().await;
    let first = publisher.publish(vec![record(&topic, 0, "before")]);
    fixture.settled(first).await.expect("the publisher must be sound at first");

    let broken = vec![record(&missing, 0, "broken"), record(&topic, 0, "behind it")];
    let failed = fixture.settled(publisher.publish(broken)).await;
    assert!(failed.is_err(), "a batch must fail with one of its records");
    for attempt in 1..=3 {
        let later = vec![record(&topic, 0, format!("later {attempt}"))];
        let later = fixture.settled(publisher.publish(later)).await;
        let is_failed = matches!(later, Err(TransportError::PublisherFailed { .. }));
        assert!(is_failed, "a failed publisher must take nothing: {later:?}");
    }
    fixture.publish(vec![marker(&topic, 0)]).await;
    let mut reader = fixture.join("reader", &[&topic]).await;
    let deliveries = reader.up_to_markers(1).await;
    assert_eq!(texts(&deliveries), ["before"], "nothing may overtake what failed");
}
