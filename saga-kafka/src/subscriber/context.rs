//! What the consumer calls back: partitions come and go, offsets were stored or not.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use saga_core::Topic;
use saga_core::transport::Partition;
use tracing::{debug, warn};

use super::shared::{Shared, Start};
use crate::log::Log;

/// How long one question for stored offsets may take, before looking whether it still matters.
const OFFSETS_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct Context {
    shared: Arc<Shared>,
    log: Log,
    /// The partitions that are paused; none of them is given back like that.
    paused: Mutex<Option<TopicPartitionList>>,
}

impl Context {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, log: Log::default(), paused: Mutex::default() }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused().is_some()
    }

    pub(super) fn pause(&self, consumer: &BaseConsumer<Self>) {
        match consumer.assignment().and_then(|held| consumer.pause(&held).map(|()| held)) {
            Ok(held) => *self.paused() = Some(held),
            Err(error) => self.log.error(&error, "partitions cannot be paused"),
        }
    }

    pub(super) fn resume(&self, consumer: &BaseConsumer<Self>) {
        let Some(held) = self.paused().take() else { return };
        if let Err(error) = consumer.resume(&held) {
            self.log.error(&error, "partitions cannot be resumed");
            *self.paused() = Some(held);
        }
    }

    fn paused(&self) -> MutexGuard<'_, Option<TopicPartitionList>> {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds out where the partitions go on; none, if they are lost again meanwhile.
    fn starts(
        &self,
        consumer: &BaseConsumer<Self>,
        partitions: &TopicPartitionList,
    ) -> Option<Vec<Start>> {
        loop {
            match consumer.committed_offsets(partitions.clone(), OFFSETS_TIMEOUT) {
                Ok(stored) => {
                    match stored.elements().iter().find_map(|found| found.error().err()) {
                        None => return Some(starts(&stored)),
                        Some(error) => self.log.error(&error, "a stored offset cannot be read"),
                    }
                }
                Err(error) => self.log.error(&error, "stored offsets cannot be read"),
            }
            if self.shared.is_closing() || consumer.assignment_lost() {
                return None;
            }
        }
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, partitions: &TopicPartitionList) {
        let starts = self.starts(consumer, partitions).unwrap_or_default();
        debug!(partitions = starts.len(), "partitions assigned");
        if let Err(error) = consumer.assign(&list(&starts)) {
            warn!(%error, "partitions cannot be taken");
            return;
        }
        self.shared.assign(starts);
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>) {
        // Who has lost its partitions cannot store offsets: others go on from the stored ones.
        let is_lost = consumer.assignment_lost();
        let moved = self.shared.revoke_all();
        debug!(moved = moved.len(), is_lost, "partitions revoked");
        if !is_lost {
            store(consumer, &moved, CommitMode::Sync);
        }
        // The client would keep a partition paused that comes back.
        self.resume(consumer);
        if let Err(error) = consumer.unassign() {
            warn!(%error, "partitions cannot be given back");
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.message(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(&error, reason);
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.assign(consumer, partitions);
        } else {
            self.revoke(consumer);
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        for stored in offsets.elements() {
            let failed = result.as_ref().err().cloned().or_else(|| stored.error().err());
            if let (Some(error), Some(partition)) = (failed, partition(&stored)) {
                self.log.error(&error, "an offset was not stored");
                self.shared.not_stored(&partition);
            }
        }
    }
}

/// Stores offsets; what fails is tried again by who holds the partition.
pub(super) fn store(
    consumer: &BaseConsumer<Context>,
    moved: &[(Partition, u64)],
    mode: CommitMode,
) -> bool {
    if moved.is_empty() {
        return true;
    }
    let starts: Vec<_> = moved.iter().map(|(p, offset)| (p.clone(), Some(*offset))).collect();
    let result = consumer.commit(&list(&starts), mode);
    if let Err(error) = &result {
        warn!(%error, "offsets were not stored; deliveries will be repeated");
        for (partition, _) in moved {
            consumer.context().shared.not_stored(partition);
        }
    }
    result.is_ok()
}

pub(super) fn list(starts: &[Start]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(starts.len());
    for (partition, start) in starts {
        let offset = start.and_then(|start| i64::try_from(start).ok());
        let offset = offset.map_or(Offset::Beginning, Offset::Offset);
        let number = i32::try_from(partition.number).expect("Kafka gave this number");
        list.add_partition_offset(partition.topic.as_str(), number, offset)
            .expect("the beginning and numbers can be expressed");
    }
    list
}

fn starts(stored: &TopicPartitionList) -> Vec<Start> {
    let starts = stored.elements();
    let starts = starts.iter().filter_map(|found| {
        let offset = match found.offset() {
            Offset::Offset(offset) => u64::try_from(offset).ok(),
            _ => None,
        };
        Some((partition(found)?, offset))
    });
    starts.collect()
}

fn partition(
    found: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>,
) -> Option<Partition> {
    let topic = Topic::parse(found.topic()).ok()?;
    Some(Partition { topic, number: u32::try_from(found.partition()).ok()? })
}
