//! The commit of a tick: sagas that move on, their history, and one row of the outbox.

use std::iter::repeat_n;

use benches::{Database, LiveSagas, runtime};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use saga_core::MemoryStore;
use saga_core::store::{SagaStore, WakeAt};
use saga_postgres::SchemaName;
use tokio::runtime::Runtime;

const SCHEMA: SchemaName = SchemaName::new("bench_tick");
/// Each tick takes the next of them, so that none is moved on twice in a row.
const LIVE: usize = 4096;

/// Measures each size on a store of its own, so that what one leaves does not slow the next.
fn ticks<S: SagaStore>(c: &mut Criterion, backend: &str, runtime: &Runtime, fresh: impl Fn() -> S) {
    let mut group = c.benchmark_group(format!("tick/{backend}"));
    for size in [1, 16, 64, 256, 512] {
        let store = fresh();
        let sagas = LiveSagas::start(&store, repeat_n(WakeAt::Never, LIVE));
        let mut sagas = runtime.block_on(sagas).expect("sagas start");
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(size.to_string(), |b| {
            b.iter_batched(
                || sagas.tick(size),
                |tick| runtime.block_on(store.commit(tick)).expect("no other engine is there"),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn tick(c: &mut Criterion) {
    let runtime = runtime();
    ticks(c, "memory", &runtime, MemoryStore::new);
    let Some(database) = Database::find() else { return };
    ticks(c, "postgres", &runtime, || {
        runtime.block_on(database.fresh(&SCHEMA)).expect("the database makes a schema")
    });
    runtime.block_on(database.remove(&SCHEMA)).expect("the schema can be dropped");
}

criterion_group!(benches, tick);
criterion_main!(benches);
