//! How to reach the brokers, and what may be set of the client.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use saga_core::{ParticipantName, TransportError};

use crate::error::refused_setting;

/// What the guarantees rest on; each with why it is not to be changed.
const FIXED: [(&str, &str); 19] = [
    ("acks", "a receipt means that all in-sync replicas have the record"),
    ("allow.auto.create.topics", "topics come from `ensure_topics`"),
    ("auto.commit.enable", "offsets move when deliveries are acknowledged"),
    ("auto.offset.reset", "an offset that is out of range must not be skipped silently"),
    ("bootstrap.servers", "it is the argument of `KafkaConfig::new`"),
    ("delivery.timeout.ms", "a record that is given up leaves a gap"),
    ("enable.auto.commit", "offsets move when deliveries are acknowledged"),
    ("enable.auto.offset.store", "offsets move when deliveries are acknowledged"),
    ("enable.gapless.guarantee", "nothing may overtake a record that failed"),
    ("enable.idempotence", "a retry must neither double nor reorder records"),
    ("group.id", "it is the group of the subscription"),
    ("group.protocol", "the classic protocol has the range assignor"),
    ("message.send.max.retries", "a record that is given up leaves a gap"),
    ("message.timeout.ms", "a record that is given up leaves a gap"),
    ("metadata.broker.list", "it is the argument of `KafkaConfig::new`"),
    ("partition.assignment.strategy", "equal partition numbers of topics belong to one member"),
    ("request.required.acks", "a receipt means that all in-sync replicas have the record"),
    ("retries", "a record that is given up leaves a gap"),
    ("transactional.id", "transactions are not used"),
];

/// How to reach Kafka, and the few choices there are.
///
/// # Examples
///
/// TLS and SASL take the feature `ssl` and librdkafka's own properties:
///
/// ```
/// use saga_kafka::KafkaConfig;
/// let config = KafkaConfig::new("kafka.example.com:9093")
///     .replication(3)
///     .setting("security.protocol", "SASL_SSL")
///     .setting("sasl.mechanism", "SCRAM-SHA-512")
///     .setting("sasl.username", "inventory")
///     .setting("sasl.password", "s3cr3t");
/// assert!(!format!("{config:?}").contains("s3cr3t"));
/// ```
#[derive(Clone)]
#[must_use]
pub struct KafkaConfig {
    brokers: String,
    partitions: u32,
    replication: Option<u16>,
    session_timeout: Duration,
    settings: BTreeMap<String, String>,
}

