//! What an outlet tells: how long messages wait for the broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use opentelemetry::KeyValue;
use opentelemetry::metrics::Histogram;

use crate::ids::made_at;
use crate::telemetry::{self, label, name, seconds};
use crate::time::now;
use crate::{OutboxId, ParticipantName, Timestamp};

/// Nothing waits.
const NOTHING: i64 = i64::MAX;

/// The instruments of an outlet.
pub(super) struct Telemetry {
    service: [KeyValue; 1],
    published: Histogram<f64>,
    /// When the oldest row was made that waits, in microseconds since 1970.
    oldest: Arc<AtomicI64>,
}

impl Telemetry {
    pub(super) fn new(service: &ParticipantName) -> Self {
        let service = [name(label::SERVICE, service.as_str())];
        let oldest = Arc::new(AtomicI64::new(NOTHING));
        // The meter keeps what it asks for ever; an outlet that is gone has nothing to say.
        let (waiting, labels) = (Arc::downgrade(&oldest), service.clone());
        telemetry::meter()
            .f64_observable_gauge("saga.outbox.age")
            .with_unit("s")
            .with_description("How long the oldest message has waited for the broker")
            .with_callback(move |gauge| {
                let Some(oldest) = waiting.upgrade() else { return };
                let oldest = Timestamp::from_micros(oldest.load(Ordering::Relaxed));
                // Nothing is as if it were made far in the future.
                gauge.observe(now().since(oldest).as_secs_f64(), &labels);
            })
            .build();
        let published = seconds(
            "saga.outbox.publish.duration",
            "From a commit to the broker's acknowledgement",
        );
        Self { service, published, oldest }
    }

    /// Tells which row has waited longest.
    pub(super) fn waits(&self, oldest: Option<OutboxId>) {
        let oldest = oldest.map_or(NOTHING, |row| made_at(row.0).as_micros());
        self.oldest.store(oldest, Ordering::Relaxed);
    }

    /// Tells that the broker has acknowledged a row.
    pub(super) fn published(&self, row: OutboxId) {
        self.published.record(now().since(made_at(row.0)).as_secs_f64(), &self.service);
    }
}
