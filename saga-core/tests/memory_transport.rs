//! The laws of a transport, on the memory transport.

use saga_core::MemoryTransport;
use saga_testkit::transport::Fixture;

async fn fresh() -> Fixture<MemoryTransport> {
    Fixture::new(MemoryTransport::new(), "fresh")
}

saga_testkit::transport_conformance!(fresh);
