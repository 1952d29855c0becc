//! What callers, the feeding thread and the producer's callbacks share: which batches are out.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use saga_core::transport::{Acknowledgement, Receipt, Record};
use saga_core::{Topic, TransportError};

use crate::error::{is_consequence, publish_failed};
use crate::log::Log;

/// How long a dropped publisher goes on sending what it was given.
pub(super) const DRAIN: Duration = Duration::from_secs(5);

/// What the feeding thread has to do, in order.
pub(super) enum Work {
    Batch(Arc<Tracker>, Vec<Record>),
    /// The publisher failed in a callback.
    Failed,
    /// The publisher was dropped.
    Close,
}

pub(super) struct Shared {
    state: Mutex<State>,
    /// As in the state; for a glance between two records.
    failed: AtomicBool,
    fatal: AtomicBool,
    closed: OnceLock<Instant>,
    work: mpsc::Sender<Work>,
}

#[derive(Default)]
struct State {
    /// Why nothing more is taken.
    failed: Option<String>,
    outstanding: HashMap<u64, Arc<Tracker>>,
    batches: u64,
}

impl Shared {
    pub(super) fn new(work: mpsc::Sender<Work>) -> Self {
        Self {
            state: Mutex::default(),
            failed: AtomicBool::new(false),
            fatal: AtomicBool::new(false),
            closed: OnceLock::new(),
            work,
        }
    }

    pub(super) fn publish(&self, records: Vec<Record>) -> Receipt {
        let mut state = self.lock();
        if let Some(reason) = &state.failed {
            return Receipt::settled(Err(publisher_failed(reason)));
        }
        if records.is_empty() {
            return Receipt::settled(Ok(()));
        }
        let (acknowledgement, receipt) = Receipt::pending();
        state.batches += 1;
        let batch = state.batches;
        let tracker = Arc::new(Tracker::new(batch, records.len(), acknowledgement));
        state.outstanding.insert(batch, Arc::clone(&tracker));
        // Under the lock, so that the order of the queue is the order of the calls. The thread
        // takes work until it has seen that the publisher failed, and settles what is left then.
        let _ = self.work.send(Work::Batch(tracker, records));
        receipt
    }

    /// Takes nothing more; what is outstanding is settled by its deliveries or by the feeder.
    pub(super) fn fail(&self, reason: &str) {
        let mut state = self.lock();
        if state.failed.is_none() {
            state.failed = Some(reason.to_owned());
            self.failed.store(true, Ordering::Release);
            let _ = self.work.send(Work::Failed);
        }
    }

    /// Settles everything that no delivery has settled.
    pub(super) fn settle_rest(&self) {
        let (rest, reason) = {
            let mut state = self.lock();
            let reason = state.failed.clone().unwrap_or_default();
            (std::mem::take(&mut state.outstanding), reason)
        };
        for tracker in rest.into_values() {
            tracker.note(publisher_failed(&reason));
            tracker.settle();
        }
    }

    pub(super) fn close(&self) {
        let _ = self.closed.set(Instant::now());
        let _ = self.work.send(Work::Close);
    }

    pub(super) fn is_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Whether the producer itself has stopped sending.
    pub(super) fn is_fatal(&self) -> bool {
        self.fatal.load(Ordering::Acquire)
    }

    /// How much longer a dropped publisher may go on, if it was dropped.
    pub(super) fn drain_left(&self) -> Option<Duration> {
        self.closed.get().map(|at| DRAIN.saturating_sub(at.elapsed()))
    }

    /// Notes that one more record of a batch has come to its end.
    fn delivered(&self, tracker: &Tracker) {
        if tracker.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.lock().outstanding.remove(&tracker.batch);
            tracker.settle();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Shared")
            .field("failed", &state.failed)
            .field("outstanding", &state.outstanding.len())
            .finish_non_exhaustive()
    }
}

fn publisher_failed(reason: &str) -> TransportError {
    TransportError::PublisherFailed { operation: "publish", source: reason.into() }
}

/// One batch: how many of its records are not at their end, and whom to tell.
///
/// Every record carries it through the producer, so that a batch costs one of it and no future per
/// record.
pub(super) struct Tracker {
    batch: u64,
    left: AtomicUsize,
    outcome: Mutex<Outcome>,
}

struct Outcome {
    error: Option<TransportError>,
    acknowledgement: Option<Acknowledgement>,
}

impl Tracker {
    fn new(batch: u64, records: usize, acknowledgement: Acknowledgement) -> Self {
        let outcome = Outcome { error: None, acknowledgement: Some(acknowledgement) };
        Self { batch, left: AtomicUsize::new(records), outcome: Mutex::new(outcome) }
    }

    /// Notes an error. One that says what is wrong stays; one that only follows from it gives way.
    pub(super) fn note(&self, error: TransportError) {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(outcome.error, None | Some(TransportError::PublisherFailed { .. })) {
            outcome.error = Some(error);
        }
    }

    fn settle(&self) {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(acknowledgement) = outcome.acknowledgement.take() {
            acknowledgement.settle(outcome.error.take().map_or(Ok(()), Err));
        }
    }
}

/// What the producer calls back.
pub(super) struct Context {
    shared: Arc<Shared>,
    log: Log,
}

impl Context {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, log: Log::default() }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.message(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.shared.fatal.store(true, Ordering::Release);
            self.shared.fail(reason);
        } else {
            self.log.error(&error, reason);
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Arc<Tracker>;

    fn delivery(&self, result: &DeliveryResult<'_>, tracker: Arc<Tracker>) {
        if let Err((error, message)) = result {
            if is_consequence(error) {
                tracker.note(publisher_failed("an earlier record could not be appended"));
            } else if let Ok(topic) = Topic::parse(message.topic()) {
                tracker.note(publish_failed(error.clone(), &topic));
            } else {
                tracker.note(publisher_failed("the name of the topic is no topic name"));
            }
            self.shared.fail(&error.to_string());
        }
        self.shared.delivered(&tracker);
    }
}
