//! Topics, their records, and the groups that read them.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

use super::group::Group;
use crate::transport::{Partition, Position, Received, Record, partition_for};
use crate::{ParticipantName, Timestamp, Topic, TransportError};

/// Names a member within its broker; grows in the order of joining.
pub(super) type MemberId = u64;

/// What all handles to one transport share.
#[derive(Default)]
pub(super) struct Broker {
    topics: Topics,
    groups: HashMap<ParticipantName, Group>,
    members: MemberId,
}

/// Each topic's partitions.
pub(super) type Topics = HashMap<Topic, Vec<Log>>;

/// The records of one partition.
#[derive(Default)]
pub(super) struct Log {
    pub(super) records: Vec<Stored>,
    /// Who waits for this partition: the member of each group that holds it.
    pub(super) readers: Vec<Arc<Notify>>,
}

pub(super) struct Stored {
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    pub(super) headers: Vec<(String, Bytes)>,
    pub(super) timestamp: Timestamp,
}

impl Broker {
    pub(super) fn ensure_topics(&mut self, topics: &[Topic], partitions: u32) {
        for topic in topics {
            let new = || (0..partitions).map(|_| Log::default()).collect();
            self.topics.entry(topic.clone()).or_insert_with(new);
        }
    }

    pub(super) fn partitions(&self, topic: &Topic) -> Result<u32, TransportError> {
        let logs = self.topics.get(topic);
        logs.map(|logs| count(logs))
            .ok_or_else(|| TransportError::UnknownTopic { topic: topic.clone() })
    }

    /// Appends records in order up to the first that cannot be, and names whom to wake.
    pub(super) fn append(
        &mut self,
        records: Vec<Record>,
        now: Timestamp,
        wake: &mut Vec<Arc<Notify>>,
    ) -> Result<(), TransportError> {
        for record in records {
            let Record { topic, partition, key, value, headers } = record;
            let Some(logs) = self.topics.get_mut(&topic) else {
                return Err(TransportError::UnknownTopic { topic });
            };
            let partition = partition.unwrap_or_else(|| partition_for(&key, count(logs)));
            let Some(log) = logs.get_mut(partition as usize) else {
                let source = format!("it has no partition {partition}").into();
                return Err(TransportError::Refused { topic, source });
            };
            log.records.push(Stored { key, value, headers, timestamp: now });
            for reader in &log.readers {
                if !wake.iter().any(|known| Arc::ptr_eq(known, reader)) {
                    wake.push(Arc::clone(reader));
                }
            }
        }
        Ok(())
    }

    pub(super) fn join(
        &mut self,
        group: &ParticipantName,
        topics: Vec<Topic>,
        wake: Arc<Notify>,
    ) -> Result<MemberId, TransportError> {
        for topic in &topics {
            self.partitions(topic)?;
        }
        self.members += 1;
        let member = self.members;
        let group = self.groups.entry(group.clone()).or_default();
        group.join(member, topics, wake, &mut self.topics);
        Ok(member)
    }

    pub(super) fn leave(&mut self, group: &ParticipantName, member: MemberId) {
        if let Some(group) = self.groups.get_mut(group) {
            group.leave(member, &mut self.topics);
        }
    }

    pub(super) fn receive(
        &mut self,
        group: &ParticipantName,
        member: MemberId,
        limit: usize,
    ) -> Option<Received> {
        self.groups.get_mut(group)?.receive(member, limit, &self.topics)
    }

    pub(super) fn acknowledge(
        &mut self,
        group: &ParticipantName,
        member: MemberId,
        positions: &[Position],
    ) {
        if let Some(group) = self.groups.get_mut(group) {
            group.acknowledge(member, positions);
        }
    }
}

/// The log of a partition that is assigned, so its topic exists.
pub(super) fn log_mut<'a>(topics: &'a mut Topics, partition: &Partition) -> Option<&'a mut Log> {
    topics.get_mut(&partition.topic)?.get_mut(partition.number as usize)
}

pub(super) fn count(logs: &[Log]) -> u32 {
    u32::try_from(logs.len()).expect("a topic is made with a u32 of partitions")
}
