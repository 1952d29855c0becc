//! The broker of a service: in memory, or Kafka. The services are written once for both.

use std::future::Future;

use saga_core::{MemoryTransport, Transport};
use saga_kafka::KafkaTransport;

/// A transport that can be asked whether its broker is there.
///
/// The library needs no such trait: it waits for a broker that is away.
pub trait Broker: Transport + Clone {
    /// Returns true if the broker answers, within a second.
    fn answers(&self) -> impl Future<Output = bool> + Send;
}

impl Broker for MemoryTransport {
    async fn answers(&self) -> bool {
        true
    }
}

impl Broker for KafkaTransport {
    async fn answers(&self) -> bool {
        self.check().await.is_ok()
    }
}
