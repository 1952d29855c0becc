//! A group: who holds which partition, and how far each partition is done.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use tokio::sync::Notify;

use super::broker::{Log, MemberId, Stored, Topics, count, log_mut};
use crate::Topic;
use crate::transport::{Delivery, Partition, Position, Received, Watermark};

/// The members of a group, and where the group stands.
#[derive(Default)]
pub(super) struct Group {
    members: BTreeMap<MemberId, Member>,
    /// Where the next owner of a partition starts; the beginning, if it is not here.
    offsets: HashMap<Partition, u64>,
    /// Counts assignments, so that each has a generation of its own.
    generation: u64,
}

struct Member {
    topics: Vec<Topic>,
    held: BTreeMap<Partition, Held>,
    /// What changed and was not received yet.
    changes: VecDeque<Received>,
    /// The partition that was served last; the next one comes first.
    served: Option<Partition>,
    wake: Arc<Notify>,
}

/// One period of one member's ownership of one partition.
struct Held {
    generation: u64,
    next: u64,
    watermark: Watermark,
}

impl Group {
    pub(super) fn join(
        &mut self,
        member: MemberId,
        subscribed: Vec<Topic>,
        wake: Arc<Notify>,
        topics: &mut Topics,
    ) {
        let (held, changes) = (BTreeMap::new(), VecDeque::new());
        let joined = Member { topics: subscribed, held, changes, served: None, wake };
        self.members.insert(member, joined);
        self.rebalance(topics);
    }

    pub(super) fn leave(&mut self, member: MemberId, topics: &mut Topics) {
        let Some(left) = self.members.remove(&member) else { return };
        for partition in left.held.keys() {
            stop_waking(&left.wake, partition, topics);
        }
        self.rebalance(topics);
    }

    pub(super) fn receive(
        &mut self,
        member: MemberId,
        limit: usize,
        topics: &Topics,
    ) -> Option<Received> {
        let member = self.members.get_mut(&member)?;
        if let Some(change) = member.changes.pop_front() {
            return Some(change);
        }
        let deliveries = member.deliveries(limit, topics);
        (!deliveries.is_empty()).then_some(Received::Deliveries(deliveries))
    }

    pub(super) fn acknowledge(&mut self, member: MemberId, positions: &[Position]) {
        let Some(member) = self.members.get_mut(&member) else { return };
        for position in positions {
            let Position { topic, partition, offset, generation } = position;
            let partition = Partition { topic: topic.clone(), number: *partition };
            match member.held.get_mut(&partition) {
                Some(held) if held.generation == *generation => {
                    held.watermark.acknowledge(*offset);
                    self.offsets.insert(partition, held.watermark.position());
                }
                // The partition has another owner, who receives the record again.
                _ => {}
            }
        }
    }

    /// Gives every partition to one member: what moves is revoked before it is assigned.
    fn rebalance(&mut self, topics: &mut Topics) {
        let mut wanted = self.assignment(topics);
        for (id, member) in &mut self.members {
            let keeps = wanted.get(id);
            let keeps = |partition: &Partition| keeps.is_some_and(|keep| keep.contains(partition));
            let lost: Vec<_> = member.held.keys().filter(|held| !keeps(held)).cloned().collect();
            member.revoke(lost, topics);
        }
        for (id, member) in &mut self.members {
            let wanted = wanted.remove(id).unwrap_or_default();
            let gained: Vec<_> =
                wanted.into_iter().filter(|wanted| !member.held.contains_key(wanted)).collect();
            self.generation += 1;
            member.assign(gained, self.generation, &self.offsets, topics);
        }
    }

    /// Splits each topic into one range per subscribed member, as Kafka's range assignor does: in
    /// topics of equal size, equal numbers meet at one member.
    fn assignment(&self, topics: &Topics) -> HashMap<MemberId, BTreeSet<Partition>> {
        let mut assignment = HashMap::<_, BTreeSet<_>>::new();
        let subscribed: BTreeSet<_> = self.members.values().flat_map(|m| &m.topics).collect();
        for topic in subscribed {
            let members = self.members.iter().filter(|(_, m)| m.topics.contains(topic));
            let members: Vec<_> = members.map(|(id, _)| *id).collect();
            let partitions = topics.get(topic).map_or(0, |logs| count(logs));
            for number in 0..partitions {
                let member = members[range_of(number, partitions, members.len())];
                let partition = Partition { topic: topic.clone(), number };
                assignment.entry(member).or_default().insert(partition);
            }
        }
        assignment
    }
}

