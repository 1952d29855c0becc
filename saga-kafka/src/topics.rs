//! Topics: how many partitions they have, and making those that are missing.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use saga_core::{Topic, TransportError};

use crate::KafkaConfig;
use crate::error::{refused_setting, request_failed, topic_failed, wrong_configuration};

/// How long a question to the brokers may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a broker that is only asked whether it is there may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
const CHECK: &str = "asking for a broker";
/// How long a number of partitions is taken for granted.
const FRESH: Duration = Duration::from_mins(1);
/// How long a topic may take from being created to being known to every broker.
const SPREAD: Duration = Duration::from_secs(30);

/// The sizes of topics, as far as they were asked for.
pub(crate) struct Catalog {
    /// A consumer without a group: a producer's question could create a topic.
    client: Option<BaseConsumer>,
    known: Mutex<HashMap<Topic, Known>>,
}

#[derive(Clone, Copy)]
struct Known {
    partitions: u32,
    since: Instant,
}

impl Catalog {
    pub(crate) fn new(config: &KafkaConfig) -> Result<Self, TransportError> {
        let client = config.client().create().map_err(|error| refused_setting(&error))?;
        Ok(Self { client: Some(client), known: Mutex::default() })
    }

    /// Returns how many partitions a topic has, if that is fresh.
    pub(crate) fn known(&self, topic: &Topic) -> Option<u32> {
        let known = self.lock().get(topic).copied()?;
        (known.since.elapsed() < FRESH).then_some(known.partitions)
    }

    /// Returns how many partitions a topic has, from memory or from a broker. It blocks.
    pub(crate) fn partitions(
        &self,
        topic: &Topic,
        timeout: Duration,
    ) -> Result<u32, TransportError> {
        if let Some(partitions) = self.known(topic) {
            return Ok(partitions);
        }
        let stale = self.lock().get(topic).copied();
        match (self.refresh(topic, timeout), stale) {
            // Topics do not shrink. Asking again right away would stall every batch.
            (Err(TransportError::Unavailable { .. }), Some(Known { partitions, .. })) => {
                self.remember(topic, partitions);
                Ok(partitions)
            }
            (answer, _) => answer,
        }
    }

    /// Asks a broker how many partitions a topic has. It blocks.
    pub(crate) fn refresh(&self, topic: &Topic, timeout: Duration) -> Result<u32, TransportError> {
        let client = self.client.as_ref().expect("only dropping takes the client away");
        match ask(client, topic, timeout) {
            Ok(partitions) => {
                self.remember(topic, partitions);
                Ok(partitions)
            }
            Err(error) => {
                if matches!(error, TransportError::UnknownTopic { .. }) {
                    self.lock().remove(topic);
                }
                Err(error)
            }
        }
    }

    /// Makes sure that a broker answers. It blocks.
    fn check(&self) -> Result<(), TransportError> {
        let client = self.client.as_ref().expect("only dropping takes the client away");
        // One topic is enough; without a name all of them are told.
        let topic = self.lock().keys().next().cloned();
        let answer = client.fetch_metadata(topic.as_ref().map(Topic::as_str), CHECK_TIMEOUT);
        answer.map(drop).map_err(|error| request_failed(error, CHECK))
    }

    fn remember(&self, topic: &Topic, partitions: u32) {
        self.lock().insert(topic.clone(), Known { partitions, since: Instant::now() });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Topic, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalog").field("topics", &self.lock().len()).finish_non_exhaustive()
    }
}

impl Drop for Catalog {
    fn drop(&mut self) {
        let client = self.client.take();
        // Ending a client joins its threads, which is not for a thread that runs futures. If no
        // thread can be had, the client ends right here.
        let _ = thread::Builder::new().name("kafka-catalog-end".into()).spawn(move || drop(client));
    }
}

/// Asks a broker how many partitions a topic has. It blocks.
pub(crate) fn ask<C: rdkafka::consumer::ConsumerContext>(
    client: &BaseConsumer<C>,
    topic: &Topic,
    timeout: Duration,
) -> Result<u32, TransportError> {
    let metadata = client
        .fetch_metadata(Some(topic.as_str()), timeout)
        .map_err(|error| topic_failed(error, topic))?;
    let found = metadata.topics().iter().find(|found| found.name() == topic.as_str());
    let Some(found) = found else {
        return Err(TransportError::UnknownTopic { topic: topic.clone() });
    };
    if let Some(code) = found.error() {
        return Err(topic_failed(KafkaError::MetadataFetch(code.into()), topic));
    }
    Ok(u32::try_from(found.partitions().len()).expect("Kafka counts partitions in 32 bits"))
}

