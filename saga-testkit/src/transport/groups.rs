//! Who receives what.

use std::collections::BTreeSet;

use saga_core::transport::{Delivery, Partition, Record};
use saga_core::{Subscriber, Topic, Transport};
use tokio::time::sleep_until;

use super::Fixture;
use super::reader::{Reader, marker, partition_of, record, texts};

/// Each group receives everything, whatever the others acknowledge.
pub async fn groups_receive_independently<T: Transport>(fixture: Fixture<T>) {
    let (topic, _) = fixture.new_topic("groups").await;
    let values: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    fixture.publish(values.iter().map(|value| record(&topic, 0, value)).collect()).await;

    let mut one = fixture.join("one", &[&topic]).await;
    let mut other = fixture.join("other", &[&topic]).await;
    let deliveries = one.take(values.len()).await;
    assert_eq!(texts(&deliveries), values, "one group must receive everything");
    one.acknowledge(&deliveries);
    one.close().await;
    assert_eq!(texts(&other.take(values.len()).await), values, "the other group must as well");
    other.close().await;

    let mut other = fixture.join("other", &[&topic]).await;
    let again = other.take(values.len()).await;
    assert_eq!(texts(&again), values, "an acknowledgement must only count for its own group");
}

/// A group that is new starts at the first record, also where other groups have gone on.
pub async fn a_new_group_starts_at_the_beginning<T: Transport>(fixture: Fixture<T>) {
    let (topic, partitions) = fixture.new_topic("beginning").await;
    let old = (0..partitions).map(|partition| record(&topic, partition, "old"));
    fixture.publish(old.collect()).await;
    let mut earlier = fixture.join("earlier", &[&topic]).await;
    let deliveries = earlier.take(partitions as usize).await;
    earlier.acknowledge(&deliveries);
    earlier.close().await;

    fixture.publish((0..partitions).map(|partition| marker(&topic, partition)).collect()).await;
    let mut new = fixture.join("new", &[&topic]).await;
    let deliveries = new.up_to_markers(partitions as usize).await;
    let found: BTreeSet<_> = deliveries.iter().map(partition_of).collect();
    assert_eq!(found, all(&[&topic], partitions), "a new group must receive what is old");
}

/// Members split the partitions, equal numbers of topics of equal size meet at one member, each
/// record goes to one of them, and what a member leaves goes to the others.
pub async fn members_of_a_group_share_the_partitions<T: Transport>(fixture: Fixture<T>) {
    let (commands, partitions) = fixture.new_topic("commands").await;
    let (events, _) = fixture.new_topic("events").await;
    let topics = [&commands, &events];
    let everything = all(&topics, partitions);
    let mut one = fixture.join("group", &topics).await;
    one.hold(everything.len()).await;
    let mut two = fixture.join("group", &topics).await;
    share(&mut one, &mut two, &everything).await;
    for partition in &everything {
        let [twin, other] = topics.map(|topic| Partition { topic: topic.clone(), ..*partition });
        let together = one.held.contains(&twin) == one.held.contains(&other);
        assert!(together, "{twin:?} and {other:?} must be held by the same member");
    }

    fixture.publish(of_each(&everything, "shared")).await;
    fixture.publish(everything.iter().map(|p| marker(&p.topic, p.number)).collect()).await;
    let mut received = one.up_to_markers(one.held.len()).await;
    received.extend(two.up_to_markers(two.held.len()).await);
    let found: BTreeSet<_> = received.iter().map(partition_of).collect();
    assert_eq!(found, everything, "each partition's record must be received");
    assert_eq!(received.len(), everything.len(), "and by one member only");

    two.close().await;
    one.hold(everything.len()).await;
    assert_eq!(one.held, everything, "what a member leaves must go to the other one");
}

/// A position that was received in an earlier period of ownership acknowledges nothing, whether the
/// partition is another member's or came back.
pub async fn an_acknowledgement_of_a_lost_partition_is_ignored<T: Transport>(fixture: Fixture<T>) {
    let (topic, partitions) = fixture.new_topic("lost").await;
    let everything = all(&[&topic], partitions);
    fixture.publish(of_each(&everything, "open")).await;
    let mut one = fixture.join("group", &[&topic]).await;
    let before = one.take(everything.len()).await;

    let mut two = fixture.join("group", &[&topic]).await;
    share(&mut one, &mut two, &everything).await;
    let lost = |delivery: &&Delivery| !one.held.contains(&partition_of(delivery));
    let lost: Vec<_> = before.iter().filter(lost).cloned().collect();
    one.acknowledge(&lost);
    let taken = two.take(lost.len()).await;
    two.close().await;
    one.hold(everything.len()).await;
    one.of_each(&lost.iter().map(partition_of).collect()).await;
    one.acknowledge(&lost);
    one.acknowledge(&taken); // These are the other member's.
    one.close().await;

    fixture.publish(everything.iter().map(|p| marker(&p.topic, p.number)).collect()).await;
    let mut three = fixture.join("group", &[&topic]).await;
    let again = three.up_to_markers(everything.len()).await;
    let again: BTreeSet<_> = again.iter().map(partition_of).collect();
    assert_eq!(again, everything, "no record was acknowledged by who held its partition");
}

/// Drives both members until they have split the partitions.
async fn share<S: Subscriber>(
    one: &mut Reader<S>,
    two: &mut Reader<S>,
    everything: &BTreeSet<Partition>,
) {
    let deadline = one.deadline();
    let is_shared = |one: &Reader<S>, two: &Reader<S>| {
        let is_split = !one.held.is_empty() && !two.held.is_empty();
        let union: BTreeSet<_> = one.held.union(&two.held).cloned().collect();
        is_split && one.held.is_disjoint(&two.held) && union == *everything
    };
    while !is_shared(one, two) {
        tokio::select! {
            deliveries = one.receive() => one.keep(deliveries),
            deliveries = two.receive() => two.keep(deliveries),
            () = sleep_until(deadline) => {
                panic!("two members must split the partitions: {:?} and {:?}", one.held, two.held);
            }
        }
    }
}

fn all(topics: &[&Topic], partitions: u32) -> BTreeSet<Partition> {
    let all = topics.iter().flat_map(|&topic| {
        (0..partitions).map(move |number| Partition { topic: topic.clone(), number })
    });
    all.collect()
}

fn of_each(partitions: &BTreeSet<Partition>, value: &str) -> Vec<Record> {
    partitions.iter().map(|partition| record(&partition.topic, partition.number, value)).collect()
}
