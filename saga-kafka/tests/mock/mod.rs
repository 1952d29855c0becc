//! Brokers of the client library's own, which fail on demand and tell what they are asked.
#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, ClientContext};
use saga_kafka::KafkaConfig;

/// Longer than any time-out of these brokers and clients.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Answers to a batch of records that end a producer, so that a new one has to begin.
pub(crate) const ENDING: [RDKafkaRespErr; 10] = {
    use RDKafkaRespErr::*;
    [
        RD_KAFKA_RESP_ERR_UNKNOWN,
        RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
        RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE,
        RD_KAFKA_RESP_ERR_INVALID_RECORD,
        RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP,
        RD_KAFKA_RESP_ERR_POLICY_VIOLATION,
        RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
        RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
        RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
        RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
    ]
};

/// Mock brokers, numbered from 1, and what they have received since the last mark.
pub(crate) struct Mock {
    host: ThreadedProducer<Ear>,
    marks: AtomicU32,
}

impl Mock {
    pub(crate) fn new(brokers: u32) -> Self {
        // The client that brings the brokers along hears what they log.
        let mut config = ClientConfig::new();
        config.set("test.mock.num.brokers", brokers.to_string()).set("debug", "mock");
        config.set_log_level(RDKafkaLogLevel::Debug);
        let host = config.create_with_context(Ear::default());
        let host = host.expect("mock brokers can be started");
        Self { host, marks: AtomicU32::new(0) }
    }

    pub(crate) fn config(&self) -> KafkaConfig {
        KafkaConfig::new(self.cluster().bootstrap_servers())
    }

    pub(crate) fn cluster(&self) -> MockCluster<'_, Ear> {
        self.host.client().mock_cluster().expect("the client was made with brokers")
    }

    pub(crate) fn create_topic(&self, topic: &str, partitions: i32, replication: i32) {
        let made = self.cluster().create_topic(topic, partitions, replication);
        made.expect("mock brokers make topics");
    }

    /// Lets the next requests of a kind fail, one after the other with these errors, and begins to count.
    pub(crate) fn fail(&self, request: RDKafkaApiKey, errors: &[RDKafkaRespErr]) {
        self.cluster().request_errors(request, errors);
        self.mark();
    }

    /// Begins to count anew.
    pub(crate) fn mark(&self) {
        let mark = self.marks.fetch_add(1, Ordering::SeqCst) + 1;
        // The thread that serves requests makes the topic and logs it: what it logs from then on came later.
        self.create_topic(&format!("mark-{mark}"), 1, 1);
    }

    /// How many requests of a kind have come since the last mark; so many errors of `fail` were met.
    pub(crate) fn received(&self, request: RDKafkaApiKey) -> usize {
        let of_request = |heard: &Heard| heard.requests.get(&format!("{request:?}")).copied();
        self.since_mark(of_request)
    }

    /// How many batches of records a broker has taken since the last mark.
    pub(crate) fn appended(&self, broker: i32) -> usize {
        self.since_mark(|heard| heard.appended.get(&broker).copied())
    }

    /// Waits until so many requests of a kind have come since the last mark.
    pub(crate) async fn has_received(&self, request: RDKafkaApiKey, count: usize) {
        until(&format!("{count} requests {request:?}"), || self.received(request) >= count).await;
    }

    fn since_mark(&self, count: impl FnOnce(&Heard) -> Option<usize>) -> usize {
        let heard = self.host.client().context().heard();
        let is_up_to_date = heard.mark == self.marks.load(Ordering::SeqCst);
        if is_up_to_date { count(&heard).unwrap_or(0) } else { 0 }
    }
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let held = tokio::time::timeout(PATIENCE, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    held.await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

/// Hears what mock brokers log, in the order in which they did it.
#[derive(Default)]
pub(crate) struct Ear(Mutex<Heard>);

#[derive(Default)]
struct Heard {
    mark: u32,
    requests: HashMap<String, usize>,
    appended: HashMap<i32, usize>,
}

impl Ear {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    fn hear(&mut self, message: &str) {
        if let Some((_, mark)) = message.split_once("Created topic \"mark-") {
            let mark = mark.split('"').next().and_then(|mark| mark.parse().ok());
            *self = Self { mark: mark.expect("a mark has a number"), ..Self::default() };
        } else if let Some((_, request)) = message.split_once(": Received ")
            && let Some((request, _)) = request.split_once("RequestV")
        {
            *self.requests.entry(request.to_owned()).or_default() += 1;
        } else if let Some((broker, _)) = message.split_once(": Log append ") {
            let broker = broker.rsplit(' ').next().and_then(|broker| broker.parse().ok());
            *self.appended.entry(broker.expect("a broker has a number")).or_default() += 1;
        }
    }
}

impl ClientContext for Ear {
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, message: &str) {
        self.heard().hear(message);
    }
}

impl ProducerContext for Ear {
    type DeliveryOpaque = ();

    fn delivery(&self, _result: &DeliveryResult<'_>, (): ()) {}
}
