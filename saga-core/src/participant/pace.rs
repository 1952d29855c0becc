//! How many commands one transaction holds: as many as are carried out in about a second.

use std::time::Duration;

use super::service::BATCH_MAX;

/// With so many the participant begins, and one that needs fewer is slow.
const BEGINNING: usize = 32;
/// A transaction that took less can hold more.
const SHORT: Duration = Duration::from_millis(250);
/// A transaction that took more holds locks, and answers, for too long.
const LONG: Duration = Duration::from_secs(1);

/// How many commands one transaction holds: doubled after a short one, halved after a long one.
pub(super) struct Pace(usize);

impl Default for Pace {
    fn default() -> Self {
        Self(BEGINNING)
    }
}

impl Pace {
    /// Returns how many commands the next transaction may hold, at least one.
    pub(super) const fn commands(&self) -> usize {
        self.0
    }

    /// Returns how many commands are received at once. Whoever is slow takes no more than the next
    /// transaction holds, so that it soon acknowledges, and soon hears of a rebalance or a shutdown.
    pub(super) const fn appetite(&self) -> usize {
        if self.0 < BEGINNING { self.0 } else { BATCH_MAX }
    }

    /// Notes how long a transaction of so many commands took.
    pub(super) fn took(&mut self, commands: usize, time: Duration) {
        if time > LONG {
            self.0 = (commands / 2).max(1);
        } else if time < SHORT && commands >= self.0 {
            self.0 = (self.0 * 2).min(BATCH_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_fast_participant_soon_takes_a_whole_batch() {
        let mut pace = Pace::default();
        for _ in 0..4 {
            pace.took(pace.commands(), Duration::from_millis(10));
        }
        assert_eq!((pace.commands(), pace.appetite()), (BATCH_MAX, BATCH_MAX));
        pace.took(1, 2 * SHORT);
        assert_eq!(pace.commands(), BATCH_MAX, "neither short nor long");
    }

    #[test]
    fn a_slow_participant_takes_one_command_at_a_time_and_recovers() {
        let mut pace = Pace::default();
        for commands in [32_u32, 16, 8, 4, 2] {
            pace.took(pace.commands(), commands * SECOND);
        }
        assert_eq!((pace.commands(), pace.appetite()), (1, 1));
        pace.took(1, 2 * SECOND);
        assert_eq!(pace.commands(), 1, "never none");
        pace.took(1, SHORT / 2);
        assert_eq!(pace.commands(), 2);
    }

    #[test]
    fn a_transaction_that_was_not_full_says_nothing_of_more() {
        let mut pace = Pace::default();
        pace.took(1, Duration::ZERO);
        assert_eq!(pace.commands(), BEGINNING);
    }
}
