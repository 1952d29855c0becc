//! What an engine tells: the history of its sagas, once it is durable, as metrics and spans.

use std::time::{Duration, SystemTime};

use opentelemetry::global::{self, BoxedSpan, BoxedTracer};
use opentelemetry::metrics::{Counter, Histogram};
use opentelemetry::trace::{
    Event as SpanEvent, Link, Span as _, SpanBuilder, SpanContext, SpanKind, Tracer as _,
};
use opentelemetry::{Context, KeyValue};

use super::work::Work;
use crate::definition::Definition;
use crate::ids::made_at;
use crate::machine::{HistoryEntry, HistoryKind, Progress};
use crate::telemetry::{self, SetAside, WorkTimes, label, machine_time, name, seconds};
use crate::{ParticipantName, StepName, Timestamp};

/// Most sagas that a tick links to: what exporters keep by default.
const LINKS_MAX: u64 = 128;

/// The instruments of an engine.
pub(super) struct Telemetry {
    tracer: BoxedTracer,
    started: Counter<u64>,
    completed: Counter<u64>,
    compensated: Counter<u64>,
    parked: Counter<u64>,
    duration: Histogram<f64>,
    step_duration: Histogram<f64>,
    retries: Counter<u64>,
    ignored: Counter<u64>,
    timer_lag: Histogram<f64>,
    tick_size: Histogram<u64>,
    commit_duration: Histogram<f64>,
    pub(super) set_aside: SetAside,
}

/// When a tick was decided, and when its commit began and ended, by the store's clock.
pub(super) struct Times {
    pub(super) decided: Timestamp,
    pub(super) committing: Timestamp,
    pub(super) committed: Timestamp,
    /// How far that is ahead of the machine's.
    pub(super) ahead_us: i64,
}

/// When the commands were sent that a saga waits for.
#[derive(Default)]
pub(super) struct Asked(Vec<(StepName, Timestamp)>);

impl Telemetry {
    pub(super) fn new(service: &ParticipantName) -> Self {
        let meter = telemetry::meter();
        let counter =
            |name, description| meter.u64_counter(name).with_description(description).build();
        Self {
            tracer: global::tracer(telemetry::SCOPE),
            started: counter("saga.started", "Sagas that were accepted"),
            completed: counter("saga.completed", "Sagas of which every step succeeded"),
            compensated: counter("saga.compensated", "Sagas of which every effect was undone"),
            parked: counter("saga.parked", "How often a saga came to wait for a person"),
            duration: seconds("saga.duration", "From the start of a saga to its end"),
            step_duration: seconds("saga.step.duration", "From a command to its answer"),
            retries: counter("saga.step.retries", "Attempts after the first"),
            ignored: counter("saga.replies.ignored", "Replies and timers that changed nothing"),
            timer_lag: seconds("saga.timer.lag", "How much later than due a timer fired"),
            tick_size: meter
                .u64_histogram("saga.tick.size")
                .with_description("Sagas that one commit held")
                .with_boundaries((0..=10).map(|power| f64::from(1 << power)).collect())
                .build(),
            commit_duration: seconds("saga.tick.commit.duration", "What a commit took"),
            set_aside: SetAside::new(service),
        }
    }

    /// Tells that something changed nothing.
    pub(super) fn ignored(&self, reason: &'static str) {
        self.ignored.add(1, &[KeyValue::new(label::REASON, reason)]);
    }

    /// Tells that a timer fired so much later than it was due.
    pub(super) fn timer_fired(&self, lag: Duration) {
        self.timer_lag.record(lag.as_secs_f64(), &[]);
    }

