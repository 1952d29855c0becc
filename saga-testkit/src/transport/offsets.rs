//! What is delivered again, and what is not.

use saga_core::Publisher;
use saga_core::Transport;
use tokio::task::yield_now;

use super::Fixture;
use super::reader::{marker, record, texts};

const FIVE: [&str; 5] = ["0", "1", "2", "3", "4"];

/// What a member had not acknowledged is delivered again when it has closed, and when it was dropped.
pub async fn what_is_not_acknowledged_is_delivered_again<T: Transport>(fixture: Fixture<T>) {
    let (topic, _) = fixture.new_topic("again").await;
    fixture.publish(FIVE.iter().map(|value| record(&topic, 1, value)).collect()).await;

    let mut closed = fixture.join("reader", &[&topic]).await;
    let deliveries = closed.take(5).await;
    assert_eq!(texts(&deliveries), FIVE, "a new group must receive everything");
    closed.acknowledge(&deliveries[..2]);
    closed.close().await;

    let mut dropped = fixture.join("reader", &[&topic]).await;
    let deliveries = dropped.take(3).await;
    assert_eq!(texts(&deliveries), FIVE[2..], "what was open must be delivered again, in order");
    drop(dropped);

    let mut last = fixture.join("reader", &[&topic]).await;
    let deliveries = last.take(3).await;
    assert_eq!(texts(&deliveries), FIVE[2..], "also after a member was dropped");
}

/// What was acknowledged, in any order and in several calls, is not delivered to the next member.
pub async fn what_is_acknowledged_is_not<T: Transport>(fixture: Fixture<T>) {
    let (topic, _) = fixture.new_topic("once").await;
    let records =
        FIVE.iter().flat_map(|value| [record(&topic, 0, value), record(&topic, 2, value)]);
    fixture.publish(records.collect()).await;

    let mut first = fixture.join("reader", &[&topic]).await;
    let mut deliveries = first.take(10).await;
    deliveries.reverse();
    first.acknowledge(&deliveries[..4]);
    first.acknowledge(&deliveries[4..]);
    first.acknowledge(&deliveries[4..]); // A second time changes nothing.
    first.close().await;

    fixture.publish(vec![marker(&topic, 0), marker(&topic, 2)]).await;
    let mut second = fixture.join("reader", &[&topic]).await;
    let deliveries = second.up_to_markers(2).await;
    assert!(deliveries.is_empty(), "acknowledged records came again: {:?}", texts(&deliveries));
}

/// An acknowledgement beyond an open delivery does not pass it: the open one is delivered again.
pub async fn a_gap_holds_the_watermark<T: Transport>(fixture: Fixture<T>) {
    let (topic, _) = fixture.new_topic("gap").await;
    fixture.publish(FIVE.iter().map(|value| record(&topic, 0, value)).collect()).await;

    let mut first = fixture.join("reader", &[&topic]).await;
    let deliveries = first.take(5).await;
    first.acknowledge(&deliveries[3..]);
    first.acknowledge(&deliveries[..2]);
    first.close().await;

    fixture.publish(vec![marker(&topic, 0)]).await;
    let mut second = fixture.join("reader", &[&topic]).await;
    let deliveries = second.up_to_markers(1).await;
    let again = texts(&deliveries);
    assert_eq!(again.first(), Some(&"2"), "the open delivery must come again first: {again:?}");
}

/// Dropping the future of `receive`, however often, loses no record and no partition.
pub async fn a_dropped_receive_loses_nothing<T: Transport>(fixture: Fixture<T>) {
    const RECORDS: usize = 200;
    let (topic, partitions) = fixture.new_topic("dropped").await;
    let mut reader = fixture.join("reader", &[&topic]).await;
    let publisher = fixture.publisher().await;
    let mut received = Vec::new();
    for number in 0..RECORDS {
        let receipt = publisher.publish(vec![record(&topic, 0, number.to_string())]);
        fixture.settled(receipt).await.expect("the record must be appended");
        for patience in 0..3 {
            tokio::select! {
                biased;
                deliveries = reader.receive() => received.extend(deliveries),
                () = yields(patience) => {}
            }
        }
    }
    fixture.publish(vec![marker(&topic, 0)]).await;
    received.extend(reader.up_to_markers(1).await);
    let sent: Vec<_> = (0..RECORDS).map(|number| number.to_string()).collect();
    assert_eq!(texts(&received), sent, "every record must arrive, once and in order");
    assert_eq!(reader.held.len(), partitions as usize, "every partition must be assigned");
}

async fn yields(times: usize) {
    for _ in 0..times {
        yield_now().await;
    }
}
