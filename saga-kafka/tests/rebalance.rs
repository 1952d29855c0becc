//! Members come and go while records flow.

mod broker;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use saga_core::transport::{Delivery, Partition, Position, Received, Record, Subscription};
use saga_core::{ParticipantName, Publisher, Subscriber, Topic, Transport};
use saga_kafka::{KafkaSubscriber, KafkaTransport};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// More than any step here takes, rebalances after a killed member included.
const PATIENCE: Duration = Duration::from_mins(1);

/// A topic, and what one test does with it.
struct Flow {
    transport: KafkaTransport,
    topic: Topic,
    group: ParticipantName,
    partitions: u32,
}

impl Flow {
    async fn new(name: &str) -> Self {
        let transport = broker::transport().await;
        let prefix = broker::prefix(name);
        let topic = Topic::parse(&prefix).expect("the prefix is a topic name");
        let group = ParticipantName::parse(&prefix).expect("the prefix is a group name");
        transport.ensure_topics(std::slice::from_ref(&topic)).await.expect("topics are created");
        let publisher = transport.publisher().await.expect("a publisher can be made");
        let partitions = publisher.partitions(&topic).await.expect("the topic has a size");
        Self { transport, topic, group, partitions }
    }

    async fn join(&self) -> KafkaSubscriber {
        let subscription =
            Subscription { group: self.group.clone(), topics: vec![self.topic.clone()] };
        self.transport.subscriber(subscription).await.expect("a member can join")
    }

    /// Publishes the numbers in order, in batches, one partition after the other.
    async fn publish(&self, numbers: std::ops::Range<u64>) {
        let publisher = self.transport.publisher().await.expect("a publisher can be made");
        let numbers: Vec<_> = numbers.collect();
        let receipts = numbers.chunks(500).map(|chunk| {
            publisher.publish(chunk.iter().map(|number| self.record(*number)).collect())
        });
        for receipt in receipts.collect::<Vec<_>>() {
            receipt.await.expect("the batch is appended");
        }
    }

    fn record(&self, number: u64) -> Record {
        Record {
            topic: self.topic.clone(),
            partition: Some(
                u32::try_from(number % u64::from(self.partitions)).expect("a partition number"),
            ),
            key: Bytes::new(),
            value: Bytes::copy_from_slice(&number.to_be_bytes()),
            headers: Vec::new(),
        }
    }
}

fn number(delivery: &Delivery) -> u64 {
    u64::from_be_bytes(delivery.value[..].try_into().expect("the test publishes 8 bytes"))
}

/// What one period of ownership of one partition received and acknowledged, in order.
#[derive(Debug, Default)]
struct Period {
    received: Vec<u64>,
    acknowledged: HashSet<u64>,
}

type Periods = HashMap<(Partition, u64), Period>;

/// Receives and acknowledges until it is told to stop; then closes, or is dropped.
async fn work(mut member: KafkaSubscriber, stop: CancellationToken, close: bool) -> Periods {
    let mut periods = Periods::new();
    let mut held = HashSet::new();
    loop {
        let received = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            received = member.receive(100) => received.expect("the member receives"),
        };
        match received {
            Received::Assigned(partitions) => held.extend(partitions),
            Received::Revoked(partitions) => {
                for partition in partitions {
                    assert!(held.remove(&partition), "{partition:?} was revoked and not held");
                }
            }
            Received::Deliveries(deliveries) => {
                for delivery in &deliveries {
                    let Position { topic, partition, generation, .. } = &delivery.position;
                    let partition = Partition { topic: topic.clone(), number: *partition };
                    assert!(held.contains(&partition), "{partition:?} is not held");
                    let period = periods.entry((partition, *generation)).or_default();
                    period.received.push(number(delivery));
                    period.acknowledged.insert(number(delivery));
                }
                let positions: Vec<_> = deliveries.into_iter().map(|d| d.position).collect();
                member.acknowledge(&positions);
            }
        }
    }
    if close {
        member.close().await.expect("the member leaves");
    }
    periods
}

fn start(member: KafkaSubscriber, close: bool) -> (CancellationToken, JoinHandle<Periods>) {
    let stop = CancellationToken::new();
    (stop.clone(), tokio::spawn(work(member, stop, close)))
}

async fn stop((stop, task): (CancellationToken, JoinHandle<Periods>)) -> Periods {
    stop.cancel();
    timeout(PATIENCE, task).await.expect("a member stops").expect("a member must not panic")
}

/// Nothing is lost and every period of ownership sees its partition in order, without a hole.
fn check(all: &[Periods], partitions: u32, total: u64) -> u64 {
    let periods: Vec<_> = all.iter().flatten().collect();
    for ((partition, generation), period) in &periods {
        let step = u64::from(partitions);
        let in_order = period.received.windows(2).all(|pair| pair[1] == pair[0] + step);
        assert!(in_order, "{partition:?} in period {generation} must be in order, without a hole");
    }
    let mut times = HashMap::<u64, u64>::new();
    for number in periods.iter().flat_map(|(_, period)| &period.received) {
        *times.entry(*number).or_default() += 1;
    }
    let lost: Vec<_> = (0..total).filter(|number| !times.contains_key(number)).collect();
    assert!(lost.is_empty(), "{} of {total} are lost, first {:?}", lost.len(), lost.first());
    times.values().map(|times| times - 1).sum()
}

