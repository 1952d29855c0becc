//! The pure transition function: one decision per kind of event.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use saga_core::machine::{Decision, Event, Origin, Progress, ReplyEvent, decide};
use saga_core::message::Outcome;
use saga_core::{CorrelationId, Payload, SagaId, Timestamp};

use benches::{Order, saga};

fn started() -> Decision {
    let saga = saga().expect("the bench's saga is sound");
    let id = SagaId::now();
    let origin =
        Origin { correlation: CorrelationId::from(id), causation: None, traceparent: None };
    let progress = Progress::start(saga.definition(), id, origin, Order::new(1));
    decide(saga.definition(), progress, Event::Started, Timestamp::from_micros(1))
}

fn reply(decision: &Decision, outcome: Outcome) -> Event {
    let payload = Payload::from(b"{}".to_vec());
    let command = &decision.commands[0];
    Event::Reply(ReplyEvent { command: command.id, attempt: command.attempt, outcome, payload })
}

fn benches(c: &mut Criterion) {
    let saga = saga().expect("the bench's saga is sound");
    let mut group = c.benchmark_group("decide");
    for (name, outcome) in [
        ("succeeded", Outcome::Succeeded),
        ("rejected", Outcome::Rejected("no".into())),
        ("failed", Outcome::FailedTransiently("later".into())),
    ] {
        group.bench_function(name, |b| {
            b.iter_batched(
                || {
                    let decision = started();
                    let event = reply(&decision, outcome.clone());
                    (decision.progress, event)
                },
                |(progress, event)| {
                    decide(saga.definition(), progress, event, Timestamp::from_micros(2))
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(decide_benches, benches);
criterion_main!(decide_benches);
