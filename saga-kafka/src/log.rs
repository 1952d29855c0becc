//! What the client library has to say, in `tracing`, and not too often.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use tracing::{debug, warn};

/// A broker that is away is reported by every connection attempt.
const INTERVAL: Duration = Duration::from_secs(10);

/// Lets one warning through per interval; the others are for who debugs.
#[derive(Default)]
pub(crate) struct Log {
    warned: Mutex<Option<Instant>>,
}

impl Log {
    pub(crate) fn message(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Properties are shared by producers, consumers and administration; the library remarks
        // on those that are for one of the others.
        let is_serious = level as i32 <= RDKafkaLogLevel::Warning as i32 && facility != "CONFWARN";
        if is_serious && self.may_warn() {
            warn!(facility, message, "kafka client");
        } else {
            debug!(facility, message, "kafka client");
        }
    }

    pub(crate) fn error(&self, error: &KafkaError, reason: &str) {
        if self.may_warn() {
            warn!(%error, reason, "kafka is not well; trying on");
        } else {
            debug!(%error, reason, "kafka is not well; trying on");
        }
    }

    fn may_warn(&self) -> bool {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        let may = warned.is_none_or(|at| at.elapsed() >= INTERVAL);
        if may {
            *warned = Some(Instant::now());
        }
        may
    }
}
