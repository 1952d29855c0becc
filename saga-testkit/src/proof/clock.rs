//! The clock of a simulated world: it jumps when nobody has anything to do.

use saga_core::{Clock, SystemClock, Timestamp};
use tokio::time::Instant;

/// Shows the time of a runtime whose time is paused. Clones show the same.
///
/// Such a runtime moves its time to the next timer as soon as nothing else is to be done, so hours
/// pass in no time, and in the same order every time.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use saga_core::Clock;
/// use saga_testkit::SimulatedClock;
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?.block_on(async {
/// // ... in a test with `#[tokio::test(start_paused = true)]` ...
/// let clock = SimulatedClock::new();
/// let before = clock.now();
/// tokio::time::sleep(Duration::from_hours(1)).await; // takes no time
/// assert_eq!(clock.now().since(before), Duration::from_hours(1));
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct SimulatedClock {
    start: Timestamp,
    began: Instant,
}

impl SimulatedClock {
    /// Makes a clock that shows the machine's time now, and from then on that of the current runtime.
    #[must_use]
    pub fn new() -> Self {
        Self { start: SystemClock::new().now(), began: Instant::now() }
    }

    /// Returns how many milliseconds have passed in this world.
    pub(super) fn millis(&self) -> u128 {
        self.began.elapsed().as_millis()
    }
}

impl Default for SimulatedClock {
    fn default() -> Self {
        Self::new()
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
