//! The thread of a member: polls the broker, hands deliveries over, stores offsets.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use saga_core::transport::{Delivery, Partition, Position, Subscription};
use saga_core::{Timestamp, Topic, TransportError};
use tokio::sync::oneshot;
use tracing::warn;

use super::context::{Context, list, store};
use super::shared::{Shared, size};
use crate::KafkaConfig;
use crate::error::{refused_setting, wrong_configuration};
use crate::topics::ask;

/// How long to wait for the broker before looking after offsets and closing.
const POLL: Duration = Duration::from_millis(50);
/// How often offsets are stored that have moved.
const STORE_INTERVAL: Duration = Duration::from_millis(150);
/// How many records are handed over at once, and how many bytes, give or take one record.
const HAND_OVER: usize = 1_000;
const HAND_OVER_BYTES: usize = 4 << 20;
/// How long the broker may be left alone while nobody takes deliveries. Other members wait for
/// this one in a rebalance, so it is short; pausing throws away what was fetched, so it is not 0.
const STANDSTILL: Duration = Duration::from_secs(1);
/// How long a question about a topic may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

type Started = oneshot::Sender<Result<(), TransportError>>;
type Left = oneshot::Sender<Result<(), TransportError>>;

pub(super) struct Member {
    config: Arc<KafkaConfig>,
    subscription: Subscription,
    shared: Arc<Shared>,
}

/// Why consuming ended.
#[derive(PartialEq)]
enum End {
    Closing,
    /// This client can do nothing more; another one can.
    Fatal,
}

impl Member {
    pub(super) const fn new(
        config: Arc<KafkaConfig>,
        subscription: Subscription,
        shared: Arc<Shared>,
    ) -> Self {
        Self { config, subscription, shared }
    }

    pub(super) fn run(self, started: Started, left: Left) {
        let mut consumer = match self.subscribe() {
            Ok(consumer) => consumer,
            Err(error) => {
                // Who joined hears of it, unless it has gone away.
                let _ = started.send(Err(error));
                return;
            }
        };
        let _ = started.send(Ok(()));
        while self.consume(&consumer) == End::Fatal {
            self.shared.revoke_all();
            drop(consumer);
            match self.subscribe() {
                Ok(fresh) => consumer = fresh,
                Err(error) => return self.shared.report(error),
            }
        }
        let _ = left.send(self.leave(consumer));
    }

    fn subscribe(&self) -> Result<BaseConsumer<Context>, TransportError> {
        let context = Context::new(Arc::clone(&self.shared));
        let config = self.config.consumer(&self.subscription.group);
        let consumer: BaseConsumer<Context> =
            config.create_with_context(context).map_err(|error| refused_setting(&error))?;
        let topics: Vec<_> = self.subscription.topics.iter().map(Topic::as_str).collect();
        consumer.subscribe(&topics).map_err(|error| refused_setting(&error))?;
        Ok(consumer)
    }

    fn consume(&self, consumer: &BaseConsumer<Context>) -> End {
        let mut deliveries = Vec::with_capacity(HAND_OVER);
        let mut stored_at = Instant::now();
        while !self.shared.is_closing() {
            if stored_at.elapsed() >= STORE_INTERVAL {
                store(consumer, &self.shared.take_moved(), CommitMode::Async);
                stored_at = Instant::now();
            }
            self.regulate(consumer);
            let mut timeout = POLL;
            let mut bytes = 0;
            while let Some(polled) = consumer.poll(timeout) {
                match polled {
                    Ok(message) => {
                        let delivery = self.delivery(&message);
                        bytes += delivery.as_ref().map_or(0, size);
                        deliveries.extend(delivery);
                    }
                    Err(KafkaError::MessageConsumptionFatal(code)) => {
                        warn!(%code, "the consumer has failed and is made anew");
                        return End::Fatal;
                    }
                    Err(error) => {
                        // In order: what came before the error is handed over before it.
                        self.shared.deliver(&mut deliveries);
                        self.failed(consumer, &error);
                    }
                }
                if deliveries.len() >= HAND_OVER || bytes >= HAND_OVER_BYTES {
                    break;
                }
                timeout = Duration::ZERO;
            }
            if !deliveries.is_empty() {
                self.shared.deliver(&mut deliveries);
            }
        }
        End::Closing
    }