/// Returns how many partitions a topic has, without blocking a thread that runs futures.
pub(crate) async fn partitions(
    catalog: &Arc<Catalog>,
    topic: &Topic,
) -> Result<u32, TransportError> {
    if let Some(partitions) = catalog.known(topic) {
        return Ok(partitions);
    }
    let (catalog, topic) = (Arc::clone(catalog), topic.clone());
    blocking("asking for a topic", move || catalog.partitions(&topic, REQUEST_TIMEOUT)).await
}

/// Makes sure that a broker answers, without blocking a thread that runs futures.
pub(crate) async fn check(catalog: &Arc<Catalog>) -> Result<(), TransportError> {
    let catalog = Arc::clone(catalog);
    blocking(CHECK, move || catalog.check()).await
}

/// Creates those topics that do not exist, and waits until they are known.
pub(crate) async fn ensure(
    config: &Arc<KafkaConfig>,
    catalog: &Arc<Catalog>,
    topics: &[Topic],
) -> Result<(), TransportError> {
    let missing = {
        let (catalog, topics) = (Arc::clone(catalog), topics.to_vec());
        blocking("asking for topics", move || missing(&catalog, topics)).await?
    };
    if missing.is_empty() {
        return Ok(());
    }
    create(config, &missing).await?;
    let deadline = tokio::time::Instant::now() + SPREAD;
    for topic in &missing {
        while let Err(error) = partitions(catalog, topic).await {
            if !error.is_transient() || tokio::time::Instant::now() > deadline {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

fn missing(catalog: &Catalog, topics: Vec<Topic>) -> Result<Vec<Topic>, TransportError> {
    let mut missing = Vec::new();
    for topic in topics {
        match catalog.refresh(&topic, REQUEST_TIMEOUT) {
            Ok(_) => {}
            Err(TransportError::UnknownTopic { .. }) => missing.push(topic),
            Err(error) => return Err(error),
        }
    }
    Ok(missing)
}

async fn create(config: &Arc<KafkaConfig>, topics: &[Topic]) -> Result<(), TransportError> {
    const OPERATION: &str = "creating topics";
    let client = config.client();
    let admin = blocking(OPERATION, move || {
        client.create::<AdminClient<DefaultClientContext>>().map_err(|e| refused_setting(&e))
    });
    let admin = admin.await?;
    let (partitions, replication) = config.topic_size();
    let partitions = i32::try_from(partitions).map_err(|_| TransportError::Configuration {
        reason: format!("{partitions} partitions are too many"),
    })?;
    // -1 leaves it to the broker.
    let replication = replication.map_or(-1, i32::from);
    let new = topics.iter().map(|topic| {
        NewTopic::new(topic.as_str(), partitions, TopicReplication::Fixed(replication))
    });
    let new: Vec<_> = new.collect();
    let options = AdminOptions::new()
        .request_timeout(Some(REQUEST_TIMEOUT))
        .operation_timeout(Some(REQUEST_TIMEOUT));
    let created = admin.create_topics(&new, &options).await;
    // Ending a client joins its threads.
    let ended = blocking(OPERATION, move || {
        drop(admin);
        Ok(())
    });
    ended.await?;
    for result in created.map_err(|error| request_failed(error, OPERATION))? {
        match result {
            Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
            Err((name, code)) => return Err(not_created(&name, code)),
        }
    }
    Ok(())
}

fn not_created(name: &str, code: Code) -> TransportError {
    let why = wrong_configuration(code).or(match code {
        Code::PolicyViolation => Some("the cluster's policy forbids it"),
        Code::InvalidPartitions => Some("the number of partitions is refused"),
        Code::InvalidTopic => Some("the name is refused"),
        _ => None,
    });
    if let Some(why) = why {
        let reason = format!("`{name}` cannot be created: {why}");
        return TransportError::Configuration { reason };
    }
    let source = KafkaError::AdminOp(code).into();
    TransportError::Unavailable { operation: "creating topics", source }
}

async fn blocking<T: Send + 'static>(
    operation: &'static str,
    work: impl FnOnce() -> Result<T, TransportError> + Send + 'static,
) -> Result<T, TransportError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|stopped| {
        // The runtime is shutting down.
        Err(TransportError::Unavailable { operation, source: stopped.into() })
    })
}
