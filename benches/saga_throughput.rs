//! Sagas from start to end: in memory, and on PostgreSQL if `DATABASE_URL` is set.

use benches::{Database, Order, engine, runtime};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use saga_core::{Engine, IdempotencyKey, MemoryStore, SagaId};
use saga_postgres::SchemaName;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

const SCHEMA: SchemaName = SchemaName::new("bench_throughput");

/// Runs this many sagas at once, from start to end.
async fn run(engine: &Engine, sagas: u64) {
    let mut running = JoinSet::new();
    for order in 0..sagas {
        let engine = engine.clone();
        running.spawn(async move {
            let key = IdempotencyKey::from(SagaId::now());
            let started = engine.start(key, Order::new(order)).await.expect("accepted");
            started.outcome().await.expect("ended")
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("no saga panics");
    }
}

fn measure(c: &mut Criterion, backend: &str, runtime: &Runtime, engine: &Engine) {
    let mut group = c.benchmark_group(format!("sagas/{backend}"));
    group.sample_size(10);
    for concurrency in [1, 64, 512] {
        group.throughput(Throughput::Elements(concurrency));
        group.bench_function(concurrency.to_string(), |b| {
            b.iter(|| runtime.block_on(run(engine, concurrency)));
        });
    }
    group.finish();
}

fn throughput(c: &mut Criterion) {
    let runtime = runtime();
    let memory = runtime.block_on(async { engine(MemoryStore::new()) }).expect("parts fit");
    measure(c, "memory", &runtime, &memory);
    let Some(database) = Database::find() else { return };
    let postgres = runtime.block_on(async {
        let store = database.fresh(&SCHEMA).await.expect("the database makes a schema");
        engine(store).expect("parts fit")
    });
    measure(c, "postgres", &runtime, &postgres);
    runtime.block_on(postgres.shutdown()).expect("nothing made it stop");
    runtime.block_on(database.remove(&SCHEMA)).expect("the schema can be dropped");
}

criterion_group!(benches, throughput);
criterion_main!(benches);
