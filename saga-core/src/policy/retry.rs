//! When to ask again.

use std::time::Duration;

/// How often something is tried, and how long to wait in between.
///
/// A saga stores the number of attempts made, so a policy's number is the number of attempts
/// whatever the number of processes and however often they crash.
///
/// # Examples
///
/// ```
/// use saga_core::{Backoff, RetryPolicy};
/// use std::time::Duration;
///
/// let policy = RetryPolicy::attempts(3).backoff(Backoff::exponential(
///     Duration::from_millis(200),
///     Duration::from_secs(5),
/// ));
/// assert!(policy.allows(2)); // two attempts were made: a third is allowed
/// assert!(!policy.allows(3));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    attempts: u32,
    backoff: Backoff,
}

impl RetryPolicy {
    /// For what can be given up: 5 attempts, 100 ms to 10 s apart.
    pub const DEFAULT: Self = Self {
        attempts: 5,
        backoff: Backoff { first: Duration::from_millis(100), max: Duration::from_secs(10) },
    };

    /// For what must succeed: 20 attempts, 100 ms to 1 min apart.
    ///
    /// The default from the pivot on and for compensations, where giving up means that a person must look.
    pub const PERSISTENT: Self = Self {
        attempts: 20,
        backoff: Backoff { first: Duration::from_millis(100), max: Duration::from_mins(1) },
    };

    /// Allows this many attempts, the first one included; 0 counts as 1.
    #[must_use]
    pub const fn attempts(attempts: u32) -> Self {
        Self { attempts: if attempts == 0 { 1 } else { attempts }, backoff: Self::DEFAULT.backoff }
    }

    /// Sets the waits between attempts; the default is 100 ms to 10 s, doubling.
    #[must_use]
    pub const fn backoff(self, backoff: Backoff) -> Self {
        Self { attempts: self.attempts, backoff }
    }

    /// Returns true if one more attempt is allowed after `made` attempts.
    #[must_use]
    pub const fn allows(&self, made: u32) -> bool {
        made < self.attempts
    }

    /// Returns how long to wait after `made` attempts before the next one.
    ///
    /// `seed` decides the jitter: the same seed gives the same wait, so that a decision can be made again.
    #[must_use]
    pub fn delay(&self, made: u32, seed: u64) -> Duration {
        self.backoff.delay(made, seed)
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Waits that double, up to a maximum, each shortened by up to half at random.
///
/// The jitter spreads the retries of many sagas that failed together (Brooker, *Exponential Backoff And Jitter*, 2015).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    max: Duration,
}

impl Backoff {
    /// Waits `first`, then twice that, and so on, never longer than `max`.
    #[must_use]
    pub const fn exponential(first: Duration, max: Duration) -> Self {
        Self { first, max }
    }

    /// Waits equally long each time, but for the jitter.
    #[must_use]
    pub const fn fixed(delay: Duration) -> Self {
        Self { first: delay, max: delay }
    }

    /// Returns the wait after `made` attempts; `seed` decides the jitter.
    #[must_use]
    pub fn delay(&self, made: u32, seed: u64) -> Duration {
        let doublings = made.saturating_sub(1).min(31);
        let full = self.first.saturating_mul(1 << doublings).min(self.max);
        let shorter = mix(seed ^ u64::from(made)) % 1024;
        full.saturating_sub(full / 2 / 1024 * u32::try_from(shorter).unwrap_or(0))
    }
}

/// Spreads the bits of a number over all of it (the finaliser of `SplitMix64`).
const fn mix(seed: u64) -> u64 {
    let seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    seed ^ (seed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum_and_lose_at_most_half() {
        let backoff = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(1));
        for (made, full_ms) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (400, 1000)] {
            let full = Duration::from_millis(full_ms);
            for seed in 0..100 {
                let delay = backoff.delay(made, seed);
                assert!(delay <= full && delay >= full / 2, "{made} {seed} {delay:?}");
                assert_eq!(delay, backoff.delay(made, seed), "the same seed waits the same time");
            }
        }
    }
}
