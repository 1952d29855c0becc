//! What the connections of a proxy share: what the network does, and how much it has carried.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::Side;

/// What the network does now. Connections compare the counts with those of when they were opened.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct State {
    pub(super) is_blackhole: bool,
    pub(super) is_refusing: bool,
    pub(super) is_over: bool,
    pub(super) delay: Duration,
    /// How often what was open was silenced.
    pub(super) silenced: u64,
    /// How often what was open was cut.
    pub(super) cuts: u64,
}

#[derive(Default)]
pub(super) struct Network {
    state: watch::Sender<State>,
    /// How many bytes of a side pass until everything is cut.
    budget: Mutex<Option<(Side, u64)>>,
    passed: [AtomicU64; 2],
    open: AtomicUsize,
}

impl Network {
    pub(super) fn subscribe(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    pub(super) fn state(&self) -> State {
        *self.state.borrow()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        self.state.send_modify(change);
    }

    pub(super) fn cut(&self) {
        self.change(|state| state.cuts += 1);
    }

    pub(super) fn cut_after(&self, side: Side, bytes: u64) {
        *self.budget() = Some((side, bytes));
    }

    pub(super) fn forget_budget(&self) {
        *self.budget() = None;
    }

    /// Returns how many of these bytes may pass, and whether everything is to be cut after them.
    pub(super) fn spend(&self, side: Side, bytes: usize) -> (usize, bool) {
        let mut budget = self.budget();
        let Some((limited, left)) = &mut *budget else { return (bytes, false) };
        if *limited != side {
            return (bytes, false);
        }
        let wanted = bytes as u64;
        if wanted < *left {
            *left -= wanted;
            return (bytes, false);
        }
        let last = usize::try_from(*left).expect("no more than what was read");
        *budget = None;
        (last, true)
    }

    pub(super) fn count(&self, side: Side, bytes: usize) {
        self.passed[side as usize].fetch_add(bytes as u64, Ordering::SeqCst);
    }

    pub(super) fn passed(&self, side: Side) -> u64 {
        self.passed[side as usize].load(Ordering::SeqCst)
    }

    pub(super) fn opened(&self) {
        self.open.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn closed(&self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    fn budget(&self) -> MutexGuard<'_, Option<(Side, u64)>> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("state", &self.state())
            .field("open", &self.open())
            .finish_non_exhaustive()
    }
}
