//! What a participant tells: the commands whose answers are durable, as metrics and spans.

use opentelemetry::KeyValue;
use opentelemetry::global::{self, BoxedTracer};
use opentelemetry::metrics::{Counter, Histogram};
use opentelemetry::trace::{SpanBuilder, SpanKind};

use super::barrier::headers;
use crate::message::Envelope;
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
        let destination = name(label::DESTINATION, commands.as_str());
        Self {
            service: name(label::SERVICE, service.as_str()),
            process: [destination, KeyValue::new(label::OPERATION, "process")],
            tracer: global::tracer(telemetry::SCOPE),
            duration: seconds(
                "messaging.process.duration",
                "From a command's reception to the commit of its answer",
            ),
            duplicates: telemetry::meter()
                .u64_counter("saga.inbox.duplicates")
                .with_description("Commands that were answered from the inbox")
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

    /// Tells of a command whose answer was just made durable; why it failed, if it did.
    pub(super) fn answered(&self, command: &Envelope, times: Times, failure: Option<String>) {
        let committed = now();
        self.duration.record(committed.since(times.begun).as_secs_f64(), &self.process);
        let Some(parent) = telemetry::parent(command.traceparent.as_ref()) else { return };
        let saga = headers(command);
        let about = [
            KeyValue::new(label::SAGA_ID, saga.saga.to_string()),
            name(label::STEP, saga.step.as_str()),
            KeyValue::new(label::ATTEMPT, i64::from(saga.attempt)),
            KeyValue::new(label::MESSAGE, command.id.to_string()),
            name(label::CORRELATION, command.correlation.as_str()),
        ];
        let span = SpanBuilder::from_name(format!("process {}", command.message_type))
            .with_kind(SpanKind::Consumer)
            .with_attributes(self.process.iter().cloned().chain(about));
        let times = WorkTimes {
            begun: machine_time(times.begun, 0),
            committing: machine_time(times.committing, 0),
            committed: machine_time(committed, 0),
        };
        times.tell(&self.tracer, span, failure, &parent);
    }
}

impl Times {
    /// Notes when it was begun; what came of it is committed at once.
    pub(super) fn begun(begun: Timestamp) -> Self {
        Self { begun, committing: now() }
    }
}
