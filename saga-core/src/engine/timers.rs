//! The timers that fire soon, in memory. All others are found in the store when their time comes near.

use std::collections::{BTreeSet, HashMap};

use crate::{SagaId, Timestamp};

/// At most one time per saga: the earliest at which something of it may be due.
#[derive(Default)]
pub(super) struct Timers {
    by_time: BTreeSet<(Timestamp, SagaId)>,
    by_saga: HashMap<SagaId, Timestamp>,
}

impl Timers {
    /// Sets or clears a saga's time.
    pub(super) fn set(&mut self, saga: SagaId, due: Option<Timestamp>) {
        let before = match due {
            Some(due) => self.by_saga.insert(saga, due),
            None => self.by_saga.remove(&saga),
        };
        if let Some(before) = before {
            self.by_time.remove(&(before, saga));
        }
        if let Some(due) = due {
            self.by_time.insert((due, saga));
        }
    }

    /// Returns true if the saga has a time.
    pub(super) fn has(&self, saga: SagaId) -> bool {
        self.by_saga.contains_key(&saga)
    }

    /// Returns the earliest time.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(due, _)| *due)
    }

    /// Takes out the sagas whose time has come, at most `limit` of them, with that time.
    pub(super) fn take_due(&mut self, now: Timestamp, limit: usize) -> Vec<(SagaId, Timestamp)> {
        let mut due = Vec::new();
        while due.len() < limit && self.next().is_some_and(|next| next <= now) {
            let Some((time, saga)) = self.by_time.pop_first() else { break };
            self.by_saga.remove(&saga);
            due.push((saga, time));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_time_of_a_saga_counts_and_fires_once() {
        let (first, second) = (SagaId::now(), SagaId::now());
        let at = Timestamp::from_micros;
        let mut timers = Timers::default();
        timers.set(first, Some(at(10)));
        timers.set(second, Some(at(20)));
        timers.set(first, Some(at(30)));
        assert_eq!(timers.next(), Some(at(20)));
        assert_eq!(timers.take_due(at(29), 10), [(second, at(20))]);
        assert_eq!(timers.take_due(at(30), 10), [(first, at(30))]);
        assert!(timers.take_due(at(99), 10).is_empty() && timers.next().is_none());
    }
}
