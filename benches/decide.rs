//! The pure transition function: one decision per kind of event.

use benches::{Kind, Transition};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

fn decide(c: &mut Criterion) {
    let mut group = c.benchmark_group("decide");
    for kind in Kind::ALL {
        group.bench_function(kind.name(), |b| {
            b.iter_batched(|| Transition::of(kind), Transition::decide, BatchSize::SmallInput);
        });
    }
    group.finish();
}

criterion_group!(benches, decide);
criterion_main!(benches);
