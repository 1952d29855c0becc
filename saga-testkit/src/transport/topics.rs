//! Which topics there are.

use saga_core::transport::{Record, Subscription};
use saga_core::{Publisher, Subscriber, Transport, TransportError};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

use super::Fixture;
use super::reader::record;

/// Asking for a topic that does not exist, publishing to it and subscribing to it are errors, and
/// none of them creates it.
pub async fn an_unknown_topic_is_an_error_and_not_created<T: Transport>(fixture: Fixture<T>) {
    let missing = fixture.topic("missing");
    let publisher = fixture.publisher().await;
    let is_unknown = async |when: &str| {
        let size = fixture.settled(publisher.partitions(&missing)).await;
        let is_unknown =
            matches!(&size, Err(TransportError::UnknownTopic { topic }) if *topic == missing);
        assert!(is_unknown, "{when}, a missing topic must be unknown: {size:?}");
    };
    is_unknown("at first").await;

    for partition in [Some(0), None] {
        let record = Record { partition, ..record(&missing, 0, "lost") };
        let publisher = fixture.publisher().await;
        let result = fixture.settled(publisher.publish(vec![record])).await;
        let is_unknown = matches!(result, Err(TransportError::UnknownTopic { .. }));
        assert!(is_unknown, "publishing to a missing topic must fail: {result:?}");
    }
    is_unknown("after publishing").await;

    let error = subscription_error(&fixture).await;
    let is_missing = matches!(&error, TransportError::UnknownTopic { topic } if *topic == missing);
    assert!(is_missing, "subscribing to a missing topic must say so: {error:?}");
    is_unknown("after subscribing").await;
}

/// Subscribes to the missing topic and returns the error that this or receiving gives.
async fn subscription_error<T: Transport>(fixture: &Fixture<T>) -> TransportError {
    let topics = vec![fixture.topic("missing")];
    let subscription = Subscription { group: fixture.group("reader"), topics };
    let mut subscriber = match fixture.transport.subscriber(subscription).await {
        Ok(subscriber) => subscriber,
        Err(error) => return error,
    };
    let deadline = Instant::now() + fixture.patience;
    loop {
        let received = timeout_at(deadline, subscriber.receive(1)).await;
        match received.expect("receiving from a missing topic must be an error") {
            Err(TransportError::Unavailable { .. }) if Instant::now() < deadline => {
                yield_now().await;
            }
            Err(error) => return error,
            Ok(received) => panic!("nothing can be received of a missing topic: {received:?}"),
        }
    }
}

/// Ensuring a topic again leaves its size and its records alone.
pub async fn ensured_topics_keep_their_partitions<T: Transport>(fixture: Fixture<T>) {
    let (topic, partitions) = fixture.new_topic("ensured").await;
    let last = partitions - 1;
    fixture.publish(vec![record(&topic, last, "kept")]).await;
    let other = fixture.topic("other");
    let both = [topic.clone(), other.clone()];
    for round in 1..=2 {
        fixture.transport.ensure_topics(&both).await.expect("topics can be ensured again");
        let publisher = fixture.publisher().await;
        for topic in &both {
            let size = publisher.partitions(topic).await.expect("an ensured topic has a size");
            assert_eq!(size, partitions, "the size of `{topic}` after ensuring it again, {round}");
        }
    }
    let mut reader = fixture.join("reader", &[&topic]).await;
    let delivery = reader.take(1).await.remove(0);
    assert_eq!(delivery.value, "kept", "ensuring a topic must keep its records");
    assert_eq!(delivery.position.partition, last, "and their places");
}
