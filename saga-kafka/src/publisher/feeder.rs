//! The thread that hands records to the producer, in order, however long that takes.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, PurgeConfig, ThreadedProducer};
use saga_core::transport::{Record, partition_for};
use saga_core::{Topic, TransportError};

use super::shared::{Context, DRAIN, Shared, Tracker, Work};
use crate::error::publish_failed;
use crate::topics::Catalog;

/// How long to serve deliveries when the producer's queue is full, before trying again.
const FULL: Duration = Duration::from_millis(5);
/// How long to wait for a broker that is to tell the size of a topic, before looking around.
const METADATA: Duration = Duration::from_secs(1);
/// How long deliveries may take that are decided already.
const REPORTS: Duration = Duration::from_secs(1);

pub(super) struct Feeder {
    producer: ThreadedProducer<Context>,
    shared: Arc<Shared>,
    catalog: Arc<Catalog>,
}

/// Why feeding ended before everything was handed over.
enum Stop {
    /// This batch cannot be appended.
    Broken(TransportError),
    /// The publisher failed elsewhere, or was dropped and had its time.
    Ended,
}

impl Feeder {
    pub(super) fn new(
        producer: ThreadedProducer<Context>,
        shared: Arc<Shared>,
        catalog: Arc<Catalog>,
    ) -> Self {
        Self { producer, shared, catalog }
    }

    /// Feeds until the publisher fails or is dropped; then every receipt is settled.
    pub(super) fn run(self, work: &mpsc::Receiver<Work>) {
        while let Ok(Work::Batch(tracker, records)) = work.recv() {
            match self.feed(&tracker, &records) {
                Ok(()) => {}
                Err(Stop::Ended) => break,
                Err(Stop::Broken(error)) => {
                    self.shared.fail(&error.to_string());
                    tracker.note(error);
                    // Nothing was handed over after what is broken; what was before it is sound.
                    self.await_deliveries(REPORTS);
                    break;
                }
            }
        }
        self.end();
    }

    fn feed(&self, tracker: &Arc<Tracker>, records: &[Record]) -> Result<(), Stop> {
        let mut size: Option<(&Topic, u32)> = None;
        for record in records {
            let partitions = match size {
                Some((topic, partitions)) if *topic == record.topic => partitions,
                _ => self.partitions(&record.topic)?,
            };
            size = Some((&record.topic, partitions));
            let partition = match record.partition {
                None => partition_for(&record.key, partitions),
                Some(partition) if partition < partitions => partition,
                Some(partition) => self.grown(&record.topic, partition)?,
            };
            self.send(tracker, record, partition)?;
        }
        Ok(())
    }

    /// Returns the size of a topic; waits for a broker if it has to.
    fn partitions(&self, topic: &Topic) -> Result<u32, Stop> {
        loop {
            self.may_go_on()?;
            match self.catalog.partitions(topic, METADATA) {
                Ok(0) => return Err(Stop::Broken(unknown(topic))),
                Ok(partitions) => return Ok(partitions),
                Err(TransportError::Unavailable { .. }) => {}
                Err(error) => return Err(Stop::Broken(error)),
            }
        }
    }

    /// Checks a partition that the topic did not have when it was asked for last.
    fn grown(&self, topic: &Topic, partition: u32) -> Result<u32, Stop> {
        loop {
            self.may_go_on()?;
            match self.catalog.refresh(topic, METADATA) {
                Ok(partitions) if partition < partitions => return Ok(partition),
                Ok(_) => {
                    let source = format!("it has no partition {partition}").into();
                    let topic = topic.clone();
                    return Err(Stop::Broken(TransportError::Refused { topic, source }));
                }
                Err(TransportError::Unavailable { .. }) => {}
                Err(error) => return Err(Stop::Broken(error)),
            }
        }
    }

    /// Hands one record over; waits for room if it has to.
    fn send(&self, tracker: &Arc<Tracker>, record: &Record, partition: u32) -> Result<(), Stop> {
        let partition = i32::try_from(partition).expect("Kafka counts partitions in 31 bits");
        let mut next = BaseRecord::with_opaque_to(record.topic.as_str(), Arc::clone(tracker))
            .partition(partition)
            .payload(&record.value[..]);
        if !record.key.is_empty() {
            next = next.key(&record.key[..]);
        }
        if !record.headers.is_empty() {
            next = next.headers(headers(record));
        }
        loop {
            self.may_go_on()?;
            match self.producer.send(next) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), same)) => {
                    next = same;
                    self.producer.poll(FULL);
                }
                Err((error, _)) => {
                    return Err(Stop::Broken(publish_failed(error, &record.topic)));
                }
            }
        }
    }

    fn may_go_on(&self) -> Result<(), Stop> {
        let is_over = self.shared.drain_left() == Some(Duration::ZERO);
        if is_over || self.shared.is_failed() { Err(Stop::Ended) } else { Ok(()) }
    }

    fn end(self) {
        if !self.shared.is_failed() {
            self.await_deliveries(self.shared.drain_left().unwrap_or(DRAIN));
            self.shared.fail("the publisher was dropped");
        } else if self.shared.is_fatal() {
            // The producer has stopped by itself, and is about to say which record was refused.
            self.await_deliveries(REPORTS);
        }
        self.producer.purge(PurgeConfig::default().queue().inflight());
        self.await_deliveries(REPORTS);
        self.shared.settle_rest();
    }

    fn await_deliveries(&self, timeout: Duration) {
        // What is late is purged or settled by the caller.
        let _ = self.producer.flush(timeout);
    }
}

fn unknown(topic: &Topic) -> TransportError {
    TransportError::UnknownTopic { topic: topic.clone() }
}

fn headers(record: &Record) -> OwnedHeaders {
    let empty = OwnedHeaders::new_with_capacity(record.headers.len());
    record.headers.iter().fold(empty, |headers, (key, value)| {
        headers.insert(Header { key, value: Some(&value[..]) })
    })
}
