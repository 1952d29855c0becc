//! The laws of a transport, on the memory transport.

use saga_core::MemoryTransport;
use saga_testkit::transport::Fixture;

async fn fresh() -> Fixture<MemoryTransport> {
    Fixture::new(MemoryTransport::new(), "fresh")
}

saga_testkit::transport_conformance!(fresh);

/// The names in the list under `# Laws` of a contract's documentation.
fn documented(source: &str) -> Vec<&str> {
    let bullets = source.lines().filter_map(|line| line.strip_prefix("/// - "));
    let names = bullets.map(|bullet| bullet.split(':').next().unwrap_or(bullet));
    names.flat_map(|names| names.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn the_laws_that_are_tested_are_the_documented_ones() {
    let mut laws = documented(include_str!("../src/transport/mod.rs"));
    laws.extend(documented(include_str!("../src/transport/publisher.rs")));
    let mut tested = saga_testkit::transport::LAWS.to_vec();
    laws.sort_unstable();
    tested.sort_unstable();
    assert_eq!(laws, tested);
}
