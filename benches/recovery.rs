//! After a crash: the scan for sagas that are due among 100 000 live ones, and the load of a page of them.

use std::time::Duration;

use benches::{Database, LiveSagas, runtime};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use saga_core::store::{SagaStore, WakeAt};
use saga_core::{Clock as _, MemoryStore, SagaId, SystemClock};
use saga_postgres::SchemaName;
use tokio::runtime::Runtime;

const SCHEMA: SchemaName = SchemaName::new("bench_recovery");
const LIVE: u32 = 100_000;
/// How many the engine asks for at once.
const PAGE: usize = 1000;
/// The first one wakes then, and the others one after the other within the hour after that.
const FIRST_WAKES_IN: Duration = Duration::from_hours(1);

async fn live_sagas(store: &impl SagaStore) -> Vec<SagaId> {
    let first = SystemClock::new().now() + FIRST_WAKES_IN;
    let wake_times = (0..LIVE).map(|n| WakeAt::At(first + Duration::from_millis(30) * n));
    let sagas = LiveSagas::start(store, wake_times).await.expect("sagas start");
    sagas.ids().take(PAGE).collect()
}

fn scans(c: &mut Criterion, backend: &str, runtime: &Runtime, store: &impl SagaStore) {
    let page = runtime.block_on(live_sagas(store));
    let mut group = c.benchmark_group(format!("recovery/{backend}"));
    group.bench_function("nothing_due", |b| {
        b.iter(|| runtime.block_on(store.due(Duration::ZERO, PAGE)).expect("the store answers"));
    });
    group.throughput(Throughput::Elements(PAGE as u64));
    group.bench_function("all_due", |b| {
        b.iter(|| {
            runtime.block_on(store.due(2 * FIRST_WAKES_IN, PAGE)).expect("the store answers")
        });
    });
    group.bench_function("load", |b| {
        b.iter(|| runtime.block_on(store.load(&page)).expect("the store answers"));
    });
    group.finish();
}

fn recovery(c: &mut Criterion) {
    let runtime = runtime();
    scans(c, "memory", &runtime, &MemoryStore::new());
    let Some(database) = Database::find() else { return };
    let store = runtime.block_on(database.fresh(&SCHEMA)).expect("the database makes a schema");
    scans(c, "postgres", &runtime, &store);
    runtime.block_on(database.remove(&SCHEMA)).expect("the schema can be dropped");
}

criterion_group!(benches, recovery);
criterion_main!(benches);