impl KafkaConfig {
    /// Starts from the brokers to ask first: `host:port`, with commas in between.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            partitions: 8,
            replication: None,
            session_timeout: Duration::from_secs(6),
            settings: BTreeMap::new(),
        }
    }

    /// Sets how many partitions a topic gets that is created; 8 by default, at least 1.
    ///
    /// It bounds how many members of a group can share a topic.
    pub fn partitions(self, partitions: u32) -> Self {
        Self { partitions: partitions.max(1), ..self }
    }

    /// Sets how many brokers keep each record of a topic that is created.
    ///
    /// By default the broker's own `default.replication.factor`. In production use 3 and set
    /// `min.insync.replicas` to 2 on the brokers: with fewer, losing one broker loses records that
    /// were acknowledged.
    pub fn replication(self, replication: u16) -> Self {
        Self { replication: Some(replication), ..self }
    }

    /// Sets how long a member may be silent before its partitions go to others; 6 s by default.
    ///
    /// A member that dies is missed after that, and its sagas go on elsewhere. Brokers take 6 s to 30 min unless they are configured otherwise. A slow handler is not
    /// silent: a thread of its own speaks for the member.
    pub fn session_timeout(self, session_timeout: Duration) -> Self {
        Self { session_timeout, ..self }
    }

    /// Sets a property of librdkafka, for what has no method here, such as TLS and SASL.
    ///
    /// A property that the guarantees rest on, or that does not exist, makes
    /// [`KafkaTransport::new`](crate::KafkaTransport::new) fail with the name of it.
    pub fn setting(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.insert(key.into(), value.into());
        self
    }

    pub(crate) const fn topic_size(&self) -> (u32, Option<u16>) {
        (self.partitions, self.replication)
    }

    pub(crate) const fn session(&self) -> Duration {
        self.session_timeout
    }

    /// Checks everything that can be checked without a broker.
    pub(crate) fn validate(&self) -> Result<(), TransportError> {
        for (key, why) in FIXED {
            if self.settings.contains_key(key) {
                let reason = format!("`{key}` cannot be set: {why}");
                return Err(TransportError::Configuration { reason });
            }
        }
        if self.brokers.trim().is_empty() {
            let reason = "no brokers: give at least one `host:port`".to_owned();
            return Err(TransportError::Configuration { reason });
        }
        let probe = ParticipantName::new("probe");
        for config in [self.client(), self.producer(), self.consumer(&probe)] {
            config.create_native_config().map_err(|error| refused_setting(&error))?;
        }
        Ok(())
    }

    /// For metadata and administration.
    pub(crate) fn client(&self) -> ClientConfig {
        self.with(&[])
    }

    pub(crate) fn producer(&self) -> ClientConfig {
        self.with(&[
            ("acks", "all"),
            ("allow.auto.create.topics", "false"),
            ("compression.type", "lz4"),
            ("enable.gapless.guarantee", "true"),
            ("enable.idempotence", "true"),
            // Batches come from the caller: waiting for more adds its time to each hop, for nothing.
            ("linger.ms", "0"),
            ("message.timeout.ms", "0"),
            ("queue.buffering.max.messages", "200000"),
        ])
    }

    pub(crate) fn consumer(&self, group: &ParticipantName) -> ClientConfig {
        let session = self.session_timeout.as_millis();
        // A rebalance waits until every member has heard of it, by a heartbeat.
        let heartbeat = (session / 10).clamp(100, 3_000);
        self.with(&[
            ("allow.auto.create.topics", "false"),
            ("auto.offset.reset", "error"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            // The default stalls a second whenever the local queue was full.
            ("fetch.queue.backoff.ms", "10"),
            ("fetch.wait.max.ms", "100"),
            ("group.id", group.as_str()),
            ("heartbeat.interval.ms", &heartbeat.to_string()),
            ("partition.assignment.strategy", "range"),
            ("queued.max.messages.kbytes", "32768"),
            ("queued.min.messages", "20000"),
            ("session.timeout.ms", &session.to_string()),
        ])
    }

    fn with(&self, own: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Warning);
        let everywhere = [
            ("bootstrap.servers", self.brokers.as_str()),
            // A broker that comes back is found within a second.
            ("reconnect.backoff.max.ms", "1000"),
            ("socket.keepalive.enable", "true"),
            // A topic that is created or grows is seen within this.
            ("topic.metadata.refresh.interval.ms", "10000"),
        ];
        for (key, value) in everywhere.iter().chain(own) {
            config.set(*key, *value);
        }
        for (key, value) in &self.settings {
            config.set(key, value);
        }
        config
    }
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Any setting may be a secret: a password, a key, a token.
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("partitions", &self.partitions)
            .field("replication", &self.replication)
            .field("session_timeout", &self.session_timeout)
            .field("settings", &self.settings.keys())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(config: &KafkaConfig) -> String {
        match config.validate() {
            Err(TransportError::Configuration { reason }) => reason,
            other => panic!("the configuration must be refused: {other:?}"),
        }
    }

    #[test]
    fn defaults_are_accepted() {
        KafkaConfig::new("localhost:9092").validate().expect("defaults are valid");
    }

    #[test]
    fn what_the_guarantees_rest_on_cannot_be_set() {
        for (key, _) in FIXED {
            let reason = reason(&KafkaConfig::new("localhost:9092").setting(key, "1"));
            assert!(reason.contains(&format!("`{key}`")), "{reason}");
        }
    }

    #[test]
    fn a_wrong_setting_is_named_and_its_value_is_not() {
        let config = KafkaConfig::new("localhost:9092");
        let unknown = reason(&config.clone().setting("sasl.pasword", "s3cr3t"));
        assert!(unknown.contains("sasl.pasword") && !unknown.contains("s3cr3t"), "{unknown}");
        let wrong = reason(&config.clone().setting("security.protocol", "s3cr3t"));
        assert!(wrong.contains("security.protocol") && !wrong.contains("s3cr3t"), "{wrong}");
        let shown = format!("{:?}", config.setting("sasl.password", "s3cr3t"));
        assert!(shown.contains("sasl.password") && !shown.contains("s3cr3t"), "{shown}");
    }

    #[test]
    fn brokers_are_needed() {
        assert!(reason(&KafkaConfig::new(" ")).contains("brokers"));
    }
}