    /// Keeps what waits to be received bounded, without ever leaving the broker alone for long.
    fn regulate(&self, consumer: &BaseConsumer<Context>) {
        let context = consumer.context();
        if context.is_paused() {
            if self.shared.is_drained() {
                context.resume(consumer);
            }
        } else if self.shared.is_full() && self.shared.await_room(STANDSTILL) {
            context.pause(consumer);
        }
    }

    fn delivery(&self, message: &BorrowedMessage<'_>) -> Option<Delivery> {
        let topics = &self.subscription.topics;
        let topic = topics.iter().find(|topic| topic.as_str() == message.topic())?;
        Some(Delivery {
            position: Position {
                topic: topic.clone(),
                partition: u32::try_from(message.partition()).ok()?,
                offset: u64::try_from(message.offset()).ok()?,
                generation: 0, // It is filled in where ownership is known.
            },
            key: message.key().map(Bytes::copy_from_slice).unwrap_or_default(),
            value: message.payload().map(Bytes::copy_from_slice).unwrap_or_default(),
            headers: message.headers().map(headers).unwrap_or_default(),
            timestamp: message.timestamp().to_millis().map_or_else(Timestamp::default, |ms| {
                Timestamp::from_micros(ms.saturating_mul(1_000))
            }),
        })
    }

    fn failed(&self, consumer: &BaseConsumer<Context>, error: &KafkaError) {
        match error.rdkafka_error_code() {
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
                self.report_unknown_topics(consumer);
            }
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => {
                self.report_out_of_range(consumer);
            }
            Some(code) => {
                if let Some(reason) = wrong_configuration(code) {
                    let reason = format!("{reason} ({error})");
                    self.shared.report(TransportError::Configuration { reason });
                }
                // Everything else was logged, and is tried again by the client itself.
            }
            None => {}
        }
    }

    fn report_unknown_topics(&self, consumer: &BaseConsumer<Context>) {
        for topic in &self.subscription.topics {
            let answer = ask(consumer, topic, REQUEST_TIMEOUT);
            if let Err(error @ TransportError::UnknownTopic { .. }) = answer {
                self.shared.report(error);
            }
        }
    }

    /// Finds the partitions whose next record is not on the topic. The client has stopped reading
    /// one of them, and does not say which.
    fn report_out_of_range(&self, consumer: &BaseConsumer<Context>) {
        let positions = self.shared.positions();
        let mut found = false;
        for (partition, next) in &positions {
            if next.is_some_and(|next| is_out_of_range(consumer, partition, next)) {
                found = true;
                let Partition { topic, number } = partition.clone();
                let error = TransportError::OffsetOutOfRange { topic, partition: number };
                self.shared.report(error);
            }
        }
        if !found {
            // Retention has overtaken a partition that starts at the beginning: it starts again.
            if let Err(error) = consumer.assign(&list(&positions)) {
                warn!(%error, "partitions cannot be read on");
            }
        }
    }

    fn leave(&self, consumer: BaseConsumer<Context>) -> Result<(), TransportError> {
        let stored = store(&consumer, &self.shared.take_moved(), CommitMode::Sync);
        // Leaves the group; what is revoked by that has been stored.
        drop(consumer);
        if stored {
            return Ok(());
        }
        let source = "offsets were not stored".into();
        Err(TransportError::Unavailable { operation: "leaving the group", source })
    }
}

fn is_out_of_range(consumer: &BaseConsumer<Context>, partition: &Partition, next: u64) -> bool {
    let number = i32::try_from(partition.number).expect("Kafka gave this number");
    let range = consumer.fetch_watermarks(partition.topic.as_str(), number, REQUEST_TIMEOUT);
    range.is_ok_and(|(low, high)| {
        let bound = |offset| u64::try_from(offset).unwrap_or(0);
        next < bound(low) || next > bound(high)
    })
}

fn headers(headers: &impl Headers) -> Vec<(String, Bytes)> {
    (0..headers.count()).map(|index| header(headers, index)).collect()
}

/// Reads one header. The client library panics over a name that is not UTF-8, which any producer may
/// send: that would end this thread, and again at every start.
fn header(headers: &impl Headers, index: usize) -> (String, Bytes) {
    let read = catch_unwind(AssertUnwindSafe(|| {
        let header = headers.get(index);
        let value = header.value.map(Bytes::copy_from_slice).unwrap_or_default();
        (header.key.to_owned(), value)
    }));
    read.unwrap_or_else(|_| (char::REPLACEMENT_CHARACTER.to_string(), Bytes::new()))
}
