//! Time as a value, and the clock that a test can hold.

use std::fmt;
use std::future::Future;
use std::ops::{Add, Sub};
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A point in time, in microseconds since 1970-01-01 UTC: what a `timestamptz` can hold.
///
/// ```
/// use saga_core::Timestamp;
/// let start = Timestamp::from_micros(1_000_000);
/// assert_eq!(start.to_string(), "1970-01-01T00:00:01Z");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Makes a timestamp from microseconds since 1970-01-01 UTC.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Returns the microseconds since 1970-01-01 UTC.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Returns how long after `earlier` this is, or zero if it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    /// Saturates, so that a deadline that is "never" stays in the far future.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    /// Prints ISO 8601, as the envelope carries it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.0.div_euclid(1_000_000), self.0.rem_euclid(1_000_000));
        let nanos = i32::try_from(micros * 1_000).unwrap_or_default();
        match jiff::Timestamp::new(seconds, nanos) {
            Ok(time) => fmt::Display::fmt(&time, f),
            Err(_) => write!(f, "{} us since 1970", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        let time: jiff::Timestamp = text.parse().map_err(|_| InvalidTimestamp)?;
        Ok(Self(time.as_microsecond()))
    }
}

/// A text that is no ISO 8601 time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an ISO 8601 time such as 2026-01-31T12:00:00Z")]
pub struct InvalidTimestamp;

/// Where the engine reads the time and waits for it.
///
/// The engine corrects what this clock says by the store's clock, which decides when a durable
/// timer is due; so a process whose clock is wrong still fires its timers at the right time.
pub trait Clock: Send + Sync + 'static {
    /// Returns the time now. It never goes back.
    fn now(&self) -> Timestamp;

    /// Waits until `at`; returns at once if that is past.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future forgets the wait and nothing else.
    fn sleep_until(&self, at: Timestamp) -> impl Future<Output = ()> + Send;
}

impl<C: Clock> Clock for std::sync::Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn sleep_until(&self, at: Timestamp) -> impl Future<Output = ()> + Send {
        (**self).sleep_until(at)
    }
}

/// Reads the machine's clock, for what people are told: nothing is decided by it.
pub(crate) fn now() -> Timestamp {
    SystemClock::new().now()
}

/// The machine's clock: wall time when it was made, monotonic from then on.
#[derive(Debug, Clone)]
pub struct SystemClock {
    started: Instant,
    started_at: Timestamp,
}

impl SystemClock {
    /// Reads the wall clock once; a later jump of the wall clock does not move this one.
    #[must_use]
    pub fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is the clock the others ask")]
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), started_at: Timestamp::default() + since_epoch }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.started_at + self.started.elapsed()
    }

    async fn sleep_until(&self, at: Timestamp) {
        tokio::time::sleep(at.since(self.now())).await;
    }
}

/// The object-safe face of [`Clock`].
pub(crate) trait DynClock: Send + Sync {
    fn now_dyn(&self) -> Timestamp;
    fn sleep_until_dyn(&self, at: Timestamp) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

impl<C: Clock> DynClock for C {
    fn now_dyn(&self) -> Timestamp {
        Clock::now(self)
    }

    fn sleep_until_dyn(&self, at: Timestamp) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(Clock::sleep_until(self, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_read_as_a_time_is_printed_as_the_same() {
        for text in [
            "-009999-01-02T01:59:59Z",
            "-009999-01-02T01:59:59.000001Z",
            "1969-12-31T23:59:59.999999Z",
            "1970-01-01T00:00:00Z",
            "9999-12-30T22:00:00Z",
            "9999-12-30T22:00:00.999999Z",
        ] {
            let time: Timestamp = text.parse().expect(text);
            assert_eq!(time.to_string(), text);
        }
        for micros in [i64::MIN, i64::MAX] {
            let text = Timestamp::from_micros(micros).to_string();
            assert_eq!(text.parse::<Timestamp>(), Err(InvalidTimestamp), "{text}");
        }
    }
}
