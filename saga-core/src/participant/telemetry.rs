//! What a participant tells: the messages whose outcome is durable, as metrics and spans.

use opentelemetry::KeyValue;
use opentelemetry::global::{self, BoxedTracer};
use opentelemetry::metrics::{Counter, Histogram};
use opentelemetry::trace::{SpanBuilder, SpanKind};

use super::incoming::Incoming;
use crate::telemetry::{self, SetAside, WorkTimes, label, machine_time, name, seconds};
use crate::time::now;
use crate::{ParticipantName, Timestamp, Topic};

/// The instruments of a participant.
pub(super) struct Telemetry {
    service: KeyValue,
    /// Where the commands come from, and what is done with them.
    process: [KeyValue; 2],
    tracer: BoxedTracer,
    duration: Histogram<f64>,
    duplicates: Counter<u64>,
    pub(super) set_aside: SetAside,
}

/// When a participant began with commands, and when it asked for the commit of what came of them.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub(super) begun: Timestamp,
    pub(super) committing: Timestamp,
}

impl Telemetry {
    pub(super) fn new(service: &ParticipantName, commands: &Topic) -> Self {
        Self {
            service: name(label::SERVICE, service.as_str()),
            process: process(commands),
            tracer: global::tracer(telemetry::SCOPE),
            duration: seconds(
                "messaging.process.duration",
                "From a message's reception to the commit of its outcome",
            ),
            duplicates: telemetry::meter()
                .u64_counter("saga.inbox.duplicates")
                .with_description("Messages that the inbox knew")
                .build(),
            set_aside: SetAside::new(service),
        }
    }

    /// Tells that commands were answered as before.
    pub(super) fn duplicates(&self, commands: u64) {
        if commands > 0 {
            self.duplicates.add(commands, std::slice::from_ref(&self.service));
        }
    }

    /// Tells of a message whose outcome was just made durable; why it failed, if it did.
    pub(super) fn answered(&self, incoming: &Incoming, times: Times, failure: Option<String>) {
        let committed = now();
        let of_facts =
            incoming.command().is_none().then(|| process(&incoming.delivery.position.topic));
        let process = of_facts.as_ref().unwrap_or(&self.process);
        self.duration.record(committed.since(times.begun).as_secs_f64(), process);
        let message = &incoming.envelope;
        let Some(parent) = telemetry::parent(message.traceparent.as_ref()) else { return };
        let saga = incoming.command().map(|command| {
            [
                KeyValue::new(label::SAGA_ID, command.saga.to_string()),
                name(label::STEP, command.step.as_str()),
                KeyValue::new(label::ATTEMPT, i64::from(command.attempt)),
            ]
        });
        let about = [
            KeyValue::new(label::MESSAGE, message.id.to_string()),
            name(label::CORRELATION, message.correlation.as_str()),
        ];
        let about = saga.into_iter().flatten().chain(about);
        let span = SpanBuilder::from_name(format!("process {}", message.message_type))
            .with_kind(SpanKind::Consumer)
            .with_attributes(process.iter().cloned().chain(about));
        let times = WorkTimes {
            begun: machine_time(times.begun, 0),
            committing: machine_time(times.committing, 0),
            committed: machine_time(committed, 0),
        };
        times.tell(&self.tracer, span, failure, &parent);
    }
}

/// What metrics and spans say of the handling of what comes from a topic.
fn process(topic: &Topic) -> [KeyValue; 2] {
    [name(label::DESTINATION, topic.as_str()), KeyValue::new(label::OPERATION, "process")]
}

impl Times {
    /// Notes when it was begun; what came of it is committed at once.
    pub(super) fn begun(begun: Timestamp) -> Self {
        Self { begun, committing: now() }
    }
}
