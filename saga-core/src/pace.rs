//! How many commands one transaction holds: as many as are carried out in about a second, and as few as
//! others need who want the same rows.

use std::time::Duration;

/// With so many it begins, and whose handlers are for fewer is slow.
const BEGINNING: usize = 32;
/// A transaction that took less can hold more.
const SHORT: Duration = Duration::from_millis(250);
/// A transaction that took more holds locks, and answers, for too long.
const LONG: Duration = Duration::from_secs(1);

/// After a collision so many transactions must go well before one holds more; after each further one
/// four times as many.
const CALM_MIN: u32 = 64;
const CALM_MAX: u32 = 16_384;

/// How many commands one transaction holds: doubled after a short one, halved after a long one.
///
/// Handlers that each lock rows in the same order deadlock all the same once several are in one
/// transaction, for the second locks its first row while the last row of the first is locked. So after a
/// collision each command is on its own, and the way back is the longer the more there were.
pub(crate) struct Pace {
    commands: usize,
    /// Most commands that it ever is.
    max: usize,
    /// How many transactions must go well before each that holds more.
    calm: u32,
    /// How many of them are left.
    calm_left: u32,
}

impl Pace {
    /// Begins with a few commands; there may be `max` of them at most.
    pub(crate) fn new(max: usize) -> Self {
        Self { commands: BEGINNING.min(max), max, calm: 0, calm_left: 0 }
    }

    /// Returns how many commands the next transaction may hold, at least one.
    pub(crate) const fn commands(&self) -> usize {
        self.commands
    }

    /// Returns how many commands are received at once. Who takes few at a time takes no more than the next
    /// transaction holds, so that it soon acknowledges, and soon hears of a rebalance or a shutdown.
    pub(crate) const fn appetite(&self) -> usize {
        if self.commands < BEGINNING { self.commands } else { self.max }
    }

    /// Notes how long a transaction of so many commands took.
    pub(crate) fn took(&mut self, commands: usize, time: Duration) {
        if time > LONG {
            self.commands = (commands.min(self.commands) / 2).max(1);
        } else if self.calm_left > 0 {
            self.calm_left -= 1;
        } else if time < SHORT && commands >= self.commands {
            self.commands = (self.commands * 2).min(self.max);
            if self.commands == self.max {
                self.calm = 0;
            }
            self.calm_left = self.calm;
        }
    }

    /// Notes that a transaction of some commands collided with somebody else's.
    pub(crate) fn collided(&mut self) {
        self.commands = 1;
        self.calm = (self.calm * 4).clamp(CALM_MIN, CALM_MAX);
        self.calm_left = self.calm;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 512;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_fast_participant_soon_takes_a_whole_batch() {
        let mut pace = Pace::new(MAX);
        for _ in 0..4 {
            pace.took(pace.commands(), Duration::from_millis(10));
        }
        assert_eq!((pace.commands(), pace.appetite()), (MAX, MAX));
        pace.took(1, 2 * SHORT);
        assert_eq!(pace.commands(), MAX, "neither short nor long");
    }

    #[test]
    fn a_slow_participant_takes_one_command_at_a_time_and_recovers() {
        let mut pace = Pace::new(MAX);
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
    fn after_each_collision_it_takes_longer_until_a_transaction_holds_more() {
        let mut pace = Pace::new(MAX);
        let until_more = |pace: &mut Pace| {
            let mut transactions = 0;
            while pace.commands() == 1 {
                pace.took(1, SHORT / 2);
                transactions += 1;
            }
            transactions
        };
        for expected in [65, 257, 1_025] {
            pace.collided();
            assert_eq!((pace.commands(), pace.appetite()), (1, 1));
            assert_eq!(until_more(&mut pace), expected);
        }
        while pace.commands() < MAX {
            pace.took(pace.commands(), SHORT / 2);
        }
        pace.collided();
        assert_eq!(until_more(&mut pace), 65, "forgotten once whole batches go well");
    }

    #[test]
    fn a_transaction_that_was_not_full_says_nothing_of_more() {
        let mut pace = Pace::new(MAX);
        pace.took(1, Duration::ZERO);
        assert_eq!(pace.commands(), BEGINNING);
    }
}
