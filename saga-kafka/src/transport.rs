//! The transport: what makes topics, publishers and subscribers.

use std::sync::Arc;

use saga_core::transport::Subscription;
use saga_core::{Topic, Transport, TransportError};

use crate::topics::{self, Catalog};
use crate::{KafkaConfig, KafkaPublisher, KafkaSubscriber};

/// Publishes to Kafka and subscribes to it. A clone shares what it knows of topics.
///
/// Nothing is connected until it is used; a broker that is away is waited for.
#[derive(Debug, Clone)]
pub struct KafkaTransport {
    config: Arc<KafkaConfig>,
    catalog: Arc<Catalog>,
}

impl KafkaTransport {
    /// Makes a transport.
    ///
    /// # Errors
    ///
    /// [`TransportError::Configuration`] that names the setting that is wrong.
    pub fn new(config: KafkaConfig) -> Result<Self, TransportError> {
        config.validate()?;
        let config = Arc::new(config);
        let catalog = Arc::new(Catalog::new(&config)?);
        Ok(Self { config, catalog })
    }

    /// Makes sure that a broker answers, within a second: for a check of whether a service is ready.
    ///
    /// Nothing else needs it: engines, participants and relays wait for a broker that is away.
    ///
    /// # Errors
    ///
    /// [`TransportError::Unavailable`] if none does, [`TransportError::Configuration`] if none can.
    pub async fn check(&self) -> Result<(), TransportError> {
        topics::check(&self.catalog).await
    }
}

impl Transport for KafkaTransport {
    type Publisher = KafkaPublisher;
    type Subscriber = KafkaSubscriber;

    async fn ensure_topics(&self, topics: &[Topic]) -> Result<(), TransportError> {
        topics::ensure(&self.config, &self.catalog, topics).await
    }

    async fn publisher(&self) -> Result<KafkaPublisher, TransportError> {
        KafkaPublisher::new(&self.config, Arc::clone(&self.catalog))
    }

    async fn subscriber(
        &self,
        subscription: Subscription,
    ) -> Result<KafkaSubscriber, TransportError> {
        KafkaSubscriber::join(Arc::clone(&self.config), subscription).await
    }
}