    /// Tells what a tick that is durable did to sagas.
    pub(super) fn committed<'a>(&self, works: impl Iterator<Item = &'a mut Work>, times: &Times) {
        let mut tick: Option<BoxedSpan> = None;
        let mut size = 0;
        for work in works.filter(|work| work.is_dirty()) {
            size += 1;
            let origin = work.progress().map(Progress::origin);
            let parent = telemetry::parent(origin.and_then(|it| it.traceparent.as_ref()));
            self.happened(work, parent.as_ref(), times);
            let Some(parent) = parent else { continue };
            let tick = tick.get_or_insert_with(|| {
                let tick =
                    SpanBuilder::from_name("tick").with_start_time(times.machine(times.decided));
                self.tracer.build_with_context(tick, &Context::new())
            });
            let decided = self.decided(work, &parent, tick.span_context(), times);
            if size <= LINKS_MAX {
                tick.add_link(decided, Vec::new());
            }
        }
        if let Some(mut tick) = tick {
            tick.set_attribute(KeyValue::new("saga.tick.size", size.cast_signed()));
            tick.end_with_timestamp(times.machine(times.committed));
        }
        if size > 0 {
            self.tick_size.record(size, &[]);
            let took = times.committed.since(times.committing);
            self.commit_duration.record(took.as_secs_f64(), &[]);
        }
    }

    /// Tells what happened to a saga: what is counted, and the spans of what has ended.
    fn happened(&self, work: &mut Work, parent: Option<&Context>, times: &Times) {
        let mut asked = std::mem::take(&mut work.asked);
        let saga = [name(label::SAGA, work.name().as_str())];
        for entry in work.history() {
            match entry.kind {
                HistoryKind::Started => self.started.add(1, &saga),
                HistoryKind::Completed => self.completed.add(1, &saga),
                HistoryKind::SagaCompensated => self.compensated.add(1, &saga),
                HistoryKind::Parked => self.parked.add(1, &saga),
                HistoryKind::CommandSent | HistoryKind::CompensationSent => {
                    let Some(step) = &entry.step else { continue };
                    asked.sent(step, entry.at);
                    if entry.attempt > 1 {
                        let [saga] = saga.clone();
                        self.retries.add(1, &[saga, name(label::STEP, step.as_str())]);
                    }
                }
                _ => {}
            }
            let Some(outcome) = outcome(entry.kind) else { continue };
            let [saga] = saga.clone();
            let outcome = KeyValue::new(label::OUTCOME, outcome);
            let Some(step) = &entry.step else {
                let from = made_at(work.saga.0);
                let labels = vec![saga, outcome];
                self.duration.record(entry.at.since(from).as_secs_f64(), &labels);
                let time = (times.machine(from), times.machine(entry.at));
                self.ended(work, parent, work.name().as_str(), time, labels);
                continue;
            };
            // Late answers and what a person says are about an attempt that was told of before.
            let Some(sent) = asked.answered(step) else { continue };
            let mut labels = vec![saga, name(label::STEP, step.as_str()), outcome];
            self.step_duration.record(entry.at.since(sent).as_secs_f64(), &labels);
            labels.push(KeyValue::new(label::ATTEMPT, i64::from(entry.attempt)));
            let time = (times.machine(sent), times.machine(entry.at));
            self.ended(work, parent, step.as_str(), time, labels);
        }
        work.asked = asked;
    }

    /// Makes the span of a step or of a saga that has ended, if it is traced.
    fn ended(
        &self,
        work: &Work,
        parent: Option<&Context>,
        name: &str,
        (from, to): (SystemTime, SystemTime),
        mut labels: Vec<KeyValue>,
    ) {
        let Some(parent) = parent else { return };
        labels.push(saga_id(work));
        let span =
            SpanBuilder::from_name(name.to_owned()).with_start_time(from).with_attributes(labels);
        self.tracer.build_with_context(span, parent).end_with_timestamp(to);
    }

    /// Makes the span of a decision, with that of its commit.
    fn decided(
        &self,
        work: &Work,
        parent: &Context,
        tick: &SpanContext,
        times: &Times,
    ) -> SpanContext {
        let cause = work.cause.map(|id| KeyValue::new(label::MESSAGE, id.to_string()));
        let saga = [name(label::SAGA, work.name().as_str()), saga_id(work)];
        let events = work.history().iter().map(|entry| times.event(entry));
        let span = SpanBuilder::from_name(format!("decide {}", work.name()))
            .with_kind(if work.cause.is_some() { SpanKind::Consumer } else { SpanKind::Internal })
            .with_attributes(saga.into_iter().chain(cause))
            .with_links(vec![Link::new(tick.clone(), Vec::new(), 0)])
            .with_events(events.collect());
        let failure = work.progress().and_then(Progress::failure).map(|it| it.code.clone());
        let times = WorkTimes {
            begun: times.machine(times.decided),
            committing: times.machine(times.committing),
            committed: times.machine(times.committed),
        };
        times.tell(&self.tracer, span, failure, parent)
    }
}

impl Times {
    fn machine(&self, time: Timestamp) -> SystemTime {
        machine_time(time, self.ahead_us)
    }

    fn event(&self, entry: &HistoryEntry) -> SpanEvent {
        let step = entry.step.as_ref().map(|step| name(label::STEP, step.as_str()));
        let attempt = KeyValue::new(label::ATTEMPT, i64::from(entry.attempt));
        let attempt = Some(attempt).filter(|_| entry.attempt > 0);
        let attributes = step.into_iter().chain(attempt).collect();
        SpanEvent::new(entry.kind.as_str(), self.machine(entry.at), attributes, 0)
    }
}

impl Asked {
    /// Learns from a saga that was read from the store.
    pub(super) fn of(progress: &Progress, definition: &Definition) -> Self {
        Self(progress.asked(definition).collect())
    }

    fn sent(&mut self, step: &StepName, at: Timestamp) {
        self.answered(step);
        self.0.push((step.clone(), at));
    }

    /// Returns when the command was sent that is not waited for any more.
    fn answered(&mut self, step: &StepName) -> Option<Timestamp> {
        let index = self.0.iter().position(|(asked, _)| asked == step)?;
        Some(self.0.swap_remove(index).1)
    }
}

fn saga_id(work: &Work) -> KeyValue {
    KeyValue::new(label::SAGA_ID, work.saga.to_string())
}

/// Returns what has ended, a step's attempt or a saga, and how.
const fn outcome(kind: HistoryKind) -> Option<&'static str> {
    match kind {
        HistoryKind::Completed => Some("completed"),
        HistoryKind::SagaCompensated | HistoryKind::Compensated => Some("compensated"),
        HistoryKind::Succeeded => Some("succeeded"),
        HistoryKind::Rejected => Some("rejected"),
        HistoryKind::AttemptFailed | HistoryKind::CompensationFailed => Some("failed"),
        HistoryKind::TimedOut => Some("timed-out"),
        _ => None,
    }
}
