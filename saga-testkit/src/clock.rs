//! A clock that stands still until a test moves it.

use std::sync::Arc;
use std::time::Duration;

use saga_core::{Clock, Timestamp};
use tokio::sync::watch;

/// 2026-01-01T00:00:00Z: a recent time, so that code that compares it with a wall clock does not wrap.
const START: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

/// A clock that stands still until a test moves it. Clones show the same time.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use saga_core::Clock;
/// use saga_testkit::ManualClock;
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
///
/// let clock = ManualClock::new();
/// let noon = clock.now() + Duration::from_hours(12);
/// let waiter = tokio::spawn({
///     let clock = clock.clone();
///     async move { clock.sleep_until(noon).await }
/// });
/// clock.advance(Duration::from_hours(12));
/// waiter.await?;
/// assert_eq!(clock.now(), noon);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ManualClock {
    time: Arc<watch::Sender<Timestamp>>,
}

impl ManualClock {
    /// Makes a clock that shows 2026-01-01T00:00:00Z.
    #[must_use]
    pub fn new() -> Self {
        Self::at(START)
    }

    /// Makes a clock that shows `time`.
    #[must_use]
    pub fn at(time: Timestamp) -> Self {
        Self { time: Arc::new(watch::Sender::new(time)) }
    }

    /// Moves the time forward and wakes everybody whose time has come.
    pub fn advance(&self, duration: Duration) {
        self.time.send_modify(|time| *time = *time + duration);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.time.borrow()
    }

    async fn sleep_until(&self, at: Timestamp) {
        let mut time = self.time.subscribe();
        time.wait_for(|now| *now >= at).await.expect("the clock outlives who borrows it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn a_past_time_is_not_waited_for() {
        let clock = ManualClock::at(Timestamp::from_micros(5));
        clock.sleep_until(Timestamp::from_micros(5)).await;
    }

    #[tokio::test]
    async fn a_sleeper_wakes_when_its_time_has_come_and_not_before() {
        let clock = ManualClock::new();
        let at = clock.now() + 2 * SECOND;
        let mut sleeper = std::pin::pin!(clock.sleep_until(at));
        for _ in 0..2 {
            tokio::select! {
                biased;
                () = &mut sleeper => panic!("woke at {} instead of {at}", clock.now()),
                () = tokio::task::yield_now() => clock.advance(SECOND),
            }
        }
        sleeper.await;
    }
}
