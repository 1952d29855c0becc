//! Publishing: an idempotent producer, fed in order by a thread of its own.

mod feeder;
mod shared;

use std::fmt;
use std::sync::{Arc, mpsc};
use std::thread;

use rdkafka::producer::ThreadedProducer;
use saga_core::transport::{Receipt, Record};
use saga_core::{Publisher, Topic, TransportError};

use self::feeder::Feeder;
use self::shared::{Context, Shared};
use crate::KafkaConfig;
use crate::error::refused_setting;
use crate::topics::{self, Catalog};

/// Publishes to Kafka: idempotent, acknowledged by all in-sync replicas, in the order of the calls.
///
/// A record is retried for as long as the broker is away. The first one that the broker refuses
/// fails the publisher: what is queued behind it is thrown away and its receipts say so, so that
/// nothing overtakes it. What of that had reached the broker already is doubled when it is
/// published again, which receivers drop.
///
/// Dropping a publisher gives what is queued up to 5 s to be sent, in the background.
pub struct KafkaPublisher {
    shared: Arc<Shared>,
    catalog: Arc<Catalog>,
}

impl KafkaPublisher {
    pub(crate) fn new(config: &KafkaConfig, catalog: Arc<Catalog>) -> Result<Self, TransportError> {
        let (sender, work) = mpsc::channel();
        let shared = Arc::new(Shared::new(sender));
        let context = Context::new(Arc::clone(&shared));
        let producer: ThreadedProducer<Context> = config
            .producer()
            .create_with_context(context)
            .map_err(|error| refused_setting(&error))?;
        let feeder = Feeder::new(producer, Arc::clone(&shared), Arc::clone(&catalog));
        thread::Builder::new()
            .name("kafka-publisher".to_owned())
            .spawn(move || feeder.run(&work))
            .map_err(|error| TransportError::Unavailable {
                operation: "starting a thread",
                source: error.into(),
            })?;
        Ok(Self { shared, catalog })
    }
}

impl Publisher for KafkaPublisher {
    async fn partitions(&self, topic: &Topic) -> Result<u32, TransportError> {
        topics::partitions(&self.catalog, topic).await
    }

    fn publish(&self, records: Vec<Record>) -> Receipt {
        self.shared.publish(records)
    }
}

impl Drop for KafkaPublisher {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl fmt::Debug for KafkaPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaPublisher").field("shared", &self.shared).finish_non_exhaustive()
    }
}