/// Which of `members` equal ranges a partition is in; the first ranges are one longer if need be.
fn range_of(number: u32, partitions: u32, members: usize) -> usize {
    let (number, partitions) = (number as usize, partitions as usize);
    let (size, longer) = (partitions / members, partitions % members);
    let in_longer = longer * (size + 1);
    if number < in_longer { number / (size + 1) } else { longer + (number - in_longer) / size }
}

impl Member {
    fn revoke(&mut self, lost: Vec<Partition>, topics: &mut Topics) {
        if lost.is_empty() {
            return;
        }
        for partition in &lost {
            self.held.remove(partition);
            stop_waking(&self.wake, partition, topics);
        }
        self.changes.push_back(Received::Revoked(lost));
        self.wake.notify_one();
    }

    fn assign(
        &mut self,
        gained: Vec<Partition>,
        generation: u64,
        offsets: &HashMap<Partition, u64>,
        topics: &mut Topics,
    ) {
        if gained.is_empty() {
            return;
        }
        for partition in &gained {
            let next = offsets.get(partition).copied().unwrap_or(0);
            let held = Held { generation, next, watermark: Watermark::new(next) };
            self.held.insert(partition.clone(), held);
            if let Some(log) = log_mut(topics, partition) {
                log.readers.push(Arc::clone(&self.wake));
            }
        }
        self.changes.push_back(Received::Assigned(gained));
        self.wake.notify_one();
    }

    /// Takes what is there, in turns, so that a busy partition does not starve the others.
    fn deliveries(&mut self, limit: usize, topics: &Topics) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        let turns = match self.served.clone() {
            Some(served) => vec![
                (Bound::Excluded(served.clone()), Bound::Unbounded),
                (Bound::Unbounded, Bound::Included(served)),
            ],
            None => vec![(Bound::Unbounded, Bound::Unbounded)],
        };
        for turn in turns {
            // The partitions of a topic follow each other: it is looked up once.
            let mut of_topic: Option<(&Topic, &[Log])> = None;
            for (partition, held) in self.held.range_mut(turn) {
                let room = limit - deliveries.len();
                if room == 0 {
                    return deliveries;
                }
                let logs = match of_topic {
                    Some((topic, logs)) if *topic == partition.topic => logs,
                    _ => topics.get(&partition.topic).map_or(&[][..], Vec::as_slice),
                };
                of_topic = Some((&partition.topic, logs));
                let Some(log) = logs.get(partition.number as usize) else { continue };
                let start = usize::try_from(held.next).unwrap_or(usize::MAX).min(log.records.len());
                let fresh = &log.records[start..];
                if fresh.is_empty() {
                    continue;
                }
                let fresh = fresh.iter().take(room);
                deliveries.extend(fresh.map(|stored| held.deliver(partition, stored)));
                self.served = Some(partition.clone());
            }
        }
        deliveries
    }
}

impl Held {
    fn deliver(&mut self, partition: &Partition, stored: &Stored) -> Delivery {
        let offset = self.next;
        self.next += 1;
        self.watermark.delivered(offset);
        Delivery {
            position: Position {
                topic: partition.topic.clone(),
                partition: partition.number,
                offset,
                generation: self.generation,
            },
            key: stored.key.clone(),
            value: stored.value.clone(),
            headers: stored.headers.clone(),
            timestamp: stored.timestamp,
        }
    }
}

fn stop_waking(wake: &Arc<Notify>, partition: &Partition, topics: &mut Topics) {
    if let Some(log) = log_mut(topics, partition) {
        log.readers.retain(|reader| !Arc::ptr_eq(reader, wake));
    }
}

#[cfg(test)]
mod tests {
    use super::range_of;

    #[test]
    fn ranges_cover_the_partitions_evenly_and_in_order() {
        for partitions in 1..20 {
            for members in 1..25 {
                let owners: Vec<_> =
                    (0..partitions).map(|number| range_of(number, partitions, members)).collect();
                assert!(owners.is_sorted() && owners[owners.len() - 1] < members, "{owners:?}");
                let sizes =
                    (0..members).map(|m| owners.iter().filter(|owner| **owner == m).count());
                let (least, most) = (sizes.clone().min().unwrap_or(0), sizes.max().unwrap_or(0));
                assert!(most - least <= 1, "{owners:?}");
            }
        }
    }
}
