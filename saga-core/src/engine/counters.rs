//! What an engine has done since it started.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::StoreError;

/// What an engine has done since it started, for monitoring: each number only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Commits of the store: each is one round trip and holds all that had happened by then.
    pub ticks: u64,
    /// Saga versions in those ticks. `saga_commits / ticks` is how well a tick is filled.
    pub saga_commits: u64,
    /// Ticks that wrote nothing, because another engine had committed one of their sagas first, or
    /// started one under the same key; they were decided anew. `conflicts / ticks` is what several
    /// engines cost each other: near zero as long as each keeps to its partitions.
    pub conflicts: u64,
}

/// The counters of an engine at work.
#[derive(Default)]
pub(super) struct Counting {
    ticks: AtomicU64,
    saga_commits: AtomicU64,
    conflicts: AtomicU64,
}

impl Counting {
    /// Counts a tick that was committed, or that was not.
    pub(super) fn count(&self, sagas: usize, committed: &Result<(), StoreError>) {
        match committed {
            Ok(()) => {
                self.ticks.fetch_add(1, Ordering::Relaxed);
                self.saga_commits.fetch_add(sagas as u64, Ordering::Relaxed);
            }
            Err(StoreError::Conflict) => {
                self.conflicts.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {}
        }
    }

    pub(super) fn read(&self) -> Counters {
        Counters {
            ticks: self.ticks.load(Ordering::Relaxed),
            saga_commits: self.saga_commits.load(Ordering::Relaxed),
            conflicts: self.conflicts.load(Ordering::Relaxed),
        }
    }
}
