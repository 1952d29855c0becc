//! What sagas at work tell of themselves: metrics and traces, through the API of [OpenTelemetry].
//!
//! The library makes no exporter and installs nothing. A program that wants to see installs a meter provider
//! and a tracer provider ([`opentelemetry::global`]) *before* it starts an engine, a participant or a relay;
//! without them all of this costs next to nothing.
//!
//! Everything here is told after the commit that made it true, and nothing that the engine decides depends on it.
//! A process that is killed takes with it what it had not exported.
//!
//! # Metrics
//!
//! Times are in seconds. Ids are never labels, so the number of series depends on the definitions alone.
//!
//! | name | kind | labels | |
//! |---|---|---|---|
//! | `saga.started` | counter | `saga.name` | sagas that were accepted |
//! | `saga.completed` | counter | `saga.name` | sagas of which every step succeeded |
//! | `saga.compensated` | counter | `saga.name` | sagas of which every effect was undone |
//! | `saga.parked` | counter | `saga.name` | how often a saga came to wait for a person |
//! | `saga.duration` | histogram | `saga.name`, `saga.outcome` | from the start of a saga to its end |
//! | `saga.step.duration` | histogram | `saga.name`, `saga.step`, `saga.outcome` | from a command to its answer |
//! | `saga.step.retries` | counter | `saga.name`, `saga.step` | attempts after the first |
//! | `saga.replies.ignored` | counter | `saga.reason` | replies and timers that changed nothing |
//! | `saga.timer.lag` | histogram | | how much later than due a timer fired |
//! | `saga.tick.size` | histogram | | sagas that one commit held |
//! | `saga.tick.commit.duration` | histogram | | what a commit took |
//! | `saga.inbox.duplicates` | counter | `saga.service` | messages that the inbox knew |
//! | `saga.dead_letters` | counter | `saga.service`, `saga.reason` | messages that were set aside |
//! | `saga.outbox.age` | gauge | `saga.service` | how long the oldest message has waited for the broker |
//! | `saga.outbox.publish.duration` | histogram | `saga.service` | from a commit to the broker's acknowledgement |
//! | `messaging.process.duration` | histogram | `messaging.destination.name`, `messaging.operation.name` | from a message's reception to the commit of what came of it |
//!
//! # Traces
//!
//! A saga belongs to the trace of whatever started it: the span that is current when [`Engine::start`](crate::Engine::start)
//! is called, or when the fact is made that it [starts on](crate::EngineBuilder::start_on). Its W3C trace context is stored with the
//! saga and travels in every message, so that the trace goes on after a crash, in whichever process.
//!
//! **Every span of a saga is a child of what started it.** What a span follows from is told by its time and its
//! attributes, and not by its place: were spans nested along the messages, each that died with its process
//! would leave what came after it without a parent.
//!
//! | span | from | to |
//! |---|---|---|
//! | the saga's name | the start of the saga | its end |
//! | the step's name | the command | its answer, or its deadline; a retry is a span of its own |
//! | `decide`, and the saga's name | the engine deciding | the decision being durable; what was decided are its events |
//! | `process`, and the message's type | a participant beginning with a command or a fact | what came of it being durable |
//! | `commit` | the database being asked to commit | its answer; a child of one of the two before |
//! | `tick` | as `decide` | a trace of its own, with a link to each saga that it decided on, at most 128 |
//!
//! While a handler works, the saga's trace is the current OpenTelemetry context, so that what it calls joins in; a
//! [`HandleAll`](crate::HandleAll) has that of the first of its commands.
//!
//! [OpenTelemetry]: https://opentelemetry.io

use std::time::{Duration, SystemTime};

use opentelemetry::global::{self, BoxedTracer};
use opentelemetry::metrics::{Counter, Histogram, Meter};
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _,
    TraceFlags, TraceId, TraceState, Tracer as _,
};
use opentelemetry::{Context, KeyValue};

use crate::store::DeadLetter;
use crate::{ParticipantName, Timestamp};

/// Who tells: the name of the meter and of the tracer.
pub(crate) const SCOPE: &str = "saga-core";

/// What something has to do with, as metrics and spans call it.
pub(crate) mod label {
    pub(crate) const SAGA: &str = "saga.name";
    pub(crate) const SAGA_ID: &str = "saga.id";
    pub(crate) const STEP: &str = "saga.step";
    pub(crate) const ATTEMPT: &str = "saga.attempt";
    pub(crate) const OUTCOME: &str = "saga.outcome";
    pub(crate) const REASON: &str = "saga.reason";
    pub(crate) const SERVICE: &str = "saga.service";
    pub(crate) const DESTINATION: &str = "messaging.destination.name";
    pub(crate) const OPERATION: &str = "messaging.operation.name";
    pub(crate) const MESSAGE: &str = "messaging.message.id";
    pub(crate) const CORRELATION: &str = "messaging.message.conversation_id";
}

