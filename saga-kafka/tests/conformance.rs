//! The laws of a transport, on a real broker.

mod broker;

use saga_kafka::KafkaTransport;
use saga_testkit::transport::Fixture;

async fn shared_broker() -> Fixture<KafkaTransport> {
    Fixture::new(broker::transport().await, broker::prefix("laws"))
}

saga_testkit::transport_conformance!(shared_broker);
