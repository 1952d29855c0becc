//! The clock of a simulated world: it jumps when nobody has anything to do.

use saga_core::{Clock, SystemClock, Timestamp};
use tokio::time::Instant;

/// Shows the time of a runtime whose time is paused. Clones show the same.
///
/// Such a runtime moves its time to the next timer as soon as nothing else is to be done, so hours
/// pass in no time, and in the same order every time.
#[derive(Debug, Clone)]
pub struct SimulatedClock {
    start: Timestamp,
    began: Instant,
}

impl SimulatedClock {
    pub(super) fn new() -> Self {
        Self { start: SystemClock::new().now(), began: Instant::now() }
    }

    /// Returns how many milliseconds have passed in this world.
    pub(super) fn millis(&self) -> u128 {
        self.began.elapsed().as_millis()
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        self.start + self.began.elapsed()
    }

    async fn sleep_until(&self, at: Timestamp) {
        tokio::time::sleep_until(self.began + at.since(self.start)).await;
    }
}