/// From 1 ms to a minute, twice or three times as much each.
const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

pub(crate) fn meter() -> Meter {
    global::meter(SCOPE)
}

/// Makes a histogram of times.
pub(crate) fn seconds(name: &'static str, description: &'static str) -> Histogram<f64> {
    let meter = meter();
    let histogram = meter.f64_histogram(name).with_unit("s").with_description(description);
    histogram.with_boundaries(SECONDS.to_vec()).build()
}

/// Counts the messages that a service sets aside.
pub(crate) struct SetAside {
    service: KeyValue,
    letters: Counter<u64>,
}

impl SetAside {
    pub(crate) fn new(service: &ParticipantName) -> Self {
        let (meter, description) = (meter(), "Messages that were set aside");
        let letters = meter.u64_counter("saga.dead_letters").with_description(description).build();
        Self { service: name(label::SERVICE, service.as_str()), letters }
    }

    pub(crate) fn tell(&self, letters: &[DeadLetter]) {
        for letter in letters {
            self.letters.add(1, &[self.service.clone(), name(label::REASON, &letter.reason)]);
        }
    }
}

/// When something was begun, and when the commit of what came of it began and ended.
#[derive(Clone, Copy)]
pub(crate) struct WorkTimes {
    pub(crate) begun: SystemTime,
    pub(crate) committing: SystemTime,
    pub(crate) committed: SystemTime,
}

impl WorkTimes {
    /// Makes the span of what was committed, with that of the commit in it.
    pub(crate) fn tell(
        self,
        tracer: &BoxedTracer,
        work: SpanBuilder,
        failure: Option<String>,
        parent: &Context,
    ) -> SpanContext {
        let mut work = tracer.build_with_context(work.with_start_time(self.begun), parent);
        if let Some(failure) = failure {
            work.set_status(Status::error(failure));
        }
        let inside = Context::new().with_remote_span_context(work.span_context().clone());
        let commit = SpanBuilder::from_name("commit").with_kind(SpanKind::Client);
        let commit = commit.with_start_time(self.committing);
        tracer.build_with_context(commit, &inside).end_with_timestamp(self.committed);
        work.end_with_timestamp(self.committed);
        work.span_context().clone()
    }
}

/// Makes a label of a name.
pub(crate) fn name(key: &'static str, name: &str) -> KeyValue {
    KeyValue::new(key, name.to_owned())
}

/// Returns the W3C trace context of the current span, if there is one.
pub(crate) fn traceparent() -> Option<String> {
    Context::map_current(|current| {
        let span = current.span();
        let span = span.span_context();
        let (trace, id, flags) = (span.trace_id(), span.span_id(), span.trace_flags());
        span.is_valid().then(|| format!("00-{trace:032x}-{id:016x}-{flags:02x}"))
    })
}

/// Returns the parent of what is told about a message or a saga. `None` if it is not traced, or if what started
/// it was not sampled.
pub(crate) fn parent(traceparent: Option<&String>) -> Option<Context> {
    let mut parts = traceparent?.split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    // A later version may have more parts, and only then.
    if version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let sizes = [version, trace, span, flags].map(str::len);
    if sizes != [2, 32, 16, 2] {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let context = SpanContext::new(trace, span, flags, true, TraceState::NONE);
    (context.is_valid() && context.is_sampled())
        .then(|| Context::new().with_remote_span_context(context))
}

/// Returns a time as spans have it; `ahead_us` is how far the clock that it was read from is ahead of the machine's.
pub(crate) fn machine_time(time: Timestamp, ahead_us: i64) -> SystemTime {
    let micros = time.as_micros().saturating_sub(ahead_us).max(0).unsigned_abs();
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_context_is_read_back_and_what_is_none_is_passed_over() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned();
        let parent = parent(Some(&text)).expect("it is sampled");
        let _current = parent.attach();
        assert_eq!(traceparent(), Some(text));
        for text in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319x-b7ad6b7169203331-01",
            "00-ß7651916cd43dd8448eb211c8031900-b7ad6b7169203331-01",
            "00-f7-b7ad6b7169203331-01",
        ] {
            assert!(super::parent(Some(&text.to_owned())).is_none(), "{text}");
        }
        assert!(super::parent(None).is_none(), "nothing is traced");
    }
}