/// Receives until the last number of each partition has come.
async fn drain(member: &mut KafkaSubscriber, partitions: u32, total: u64) -> Vec<u64> {
    let mut received = Vec::new();
    let mut last: HashSet<_> = (total - u64::from(partitions)..total).collect();
    let drained = timeout(PATIENCE, async {
        while !last.is_empty() {
            if let Received::Deliveries(deliveries) = member.receive(500).await.expect("receives") {
                for delivery in &deliveries {
                    last.remove(&number(delivery));
                    received.push(number(delivery));
                }
                let positions: Vec<_> = deliveries.into_iter().map(|d| d.position).collect();
                member.acknowledge(&positions);
            }
        }
    });
    drained.await.expect("the last records arrive");
    received
}

/// F12, I5.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_come_and_go_lose_nothing() {
    const TOTAL: u64 = 20_000;
    let flow = Flow::new("rebalance").await;
    let part = TOTAL / 5;
    let mut all = Vec::new();

    let one = start(flow.join().await, true);
    flow.publish(0..part).await;
    let two = start(flow.join().await, true);
    flow.publish(part..2 * part).await;
    let three = start(flow.join().await, true);
    flow.publish(2 * part..3 * part).await;
    all.push(stop(one).await);
    flow.publish(3 * part..4 * part).await;
    all.push(stop(two).await);
    flow.publish(4 * part..TOTAL).await;
    all.push(stop(three).await);

    // Whatever is left is one more period; its partitions arrive interleaved.
    let mut last = flow.join().await;
    flow.publish(TOTAL..TOTAL + u64::from(flow.partitions)).await;
    let total = TOTAL + u64::from(flow.partitions);
    let mut rest = Periods::new();
    for number in drain(&mut last, flow.partitions, total).await {
        let partition =
            u32::try_from(number % u64::from(flow.partitions)).expect("a partition number");
        let partition = Partition { topic: flow.topic.clone(), number: partition };
        rest.entry((partition, u64::MAX)).or_default().received.push(number);
    }
    last.close().await.expect("the member leaves");
    all.push(rest);

    let repeated = check(&all, flow.partitions, total);
    // Each of the 6 hand-overs may repeat what was received and not stored yet, and no more than
    // that: a member stores offsets when it gives its partitions back.
    assert!(repeated <= TOTAL / 4, "{repeated} of {TOTAL} were delivered again");
}

/// F06, F12.
#[tokio::test]
async fn what_a_closed_member_acknowledged_never_comes_again() {
    let flow = Flow::new("closed").await;
    let total = 2_000;
    flow.publish(0..total).await;
    let mut one = flow.join().await;
    assert_eq!(drain(&mut one, flow.partitions, total).await.len() as u64, total);
    one.close().await.expect("the member leaves");

    let markers = u64::from(flow.partitions);
    flow.publish(total..total + markers).await;
    let mut two = flow.join().await;
    let received = drain(&mut two, flow.partitions, total + markers).await;
    assert_eq!(received.len() as u64, markers, "only what is new arrives");
}

/// F12, I5.
#[tokio::test]
async fn a_member_that_is_dropped_hands_over() {
    let flow = Flow::new("dropped").await;
    let total = 1_000;
    flow.publish(0..total).await;
    let mut one = flow.join().await;
    timeout(PATIENCE, one.receive(10)).await.expect("in time").expect("partitions are assigned");
    timeout(PATIENCE, one.receive(10)).await.expect("in time").expect("records are received");
    let mut two = flow.join().await;
    drop(one);
    let mut received = drain(&mut two, flow.partitions, total).await;
    received.sort_unstable();
    received.dedup();
    assert_eq!(received.len() as u64, total, "everything goes to the other member");
}

/// F73, I5.
#[tokio::test]
async fn a_slow_receiver_keeps_its_partitions_and_loses_nothing() {
    // More than waits in memory, so that the member has to pause.
    let flow = Flow::new("slow").await;
    let total = 60_000;
    flow.publish(0..total).await;
    let mut one = flow.join().await;
    let mut received = Vec::new();
    let assigned = timeout(PATIENCE, one.receive(10)).await.expect("in time").expect("assigned");
    assert!(matches!(assigned, Received::Assigned(_)), "{assigned:?}");
    // A second member joins and leaves while nothing is taken: the paused one must answer.
    let mut two = flow.join().await;
    let assigned = timeout(PATIENCE, two.receive(10)).await.expect("in time").expect("assigned");
    assert!(matches!(assigned, Received::Assigned(_)), "{assigned:?}");
    two.close().await.expect("the member leaves");
    let mut last: HashSet<_> = (total - u64::from(flow.partitions)..total).collect();
    while !last.is_empty() {
        let next = timeout(PATIENCE, one.receive(1_000)).await.expect("in time");
        if let Received::Deliveries(deliveries) = next.expect("the member receives") {
            for delivery in deliveries {
                last.remove(&number(&delivery));
                received.push(number(&delivery));
            }
        }
    }
    received.sort_unstable();
    received.dedup();
    assert_eq!(received.len() as u64, total, "nothing is lost by pausing");
}
