//! The relay: from the commit of facts to the broker's acknowledgement of all of them.

use std::time::{Duration, Instant};

use benches::{Database, Order, Told, runtime, topics};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use saga_core::store::{Lane, OutboxRow, SagaStore, StoreError, Tick};
use saga_core::{Fact as _, MemoryStore, MemoryTransport, Outbox, OutboxId, Relay, Transport};
use saga_kafka::{KafkaConfig, KafkaTransport};
use saga_postgres::SchemaName;
use tokio::runtime::Runtime;
use tokio::sync::watch;

const SCHEMA: SchemaName = SchemaName::new("bench_relay");

/// How many rows the broker has acknowledged, and how many of them are deleted.
#[derive(Debug, Clone, Copy, Default)]
struct Sent {
    acknowledged: usize,
    deleted: usize,
}

/// An outbox that tells what becomes of its rows.
struct Watched<S> {
    store: S,
    sent: watch::Sender<Sent>,
}

impl<S: Outbox> Outbox for Watched<S> {
    async fn unsent(&self, lanes: &[Lane], bytes: usize) -> Result<Vec<OutboxRow>, StoreError> {
        self.store.unsent(lanes, bytes).await
    }

    async fn sent(&self, rows: &[OutboxId]) -> Result<(), StoreError> {
        self.sent.send_modify(|sent| sent.acknowledged += rows.len());
        self.store.sent(rows).await?;
        self.sent.send_modify(|sent| sent.deleted += rows.len());
        Ok(())
    }

    async fn lease(
        &self,
        lane: &Lane,
        holder: OutboxId,
        duration: Duration,
    ) -> Result<bool, StoreError> {
        self.store.lease(lane, holder, duration).await
    }
}

/// A relay at work, and what it is given.
struct Bench<S> {
    store: S,
    relay: Relay,
    sent: watch::Receiver<Sent>,
    committed: usize,
}

impl<S: SagaStore + Clone> Bench<S> {
    async fn start(store: S, transport: impl Transport) -> anyhow::Result<Self> {
        transport.ensure_topics(&[Told::SOURCE.events()]).await?;
        let (sender, sent) = watch::channel(Sent::default());
        let relay = Relay::start(Watched { store: store.clone(), sent: sender }, transport);
        Ok(Self { store, relay, sent, committed: 0 })
    }

    /// Commits facts and returns how long it takes from then on until the broker has them.
    async fn publish(&mut self, facts: usize) -> anyhow::Result<Duration> {
        let told = Told(Order::new(1));
        let outbox = (0..facts).map(|n| OutboxRow::fact(&told, &n.to_string()));
        let outbox = outbox.collect::<Result<_, _>>()?;
        self.store.commit(Tick { outbox, ..Tick::default() }).await?;
        let committed_at = Instant::now();
        self.committed += facts;
        self.relay.wake();
        self.sent.wait_for(|sent| sent.acknowledged >= self.committed).await?;
        let took = committed_at.elapsed();
        self.sent.wait_for(|sent| sent.deleted >= self.committed).await?;
        Ok(took)
    }

    async fn repeat(&mut self, times: u64, facts: usize) -> anyhow::Result<Duration> {
        let mut took = Duration::ZERO;
        for _ in 0..times {
            took += self.publish(facts).await?;
        }
        Ok(took)
    }
}

/// Measures each size with a store and a broker of its own: in memory both keep what they were given.
fn publishes<S: SagaStore + Clone, T: Transport>(
    c: &mut Criterion,
    name: &str,
    runtime: &Runtime,
    fresh: impl Fn() -> (S, T),
) {
    let mut group = c.benchmark_group(format!("relay/{name}"));
    for facts in [1, 64, 512] {
        let (store, transport) = fresh();
        let started = runtime.block_on(Bench::start(store, transport));
        let mut bench = started.expect("the broker answers");
        group.throughput(Throughput::Elements(facts as u64));
        group.bench_function(facts.to_string(), |b| {
            b.iter_custom(|times| {
                let took = runtime.block_on(bench.repeat(times, facts));
                took.expect("the store and the broker answer")
            });
        });
        runtime.block_on(bench.relay.shutdown()).expect("it has not died");
    }
    group.finish();
}

fn kafka<S: SagaStore + Clone>(c: &mut Criterion, runtime: &Runtime, store: impl Fn() -> S) {
    let Ok(brokers) = std::env::var("KAFKA_BROKERS") else {
        eprintln!("KAFKA_BROKERS is not set: Kafka is left out; `make bench-criterion` sets it");
        return;
    };
    let transport = || KafkaTransport::new(KafkaConfig::new(&brokers)).expect("these are defaults");
    let remove = || runtime.block_on(topics::remove(&brokers, Told::SOURCE.as_str()));
    remove().expect("topics of an earlier run can be removed");
    publishes(c, "postgres-kafka", runtime, || (store(), transport()));
    remove().expect("the topics can be removed");
}

fn relay(c: &mut Criterion) {
    let runtime = runtime();
    publishes(c, "memory", &runtime, || (MemoryStore::new(), MemoryTransport::new()));
    let Some(database) = Database::find() else { return };
    let store = || runtime.block_on(database.fresh(&SCHEMA)).expect("the database makes a schema");
    publishes(c, "postgres", &runtime, || (store(), MemoryTransport::new()));
    kafka(c, &runtime, store);
    runtime.block_on(database.remove(&SCHEMA)).expect("the schema can be dropped");
}

criterion_group!(benches, relay);
criterion_main!(benches);
